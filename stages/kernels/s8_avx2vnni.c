/* SPDX-License-Identifier: MIT */
/* int8 with AVX2 and AVX-VNNI: vpdpbusd, u8 times s8, four elements of k at a time. */
#include <immintrin.h>

#define VL            8
#define TILE_ROWS     6
#define TILE_VECTORS  2
#define PREFETCH_STEP 2
#define TILE_LIST(X)  X(1) X(2) X(3) X(4) X(5) X(6)

#define vector_max(a, b)  ((vf)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define vector_min(a, b)  ((vf)_mm256_min_ps((__m256)(a), (__m256)(b)))
#define vector_low(a)     __builtin_convertvector(a, vn)
#define vector_largest(a) lanes_max(a)
#define vector_total(a)   lanes_sum(a)

#include "stages/kernels/simd_vectors.h"

typedef int8_t narrow;
typedef uint8_t narrow_x;
typedef __m256i vector_w, vector_x;

#define X_SHIFT     0
#define GROUP       4
#define STEP        GROUP
#define LANES(X)    X(0)
#define PLACE(j, e) ((j)*GROUP + (e))

INLINE vector_w load_w(const int8_t *p) { return _mm256_loadu_si256((const __m256i *)p); }

INLINE vector_x load_x(const uint8_t *p) {
    int32_t group;
    memcpy(&group, p, sizeof group);
    return _mm256_set1_epi32(group);
}

#define dot(sum, w, x, lane) ((vi)_mm256_dpbusd_avx_epi32((__m256i)(sum), x, w))

#include "stages/kernels/simd_s8.h"
#include "stages/kernels/simd_dot.h"

NARROW_PRODUCT(ees__s8_avx2vnni);
