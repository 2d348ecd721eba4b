/* SPDX-License-Identifier: MIT */
/* "pcee_mean": "pcee", and the answer of a frame that leaves is the mean of the probabilities of the exits that were
 * sure in a row (PCEE-BERT): when it leaves they are the last `patience` exits. The final classifier answers alone. The
 * entropy stays the head's own, which is what the rule asks. */
#include "stages/policies/entropy_norm.h"
#include "stages/policies/members.h"
#include "stages/policies/runs.h"

static double weight(const struct ees__policy_setup *setup, unsigned k, unsigned j) {
    bool counts = k == setup->n_exits ? j == k : j + setup->patience > k;
    return counts ? 1.0 : 0.0;
}

static const struct ees__mean recent = {
    .weight = weight, .term = ees__members_probability, .log_q = ees__members_log_mean};

static void combine(const struct ees__policy_setup *setup, unsigned exit_idx, struct ees__scores *scores,
                    float *memory) {
    float entropy = scores->entropy;
    ees__members_combine(&recent, setup, exit_idx, scores, memory);
    scores->entropy = entropy;
}

const struct ees__policy ees__policy_pcee_mean = {
    .name = "pcee_mean",
    .direction = EES__LEAVES_BELOW,
    .threshold = 0.2f,
    .patience = 2,
    .combines_by_patience = true,
    .memory_floats = ees__members_floats,
    .combine = combine,
    .score = ees__entropy_norm,
    .count = ees__count_beyond,
};
