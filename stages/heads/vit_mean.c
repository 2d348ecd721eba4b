/* SPDX-License-Identifier: MIT */
/* The head `vit` without a class token: a block of a ViT on all tokens, then LN of each patch, mean, linear. All
 * patches of the block are read, so it is a backbone's two units on a copy of the state. On a Swin (spec 5.5; github
 * falcon-xu/LGViT, models/swin_highway/highway.py, ViT_EE_Highway) the published class builds its block with DeiT's
 * defaults, whatever the Swin has. */
#include <stdio.h>
#include <string.h>

#include "common/fail.h"
#include "stages/blocks/blocks.h"
#include "stages/heads/pooled.h"

enum { N_HEADS = 8, MLP_WIDTH = 3072 };
static const double block_eps = 1e-12;

struct vit {
    void *attention, *mlp;
    size_t block_floats; /* of scratch, for either */
    struct ees__tail tail;
};

static void close_vit(void *self) {
    struct vit *v = self;
    if (!v)
        return;
    ees__block_attention.close(v->attention);
    ees__block_mlp.close(v->mlp);
    ees__tail_close(&v->tail);
    ees__free(v);
}

static void take_deit_defaults(struct ees__dims *d) {
    d->n_heads = N_HEADS;
    d->qkv_bias = true;
    d->activation = EES__POST_GELU;
    d->norm_eps = block_eps;
}

/* The stage's sizes with what the block has of its own. */
static int make_block_dims(struct ees__loader *loader, const char *block, struct ees__dims *out, ees_error *err) {
    *out = *loader->dims;
    out->layer_scale = out->swiglu = out->qk_norm = false;
    if (out->window.h > 0)
        take_deit_defaults(out);
    if (out->n_channels % out->n_heads)
        return EES_FAIL(err, EES_EMODEL, "%s has %d attention heads, and its stage %zu channels, expected a multiple",
                        block, N_HEADS, out->n_channels);
    return ees__load_size(loader, block, "mlp.fc1.weight", 0, MLP_WIDTH, &out->mlp_width, err);
}

static int open_block(struct ees__loader *loader, const char *prefix, struct vit *v, struct ees__op_cost *cost,
                      ees_error *err) {
    const struct ees__dims *stage = loader->dims;
    struct ees__dims dims;
    struct ees__op_cost attention = {0}, mlp = {0};
    char block[32];
    snprintf(block, sizeof block, "%s.blk", prefix);
    EES_TRY(make_block_dims(loader, block, &dims, err));
    loader->dims = &dims;
    loader->n_rows = dims.n_tokens;
    int rc = ees__block_attention.open(loader, block, 0, &v->attention, &attention, err);
    if (rc == 0)
        rc = ees__block_mlp.open(loader, block, 0, &v->mlp, &mlp, err);
    loader->dims = stage;
    v->block_floats = ees__piece_floats(ees__max_size(attention.scratch_floats, mlp.scratch_floats));
    cost->scratch_floats = v->block_floats + ees__piece_floats(stage->n_tokens * stage->n_channels);
    cost->flops = attention.flops + mlp.flops;
    return rc;
}

static int open_vit(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                    struct ees__op_cost *cost, ees_error *err) {
    struct vit *v = ees__calloc_aligned(1, sizeof *v);
    if (!v)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %s", prefix);
    int rc = open_block(loader, prefix, v, cost, err);
    if (rc == 0)
        rc = ees__tail_open(loader, prefix, &v->tail, err);
    if (rc < 0) {
        close_vit(v);
        return rc;
    }
    ees__tail_cost(loader, &v->tail, loader->dims->n_patches, 0, cost);
    *self = v;
    return 0;
}

/* The units take scratch from its start, the leader's and each helper's: the copy lies behind that. */
static void run_vit(const void *self, const struct ees__run *run) {
    const struct vit *v = self;
    size_t n = run->dims->n_patches, c = run->dims->n_channels, n_tokens = run->dims->n_tokens;
    float *scratch = run->lane->scratch + v->block_floats;
    float *tokens = ees__cut_piece(&scratch, n_tokens * c);
    struct ees__tail_run tail = ees__tail_begin(&v->tail, run, n, &scratch);
    struct ees__run block = *run;
    block.n = 1;
    block.n_rows = run->dims->n_tokens;
    block.states = &tokens;
    for (size_t i = 0; i < run->n; i++) {
        memcpy(tokens, run->states[i], n_tokens * c * sizeof *tokens);
        ees__block_attention.run(v->attention, &block);
        ees__block_mlp.run(v->mlp, &block);
        ees__tail_take(&tail, i, tokens + (n_tokens - n) * c, NULL, n);
    }
    ees__tail_end(&tail);
}

const struct ees__op ees__head_vit_mean = {
    .name = "vit",
    .tokens = EES__HEAD_BARE_GRID,
    .open = open_vit,
    .run = run_vit,
    .close = close_vit,
};
