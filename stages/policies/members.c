/* SPDX-License-Identifier: MIT */
#include "stages/policies/members.h"

#include <math.h>

size_t ees__members_floats(unsigned n_exits, size_t n_classes) { return ((size_t)n_exits + 2) * n_classes; }

double ees__members_learned(const struct ees__policy_setup *setup, unsigned k, unsigned j) {
    const float *w = setup->learned ? setup->learned->member : NULL;
    return w ? exp((double)w[(size_t)k * (setup->n_exits + 1) + j]) : 1.0;
}

double ees__members_probability(float log_p) { return exp((double)log_p); }

float ees__members_log_mean(double sum, double weight, unsigned n, double bias) { return (float)log(sum / weight); }

float ees__members_score(const struct ees__scores *scores) { return scores->confidence; }

/* ln p is never above 0. */
static const float absent = 1.0f;

void ees__members_combine(const struct ees__mean *mean, const struct ees__policy_setup *setup, unsigned exit_idx,
                          struct ees__scores *scores, float *memory) {
    size_t n_classes = scores->n_classes;
    float *rows = memory, *q = memory + ((size_t)setup->n_exits + 1) * n_classes;
    const float *bias = setup->learned ? setup->learned->member_bias : NULL;
    double weight[EES_MAX_EXITS + 1], total = 0.0;
    unsigned n = 0;
    rows[exit_idx * n_classes] = absent;
    if (!scores->finite)
        return;
    ees__log_softmax(scores->logits, n_classes, rows + exit_idx * n_classes);
    for (unsigned j = 0; j <= exit_idx; j++) {
        bool there = rows[j * n_classes] != absent;
        weight[j] = there ? mean->weight(setup, exit_idx, j) : 0.0;
        total += weight[j];
        n += there;
    }
    for (size_t i = 0; i < n_classes; i++) {
        double sum = 0.0;
        for (unsigned j = 0; j <= exit_idx; j++)
            sum += weight[j] > 0.0 ? weight[j] * mean->term(rows[j * n_classes + i]) : 0.0;
        double b = bias ? (double)bias[exit_idx * n_classes + i] : 0.0;
        q[i] = fmaxf(mean->log_q(sum, total, n, b), EES__LEAST_LOG);
    }
    struct ees__scores combined = ees__scores_compute(q, n_classes);
    scores->class_idx = combined.class_idx;
    scores->confidence = combined.confidence;
    scores->entropy = combined.entropy;
    scores->margin = combined.margin;
}
