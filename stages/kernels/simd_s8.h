/* SPDX-License-Identifier: MIT */
/* Products of int8 weights and rows quantised as they come, for a level's file that defines what simd_narrow.h asks for
 * and
 *
 *     X_SHIFT            what narrow_x holds less than u: 0, or 128 where elements are signed
 *     vector_round(v)    floats to the nearest int32, ties to even
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

#include "stages/kernels/simd_narrow.h"

/* scale_i scale_j (sum u q - zero sum q) + bias */
INLINE vf finish(accumulator sum, const struct panel_step *step, size_t column, const struct ees__narrow_row *row) {
    vi total = sum - (row->zero - X_SHIFT) * *(const vi_unaligned *)(step->sums + column);
    vf scale = row->scale * load(step->weight_scale + column);
    return __builtin_convertvector(total, vf) * scale + load(step->bias + column);
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

/* Bounds are whole numbers, so clamping before rounding is as good as after. */
INLINE vn quantise(vf x, float inverse, int32_t zero) {
    vf clamped = vector_min(vector_max(x * inverse, splat((float)-zero)), splat((float)(255 - zero)));
    return __builtin_convertvector(vector_round(clamped) + (zero - X_SHIFT), vn);
}

static void narrow_row(const float *x, size_t k, narrow_x *out, struct ees__narrow_row *row) {
    float inverse;
    *row = find_row(x, k, &inverse);
    size_t p = 0;
    for (; p + VL <= k; p += VL)
        *(vn_unaligned *)(out + row_place(p)) = quantise(load(x + p), inverse, row->zero);
    size_t padded = ees__round_up(k, STEP);
    if (p < padded) { /* weights are zero there: any value will do */
        vn rest[(STEP + VL - 1) / VL + 1] = {{0}};
        rest[0] = quantise(load_part(x + p, k - p), inverse, row->zero);
        memcpy(out + row_place(p), rest, (padded - p) * sizeof(narrow_x));
    }
}

#endif
