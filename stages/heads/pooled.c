/* SPDX-License-Identifier: MIT */
/* Classification of pooled vectors. */
#include "stages/heads/pooled.h"

int ees__load_classifier(struct ees__loader *loader, const char *prefix, struct ees__linear *out, ees_error *err) {
    const struct ees__dims *d = loader->dims;
    return ees__load_linear(loader, prefix, "head.cls", EES_SHAPE(d->n_classes, d->n_channels), true, out, err);
}

void ees__classify_pooled(const struct ees__linear *classifier, const struct ees__run *run, float *pooled,
                          float *scratch) {
    size_t c = run->dims->n_channels;
    for (size_t i = 0; i < run->n; i++)
        for (size_t j = 0; j < c; j++)
            pooled[i * c + j] += run->states[i][j];
    ees__classify(classifier, run, pooled, scratch);
}
