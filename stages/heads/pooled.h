/* SPDX-License-Identifier: MIT */
/* The end that heads share: from the rows X (n, C) of a head's module to logits. Y = last(X), and the residual where
 * the head has one.
 *
 *   with a class token (spec 5.1):  logits = W (mean(Y) + class token) + b. `last` commutes with the mean, so it runs
 *                                   once, on the means of X
 *   on a distilled DeiT:            the mean of that and the same with the distillation token, as one product with rows
 *                                   [mean(Y) + class token ; mean(Y) + distillation token]
 *   on a Swin:                      logits = W mean(LN(Y)) + b, and `last` runs on every row */
#ifndef EES_STAGES_HEADS_POOLED_H
#define EES_STAGES_HEADS_POOLED_H

#include "stages/loader.h"

struct ees__tail {
    struct ees__linear last;       /* (C, C), the head's to load; zeroed: Y = X */
    struct ees__norm norm;         /* Swin */
    struct ees__linear classifier; /* on rows of C, or 2 C of a distilled DeiT */
    enum ees__pool pool;
};

/* Load norm and classifier of `prefix`. Nothing is left behind on failure. */
int ees__tail_open(struct ees__loader *loader, const char *prefix, struct ees__tail *out, ees_error *err);
void ees__tail_close(struct ees__tail *tail); /* accepts a zeroed one */

/* Add what the tail needs for frames of `n_rows` rows to a cost that holds what lies in scratch before it. `inner`:
 * floats of scratch behind it that the head itself needs. */
void ees__tail_cost(const struct ees__loader *loader, const struct ees__tail *tail, size_t n_rows, size_t inner,
                    struct ees__op_cost *cost);

/* A run of the tail. All memory but the parts' scratch is shared. */
struct ees__tail_run {
    const struct ees__tail *tail;
    const struct ees__run *run;
    float *rows;   /* Swin: Y of the frame at hand */
    float *means;  /* (run->n, C) of X */
    float *pooled; /* (run->n, the classifier's k) */
    bool has_residual;
    float *scratch; /* a part's own, in the leader's lane */
};

/* Cut the tail's memory; `scratch` is behind it then. */
struct ees__tail_run ees__tail_begin(const struct ees__tail *tail, const struct ees__run *run, size_t n_rows,
                                     float **scratch);

/* Frame `i` of the run: X and the residual (n, C). `residual` NULL: none, for all frames alike; otherwise there is a
 * `last`. */
void ees__tail_take(struct ees__tail_run *t, size_t i, const float *x, const float *residual, size_t n);

/* All frames are taken: their logits. */
void ees__tail_end(const struct ees__tail_run *t);

/* Logits of models with a class token.
 * @param pooled   mean(Y) of each frame, in the first C of a row as long as the classifier's, overwritten
 * @param scratch  ees__classify_floats() */
void ees__classify_pooled(const struct ees__linear *classifier, const struct ees__run *run, float *pooled,
                          float *scratch);

#endif
