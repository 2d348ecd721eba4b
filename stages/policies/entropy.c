/* SPDX-License-Identifier: MIT */
/* "entropy": leave if -sum p ln p < threshold, natural log, not normalised. LGViT (ViT and DeiT default .6), DeeBERT,
 * BranchyNet. */
#include "stages/policies/policy.h"

static bool leaves(const struct ees__policy_setup *setup, float threshold, const struct ees__scores *scores,
                   void *state) {
    return scores->entropy < threshold;
}

const struct ees__policy ees__policy_entropy = {
    .name = "entropy",
    .direction = EES__LEAVES_BELOW,
    .threshold = 0.6f,
    .leaves = leaves,
};
