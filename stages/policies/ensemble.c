/* SPDX-License-Identifier: MIT */
/* "ensemble": the geometric mean of the exits so far, Zero-Time Waste's default. At exit k, class i:
 *
 *   u_i = mean over j <= k of (e^w_kj ln p_ji) + b_ki,   q = softmax(u),   leave if max q >= threshold
 *
 * w and b are the model's tensors ensemble.weight and ensemble.bias; without them 0, which is the plain geometric mean.
 */
#include "stages/policies/members.h"

static double term(float log_p) { return (double)log_p; }

static float log_q(double sum, double weight, unsigned n, double bias) { return (float)(sum / (double)n + bias); }

static const struct ees__mean geometric = {.weight = ees__members_learned, .term = term, .log_q = log_q};

static void combine(const struct ees__policy_setup *setup, unsigned exit_idx, struct ees__scores *scores,
                    float *memory) {
    ees__members_combine(&geometric, setup, exit_idx, scores, memory);
}

const struct ees__policy ees__policy_ensemble = {
    .name = "ensemble",
    .direction = EES__LEAVES_AT_LEAST,
    .threshold = 0.8f,
    .memory_floats = ees__members_floats,
    .combine = combine,
    .score = ees__members_score,
};
