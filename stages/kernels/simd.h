/* SPDX-License-Identifier: MIT */
/* The float32 operations of the SIMD levels, written once with GNU C vectors. avx2.c, avx512.c and neon.c each include
 * this file with what simd_vectors.h asks for and
 *
 *     K_BLOCK        depth of one pass over k. Part of the summation order, so it depends on the level alone
 *
 * and end in SIMD_KERNELS(name). */
#ifndef EES_STAGES_KERNELS_SIMD_H
#define EES_STAGES_KERNELS_SIMD_H

#include "stages/kernels/simd_vectors.h"
#include "stages/kernels/simd_peak.h"
#include "stages/kernels/simd_linear.h"
#include "stages/kernels/simd_attention.h"
#include "stages/kernels/simd_rows.h"

#define SIMD_KERNELS(level)                                                                                            \
    const struct ees__kernels ees__kernels_##level = {                                                                 \
        .name = #level,                                                                                                \
        .tile_rows = TILE_ROWS,                                                                                        \
        .products = {[EES__F32] = &f32_product},                                                                       \
        .linear_scratch_floats = ees__linear_scratch_floats,                                                           \
        .linear = ees__linear_run,                                                                                     \
        .layernorm = layernorm,                                                                                        \
        .attention = {[EES__F32] = &f32_attention},                                                                    \
        .depthwise3x3_gelu = depthwise3x3_gelu,                                                                        \
        .silu_gate = silu_gate,                                                                                        \
        .column_mean = column_mean,                                                                                    \
        .read = read_floats,                                                                                           \
    }

#endif
