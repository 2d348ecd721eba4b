/* SPDX-License-Identifier: MIT */
/* States are told apart by 128 bits of their hash. */
#include "world.h"

#include <stdlib.h>
#include <string.h>

struct hash {
    uint64_t a, b;
};

static struct hash *seen;
static uint64_t seen_size, seen_used;

static uint64_t mix(uint64_t x, uint64_t y) {
    unsigned __int128 product = (unsigned __int128)(x ^ 0x9e3779b97f4a7c15u) * (y ^ 0xd1342543de82ef95u);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static void hash_bytes(struct hash *h, const void *bytes, size_t n) {
    const char *p = bytes;
    for (uint64_t word; n > 0; p += sizeof word) {
        size_t k = n < sizeof word ? n : sizeof word;
        word = 0;
        memcpy(&word, p, k);
        h->a = mix(h->a + word, 0xa0761d6478bd642fu);
        h->b = mix(h->b ^ word, 0xe7037ed1a0b428dbu) + h->a;
        n -= k;
    }
}

#define HASH(h, object) hash_bytes((h), &(object), sizeof(object))

static struct hash hash_world(void) {
    struct hash h = {1, 2};
    const struct memory *m = &world.memory;
    HASH(&h, m->ended);
    HASH(&h, m->newest_sc);
    HASH(&h, m->kernel_at);
    hash_bytes(&h, m->seen, m->n_threads * sizeof m->seen[0]);
    for (unsigned p = 0; p < m->n_places; p++) {
        HASH(&h, m->places[p].n);
        for (unsigned i = 0; i < m->places[p].n; i++) {
            HASH(&h, m->places[p].messages[i].value);
            HASH(&h, m->places[p].messages[i].view);
            HASH(&h, m->places[p].messages[i].attached);
        }
    }
    for (unsigned t = 0; t < m->n_threads; t++) {
        const struct fiber *f = &world.fibers[t];
        HASH(&h, f->request.access);
        HASH(&h, f->answer);
        hash_bytes(&h, f->sp, (size_t)(stacks[t] + STACK_BYTES - f->sp));
    }
    hash_bytes(&h, world.arena, arena_used);
    return h;
}

static void insert(struct hash h);

static void grow(void) {
    struct hash *old = seen;
    uint64_t n = seen_size;
    seen_size = n ? 2 * n : 1 << 16;
    seen = calloc(seen_size, sizeof *seen);
    checker_demand(seen, "memory for states");
    seen_used = 0;
    for (uint64_t i = 0; i < n; i++)
        if (old[i].a | old[i].b)
            insert(old[i]);
    free(old);
}

static struct hash *find(struct hash h) {
    uint64_t i = h.a & (seen_size - 1);
    while ((seen[i].a | seen[i].b) && (seen[i].a != h.a || seen[i].b != h.b))
        i = (i + 1) & (seen_size - 1);
    return &seen[i];
}

static void insert(struct hash h) {
    *find(h) = h;
    seen_used++;
}

bool states_remember(void) {
    struct hash h = hash_world(), *at;
    if (3 * seen_used >= 2 * seen_size)
        grow();
    at = find(h);
    if (at->a | at->b)
        return false;
    insert(h);
    return true;
}

void states_clear(void) {
    free(seen);
    seen = NULL;
    seen_size = seen_used = 0;
    grow();
}
