/* SPDX-License-Identifier: MIT */
/* ARM Advanced SIMD (AArch64). Tile 8 x 8: 16 accumulators, 2 vectors of W and 8 elements of x in 32 registers. */
#include <arm_neon.h>

#define VL            4
#define TILE_ROWS     8
#define TILE_VECTORS  2
#define K_BLOCK       256
#define PREFETCH_STEP 2
#define TILE_LIST(X)  X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)

#define vector_max(a, b) ((vf)vmaxq_f32((float32x4_t)(a), (float32x4_t)(b)))
#define vector_min(a, b) ((vf)vminq_f32((float32x4_t)(a), (float32x4_t)(b)))

#include "stages/kernels/simd.h"

SIMD_KERNELS(neon);
