/* SPDX-License-Identifier: MIT */
/* "margin": leave if the largest probability exceeds the second by more than the threshold. The default is ours: the
 * sources name the score and no threshold (spec 6). */
#include "stages/policies/policy.h"

static float score(const struct ees__scores *scores) { return scores->margin; }

const struct ees__policy ees__policy_margin = {
    .name = "margin",
    .direction = EES__LEAVES_ABOVE,
    .threshold = 0.8f,
    .score = score,
};
