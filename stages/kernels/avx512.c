/* SPDX-License-Identifier: MIT */
/* AVX-512 (F, BW, DQ, VL). Tile 12 x 32: 24 accumulators, 2 vectors of W and one of x in 32 registers. */
#include <immintrin.h>

#define VL            16
#define TILE_ROWS     12
#define TILE_VECTORS  2
#define K_BLOCK       1024
#define PREFETCH_STEP 8
#define TILE_LIST(X)  X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)

#define vector_max(a, b) ((vf)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define vector_min(a, b) ((vf)_mm512_min_ps((__m512)(a), (__m512)(b)))

#include "stages/kernels/simd.h"

SIMD_KERNELS(avx512);
