/* SPDX-License-Identifier: MIT */
/* int8 with the Advanced SIMD every AArch64 CPU has: two products of 8 bits fit 16 without overflow (2 * 127 * 128 =
 * 32512), so smull, smlal and sadalp take four elements of k for four columns. x is stored as u - 128. */
#include <arm_neon.h>

#define VL            4
#define TILE_ROWS     8
#define TILE_VECTORS  2
#define PREFETCH_STEP 2
#define TILE_LIST(X)  X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)

#define vector_max(a, b)  ((vf)vmaxq_f32((float32x4_t)(a), (float32x4_t)(b)))
#define vector_min(a, b)  ((vf)vminq_f32((float32x4_t)(a), (float32x4_t)(b)))
#define vector_low(a)     __builtin_convertvector(a, vn)
#define vector_largest(a) vmaxvq_f32((float32x4_t)(a))
#define vector_total(a)   vaddvq_f32((float32x4_t)(a))

#include "stages/kernels/simd_vectors.h"

typedef int8_t narrow, narrow_x;

/* A group of x: its first and its last pair, each in all lanes. */
typedef struct {
    int8x16_t first, last;
} vector_x;
typedef int8x16_t vector_w;

#define X_SHIFT     128
#define GROUP       4
#define STEP        GROUP
#define LANES(X)    X(0)
#define PLACE(j, e) ((e) / 2 * 2 * VL + (j)*2 + (e) % 2) /* first pairs of all columns, then last ones */

#define load_w(p) vld1q_s8(p)

INLINE int8x16_t splat_pair(const int8_t *p) {
    int16_t pair;
    memcpy(&pair, p, sizeof pair);
    return vreinterpretq_s8_s16(vdupq_n_s16(pair));
}

INLINE vector_x load_x(const int8_t *p) { return (vector_x){splat_pair(p), splat_pair(p + 2)}; }

#define dot(sum, w, x, lane) add_group(sum, w, x)

#include "stages/kernels/simd_s8.h"

INLINE vi add_group(vi sum, int8x16_t w, vector_x x) {
    int16x8_t pairs = vmull_s8(vget_low_s8(w), vget_low_s8(x.first));
    return (vi)vpadalq_s16((int32x4_t)sum, vmlal_high_s8(pairs, w, x.last));
}

#include "stages/kernels/simd_dot.h"

NARROW_PRODUCT(ees__s8_neon);
