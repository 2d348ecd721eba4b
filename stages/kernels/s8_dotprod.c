/* SPDX-License-Identifier: MIT */
/* int8 with ARM's sdot: four elements of k at a time, four such groups of x in a register. x is stored as u - 128. */
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
typedef int8x16_t vector_w, vector_x;

#define X_SHIFT     128
#define GROUP       4
#define STEP        16
#define LANES(X)    X(0) X(1) X(2) X(3)
#define PLACE(j, e) ((j)*GROUP + (e))

#define load_w(p)            vld1q_s8(p)
#define load_x(p)            vld1q_s8(p)
#define dot(sum, w, x, lane) ((vi)vdotq_laneq_s32((int32x4_t)(sum), w, x, lane))

#include "stages/kernels/simd_s8.h"
#include "stages/kernels/simd_dot.h"

NARROW_PRODUCT(ees__s8_dotprod);
