/* SPDX-License-Identifier: MIT */
/* The head `linear`: see linear.h. */
#include "stages/heads/linear.h"

#include <string.h>

#include "common/fail.h"

void ees__linear_end_close(struct ees__linear_end *end) {
    ees__linear_close(&end->pool);
    ees__norm_close(&end->norm);
    ees__linear_close(&end->classifier);
    *end = (struct ees__linear_end){0};
}

int ees__linear_end_open(struct ees__loader *loader, const char *prefix, struct ees__linear_end *out, ees_error *err) {
    const struct ees__dims *d = loader->dims;
    size_t c = d->n_channels;
    bool distilled = ees__is_distilled(d);
    *out = (struct ees__linear_end){.n_rows = distilled ? 2 : 1, .eps = (float)d->norm_eps};
    int rc = distilled ? ees__load_norm(loader, prefix, "norm", c, &out->norm, err)
                       : ees__load_linear(loader, prefix, "pool", EES_SHAPE(c, c), true, &out->pool, err);
    if (rc == 0)
        rc = ees__load_classifier(loader, prefix, c, &out->classifier, err);
    if (rc < 0)
        ees__linear_end_close(out);
    return rc;
}

size_t ees__linear_end_floats(const struct ees__linear_end *end, const struct ees__kernels *kernels, size_t n) {
    size_t ld = end->classifier.k;
    return ees__piece_floats(n * ld) + ees__max_size(kernels->linear_scratch_floats(n, end->pool.n, end->pool.k),
                                                     ees__classify_floats(kernels, n, end->classifier.n, ld));
}

double ees__linear_end_flops(const struct ees__linear_end *end) {
    return 2.0 * ((double)end->pool.n * (double)end->pool.k + (double)end->classifier.n * (double)end->classifier.k);
}

void ees__linear_end_run(const struct ees__linear_end *end, const struct ees__run *run, const float *rows,
                         float *scratch) {
    size_t ld = end->classifier.k, c = ld / end->n_rows;
    float *pooled = ees__cut_piece(&scratch, run->n * ld);
    if (end->norm.gamma)
        run->kernels->layernorm(rows, c, run->n * end->n_rows, c, end->norm.gamma, end->norm.beta, end->eps, pooled, c);
    else
        ees__run_pooler(&end->pool, run, rows, pooled, scratch);
    ees__classify(&end->classifier, run, pooled, scratch);
}

/* ---- the head -------------------------------------------------------------------------------------------- */

static void close_linear(void *self) {
    if (self)
        ees__linear_end_close(self);
    ees__free(self);
}

static int open_linear(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                       struct ees__op_cost *cost, ees_error *err) {
    struct ees__linear_end *end = ees__calloc_aligned(1, sizeof *end);
    if (!end)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %s", prefix);
    int rc = ees__linear_end_open(loader, prefix, end, err);
    if (rc < 0) {
        close_linear(end);
        return rc;
    }
    cost->item_floats = ees__piece_floats(end->classifier.k) + ees__linear_end_floats(end, loader->kernels, 1);
    cost->scratch_floats = cost->item_floats;
    cost->flops = ees__linear_end_flops(end);
    *self = end;
    return 0;
}

static void run_linear(const void *self, const struct ees__run *run) {
    const struct ees__linear_end *end = self;
    size_t ld = end->classifier.k;
    float *scratch = run->lane->scratch, *rows = ees__cut_piece(&scratch, run->n * ld);
    for (size_t i = 0; i < run->n; i++)
        memcpy(rows + i * ld, run->states[i], ld * sizeof *rows);
    ees__linear_end_run(end, run, rows, scratch);
}

const struct ees__op ees__head_linear = {
    .name = "linear",
    .open = open_linear,
    .run = run_linear,
    .close = close_linear,
};
