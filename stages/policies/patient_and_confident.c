/* SPDX-License-Identifier: MIT */
/* "patient_and_confident": leave when `patience` exits in a row had entropy < threshold; their classes need not agree.
 * LGViT (ViT and DeiT defaults .5 and 2). */
#include "stages/policies/runs.h"

static float score(const struct ees__scores *scores) { return scores->entropy; }

const struct ees__policy ees__policy_patient_and_confident = {
    .name = "patient_and_confident",
    .direction = EES__LEAVES_BELOW,
    .threshold = 0.5f,
    .patience = 2,
    .score = score,
    .count = ees__count_beyond,
};
