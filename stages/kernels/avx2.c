/* SPDX-License-Identifier: MIT */
/* AVX2 with FMA. Tile 6 x 16: 12 accumulators, 2 vectors of W and one of x in 16 registers. */
#include <immintrin.h>

#define VL            8
#define TILE_ROWS     6
#define TILE_VECTORS  2
#define K_BLOCK       384
#define PREFETCH_STEP 2
#define TILE_LIST(X)  X(1) X(2) X(3) X(4) X(5) X(6)

#define vector_max(a, b) ((vf)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define vector_min(a, b) ((vf)_mm256_min_ps((__m256)(a), (__m256)(b)))

#include "stages/kernels/simd.h"

SIMD_KERNELS(avx2);
