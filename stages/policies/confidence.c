/* SPDX-License-Identifier: MIT */
/* "confidence": leave if max softmax > threshold. LGViT models/deit_highway/highway.py and modeling file (ViT and DeiT
 * default .865); EEVIT the same. */
#include "stages/policies/policy.h"

static bool leaves(const struct ees__policy_setup *setup, unsigned exit_idx, const struct ees__scores *scores,
                   void *state) {
    return scores->confidence > setup->thresholds[exit_idx];
}

const struct ees__policy ees__policy_confidence = {
    .name = "confidence",
    .uses_threshold = true,
    .threshold = 0.865f,
    .leaves = leaves,
};
