/* SPDX-License-Identifier: MIT */
/* Classification of a pooled vector. */
#include "stages/heads/pooled.h"

int ees__load_classifier(struct ees__loader *loader, const char *prefix, struct ees__linear *out, ees_error *err) {
    const struct ees__dims *d = loader->dims;
    return ees__load_linear(loader, prefix, "head.cls", EES_SHAPE(d->n_classes, d->n_channels), true, out, err);
}

void ees__classify_pooled(const struct ees__linear *classifier, const struct ees__run *run, float *pooled,
                          float *scratch) {
    static const struct ees__post store = {.op = EES__POST_NONE};
    size_t c = run->dims->n_channels;
    for (size_t i = 0; i < c; i++)
        pooled[i] += run->state[i];
    run->kernels->linear(classifier, pooled, c, 1, run->logits, classifier->n, &store, scratch);
}
