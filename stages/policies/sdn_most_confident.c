/* SPDX-License-Identifier: MIT */
/* "sdn_most_confident": "sdn" with the published end (Shallow-Deep Networks): where no exit reaches its threshold, the
 * most confident answer of all exits and the final classifier counts, the first among equals. */
#include "stages/policies/policy.h"

/* A frame's most confident answer so far, as floats: class numbers stay far below 2^24. */
enum { CONFIDENCE, CLASS, ENTROPY, N_FLOATS };

static size_t memory_floats(unsigned n_exits, size_t n_classes) { return N_FLOATS; }

static void combine(const struct ees__policy_setup *setup, unsigned exit_idx, struct ees__scores *scores,
                    float *memory) {
    if (exit_idx == 0)
        memory[CONFIDENCE] = -1.0f;
    if (!scores->finite)
        return;
    if (scores->confidence > memory[CONFIDENCE]) {
        memory[CONFIDENCE] = scores->confidence;
        memory[CLASS] = (float)scores->class_idx;
        memory[ENTROPY] = scores->entropy;
    }
    if (exit_idx < setup->n_exits)
        return;
    scores->confidence = memory[CONFIDENCE];
    scores->class_idx = (unsigned)memory[CLASS];
    scores->entropy = memory[ENTROPY];
}

static float score(const struct ees__scores *scores) { return scores->confidence; }

const struct ees__policy ees__policy_sdn_most_confident = {
    .name = "sdn_most_confident",
    .direction = EES__LEAVES_AT_LEAST,
    .threshold = 0.8f,
    .memory_floats = memory_floats,
    .combine = combine,
    .score = score,
};
