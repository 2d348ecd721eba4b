/* SPDX-License-Identifier: MIT */
/* What setup declares, and to which of it an address belongs. */
#include "world.h"

#include <string.h>

#include "checker.h"

struct span {
    char *at;
    size_t bytes;
    const char *name;
};

_Alignas(64) struct world world;
bool in_setup;
size_t arena_used;

static struct span data[MAX_DATA], notes[MAX_NOTES], atomics[MAX_PLACES];
static unsigned n_notes;

void world_clear(void) {
    memset(&world, 0, sizeof world);
    memset(atomics, 0, sizeof atomics);
    arena_used = 0;
    n_notes = 0;
}

void *proof_alloc(size_t bytes) {
    void *at = world.arena + arena_used;
    arena_used += (bytes + 63) / 64 * 64;
    checker_demand(in_setup && arena_used <= ARENA_BYTES, "memory");
    return at;
}

void proof_datum(void *p, size_t bytes, const char *name) {
    checker_demand(in_setup && world.memory.n_data < MAX_DATA, "data");
    data[world.memory.n_data++] = (struct span){p, bytes, name};
}

void proof_note(void *p, size_t bytes) {
    checker_demand(in_setup && n_notes < MAX_NOTES, "notes");
    notes[n_notes++] = (struct span){p, bytes, NULL};
}

void proof_name(void *atomic, const char *name) { atomics[explore_place(atomic)].name = name; }

static bool inside(const struct span *s, const char *p) { return p >= s->at && p < s->at + s->bytes; }

unsigned explore_place_around(const void *address, unsigned *shift) {
    for (unsigned i = 0; i < world.memory.n_places; i++)
        if (inside(&atomics[i], address)) {
            *shift = 8 * (unsigned)((const char *)address - atomics[i].at);
            return i;
        }
    checker_fail("an atomic access to memory that setup did not initialise", NULL);
}

unsigned explore_place(const volatile void *atomic) {
    struct memory *m = &world.memory;
    for (unsigned i = 0; i < m->n_places; i++)
        if (atomics[i].at == (const volatile char *)atomic)
            return i;
    if (!in_setup)
        checker_fail("an atomic access to memory that setup did not initialise", NULL);
    checker_demand(m->n_places < MAX_PLACES, "atomic objects");
    atomics[m->n_places] = (struct span){(char *)(uintptr_t)atomic, sizeof(uint64_t), NULL};
    m->places[m->n_places].n = 1;
    return m->n_places++;
}

void world_access_datum(unsigned t, unsigned datum, bool write) {
    if (write ? !memory_write_datum(&world.memory, t, datum) : !memory_read_datum(&world.memory, t, datum))
        checker_fail(write ? "data race: write to" : "data race: read of", data[datum].name);
}

void explore_plain(const volatile void *address, bool write) {
    const char *p = (const char *)(uintptr_t)address;
    if (running < 0 || p < world.arena || p >= world.arena + ARENA_BYTES)
        return;
    for (unsigned i = 0; i < n_notes; i++)
        if (inside(&notes[i], p))
            return;
    for (unsigned i = 0; i < world.memory.n_data; i++)
        if (inside(&data[i], p)) {
            world_access_datum((unsigned)running, i, write);
            return;
        }
    if (write)
        checker_fail("a plain write to memory that is no datum", NULL);
}

const char *world_atomic_name(unsigned place) { return atomics[place].name; }

int world_datum_of(const struct request *r) {
    for (unsigned i = 0; i < world.memory.n_data && r->access <= ACCESS_CAS; i++)
        if (inside(&data[i], atomics[r->place].at))
            return (int)i;
    return -1;
}
