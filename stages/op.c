/* SPDX-License-Identifier: MIT */
/* What ops have in common. */
#include "stages/op.h"

#include <math.h>
#include <string.h>

#include "stages/learned.h"

size_t ees__classify_floats(const struct ees__kernels *kernels, size_t n, size_t n_classes, size_t c) {
    return ees__piece_floats(n * n_classes) + kernels->linear_scratch_floats(n, n_classes, c);
}

void ees__classify(const struct ees__linear *classifier, const struct ees__run *run, const float *rows,
                   float *scratch) {
    static const struct ees__post store = {.op = EES__POST_NONE};
    size_t k = classifier->n, c = classifier->k;
    float *joined = ees__cut_piece(&scratch, run->n * k);
    float *logits = run->n == 1 ? run->logits[0] : joined;
    run->kernels->linear(classifier, rows, c, run->n, logits, k, &store, scratch);
    for (size_t i = 0; i < run->n && logits == joined; i++)
        memcpy(run->logits[i], joined + i * k, k * sizeof(float));
    for (size_t i = 0; i < run->n && run->learned; i++)
        run->gates[i] = ees__gate_compute(run->learned, rows + i * c);
}

/* tanh is the C library's, a few hundred of them a frame. */
void ees__run_pooler(const struct ees__linear *pool, const struct ees__run *run, const float *rows, float *pooled,
                     float *scratch) {
    static const struct ees__post store = {.op = EES__POST_NONE};
    run->kernels->linear(pool, rows, pool->k, run->n, pooled, pool->n, &store, scratch);
    for (size_t i = 0; i < run->n * pool->n; i++)
        pooled[i] = tanhf(pooled[i]);
}
