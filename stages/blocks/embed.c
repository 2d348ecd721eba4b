/* SPDX-License-Identifier: MIT */
/* Embedding: patch convolution as a product, class token in front, position table (spec 1.1, steps 1 to 4).
 *
 * Everything that does not depend on the picture is one table (T, C), made at load: row 0 is class token + position 0,
 * row 1 + n is the convolution's bias + position 1 + n. */
#include "common/fail.h"
#include "stages/blocks/blocks.h"
#include "stages/loader.h"

struct embed {
    struct ees__linear patch; /* (C, 3*P*P), no bias */
    float *table;
};

static void close_embed(void *self) {
    struct embed *e = self;
    if (!e)
        return;
    ees__linear_close(&e->patch);
    ees__free(e->table);
    ees__free(e);
}

static int load_table(struct ees__loader *loader, const char *prefix, float **out, ees_error *err) {
    const struct ees__dims *d = loader->dims;
    size_t t = d->n_tokens, c = d->n_channels;
    float *cls = NULL, *bias = NULL, *table = NULL;
    int rc = ees__load_tensor(loader, prefix, "cls", EES_SHAPE(1, 1, c), &cls, err);
    if (rc == 0)
        rc = ees__load_tensor(loader, prefix, "patch.bias", EES_SHAPE(c), &bias, err);
    if (rc == 0 && (rc = ees__load_tensor(loader, prefix, "pos", EES_SHAPE(1, t, c), &table, err)) == EES_EMODEL)
        ees__hint(err, "position tables are not resampled: image_size and patch_size must be those of the training");
    for (size_t i = 0; rc == 0 && i < t * c; i++)
        table[i] += i < c ? cls[i] : bias[i % c];
    ees__free(cls);
    ees__free(bias);
    *out = table;
    return rc;
}

static int open_embed(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                      struct ees__op_cost *cost, ees_error *err) {
    const struct ees__dims *d = loader->dims;
    size_t n = d->n_patches, c = d->n_channels, k = 3 * d->patch * d->patch;
    struct embed *e = ees__calloc_aligned(1, sizeof *e);
    if (!e)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %s", prefix);
    int rc = load_table(loader, prefix, &e->table, err);
    if (rc == 0)
        rc = ees__load_linear(loader, prefix, "patch", EES_SHAPE(c, 3, d->patch, d->patch), false, &e->patch, err);
    if (rc < 0) {
        close_embed(e);
        return rc;
    }
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

/* Token 0 is the class token: the table alone. */
static void make_tokens(void *ctx, size_t first, size_t end, struct ees__lane *lane) {
    const struct frame *f = ctx;
    size_t c = f->op->patch.n;
    const float *table = f->op->table, *products = f->products;
    float *tokens = f->state;
    for (size_t i = first * c; i < c; i++)
        tokens[i] = table[i];
    for (size_t i = ees__max_size(first, 1) * c; i < end * c; i++)
        tokens[i] = products[i - c] + table[i];
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
