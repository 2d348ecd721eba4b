/* SPDX-License-Identifier: MIT */
#include "common/hash.h"

#include <string.h>

#include "eestream/tensors.h"

enum { STRIPE = 32 };

static const uint64_t p1 = 0x9E3779B185EBCA87, p2 = 0xC2B2AE3D27D4EB4F, p3 = 0x165667B19E3779F9,
                      p4 = 0x85EBCA77C2B2AE63, p5 = 0x27D4EB2F165667C5;

static uint64_t rotate(uint64_t x, unsigned n) { return x << n | x >> (64 - n); }

static uint64_t read_little(const unsigned char *at, unsigned n) {
    uint64_t x = 0;
    for (unsigned i = n; i-- > 0;)
        x = x << 8 | at[i];
    return x;
}

static uint64_t mix(uint64_t lane, uint64_t input) { return rotate(lane + input * p2, 31) * p1; }

static void add_stripe(uint64_t lanes[4], const unsigned char *at) {
    for (unsigned i = 0; i < 4; i++)
        lanes[i] = mix(lanes[i], read_little(at + 8 * i, 8));
}

void ees__hash_init(struct ees__hash *h, uint64_t seed) {
    *h = (struct ees__hash){.lanes = {seed + p1 + p2, seed + p2, seed, seed - p1}, .seed = seed};
}

void ees__hash_add(struct ees__hash *h, const void *data, size_t n) {
    const unsigned char *at = data;
    size_t n_rest = h->n_bytes % STRIPE, missing = STRIPE - n_rest;
    h->n_bytes += n;
    if (n_rest > 0 && n >= missing) {
        memcpy(h->rest + n_rest, at, missing);
        add_stripe(h->lanes, h->rest);
        at += missing, n -= missing, n_rest = 0;
    }
    for (; n_rest == 0 && n >= STRIPE; at += STRIPE, n -= STRIPE)
        add_stripe(h->lanes, at);
    if (n > 0)
        memcpy(h->rest + n_rest, at, n);
}

static uint64_t join_lanes(const struct ees__hash *h) {
    const uint64_t *l = h->lanes;
    if (h->n_bytes < STRIPE)
        return h->seed + p5;
    uint64_t x = rotate(l[0], 1) + rotate(l[1], 7) + rotate(l[2], 12) + rotate(l[3], 18);
    for (unsigned i = 0; i < 4; i++)
        x = (x ^ mix(0, l[i])) * p1 + p4;
    return x;
}

uint64_t ees__hash_value(const struct ees__hash *h) {
    uint64_t x = join_lanes(h) + h->n_bytes;
    const unsigned char *at = h->rest, *end = h->rest + h->n_bytes % STRIPE;
    for (; end - at >= 8; at += 8)
        x = rotate(x ^ mix(0, read_little(at, 8)), 27) * p1 + p4;
    for (; end - at >= 4; at += 4)
        x = rotate(x ^ read_little(at, 4) * p1, 23) * p2 + p3;
    for (; at < end; at++)
        x = rotate(x ^ *at * p5, 11) * p1;
    x = (x ^ x >> 33) * p2;
    x = (x ^ x >> 29) * p3;
    return x ^ x >> 32;
}

uint64_t ees_hash64(const void *data, size_t n, uint64_t seed) {
    struct ees__hash h;
    ees__hash_init(&h, seed);
    ees__hash_add(&h, data, n);
    return ees__hash_value(&h);
}
