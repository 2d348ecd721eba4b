/* SPDX-License-Identifier: MIT */
/* "ensemble_mean": the weighted arithmetic mean of the exits so far, q = sum w_j p_j / sum w_j; leave if max q >=
 * threshold. The weights are the caller's or the config's, one an exit and one for the final classifier; equal by
 * default. */
#include "stages/policies/members.h"

static double weight(const struct ees__policy_setup *setup, unsigned k, unsigned j) {
    return (double)setup->weights[j];
}

static const struct ees__mean arithmetic = {
    .weight = weight, .term = ees__members_probability, .log_q = ees__members_log_mean};

static void combine(const struct ees__policy_setup *setup, unsigned exit_idx, struct ees__scores *scores,
                    float *memory) {
    ees__members_combine(&arithmetic, setup, exit_idx, scores, memory);
}

const struct ees__policy ees__policy_ensemble_mean = {
    .name = "ensemble_mean",
    .direction = EES__LEAVES_AT_LEAST,
    .threshold = 0.8f,
    .takes_weights = true,
    .memory_floats = ees__members_floats,
    .combine = combine,
    .score = ees__members_score,
};
