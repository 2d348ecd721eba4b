/* SPDX-License-Identifier: MIT */
/* int8 with AVX-512 VNNI: vpdpbusd, u8 times s8, four elements of k at a time. */
#include <immintrin.h>

#define VL            16
#define TILE_ROWS     12
#define TILE_VECTORS  2
#define PREFETCH_STEP 8
#define TILE_LIST(X)  X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)

#define vector_max(a, b)  ((vf)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define vector_min(a, b)  ((vf)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define vector_low(a)     _mm512_cvtepi32_epi8((__m512i)(a))
#define vector_largest(a) _mm512_reduce_max_ps((__m512)(a))
#define vector_total(a)   _mm512_reduce_add_ps((__m512)(a))

#include "stages/kernels/simd_vectors.h"

typedef int8_t narrow;
typedef uint8_t narrow_x;
typedef __m512i vector_w, vector_x;

#define X_SHIFT     0
#define GROUP       4
#define STEP        GROUP
#define LANES(X)    X(0)
#define PLACE(j, e) ((j)*GROUP + (e))

INLINE vector_w load_w(const int8_t *p) { return _mm512_loadu_si512(p); }

INLINE vector_x load_x(const uint8_t *p) {
    int32_t group;
    memcpy(&group, p, sizeof group);
    return _mm512_set1_epi32(group);
}

#define dot(sum, w, x, lane) ((vi)_mm512_dpbusd_epi32((__m512i)(sum), x, w))

#include "stages/kernels/simd_s8.h"
#include "stages/kernels/simd_dot.h"
#include "stages/kernels/simd_s8_attention.h"

NARROW_PRODUCT(ees__s8_avx512vnni);
S8_ATTENTION(ees__attention_s8_avx512vnni);
