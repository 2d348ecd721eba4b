/* SPDX-License-Identifier: MIT */
/* The head `linear` without a class token (a Swin's: spec 5.5): LN of each patch, mean, linear. It is the tail alone.
 */
#include "common/fail.h"
#include "stages/heads/pooled.h"

static void close_linear(void *self) {
    if (self)
        ees__tail_close(self);
    ees__free(self);
}

static int open_linear(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                       struct ees__op_cost *cost, ees_error *err) {
    struct ees__tail *tail = ees__calloc_aligned(1, sizeof *tail);
    if (!tail)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %s", prefix);
    int rc = ees__tail_open(loader, prefix, tail, err);
    if (rc < 0) {
        close_linear(tail);
        return rc;
    }
    ees__tail_cost(loader, tail, loader->dims->n_patches, 0, cost);
    *self = tail;
    return 0;
}

static void run_linear(const void *self, const struct ees__run *run) {
    size_t n = run->dims->n_patches, first = run->dims->n_special * run->dims->n_channels;
    float *scratch = run->lane->scratch;
    struct ees__tail_run tail = ees__tail_begin(self, run, n, &scratch);
    for (size_t i = 0; i < run->n; i++)
        ees__tail_take(&tail, i, run->states[i] + first, NULL, n);
    ees__tail_end(&tail);
}

const struct ees__op ees__head_linear_mean = {
    .name = "linear",
    .tokens = EES__HEAD_BARE_GRID,
    .open = open_linear,
    .run = run_linear,
    .close = close_linear,
};
