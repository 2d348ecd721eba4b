/* SPDX-License-Identifier: MIT */
/* Exit policies: whether a frame leaves at an exit, from the exit's logits and what the policy remembers of the frame.
 * Formulas and sources: spec 6. Comparisons are strict and in float32, as PyTorch makes them: a confidence of exactly
 * 0.8f does not exceed a threshold of 0.8. */
#ifndef EES_STAGES_POLICIES_POLICY_H
#define EES_STAGES_POLICIES_POLICY_H

#include "stages/stage.h"

/* What logits say, computed once an exit. */
struct ees__scores {
    bool finite;        /* false: a logit is NaN or infinite; confidence and entropy are NaN then */
    unsigned class_idx; /* argmax, the lowest index among equals */
    float confidence;   /* max softmax */
    float entropy;      /* natural log, not normalised */
};

/* @param n_classes  at least 1 */
struct ees__scores ees__scores_compute(const float *logits, size_t n_classes);

/* Which scores leave at a threshold, and with it which thresholds let more frames leave. */
enum ees__threshold {
    EES__NO_THRESHOLD,
    EES__LEAVES_ABOVE, /* a lower threshold is looser */
    EES__LEAVES_BELOW, /* a higher one is */
};

struct ees__policy {
    const char *name;
    enum ees__threshold direction;
    float threshold;   /* LGViT's class defaults for ViT and DeiT */
    unsigned patience; /* default; 0: the policy counts nothing */

    /* Called at each exit in order of depth, also where the logits are not finite (the caller then ignores the answer).
     * `threshold` is the exit's. `state` is EES__POLICY_STATE_BYTES, zero at the first exit of a frame. */
    bool (*leaves)(const struct ees__policy_setup *setup, float threshold, const struct ees__scores *scores,
                   void *state);
};

/* Does the frame leave here? NaN and infinity never leave. Reads and writes the item's policy states, reads its `seq` and
 * `degrade`, sets `degraded`. */
bool ees__policy_decide(const struct ees__policy_setup *setup, unsigned exit_idx, const struct ees__scores *scores,
                        struct ees__item *item);

/* "confidence, entropy, ...": for messages. */
void ees__policy_list_names(char *text, size_t n_bytes);

#endif
