/* SPDX-License-Identifier: MIT */
/* Classification of pooled vectors. */
#include "stages/heads/pooled.h"

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
