/* SPDX-License-Identifier: MIT */
/* "confidence": leave if max softmax > threshold. LGViT models/deit_highway/highway.py and modeling file (ViT and DeiT
 * default .865); EEVIT the same. */
#include "stages/policies/policy.h"

static float score(const struct ees__scores *scores) { return scores->confidence; }

const struct ees__policy ees__policy_confidence = {
    .name = "confidence",
    .direction = EES__LEAVES_ABOVE,
    .threshold = 0.865f,
    .score = score,
};
