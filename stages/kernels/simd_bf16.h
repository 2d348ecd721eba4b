/* SPDX-License-Identifier: MIT */
/* Products of bf16 elements, for a level's file that defines what simd_narrow.h asks for and
 *
 *     vector_narrow(v)   floats to bf16, nearest even, as a vector of VL uint16_t
 *
 * includes simd_dot.h or has a sum_tile() and a peak() of its own, and ends in NARROW_PRODUCT(name). */
#ifndef EES_STAGES_KERNELS_SIMD_BF16_H
#define EES_STAGES_KERNELS_SIMD_BF16_H

typedef vf accumulator;

struct terms {
    vf bias[TILE_VECTORS];
};

#include "stages/kernels/simd_narrow.h"

INLINE struct terms load_terms(const struct panel_step *step) {
    struct terms t;
    UNROLLED
    for (int j = 0; j < TILE_VECTORS; j++)
        t.bias[j] = load(step->bias + j * VL);
    return t;
}

INLINE vf finish(accumulator sum, const struct terms *terms, int vector, const struct ees__narrow_row *row) {
    return sum + terms->bias[vector];
}

/* Zeros behind the row: a NaN times a zero weight would be one. */
static void narrow_row(const float *x, size_t k, narrow_x *out, struct ees__narrow_row *row) {
    size_t p = 0;
    for (; p + VL <= k; p += VL) {
        vn v = vector_narrow(load(x + p));
        memcpy(out + p, &v, sizeof v);
    }
    vn rest = vector_narrow(load_part(x + p, k - p));
    memcpy(out + p, &rest, (ees__round_up(k, STEP) - p) * sizeof(narrow_x));
}

#endif
