/* SPDX-License-Identifier: MIT */
/* Embedding of a Swin (spec 1.4, 1): patch convolution with bias as a product, LN, and in few models a position table,
 * resampled where the input has another grid than the training. No class token. */
#include "common/fail.h"
#include "stages/blocks/blocks.h"
#include "stages/loader.h"
#include "stages/resample_table.h"

static const float embed_eps = 1e-5f; /* whatever the config says of the blocks' */

struct embed {
    struct ees__linear patch; /* (C, 3*P*P) */
    struct ees__norm norm;
    float *positions; /* (N, C) or NULL */
};

static void close_embed(void *self) {
    struct embed *e = self;
    if (!e)
        return;
    ees__linear_close(&e->patch);
    ees__norm_close(&e->norm);
    ees__free(e->positions);
    ees__free(e);
}

static int load_positions(struct ees__loader *loader, const char *prefix, struct embed *e, ees_error *err) {
    const struct ees__dims *d = loader->dims;
    size_t c = d->n_channels;
    float *stored;
    EES_TRY(ees__stage_tensor(loader, prefix, "pos", EES_SHAPE(1, d->table_h * d->table_w, c), &stored, err));
    e->positions = ees__calloc_aligned(d->n_patches * c, sizeof *e->positions);
    if (!e->positions)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %s.pos", prefix);
    loader->n_packed_bytes += d->n_patches * c * sizeof *e->positions;
    return ees__resample_table(d->table_filter, stored, d->table_h, d->table_w, c, e->positions, d->grid_h, d->grid_w,
                               err);
}

static int open_embed(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                      struct ees__op_cost *cost, ees_error *err) {
    const struct ees__dims *d = loader->dims;
    size_t n = d->n_patches, c = d->n_channels, k = 3 * d->patch * d->patch;
    struct embed *e = ees__calloc_aligned(1, sizeof *e);
    if (!e)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %s", prefix);
    int rc = ees__load_linear(loader, prefix, "patch", EES_SHAPE(c, 3, d->patch, d->patch), true, &e->patch, err);
    if (rc == 0)
        rc = ees__load_norm(loader, prefix, "norm", c, &e->norm, err);
    if (rc == 0 && d->absolute_pos)
        rc = load_positions(loader, prefix, e, err);
    if (rc < 0) {
        close_embed(e);
        return rc;
    }
    cost->scratch_floats = ees__piece_floats(n * c) + loader->kernels->linear_scratch_floats(n, c, k);
    cost->flops = 2.0 * (double)n * (double)c * (double)k;
    *self = e;
    return 0;
}

/* One frame. Patches and tokens share the state, so the products wait in scratch, shared by the parts, until the
 * patches are no longer needed. */
struct frame {
    const struct embed *op;
    const struct ees__run *run;
    float *state, *products; /* (N, C) */
};

static void multiply_patches(void *ctx, size_t first, size_t end, struct ees__lane *lane) {
    static const struct ees__post store = {.op = EES__POST_NONE};
    const struct frame *f = ctx;
    size_t n = f->run->dims->n_patches, c = f->op->patch.n, k = f->op->patch.k;
    f->run->kernels->linear(&f->op->patch, f->state + first * k, k, end - first, f->products + first * c, c, &store,
                            lane->scratch + ees__piece_floats(n * c));
}

static void norm_tokens(void *ctx, size_t first, size_t end, struct ees__lane *lane) {
    const struct frame *f = ctx;
    size_t c = f->op->patch.n;
    f->run->kernels->layernorm(f->products + first * c, c, end - first, c, f->op->norm.gamma, f->op->norm.beta,
                               embed_eps, f->state + first * c, c);
    for (size_t i = first * c; f->op->positions && i < end * c; i++)
        f->state[i] += f->op->positions[i];
}

static void run_embed(const void *self, const struct ees__run *run) {
    size_t n = run->dims->n_patches, grain = ees__row_grain(run, n);
    for (size_t i = 0; i < run->n; i++) {
        struct frame f = {.op = self, .run = run, .state = run->states[i], .products = run->lane->scratch};
        ees__run_share(run, multiply_patches, &f, n, grain);
        ees__run_share(run, norm_tokens, &f, n, grain);
    }
}

const struct ees__op ees__block_swin_embed = {
    .name = "embed",
    .open = open_embed,
    .run = run_embed,
    .close = close_embed,
};
