/* SPDX-License-Identifier: MIT */
/* The SIMD levels, written once with GNU C vectors. avx2.c, avx512.c and neon.c each include this file with
 *
 *     VL             floats in a vector
 *     TILE_LIST(X)   X(1) X(2) ... X(MR): row counts of the register tile
 *     TILE_ROWS      MR
 *     TILE_VECTORS   width of the tile in vectors; with MR it fills the register file without spilling
 *     PREFETCH_STEP  bytes of the next panel to prefetch a step over k: some 192 rows fetch a whole panel
 *     K_BLOCK        depth of one pass over k. Part of the summation order, so it depends on the level alone
 *     vector_max(a, b), vector_min(a, b)   b when the two are unordered, or NaN
 *
 * and end in SIMD_KERNELS(name). Everything here is static: these objects are compiled with flags of their level, and
 * a function that leaked from them would crash other machines. */
#ifndef EES_STAGES_KERNELS_SIMD_H
#define EES_STAGES_KERNELS_SIMD_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/mem.h"
#include "stages/kernels/levels.h"

enum { TILE_COLUMNS = TILE_VECTORS * VL };
_Static_assert(EES__MAX_TILE_COLUMNS % TILE_COLUMNS == 0, "the bias is padded to whole tiles");

#define INLINE static inline __attribute__((always_inline))

/* Loops over a tile's rows and vectors must vanish, or the accumulators live in memory. */
#if defined(__clang__)
#define UNROLLED _Pragma("clang loop unroll(full)")
#else
#define UNROLLED _Pragma("GCC unroll 32")
#endif

typedef float vf __attribute__((vector_size(VL * sizeof(float))));
typedef uint32_t vu __attribute__((vector_size(VL * sizeof(float))));
typedef float vf_unaligned __attribute__((vector_size(VL * sizeof(float)), aligned(sizeof(float)), may_alias));

INLINE vf load(const float *p) { return *(const vf_unaligned *)p; }
INLINE void store(float *p, vf v) { *(vf_unaligned *)p = v; }
INLINE vf splat(float x) { return x - (vf){0}; } /* minus zero changes no value, not even -0 */

/* The first n lanes, the rest zero. n < VL. */
INLINE vf load_part(const float *p, size_t n) {
    vf v = {0};
    memcpy(&v, p, n * sizeof(float));
    return v;
}

INLINE void store_part(float *p, vf v, size_t n) { memcpy(p, &v, n * sizeof(float)); }

/* Sum and maximum of the lanes, halves folded onto each other. */
INLINE float lanes_sum(vf v) {
    float lane[VL];
    memcpy(lane, &v, sizeof lane);
    for (int width = VL / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            lane[i] += lane[i + width];
    return lane[0];
}

INLINE float lanes_max(vf v) {
    float lane[VL];
    memcpy(lane, &v, sizeof lane);
    for (int width = VL / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            lane[i] = lane[i] > lane[i + width] ? lane[i] : lane[i + width];
    return lane[0];
}

#include "stages/kernels/simd_math.h"
#include "stages/kernels/simd_linear.h"
#include "stages/kernels/simd_attention.h"
#include "stages/kernels/simd_rows.h"

#define SIMD_KERNELS(level)                                    \
    const struct ees__kernels ees__kernels_##level = {         \
        .name = #level,                                        \
        .tile_rows = TILE_ROWS,                                \
        .linear_packed_floats = linear_packed_floats,          \
        .linear_pack = linear_pack,                            \
        .linear_scratch_floats = linear_scratch_floats,        \
        .linear = linear,                                      \
        .layernorm = layernorm,                                \
        .attention_packed_floats = attention_packed_floats,    \
        .attention_scratch_floats = attention_scratch_floats,  \
        .attention_pack = attention_pack,                      \
        .attention = attention,                                \
        .depthwise3x3_gelu = depthwise3x3_gelu,                \
        .silu_gate = silu_gate,                                \
        .column_mean = column_mean,                            \
    }

#endif
