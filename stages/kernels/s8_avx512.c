/* SPDX-License-Identifier: MIT */
/* int8 with AVX-512 BW alone: vpmaddwd on 16-bit elements, two of k at a time. vpmaddubsw would be faster and wrong: a
 * pair of u8 times s8 saturates its 16 bits. Weights are widened as they are loaded, once for all rows of a tile. */
#include <immintrin.h>

#define VL            16
#define TILE_ROWS     12
#define TILE_VECTORS  2
#define PREFETCH_STEP 4
#define TILE_LIST(X)  X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)

#define vector_max(a, b)  ((vf)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define vector_min(a, b)  ((vf)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define vector_low(a)     _mm512_cvtepi32_epi16((__m512i)(a))
#define vector_largest(a) _mm512_reduce_max_ps((__m512)(a))
#define vector_total(a)   _mm512_reduce_add_ps((__m512)(a))

#include "stages/kernels/simd_vectors.h"

typedef int8_t narrow;
typedef int16_t narrow_x;
typedef __m512i vector_w, vector_x;

#define X_SHIFT     0
#define GROUP       2
#define STEP        GROUP
#define LANES(X)    X(0)
#define PLACE(j, e) ((j)*GROUP + (e))

INLINE vector_w load_w(const int8_t *p) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p)); }

INLINE vector_x load_x(const int16_t *p) {
    int32_t group;
    memcpy(&group, p, sizeof group);
    return _mm512_set1_epi32(group);
}

#define dot(sum, w, x, lane) ((sum) + (vi)_mm512_madd_epi16(x, w))

#include "stages/kernels/simd_s8.h"
#include "stages/kernels/simd_dot.h"

NARROW_PRODUCT(ees__s8_avx512);
