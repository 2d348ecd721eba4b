/* SPDX-License-Identifier: MIT */
/* Vectors and register tiles in GNU C, for the files that hold one level's code. Such a file defines
 *
 *     VL             32-bit lanes in a vector
 *     TILE_LIST(X)   X(1) X(2) ... X(MR): row counts of the register tile
 *     TILE_ROWS      MR
 *     TILE_VECTORS   width of the tile in vectors; with MR it fills the register file without spilling
 *     PREFETCH_STEP  bytes of the next panel to prefetch a step over k: some 192 rows fetch a whole panel
 *     vector_max(a, b), vector_min(a, b)   b when the two are unordered, or NaN
 *
 * and what the header of its operations asks for beside that. Everything here is static: these objects are compiled
 * with flags of their level, and a function that leaked from them would crash other machines. */
#ifndef EES_STAGES_KERNELS_SIMD_VECTORS_H
#define EES_STAGES_KERNELS_SIMD_VECTORS_H

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

/* Rows of x multiplied per pass: their block of k stays in the private cache while panels stream by. */
enum { ROW_CHUNK = EES__ROW_CHUNK };

/* Split m rows into the fewest tiles, as evenly as possible: first row of tile `idx` of `n`. */
INLINE size_t tile_row(size_t m, size_t n_tiles, size_t idx) { return m * idx / n_tiles; }

#include "stages/kernels/simd_math.h"

/* A vector more than t needs: rows a power of two apart would fall into the same cache sets. */
INLINE size_t scores_ld(size_t t) { return ees__round_up(t, TILE_COLUMNS) + VL; }

/* What is added to the scores of query `row`. */
INLINE const float *score_row(const float *addend, size_t t, size_t row) {
    return addend ? addend + row * ees__score_ld(t) : NULL;
}

/* What follows on a finished tile, still in the first cache. `post` and `rough` are constants in each instance. */
INLINE void activate_rows(const enum ees__post_op post, const bool rough, float *y, size_t ldy, size_t rows,
                          const float *scale, const float *shift) {
    for (size_t i = 0; i < rows; i++)
        for (int j = 0; j < TILE_VECTORS; j++) {
            vf z = load(y + i * ldy + j * VL);
            z = post == EES__POST_RELU        ? relu(z)
                : post == EES__POST_SILU      ? silu(z)
                : post == EES__POST_GELU_TANH ? gelu_tanh(z)
                : rough                       ? gelu_rough(z)
                                              : gelu(z);
            if (post == EES__POST_GELU_AFFINE)
                z = z * load(scale + j * VL) + load(shift + j * VL);
            store(y + i * ldy + j * VL, z);
        }
}

/* `rough`, the same for all tiles of a level's file: gelu_rough() will do. */
static void activate_tile(enum ees__post_op post, bool rough, float *y, size_t ldy, size_t rows, const float *scale,
                          const float *shift) {
    switch (post) {
    case EES__POST_GELU:
    case EES__POST_ADD_GELU:
        activate_rows(EES__POST_GELU, rough, y, ldy, rows, NULL, NULL);
        break;
    case EES__POST_GELU_AFFINE:
        activate_rows(EES__POST_GELU_AFFINE, rough, y, ldy, rows, scale, shift);
        break;
    case EES__POST_GELU_TANH:
        activate_rows(EES__POST_GELU_TANH, rough, y, ldy, rows, NULL, NULL);
        break;
    case EES__POST_RELU:
        activate_rows(EES__POST_RELU, rough, y, ldy, rows, NULL, NULL);
        break;
    case EES__POST_SILU:
        activate_rows(EES__POST_SILU, rough, y, ldy, rows, NULL, NULL);
        break;
    case EES__POST_NONE:
    case EES__POST_ADD:
    case EES__N_POST_OPS:
        break;
    }
}

#endif
