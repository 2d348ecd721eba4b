/* SPDX-License-Identifier: MIT */
/* "sdn": leave if max softmax >= threshold, not strict (Shallow-Deep Networks, Zero-Time Waste). The papers have no
 * default; ours is LGViT's published .8. Where nobody leaves the final classifier answers. */
#include "stages/policies/policy.h"

static float score(const struct ees__scores *scores) { return scores->confidence; }

const struct ees__policy ees__policy_sdn = {
    .name = "sdn",
    .direction = EES__LEAVES_AT_LEAST,
    .threshold = 0.8f,
    .score = score,
};
