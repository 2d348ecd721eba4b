/* SPDX-License-Identifier: MIT */
/* "entropy": leave if -sum p ln p < threshold, natural log, not normalised. LGViT (ViT and DeiT default .6), DeeBERT,
 * BERxiT, BranchyNet. */
#include "stages/policies/policy.h"

static float score(const struct ees__scores *scores) { return scores->entropy; }

const struct ees__policy ees__policy_entropy = {
    .name = "entropy",
    .direction = EES__LEAVES_BELOW,
    .threshold = 0.6f,
    .score = score,
};
