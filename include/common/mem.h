/* SPDX-License-Identifier: MIT */
/* Allocation: 64-byte aligned, size-checked. Only at open; the steady state allocates nothing. */
#ifndef EES_COMMON_MEM_H
#define EES_COMMON_MEM_H

#include <stdbool.h>
#include <stddef.h>

#define EES_CACHE_LINE 64

/* `n` objects of `size` bytes, zeroed, aligned to EES_CACHE_LINE. NULL on overflow, or when there is no memory. n or
 * size 0 gives a valid one-line block, so NULL always means failure. Release with ees__free(). */
void *ees__calloc_aligned(size_t n, size_t size);

/* Accepts NULL. */
void ees__free(void *p);

/* *out = a * b, or false on overflow. */
static inline bool ees__mul(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool ees__add(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }

static inline size_t ees__round_up(size_t x, size_t multiple) { return (x + multiple - 1) / multiple * multiple; }

#endif
