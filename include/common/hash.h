/* SPDX-License-Identifier: MIT */
/* XXH64 (Yann Collet's xxHash specification, version 0.1.1), piece by piece: tells files apart, keeps nobody out. */
#ifndef EES_COMMON_HASH_H
#define EES_COMMON_HASH_H

#include <stddef.h>
#include <stdint.h>

struct ees__hash {
    uint64_t lanes[4], seed, n_bytes;
    unsigned char rest[32]; /* n_bytes % 32 of them wait for more */
};

void ees__hash_init(struct ees__hash *h, uint64_t seed);
void ees__hash_add(struct ees__hash *h, const void *data, size_t n);
uint64_t ees__hash_value(const struct ees__hash *h);

#endif
