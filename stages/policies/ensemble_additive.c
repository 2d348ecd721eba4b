/* SPDX-License-Identifier: MIT */
/* "ensemble_additive": the additive ensemble of Zero-Time Waste. At exit k, class i:
 *
 *   v_i = sum over j <= k of e^w_kj p_ji + e^b_ki,   q = v / sum v,   leave if max q >= threshold
 *
 * For models with learned w and b only (ensemble.weight, ensemble.bias): at 0 the added e^b flattens every answer, the
 * plain mean is "ensemble_mean". */
#include <math.h>

#include "stages/policies/members.h"

static float log_q(double sum, double weight, unsigned n, double bias) { return (float)log(sum + exp(bias)); }

static const struct ees__mean additive = {
    .weight = ees__members_learned, .term = ees__members_probability, .log_q = log_q};

static void combine(const struct ees__policy_setup *setup, unsigned exit_idx, struct ees__scores *scores,
                    float *memory) {
    ees__members_combine(&additive, setup, exit_idx, scores, memory);
}

const struct ees__policy ees__policy_ensemble_additive = {
    .name = "ensemble_additive",
    .direction = EES__LEAVES_AT_LEAST,
    .threshold = 0.8f,
    .needs_members = true,
    .memory_floats = ees__members_floats,
    .combine = combine,
    .score = ees__members_score,
};
