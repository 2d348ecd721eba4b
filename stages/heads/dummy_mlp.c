/* SPDX-License-Identifier: MIT */
/* EEVIT's `dummy_mlp` (spec 5.5): Y = fc2(relu(fc1 p)) of each patch. Only the mean of Y is used, so fc2 runs once, on
 * a mean. */
#include "common/fail.h"
#include "stages/heads/pooled.h"

enum { EEVIT_HIDDEN = 10 };

struct dummy_mlp {
    struct ees__linear fc1, fc2, classifier;
};

static void close_dummy(void *self) {
    struct dummy_mlp *h = self;
    if (!h)
        return;
    ees__linear_close(&h->fc1);
    ees__linear_close(&h->fc2);
    ees__linear_close(&h->classifier);
    ees__free(h);
}

static void fill_cost(const struct ees__loader *loader, const struct dummy_mlp *h, struct ees__op_cost *cost) {
    const struct ees__kernels *kernels = loader->kernels;
    size_t n = loader->dims->n_patches, c = h->fc1.k, width = h->fc1.n, k = h->classifier.n, ld = h->classifier.k;
    size_t inner = ees__max_size(kernels->linear_scratch_floats(n, width, c), ees__classify_floats(kernels, 1, k, ld));
    cost->item_floats = ees__piece_floats(width) + ees__piece_floats(ld) +
                        ees__max_size(inner, kernels->linear_scratch_floats(1, c, width));
    cost->scratch_floats = ees__piece_floats(n * width) + cost->item_floats;
    cost->flops = 2.0 * ((double)(n + 1) * (double)c * (double)width + (double)ld * (double)k);
}

static int open_dummy(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                      struct ees__op_cost *cost, ees_error *err) {
    size_t c = loader->dims->n_channels, width;
    struct dummy_mlp *h = ees__calloc_aligned(1, sizeof *h);
    if (!h)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %s", prefix);
    int rc = ees__load_size(loader, prefix, "fc1.weight", 0, EEVIT_HIDDEN, &width, err);
    if (rc == 0)
        rc = ees__load_linear(loader, prefix, "fc1", EES_SHAPE(width, c), true, &h->fc1, err);
    if (rc == 0)
        rc = ees__load_linear(loader, prefix, "fc2", EES_SHAPE(c, width), true, &h->fc2, err);
    if (rc == 0)
        rc = ees__load_classifier(loader, prefix, c, &h->classifier, err);
    if (rc < 0) {
        close_dummy(h);
        return rc;
    }
    fill_cost(loader, h, cost);
    *self = h;
    return 0;
}

static void run_dummy(const void *self, const struct ees__run *run) {
    static const struct ees__post relu = {.op = EES__POST_RELU}, store = {.op = EES__POST_NONE};
    const struct dummy_mlp *h = self;
    const struct ees__kernels *kernels = run->kernels;
    size_t n = run->dims->n_patches, c = h->fc1.k, width = h->fc1.n, ld = h->classifier.k;
    float *scratch = run->lane->scratch, *hidden = ees__cut_piece(&scratch, n * width);
    float *means = ees__cut_piece(&scratch, run->n * width), *pooled = ees__cut_piece(&scratch, run->n * ld);
    for (size_t i = 0; i < run->n; i++) {
        kernels->linear(&h->fc1, run->states[i] + run->dims->n_special * c, c, n, hidden, width, &relu, scratch);
        kernels->column_mean(hidden, width, n, width, means + i * width);
    }
    kernels->linear(&h->fc2, means, width, run->n, pooled, ld, &store, scratch);
    ees__classify_pooled(&h->classifier, run, pooled, scratch);
}

const struct ees__op ees__head_dummy_mlp = {
    .name = "dummy_mlp",
    .open = open_dummy,
    .run = run_dummy,
    .close = close_dummy,
};
