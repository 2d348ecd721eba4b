/* SPDX-License-Identifier: MIT */
/* bf16 with AVX-512 BF16: vdpbf16ps, two elements of k at a time. */
#include <immintrin.h>

#define VL            16
#define TILE_ROWS     12
#define TILE_VECTORS  2
#define PREFETCH_STEP 8
#define TILE_LIST(X)  X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)

#define vector_max(a, b) ((vf)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define vector_min(a, b) ((vf)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define vector_narrow(a) ((vn)_mm512_cvtneps_pbh((__m512)(a)))

#include "stages/kernels/simd_vectors.h"

typedef uint16_t narrow, narrow_x;
typedef uint16_t vn __attribute__((vector_size(VL * sizeof(uint16_t))));
typedef __m512bh vector_w, vector_x;

#define GROUP       2
#define STEP        GROUP
#define LANES(X)    X(0)
#define PLACE(j, e) ((j)*GROUP + (e))

INLINE vector_w load_w(const uint16_t *p) { return (__m512bh)_mm512_loadu_si512(p); }

INLINE vector_x load_x(const uint16_t *p) {
    int32_t group;
    memcpy(&group, p, sizeof group);
    return (__m512bh)_mm512_set1_epi32(group);
}

#define dot(sum, w, x, lane) ((vf)_mm512_dpbf16_ps((__m512)(sum), x, w))

#include "stages/kernels/simd_bf16.h"
#include "stages/kernels/simd_dot.h"

#include "stages/kernels/simd_bf16_attention.h"

NARROW_PRODUCT(ees__bf16_avx512);

const struct ees__attention_core ees__attention_bf16_avx512 = {
    .packed_floats = attention_packed_floats,
    .scratch_floats = attention_scratch_floats,
    .pack = attention_pack,
    .run = attention,
};
