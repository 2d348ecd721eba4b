/* SPDX-License-Identifier: MIT */
/* "patient_and_confident": leave when `patience` exits in a row had entropy < threshold; their classes need not agree.
 * LGViT (ViT and DeiT defaults .5 and 2). */
#include "stages/policies/policy.h"

struct run_of_sure {
    unsigned length;
};
_Static_assert(sizeof(struct run_of_sure) <= EES__POLICY_STATE_BYTES, "fits an item");

static bool leaves(const struct ees__policy_setup *setup, float threshold, const struct ees__scores *scores,
                   void *state) {
    struct run_of_sure *run = state;
    run->length = scores->entropy < threshold ? run->length + 1 : 0;
    return run->length >= setup->patience;
}

const struct ees__policy ees__policy_patient_and_confident = {
    .name = "patient_and_confident",
    .direction = EES__LEAVES_BELOW,
    .threshold = 0.5f,
    .patience = 2,
    .leaves = leaves,
};
