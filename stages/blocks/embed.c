/* SPDX-License-Identifier: MIT */
/* Embedding: patch convolution as a product, special tokens in front, position table (spec 1.1, steps 1 to 4), and LN
 * of all tokens in models that begin with one.
 *
 * Everything that does not depend on the picture is one table (T, C), made at load: class and distillation token with
 * their positions, registers, which have none (spec 1.3), then for each patch the convolution's bias and its position,
 * resampled where the input has another grid than the training (spec 1.5). */
#include "common/fail.h"
#include "stages/blocks/blocks.h"
#include "stages/loader.h"
#include "stages/resample_table.h"

struct embed {
    struct ees__linear patch; /* (C, 3*P*P), no bias */
    float *table;
    struct ees__norm norm; /* zeroed: none */
    float eps;
};

static void close_embed(void *self) {
    struct embed *e = self;
    if (!e)
        return;
    ees__linear_close(&e->patch);
    ees__free(e->table);
    ees__norm_close(&e->norm);
    ees__free(e);
}

/* rows (n, C) += a tensor of the shape (1, n, C). */
static int add_token(struct ees__loader *loader, const char *prefix, const char *leaf, size_t n, float *rows,
                     ees_error *err) {
    size_t c = loader->dims->n_channels;
    float *token;
    EES_TRY(ees__stage_tensor(loader, prefix, leaf, EES_SHAPE(1, n, c), &token, err));
    for (size_t i = 0; i < n * c; i++)
        rows[i] += token[i];
    return 0;
}

static int add_bias(struct ees__loader *loader, const char *prefix, float *rows, ees_error *err) {
    size_t n = loader->dims->n_patches, c = loader->dims->n_channels;
    float *bias;
    EES_TRY(ees__stage_tensor(loader, prefix, "patch.bias", EES_SHAPE(c), &bias, err));
    for (size_t i = 0; i < n * c; i++)
        rows[i] += bias[i % c];
    return 0;
}

/* Positions of special tokens as they are, where the file has such rows, and of patches for the grid at hand. */
static int add_positions(struct ees__loader *loader, const char *prefix, float *table, ees_error *err) {
    const struct ees__dims *d = loader->dims;
    size_t c = d->n_channels, n_fixed = d->table_special * c, n_patches = d->n_patches * c;
    float *stored, *patches = table + d->n_special * c;
    EES_TRY(ees__stage_tensor(loader, prefix, "pos", EES_SHAPE(1, d->table_special + d->table_h * d->table_w, c),
                              &stored, err));
    for (size_t i = 0; i < n_fixed; i++)
        table[i] += stored[i];
    float *resampled = ees__calloc_aligned(n_patches, sizeof *resampled);
    if (!resampled)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %s.pos", prefix);
    int rc = ees__resample_table(d->table_filter, stored + n_fixed, d->table_h, d->table_w, c, resampled, d->grid_h,
                                 d->grid_w, err);
    for (size_t i = 0; rc == 0 && i < n_patches; i++)
        patches[i] += resampled[i];
    ees__free(resampled);
    return rc;
}

/* Into a zeroed table (T, C). */
static int fill_table(struct ees__loader *loader, const char *prefix, float *table, ees_error *err) {
    const struct ees__dims *d = loader->dims;
    size_t c = d->n_channels;
    float *row = table;
    if (!d->bare) {
        EES_TRY(add_token(loader, prefix, "cls", 1, row, err));
        row += c;
    }
    if (d->has_dist) {
        EES_TRY(add_token(loader, prefix, "dist", 1, row, err));
        row += c;
    }
    if (d->n_registers)
        EES_TRY(add_token(loader, prefix, "reg", d->n_registers, row, err));
    if (!d->pre_norm)
        EES_TRY(add_bias(loader, prefix, table + d->n_special * c, err));
    return add_positions(loader, prefix, table, err);
}

static int open_embed(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                      struct ees__op_cost *cost, ees_error *err) {
    const struct ees__dims *d = loader->dims;
    size_t n = d->n_patches, c = d->n_channels, k = 3 * d->patch * d->patch;
    struct embed *e = ees__calloc_aligned(1, sizeof *e);
    if (!e)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %s", prefix);
    e->table = ees__calloc_aligned(d->n_tokens * c, sizeof *e->table);
    int rc =
        e->table ? fill_table(loader, prefix, e->table, err) : EES_FAIL(err, EES_ENOMEM, "no memory for %s", prefix);
    if (rc == 0)
        rc = ees__load_linear(loader, prefix, "patch", EES_SHAPE(c, 3, d->patch, d->patch), false, &e->patch, err);
    if (rc == 0 && d->pre_norm)
        rc = ees__load_norm(loader, prefix, "norm", c, &e->norm, err);
    if (rc < 0) {
        close_embed(e);
        return rc;
    }
    e->eps = (float)d->norm_eps;
    loader->n_packed_bytes += d->n_tokens * c * sizeof(float);
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

/* Tokens in front of the patches are the table alone. */
static void make_tokens(void *ctx, size_t first, size_t end, struct ees__lane *lane) {
    const struct frame *f = ctx;
    size_t c = f->op->patch.n, n_special = f->run->dims->n_special * c;
    const float *table = f->op->table, *products = f->products;
    float *tokens = f->state;
    for (size_t i = first * c; i < end * c && i < n_special; i++)
        tokens[i] = table[i];
    for (size_t i = ees__max_size(first * c, n_special); i < end * c; i++)
        tokens[i] = products[i - n_special] + table[i];
    if (f->op->norm.gamma)
        f->run->kernels->layernorm(tokens + first * c, c, end - first, c, f->op->norm.gamma, f->op->norm.beta,
                                   f->op->eps, tokens + first * c, c);
}

static void run_embed(const void *self, const struct ees__run *run) {
    const struct ees__dims *d = run->dims;
    for (size_t i = 0; i < run->n; i++) {
        struct frame f = {.op = self, .run = run, .state = run->states[i], .products = run->lane->scratch};
        ees__run_share(run, multiply_patches, &f, d->n_patches, ees__row_grain(run, d->n_patches));
        ees__run_share(run, make_tokens, &f, d->n_tokens, ees__row_grain(run, d->n_tokens));
    }
}

const struct ees__op ees__block_embed = {
    .name = "embed",
    .open = open_embed,
    .run = run_embed,
    .close = close_embed,
};
