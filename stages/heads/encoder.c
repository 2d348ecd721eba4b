/* SPDX-License-Identifier: MIT */
/* Heads with one more encoder block on all tokens (spec 5.5, 5.6): `vit` ends in the linear highway, `vit_ee` in
 * mlp(LN(class token)). Either reads the first tokens of the block's result only: see few_rows.h. */
#include <stdio.h>

#include "common/fail.h"
#include "stages/blocks/few_rows.h"
#include "stages/heads/linear.h"
#include "stages/heads/mlp_list.h"

struct encoder {
    struct ees__few_rows block;
    struct ees__linear_end end; /* vit */
    struct ees__norm norm;      /* vit_ee */
    struct ees__mlp_list mlp;
};

static void close_encoder(void *self) {
    struct encoder *e = self;
    if (!e)
        return;
    ees__few_rows_close(&e->block);
    ees__linear_end_close(&e->end);
    ees__norm_close(&e->norm);
    ees__mlp_list_close(&e->mlp);
    ees__free(e);
}

/* `end`: floats a frame behind the block */
static void fill_cost(const struct ees__loader *loader, const struct encoder *e, size_t end, double end_flops,
                      struct ees__op_cost *cost) {
    size_t item, block = ees__few_rows_floats(&e->block, loader->kernels, &item);
    size_t rows = ees__piece_floats(e->block.n_rows * loader->dims->n_channels);
    cost->item_floats = rows + ees__max_size(item, end);
    cost->scratch_floats = rows + ees__max_size(block, end);
    cost->flops = ees__few_rows_flops(&e->block) + end_flops;
}

static int open_block(struct ees__loader *loader, const char *prefix, size_t n_rows, struct encoder **out,
                      ees_error *err) {
    char block[32];
    *out = ees__calloc_aligned(1, sizeof **out);
    if (!*out)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %s", prefix);
    snprintf(block, sizeof block, "%s.blk", prefix);
    return ees__few_rows_open(loader, block, n_rows, &(*out)->block, err);
}

static int open_vit(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                    struct ees__op_cost *cost, ees_error *err) {
    struct encoder *e;
    int rc = open_block(loader, prefix, ees__is_distilled(loader->dims) ? 2 : 1, &e, err);
    if (rc == 0)
        rc = ees__linear_end_open(loader, prefix, &e->end, err);
    if (rc < 0) {
        close_encoder(e);
        return rc;
    }
    fill_cost(loader, e, ees__linear_end_floats(&e->end, loader->kernels, 1), ees__linear_end_flops(&e->end), cost);
    *self = e;
    return 0;
}

static int open_vit_ee(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                       struct ees__op_cost *cost, ees_error *err) {
    size_t c = loader->dims->n_channels;
    struct encoder *e;
    int rc = open_block(loader, prefix, 1, &e, err);
    if (rc == 0)
        rc = ees__load_norm(loader, prefix, "norm", c, &e->norm, err);
    if (rc == 0)
        rc = ees__mlp_list_open(loader, prefix, c, &e->mlp, err);
    if (rc < 0) {
        close_encoder(e);
        return rc;
    }
    fill_cost(loader, e, ees__mlp_list_floats(&e->mlp, loader->kernels, 1), ees__mlp_list_flops(&e->mlp), cost);
    *self = e;
    return 0;
}

static void run_vit(const void *self, const struct ees__run *run) {
    const struct encoder *e = self;
    float *scratch = run->lane->scratch;
    float *rows = ees__cut_piece(&scratch, run->n * e->block.n_rows * run->dims->n_channels);
    ees__few_rows_run(&e->block, run, rows, scratch);
    ees__linear_end_run(&e->end, run, rows, scratch);
}

static void run_vit_ee(const void *self, const struct ees__run *run) {
    const struct encoder *e = self;
    size_t c = run->dims->n_channels;
    float *scratch = run->lane->scratch, *rows = ees__cut_piece(&scratch, run->n * c);
    ees__few_rows_run(&e->block, run, rows, scratch);
    run->kernels->layernorm(rows, c, run->n, c, e->norm.gamma, e->norm.beta, e->block.eps, rows, c);
    ees__mlp_list_run(&e->mlp, run, rows, scratch);
}

const struct ees__op ees__head_vit = {
    .name = "vit",
    .open = open_vit,
    .run = run_vit,
    .close = close_encoder,
};

const struct ees__op ees__head_vit_ee = {
    .name = "vit_ee",
    .open = open_vit_ee,
    .run = run_vit_ee,
    .close = close_encoder,
};
