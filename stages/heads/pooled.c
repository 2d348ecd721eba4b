/* SPDX-License-Identifier: MIT */
#include "stages/heads/pooled.h"

#include <string.h>

#include "common/fail.h"

int ees__tail_open(struct ees__loader *loader, const char *prefix, struct ees__tail *out, ees_error *err) {
    size_t c = loader->dims->n_channels;
    struct ees__tail tail = {.pool = ees__head_pool(loader->dims)};
    if (tail.pool == EES__POOL_NORM_MEAN)
        EES_TRY(ees__load_norm(loader, prefix, "norm", c, &tail.norm, err));
    int rc = ees__load_classifier(loader, prefix, c, &tail.classifier, err);
    if (rc < 0) {
        ees__norm_close(&tail.norm);
        return rc;
    }
    tail.last = out->last;
    *out = tail;
    return 0;
}

void ees__tail_close(struct ees__tail *tail) {
    ees__linear_close(&tail->last);
    ees__norm_close(&tail->norm);
    ees__linear_close(&tail->classifier);
}

void ees__tail_cost(const struct ees__loader *loader, const struct ees__tail *tail, size_t n_rows, size_t inner,
                    struct ees__op_cost *cost) {
    const struct ees__kernels *kernels = loader->kernels;
    size_t c = loader->dims->n_channels, k = tail->classifier.n, pooled = tail->classifier.k;
    bool by_row = tail->pool == EES__POOL_NORM_MEAN;
    inner = ees__max_size(inner, kernels->linear_scratch_floats(by_row ? n_rows : 1, c, c));
    inner = ees__max_size(inner, ees__classify_floats(kernels, 1, k, pooled));
    size_t item = ees__piece_floats(c) + ees__piece_floats(pooled) + inner;
    cost->item_floats += item;
    cost->scratch_floats += (by_row ? ees__piece_floats(n_rows * c) : 0) + item;
    double n_last = tail->last.n == 0 ? 0.0 : by_row ? (double)n_rows : 1.0;
    cost->flops += 2.0 * (n_last * (double)c * (double)c + (double)pooled * (double)k);
}

struct ees__tail_run ees__tail_begin(const struct ees__tail *tail, const struct ees__run *run, size_t n_rows,
                                     float **scratch) {
    size_t c = run->dims->n_channels;
    struct ees__tail_run t = {.tail = tail, .run = run};
    if (tail->pool == EES__POOL_NORM_MEAN)
        t.rows = ees__cut_piece(scratch, n_rows * c);
    t.means = ees__cut_piece(scratch, run->n * c);
    t.pooled = ees__cut_piece(scratch, run->n * tail->classifier.k);
    t.scratch = *scratch;
    return t;
}

/* Y and its norm, by row. */
struct norming {
    const struct ees__tail_run *t;
    const float *x, *residual;
};

static void norm_rows(void *ctx, size_t first, size_t end, struct ees__lane *lane) {
    static const struct ees__post store = {.op = EES__POST_NONE}, add = {.op = EES__POST_ADD};
    const struct norming *norming = ctx;
    const struct ees__tail_run *t = norming->t;
    const struct ees__tail *tail = t->tail;
    const struct ees__kernels *kernels = t->run->kernels;
    size_t c = t->run->dims->n_channels, n = end - first;
    const float *x = norming->x + first * c, *residual = norming->residual;
    float *y = t->rows + first * c;
    if (residual)
        memcpy(y, residual + first * c, n * c * sizeof *y);
    if (tail->last.n)
        kernels->linear(&tail->last, x, c, n, y, c, residual ? &add : &store,
                        lane->scratch + (t->scratch - t->run->lane->scratch));
    kernels->layernorm(tail->last.n ? y : x, c, n, c, tail->norm.gamma, tail->norm.beta, (float)t->run->dims->norm_eps,
                       y, c);
}

void ees__tail_take(struct ees__tail_run *t, size_t i, const float *x, const float *residual, size_t n) {
    const struct ees__tail *tail = t->tail;
    const struct ees__kernels *kernels = t->run->kernels;
    size_t c = t->run->dims->n_channels;
    float *pooled = t->pooled + i * tail->classifier.k;
    t->has_residual = residual;
    if (tail->pool == EES__POOL_NORM_MEAN) {
        struct norming norming = {.t = t, .x = x, .residual = residual};
        ees__run_share(t->run, norm_rows, &norming, n, ees__row_grain(t->run, n));
        kernels->column_mean(t->rows, c, n, c, pooled);
        return;
    }
    kernels->column_mean(x, c, n, c, tail->last.n ? t->means + i * c : pooled);
    if (residual)
        kernels->column_mean(residual, c, n, c, pooled);
}

void ees__tail_end(const struct ees__tail_run *t) {
    static const struct ees__post store = {.op = EES__POST_NONE}, add = {.op = EES__POST_ADD};
    const struct ees__tail *tail = t->tail;
    if (tail->pool == EES__POOL_NORM_MEAN) {
        ees__classify(&tail->classifier, t->run, t->pooled, t->scratch);
        return;
    }
    if (tail->last.n)
        t->run->kernels->linear(&tail->last, t->means, t->run->dims->n_channels, t->run->n, t->pooled,
                                tail->classifier.k, t->has_residual ? &add : &store, t->scratch);
    ees__classify_pooled(&tail->classifier, t->run, t->pooled, t->scratch);
}

void ees__classify_pooled(const struct ees__linear *classifier, const struct ees__run *run, float *pooled,
                          float *scratch) {
    size_t c = run->dims->n_channels, ld = classifier->k;
    for (size_t i = 0; i < run->n; i++) {
        float *row = pooled + i * ld;
        const float *state = run->states[i];
        for (size_t j = 0; j < c && ld > c; j++)
            row[c + j] = row[j] + state[c + j];
        for (size_t j = 0; j < c; j++)
            row[j] += state[j];
    }
    ees__classify(classifier, run, pooled, scratch);
}
