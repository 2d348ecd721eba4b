/* SPDX-License-Identifier: MIT */
/* Rows of x as products of narrow elements (int8, bf16) read them: where they lie in a product's scratch, and how a row
 * is quantised. Shared by all levels, because their sums must agree to the bit. */
#ifndef EES_STAGES_KERNELS_NARROW_H
#define EES_STAGES_KERNELS_NARROW_H

#include <stddef.h>
#include <stdint.h>

#include "common/mem.h"

enum {
    EES__ROW_CHUNK = 256,      /* rows that are narrowed, then multiplied, at a time */
    EES__NARROW_MULTIPLE = 16, /* elements, to which rows are padded; levels' steps over k divide it */
};

/* x = scale (u - zero). */
struct ees__narrow_row {
    float scale;
    int32_t zero;
};

/* Elements from row to row: a cache line more than k, so that rows of 4096 bytes do not fall into the same sets. */
static inline size_t ees__narrow_ld(size_t k) { return ees__round_up(k, EES__NARROW_MULTIPLE) + EES_CACHE_LINE; }

/* Adding it leaves the nearest whole number, halves to even, in the low bits of the sum. */
#define EES__ROUNDER 0x1.8p+23f

/* Steps of a row's range. With 255 both ends of it could round away from each other, to values 256 apart; so much less
 * outweighs what rounding of scale and range adds, at most 255 * 2^-23. */
#define EES__ROW_STEPS (255.0f - 0x1p-13f)

/* The largest range that counts as 0: its inverse would be infinite. */
#define EES__LEAST_RANGE 0x1p-100f

/* Range [low, high] around 0 of a row: scale, zero and what x is multiplied with, u = x inverse + zero rounded once. */
static inline struct ees__narrow_row ees__narrow_range(float low, float high, float *inverse) {
    float range = high - low;
    if (range < EES__LEAST_RANGE) {
        *inverse = 0.0f;
        return (struct ees__narrow_row){0};
    }
    if (!(range < __builtin_inff())) { /* an infinity, or values whose distance is none */
        *inverse = 0.0f;
        return (struct ees__narrow_row){.scale = __builtin_nanf("")};
    }
    *inverse = EES__ROW_STEPS / range;
    return (struct ees__narrow_row){.scale = range / EES__ROW_STEPS,
                                    .zero = (int32_t)(EES__ROUNDER - __builtin_fmaf(low, *inverse, EES__ROUNDER))};
}

#endif
