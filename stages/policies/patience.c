/* SPDX-License-Identifier: MIT */
/* "patience": leave when `patience` exits in a row gave one class, the first of them counting 1 (LGViT; PABEE counts
 * agreements, one less). ViT and DeiT default 7. */
#include "stages/policies/runs.h"

static bool count(const struct ees__policy_setup *setup, const struct ees__scores *scores, bool beyond, void *state) {
    return ees__count_class(state, scores) >= setup->patience;
}

const struct ees__policy ees__policy_patience = {
    .name = "patience",
    .patience = 7,
    .count = count,
};
