/* SPDX-License-Identifier: MIT */
/* The final classifier (spec 1.1, steps 6 and 7): only the class token's row is normed, nothing else is read. */
#include "common/fail.h"
#include "stages/blocks/blocks.h"
#include "stages/loader.h"

struct final {
    struct ees__norm norm;
    struct ees__linear classifier;
    float eps;
};

static void close_final(void *self) {
    struct final *f = self;
    if (!f)
        return;
    ees__norm_close(&f->norm);
    ees__linear_close(&f->classifier);
    ees__free(f);
}

static int open_final(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                      struct ees__op_cost *cost, ees_error *err) {
    const struct ees__dims *d = loader->dims;
    size_t c = d->n_channels, k = d->n_classes;
    struct final *f = ees__calloc_aligned(1, sizeof *f);
    if (!f)
        return EES_FAIL(err, EES_ENOMEM, "no memory for the final classifier");
    int rc = ees__load_norm(loader, prefix, "norm", c, &f->norm, err);
    if (rc == 0)
        rc = ees__load_linear(loader, prefix, "head.cls", EES_SHAPE(k, c), true, &f->classifier, err);
    if (rc < 0) {
        close_final(f);
        return rc;
    }
    f->eps = (float)d->norm_eps;
    cost->scratch_floats = ees__piece_floats(c) + ees__classify_floats(loader->kernels, 1, k, c);
    cost->item_floats = cost->scratch_floats;
    cost->flops = 2.0 * (double)c * (double)k;
    *self = f;
    return 0;
}

static void run_final(const void *self, const struct ees__run *run) {
    const struct final *f = self;
    size_t c = f->classifier.k;
    float *scratch = run->lane->scratch, *rows = ees__cut_piece(&scratch, run->n * c);
    for (size_t i = 0; i < run->n; i++)
        run->kernels->layernorm(run->states[i], c, 1, c, f->norm.gamma, f->norm.beta, f->eps, rows + i * c, c);
    ees__classify(&f->classifier, run, rows, scratch);
}

const struct ees__op ees__block_final = {
    .name = "final",
    .open = open_final,
    .run = run_final,
    .close = close_final,
};
