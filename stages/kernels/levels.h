/* SPDX-License-Identifier: MIT */
/* The levels of the kernel table and what they share behind it. */
#ifndef EES_STAGES_KERNELS_LEVELS_H
#define EES_STAGES_KERNELS_LEVELS_H

#include <stdbool.h>

#include "stages/kernels/kernels.h"
#include "stages/kernels/narrow.h"

enum { EES__MAX_TILE_COLUMNS = 64 }; /* ees__linear.bias, scale and sums are zero-padded to a multiple of this */

/* Operations in float32. Levels that differ in products of narrow elements alone share one of these. */
extern const struct ees__kernels ees__kernels_scalar, ees__kernels_blas;
extern const struct ees__product ees__s8_scalar, ees__bf16_scalar;
#if defined(__x86_64__)
extern const struct ees__kernels ees__kernels_avx2, ees__kernels_avx512;
extern const struct ees__product ees__s8_avx2, ees__s8_avx2vnni, ees__s8_avx512, ees__s8_avx512vnni, ees__bf16_avx512;
#elif defined(__aarch64__)
extern const struct ees__kernels ees__kernels_neon;
extern const struct ees__product ees__s8_neon, ees__s8_dotprod, ees__s8_i8mm;
#endif

/* Attention on rounded elements. */
#if defined(__x86_64__)
extern const struct ees__attention_core ees__attention_bf16_avx512, ees__attention_s8_avx512vnni;
#endif

/* The two members every table shares: a product by the linear's own precision, and room for the hungriest precision. */
void ees__linear_run(const struct ees__linear *l, const float *x, size_t ldx, size_t m, float *y, size_t ldy,
                     const struct ees__post *post, float *scratch);
size_t ees__linear_scratch_floats(size_t m, size_t n, size_t k);

/* peak() of products that are written to be read, or a library's: run() itself, on operands in the private cache. */
typedef void ees__product_run(const struct ees__linear *l, const float *x, size_t ldx, size_t m, float *y, size_t ldy,
                              const struct ees__post *post, float *scratch);
double ees__peak_of_run(ees__product_run *run, size_t n);

/* Loads a BLAS library on the first call; false when there is none. Any thread. */
bool ees__blas_load(void);

/* Pieces of the scalar level the blas level builds on. */
float ees__gelu_scalar(float x);
void ees__post_scalar(float *y, size_t ldy, size_t m, size_t n, const struct ees__post *post);
void ees__softmax_scalar(float *row, size_t n);
void ees__add_bias_scalar(const struct ees__attention *a, size_t head, size_t i, float *scores);
void ees__layernorm_scalar(const float *x, size_t ldx, size_t rows, size_t c, const float *gamma, const float *beta,
                           float eps, float *y, size_t ldy);
size_t ees__attention_packed_none(size_t t, size_t d);
void ees__attention_pack_none(const struct ees__attention *a, const float *qkv, size_t ldqkv, size_t head,
                              float *packed);
void ees__depthwise3x3_gelu_scalar(const float *x, size_t h, size_t w, size_t c, size_t first, size_t end,
                                   const float *weight, const float *bias, float *y);
void ees__silu_gate_scalar(float *x, size_t ldx, size_t rows, size_t c);
void ees__column_mean_scalar(const float *x, size_t ldx, size_t rows, size_t c, float *y);
void ees__read_scalar(const float *x, size_t n);

#endif
