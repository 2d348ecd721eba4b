/* SPDX-License-Identifier: MIT */
/* int8 with ARM's smmla: two rows times two columns, eight elements of k at a time. x is stored as u - 128. */
#include <arm_neon.h>

#define VL            4
#define TILE_ROWS     8
#define TILE_VECTORS  2
#define PREFETCH_STEP 4
#define TILE_LIST(X)  X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)

#define vector_max(a, b)  ((vf)vmaxq_f32((float32x4_t)(a), (float32x4_t)(b)))
#define vector_min(a, b)  ((vf)vminq_f32((float32x4_t)(a), (float32x4_t)(b)))
#define vector_low(a)     __builtin_convertvector(a, vn)
#define vector_largest(a) vmaxvq_f32((float32x4_t)(a))
#define vector_total(a)   vaddvq_f32((float32x4_t)(a))

#include "stages/kernels/simd_vectors.h"

typedef int8_t narrow, narrow_x;

#define X_SHIFT     128
#define GROUP       8
#define STEP        GROUP
#define PLACE(j, e) ((j)*GROUP + (e))
#define ROW_GROUP   2

#include "stages/kernels/simd_s8.h"

/* Pairs of rows stand as smmla reads them: putting them together here would take vector pipes from it. The partner of
 * an odd last row is whatever was there before, and its sums are dropped. */
INLINE void sum_tile(const int rows, const struct panel_step *step, const struct narrow_rows *a,
                     accumulator sum[TILE_ROWS][TILE_VECTORS]) {
    enum { PAIRS = TILE_COLUMNS / 2 };
    int32x4_t square[TILE_ROWS / 2][PAIRS]; /* [row, row + 1] x [column, column + 1] */
    const int8_t *b = step->b, *from = a->x;
    const size_t ld = a->ld, n_steps = step->n_steps;
    uintptr_t prefetch = step->prefetch;
    UNROLLED
    for (int i = 0; i < (rows + 1) / 2; i++) {
        UNROLLED
        for (int j = 0; j < PAIRS; j++)
            square[i][j] = vdupq_n_s32(0);
    }
    for (size_t p = 0; p < n_steps; p++, b += GROUP * TILE_COLUMNS, from += 2 * GROUP, prefetch += PREFETCH_STEP) {
        int8x16_t panel[PAIRS];
        __builtin_prefetch((const void *)prefetch);
        UNROLLED
        for (int j = 0; j < PAIRS; j++)
            panel[j] = vld1q_s8(b + j * 2 * GROUP);
        UNROLLED
        for (int i = 0; i < (rows + 1) / 2; i++) {
            int8x16_t x = vld1q_s8(from + 2 * i * ld);
            UNROLLED
            for (int j = 0; j < PAIRS; j++)
                square[i][j] = vmmlaq_s32(square[i][j], x, panel[j]);
        }
    }
    UNROLLED
    for (int i = 0; i < rows; i++) {
        UNROLLED
        for (int j = 0; j < TILE_VECTORS; j++) {
            int64x2_t left = vreinterpretq_s64_s32(square[i / 2][2 * j]);
            int64x2_t right = vreinterpretq_s64_s32(square[i / 2][2 * j + 1]);
            sum[i][j] = (vi)(i % 2 ? vzip2q_s64(left, right) : vzip1q_s64(left, right));
        }
    }
}

DEFINE_PEAK(peak, int32x4_t, int8x16_t, int8x16_t, vmmlaq_s32, GROUP)

NARROW_PRODUCT(ees__s8_i8mm);
