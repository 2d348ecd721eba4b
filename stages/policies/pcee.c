/* SPDX-License-Identifier: MIT */
/* "pcee": "patient_and_confident" on the entropy's share of the largest there can be (PCEE-BERT, default .2). */
#include "stages/policies/entropy_norm.h"
#include "stages/policies/runs.h"

const struct ees__policy ees__policy_pcee = {
    .name = "pcee",
    .direction = EES__LEAVES_BELOW,
    .threshold = 0.2f,
    .patience = 2,
    .score = ees__entropy_norm,
    .count = ees__count_beyond,
};
