/* SPDX-License-Identifier: MIT */
/* "patience_pabee": leave when `patience` exits in a row agreed with the exit before them (PABEE): one less than
 * "patience" counts. The default is one less than LGViT's. */
#include "stages/policies/runs.h"

static bool count(const struct ees__policy_setup *setup, const struct ees__scores *scores, bool beyond, void *state) {
    return ees__count_class(state, scores) >= setup->patience + 1;
}

const struct ees__policy ees__policy_patience_pabee = {
    .name = "patience_pabee",
    .patience = 6,
    .count = count,
};
