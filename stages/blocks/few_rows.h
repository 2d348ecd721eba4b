/* SPDX-License-Identifier: MIT */
/* A pre-LN block (spec 1.1) of which only the first rows of the result are wanted: the class token, or that and the
 * distillation token. For heads that put a block of their own behind the backbone's.
 *
 * Keys and values are never made. With y = LN1(x), head h of a query row q scores token j by
 * q_h . (Wk_h y_j + bk_h) = (Wk_h^T q_h) . y_j + a constant the softmax drops, and mixes the values to
 * sum_j a_j (Wv_h y_j + bv_h) = Wv_h (sum_j a_j y_j) + bv_h. So attention runs between H rows (C,) a query and the T
 * rows of y, and every product has a few rows: 11 M multiply-accumulates for a block of ViT-B/16 instead of 1454 M.
 * Exact in real arithmetic. */
#ifndef EES_STAGES_BLOCKS_FEW_ROWS_H
#define EES_STAGES_BLOCKS_FEW_ROWS_H

#include "stages/loader.h"

struct ees__few_rows {
    size_t n_rows, n_heads;
    float eps;
    struct ees__norm norm;
    struct ees__linear query, proj;    /* (C, C) */
    struct ees__linear *keys, *values; /* n_heads each: (C, D), a head's Wk transposed, and (D, C) */
    struct ees__attention shape;       /* of tokens by rows of C */
    void *mlp;                         /* of ees__block_mlp */
};

/* @param prefix  of the block's tensors: "exit.0.blk" */
int ees__few_rows_open(struct ees__loader *loader, const char *prefix, size_t n_rows, struct ees__few_rows *out,
                       ees_error *err);
void ees__few_rows_close(struct ees__few_rows *b); /* accepts a zeroed one */

/* The block's first rows of each frame to `rows` (n, n_rows, C).
 * @param scratch  ees__few_rows_floats() for that many frames; that for one and n - 1 times `item` is enough */
void ees__few_rows_run(const struct ees__few_rows *b, const struct ees__run *run, float *rows, float *scratch);
size_t ees__few_rows_floats(const struct ees__few_rows *b, const struct ees__kernels *kernels, size_t *item);
double ees__few_rows_flops(const struct ees__few_rows *b);

#endif
