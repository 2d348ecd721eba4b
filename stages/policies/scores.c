/* SPDX-License-Identifier: MIT */
/* Confidence, entropy, margin and class of a row of logits.
 *
 * With m = max z and S = sum e^(z-m): confidence = 1/S, entropy = ln S - sum p (z-m). This form of the entropy stays
 * finite where a probability underflows; -sum p ln p, as published, is NaN there and keeps the surest frames (spec 6).
 * Sums run in double so that thousands of classes cost no digits; results are rounded to float32 once. */
#include <math.h>

#include "stages/policies/policy.h"

struct ees__scores ees__scores_compute(const float *logits, size_t n_classes) {
    struct ees__scores scores = {.finite = true,
                                 .confidence = NAN,
                                 .entropy = NAN,
                                 .margin = NAN,
                                 .gate = NAN,
                                 .logits = logits,
                                 .n_classes = (unsigned)n_classes};
    for (size_t i = 0; i < n_classes; i++) {
        scores.finite &= isfinite(logits[i]) != 0;
        if (logits[i] > logits[scores.class_idx])
            scores.class_idx = (unsigned)i;
    }
    if (!scores.finite)
        return scores;
    double sum = 0.0, weighted = 0.0, second = 0.0;
    for (size_t i = 0; i < n_classes; i++) {
        float z = logits[i] - logits[scores.class_idx];
        double e = (double)expf(z);
        sum += e;
        if (e > 0.0) /* z may have overflowed to -inf */
            weighted += e * (double)z;
        if (i != scores.class_idx && e > second)
            second = e;
    }
    scores.confidence = (float)(1.0 / sum);
    scores.entropy = (float)(log(sum) - weighted / sum);
    scores.margin = (float)((1.0 - second) / sum);
    return scores;
}

void ees__log_softmax(const float *logits, size_t n_classes, float *out) {
    float max = logits[0];
    double sum = 0.0;
    for (size_t i = 1; i < n_classes; i++)
        max = logits[i] > max ? logits[i] : max;
    for (size_t i = 0; i < n_classes; i++)
        sum += (double)expf(logits[i] - max);
    for (size_t i = 0; i < n_classes; i++) /* logits may be further apart than float32 can say */
        out[i] = fmaxf(logits[i] - max - (float)log(sum), EES__LEAST_LOG);
}
