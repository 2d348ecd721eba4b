/* SPDX-License-Identifier: MIT */
/* "confidence": leave if max softmax > threshold. LGViT models/deit_highway/highway.py and modeling file (ViT and DeiT
 * default .865); EEVIT the same. */
#include "stages/policies/policy.h"

static bool leaves(const struct ees__policy_setup *setup, float threshold, const struct ees__scores *scores,
                   void *state) {
    return scores->confidence > threshold;
}

const struct ees__policy ees__policy_confidence = {
    .name = "confidence",
    .direction = EES__LEAVES_ABOVE,
    .threshold = 0.865f,
    .leaves = leaves,
};
