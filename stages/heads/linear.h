/* SPDX-License-Identifier: MIT */
/* The linear highway (spec 5.5), on rows so that `vit` can end in it: logits = W tanh(Wp x[0] + bp) + b; of a distilled
 * model z = LN(x), (Wc z[0] + bc + Wd z[1] + bd) / 2. */
#ifndef EES_STAGES_HEADS_LINEAR_H
#define EES_STAGES_HEADS_LINEAR_H

#include "stages/loader.h"

struct ees__linear_end {
    size_t n_rows; /* it reads of a frame: 1, or 2 of a distilled model */
    struct ees__linear pool;
    struct ees__norm norm; /* distilled */
    float eps;
    struct ees__linear classifier;
};

int ees__linear_end_open(struct ees__loader *loader, const char *prefix, struct ees__linear_end *out, ees_error *err);
void ees__linear_end_close(struct ees__linear_end *end); /* accepts a zeroed one */

/* Logits of each frame from its first tokens, rows (n, n_rows, C).
 * @param scratch  ees__linear_end_floats() for that many frames; n times that for one is enough */
void ees__linear_end_run(const struct ees__linear_end *end, const struct ees__run *run, const float *rows,
                         float *scratch);
size_t ees__linear_end_floats(const struct ees__linear_end *end, const struct ees__kernels *kernels, size_t n);
double ees__linear_end_flops(const struct ees__linear_end *end);

#endif
