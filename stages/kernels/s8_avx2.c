/* SPDX-License-Identifier: MIT */
/* int8 with AVX2: vpmaddwd on 16-bit elements, two of k at a time; see s8_avx512.c for why not vpmaddubsw. */
#include <immintrin.h>

#define VL            8
#define TILE_ROWS     6
#define TILE_VECTORS  2
#define PREFETCH_STEP 1
#define TILE_LIST(X)  X(1) X(2) X(3) X(4) X(5) X(6)

#define vector_max(a, b)  ((vf)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define vector_min(a, b)  ((vf)_mm256_min_ps((__m256)(a), (__m256)(b)))
#define vector_low(a)     low_halves((__m256i)(a))
#define vector_largest(a) lanes_max(a)
#define vector_total(a)   lanes_sum(a)

#include "stages/kernels/simd_vectors.h"

typedef int8_t narrow;
typedef int16_t narrow_x;
typedef __m256i vector_w, vector_x;

INLINE __m128i low_halves(__m256i v) {
    __m256i pairs = _mm256_packus_epi32(_mm256_and_si256(v, _mm256_set1_epi32(0xffff)), _mm256_setzero_si256());
    return _mm256_castsi256_si128(_mm256_permute4x64_epi64(pairs, 0x08));
}

#define X_SHIFT     0
#define GROUP       2
#define STEP        GROUP
#define LANES(X)    X(0)
#define PLACE(j, e) ((j)*GROUP + (e))

INLINE vector_w load_w(const int8_t *p) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p)); }

INLINE vector_x load_x(const int16_t *p) {
    int32_t group;
    memcpy(&group, p, sizeof group);
    return _mm256_set1_epi32(group);
}

#define dot(sum, w, x, lane) ((sum) + (vi)_mm256_madd_epi16(x, w))

#include "stages/kernels/simd_s8.h"
#include "stages/kernels/simd_dot.h"

NARROW_PRODUCT(ees__s8_avx2);
