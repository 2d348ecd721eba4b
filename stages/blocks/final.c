/* SPDX-License-Identifier: MIT */
/* The final classifier (spec 1.1 steps 6 and 7, 1.2, 1.3). Of most families only the class token's row is normed and
 * nothing else is read; see enum ees__pool for the others. */
#include <string.h>

#include "common/fail.h"
#include "stages/blocks/blocks.h"
#include "stages/loader.h"

struct final {
    struct ees__norm norm;
    struct ees__linear pooler;     /* (R, C), with tanh in front of the classifier; zeroed: none */
    struct ees__linear classifier; /* on rows of C, 2 C or R */
    enum ees__pool pool;
    float eps;
};

static void close_final(void *self) {
    struct final *f = self;
    if (!f)
        return;
    ees__norm_close(&f->norm);
    ees__linear_close(&f->pooler);
    ees__linear_close(&f->classifier);
    ees__free(f);
}

/* The pools that need LN of every patch. */
static bool norms_patches(enum ees__pool pool) { return pool == EES__POOL_CLASS_MEAN || pool == EES__POOL_NORM_MEAN; }

/* Floats of a row as the norm leaves it. */
static size_t row_floats(const struct final *f) { return f->pooler.k ? f->pooler.k : f->classifier.k; }

static void fill_cost(const struct ees__loader *loader, const struct final *f, struct ees__op_cost *cost) {
    const struct ees__dims *d = loader->dims;
    const struct ees__kernels *kernels = loader->kernels;
    size_t k = f->classifier.n, in = f->classifier.k, width = f->pooler.n;
    size_t normed = norms_patches(f->pool) ? ees__piece_floats(d->n_patches * d->n_channels) : 0;
    cost->item_floats =
        ees__piece_floats(row_floats(f)) + ees__piece_floats(width) +
        ees__max_size(kernels->linear_scratch_floats(1, width, f->pooler.k), ees__classify_floats(kernels, 1, k, in));
    cost->scratch_floats = normed + cost->item_floats;
    cost->flops = 2.0 * ((double)in * (double)k + (double)width * (double)f->pooler.k);
}

/* The classifier, and what stands in front of it. */
static int load_classifier(struct ees__loader *loader, const char *prefix, struct final *f, ees_error *err) {
    size_t c = loader->dims->n_channels, n_inputs = f->pool == EES__POOL_CLASS_MEAN ? 2 * c : c;
    if (loader->dims->pooler) {
        size_t width;
        EES_TRY(ees__load_size(loader, prefix, "pool.weight", 0, c, &width, err));
        EES_TRY(ees__load_f32_linear(loader, prefix, "pool", EES_SHAPE(width, n_inputs), true, &f->pooler, err));
        n_inputs = width;
    }
    return ees__load_classifier(loader, prefix, n_inputs, &f->classifier, err);
}

static int open_final(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                      struct ees__op_cost *cost, ees_error *err) {
    const struct ees__dims *d = loader->dims;
    size_t c = d->n_channels;
    struct final *f = ees__calloc_aligned(1, sizeof *f);
    if (!f)
        return EES_FAIL(err, EES_ENOMEM, "no memory for the final classifier");
    f->pool = d->pool;
    f->eps = (float)d->norm_eps;
    int rc = ees__load_norm(loader, prefix, f->pool == EES__POOL_MEAN_NORM ? "fc_norm" : "norm", c, &f->norm, err);
    if (rc == 0)
        rc = load_classifier(loader, prefix, f, err);
    if (rc < 0) {
        close_final(f);
        return rc;
    }
    fill_cost(loader, f, cost);
    *self = f;
    return 0;
}

/* What the classifier reads of one frame. `normed`: (N, C), for pools that norm patches. */
static void pool_frame(const struct final *f, const struct ees__run *run, const float *state, float *normed,
                       float *row) {
    const struct ees__kernels *kernels = run->kernels;
    size_t n = run->dims->n_patches, c = run->dims->n_channels;
    const float *patches = state + run->dims->n_special * c, *gamma = f->norm.gamma, *beta = f->norm.beta;
    if (norms_patches(f->pool))
        kernels->layernorm(patches, c, n, c, gamma, beta, f->eps, normed, c);
    switch (f->pool) {
    case EES__POOL_CLASS:
        kernels->layernorm(state, c, 1, c, gamma, beta, f->eps, row, c);
        break;
    case EES__POOL_CLASS_DIST: /* tokens 0 and 1 */
        kernels->layernorm(state, c, 2, c, gamma, beta, f->eps, row, c);
        break;
    case EES__POOL_CLASS_MEAN:
        kernels->layernorm(state, c, 1, c, gamma, beta, f->eps, row, c);
        kernels->column_mean(normed, c, n, c, row + c);
        break;
    case EES__POOL_NORM_MEAN:
        kernels->column_mean(normed, c, n, c, row);
        break;
    case EES__POOL_MEAN_NORM:
        kernels->column_mean(patches, c, n, c, row);
        kernels->layernorm(row, c, 1, c, gamma, beta, f->eps, row, c);
        break;
    }
}

static void run_final(const void *self, const struct ees__run *run) {
    const struct final *f = self;
    size_t row = row_floats(f);
    float *scratch = run->lane->scratch, *normed = NULL;
    if (norms_patches(f->pool))
        normed = ees__cut_piece(&scratch, run->dims->n_patches * run->dims->n_channels);
    float *rows = ees__cut_piece(&scratch, run->n * row);
    for (size_t i = 0; i < run->n; i++)
        pool_frame(f, run, run->states[i], normed, rows + i * row);
    if (f->pooler.n) {
        float *pooled = ees__cut_piece(&scratch, run->n * f->pooler.n);
        ees__run_pooler(&f->pooler, run, rows, pooled, scratch);
        rows = pooled;
    }
    ees__classify(&f->classifier, run, rows, scratch);
}

const struct ees__op ees__block_final = {
    .name = "final",
    .open = open_final,
    .run = run_final,
    .close = close_final,
};
