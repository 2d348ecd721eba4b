/* SPDX-License-Identifier: MIT */
/* Products of int8 weights and rows quantised as they come, for a level's file that defines what simd_narrow.h asks for
 * and
 *
 *     X_SHIFT            what narrow_x holds less than u: 0, or 128 where elements are signed
 *     vector_low(v)      the low bits of int32 lanes as narrow_x; gcc 12 takes conversions of vectors apart
 *     vector_largest(v), vector_total(v)    of the lanes
 *
 * includes simd_dot.h or has a sum_tile() and a peak() of its own, and ends in NARROW_PRODUCT(name). Nothing here may
 * round in another way than narrow.h and the scalar twin do. */
#ifndef EES_STAGES_KERNELS_SIMD_S8_H
#define EES_STAGES_KERNELS_SIMD_S8_H

typedef int32_t vi __attribute__((vector_size(VL * sizeof(int32_t))));
typedef int32_t vi_unaligned __attribute__((vector_size(VL * sizeof(int32_t)), aligned(sizeof(int32_t)), may_alias));
typedef narrow_x vn __attribute__((vector_size(VL * sizeof(narrow_x))));
typedef narrow_x vn_unaligned __attribute__((vector_size(VL * sizeof(narrow_x)), aligned(1), may_alias));
typedef vi accumulator;

struct terms {
    vf scale[TILE_VECTORS], bias[TILE_VECTORS];
    vi sums[TILE_VECTORS];
};

#include "stages/kernels/simd_narrow.h"

INLINE struct terms load_terms(const struct panel_step *step) {
    struct terms t;
    UNROLLED
    for (int j = 0; j < TILE_VECTORS; j++) {
        t.scale[j] = load(step->weight_scale + j * VL);
        t.bias[j] = load(step->bias + j * VL);
        t.sums[j] = *(const vi_unaligned *)(step->sums + j * VL);
    }
    return t;
}

/* scale_i scale_j (sum u q - zero sum q) + bias */
INLINE vf finish(accumulator sum, const struct terms *terms, int vector, const struct ees__narrow_row *row) {
    vi total = sum - (row->zero - X_SHIFT) * terms->sums[vector];
    vf scale = row->scale * terms->scale[vector];
    return __builtin_convertvector(total, vf) * scale + terms->bias[vector];
}

/* Range of a row, 0 included, and a NaN if one of its values is not finite, else 0. */
struct range {
    vf low, high, poison;
};

INLINE void widen_range(struct range *r, vf x) {
    r->low = vector_min(r->low, x);
    r->high = vector_max(r->high, x);
    r->poison += x * 0.0f;
}

static struct ees__narrow_row find_row(const float *x, size_t k, float *inverse) {
    struct range r = {0};
    size_t p = 0;
    for (; p + VL <= k; p += VL)
        widen_range(&r, load(x + p));
    if (p < k)
        widen_range(&r, load_part(x + p, k - p));
    struct ees__narrow_row row = ees__narrow_range(-vector_largest(-r.low), vector_largest(r.high), inverse);
    row.scale += vector_total(r.poison);
    return row;
}

/* In the low bits, one fused multiply-add. */
INLINE vn quantise(vf x, float inverse, float zero) { return (vn)vector_low((vi)(x * inverse + zero)); }

static void narrow_row(const float *x, size_t k, narrow_x *out, struct ees__narrow_row *row) {
    float inverse;
    *row = find_row(x, k, &inverse);
    const float zero = EES__ROUNDER + (float)(row->zero - X_SHIFT);
    size_t p = 0;
    for (; p + VL <= k; p += VL)
        *(vn_unaligned *)(out + row_place(p)) = quantise(load(x + p), inverse, zero);
    size_t padded = ees__round_up(k, STEP);
    if (p < padded) { /* weights are zero there: any value will do */
        vn rest[(STEP + VL - 1) / VL + 1] = {{0}};
        rest[0] = quantise(load_part(x + p, k - p), inverse, zero);
        memcpy(out + row_place(p), rest, (padded - p) * sizeof(narrow_x));
    }
}

#endif
