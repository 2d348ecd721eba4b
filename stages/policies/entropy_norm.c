/* SPDX-License-Identifier: MIT */
/* "entropy_norm": leave if the entropy's share of the largest there can be, -sum p ln p / ln K, is < threshold
 * (PCEE-BERT, default .2). */
#include "stages/policies/policy.h"

#include "stages/policies/entropy_norm.h"

const struct ees__policy ees__policy_entropy_norm = {
    .name = "entropy_norm",
    .direction = EES__LEAVES_BELOW,
    .threshold = 0.2f,
    .score = ees__entropy_norm,
};
