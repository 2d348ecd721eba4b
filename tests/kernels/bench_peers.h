/* SPDX-License-Identifier: MIT */
/* What the kernels are measured against: OpenBLAS sgemm, oneDNN matmul with packed weights. */
#ifndef EES_TESTS_KERNELS_BENCH_PEERS_H
#define EES_TESTS_KERNELS_BENCH_PEERS_H

#include <stdbool.h>
#include <stddef.h>

#include "stages/kernels/kernels.h"

/* y (m, n) = x (m, k) W^T on one thread. False: no such library. */
bool open_openblas(void);
void run_openblas(const float *x, const float *w, size_t m, size_t n, size_t k, float *y);

/* The same with the weights reordered once. NULL: not in this build, or it failed. */
struct onednn;
struct onednn *open_onednn(const float *x, const float *w, size_t m, size_t n, size_t k, float *y);
void run_onednn(struct onednn *o);
void close_onednn(struct onednn *o);

#endif
