/* SPDX-License-Identifier: MIT */
/* What the kernel checks share: reproducible numbers, buffers with guards, comparison against the scalar twin.
 *
 * Inputs end exactly where their allocation ends, so that AddressSanitizer sees an over-read; outputs stand between
 * guard words that are compared after the call. */
#ifndef EES_TESTS_KERNELS_TESTING_H
#define EES_TESTS_KERNELS_TESTING_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/mem.h"
#include "stages/kernels/kernels.h"

#define FLOAT_EPS 0x1p-23f
#define N_OF(array) (sizeof(array) / sizeof *(array))

/* Uniform in [-1, 1), the same on every machine. */
float next_random(uint32_t *state);

/* n floats, the first of them `offset` floats behind an aligned address. free_input() takes the same offset. */
float *alloc_input(size_t n, size_t offset);
float *random_input(size_t n, size_t offset, uint32_t seed);
void free_input(float *p, size_t offset);

/* An output of n floats, every one of them and the guards set to a pattern no kernel computes. */
struct output {
    float *data;
    size_t n;
    uint32_t *block;
};
struct output alloc_output(size_t n, size_t offset);
void reset_output(struct output *out);
void check_guards(const struct output *out, const char *what);
void check_untouched(const struct output *out, size_t first, size_t n, const char *what);
void free_output(struct output *out);

/* Fails with place and values unless |got - expected| <= tolerance, or both are NaN, or both the same infinity. */
void check_close(float got, float expected, double tolerance, const char *level, const char *what, size_t i, size_t j);

/* Distance of `got` from the exact value in units of the last place of float at that value. */
double ulp_error(float got, double exact);

/* Levels without the scalar one. Call `run` for each of them. */
void for_each_simd_level(void (*run)(const struct ees__kernels *k));
bool rows_are_independent(const struct ees__kernels *k); /* promised by every level but blas */

#endif
