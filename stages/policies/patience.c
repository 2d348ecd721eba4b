/* SPDX-License-Identifier: MIT */
/* "patience": leave when `patience` exits in a row gave one class, the first of them counting 1 (LGViT; PABEE counts
 * agreements, one less). ViT and DeiT default 7. */
#include "stages/policies/policy.h"

struct run_of_class {
    unsigned length;
    unsigned class_idx;
};
_Static_assert(sizeof(struct run_of_class) <= EES__POLICY_STATE_BYTES, "fits an item");

static bool leaves(const struct ees__policy_setup *setup, float threshold, const struct ees__scores *scores,
                   void *state) {
    struct run_of_class *run = state;
    if (!scores->finite) {
        run->length = 0;
        return false;
    }
    run->length = run->length && run->class_idx == scores->class_idx ? run->length + 1 : 1;
    run->class_idx = scores->class_idx;
    return run->length >= setup->patience;
}

const struct ees__policy ees__policy_patience = {
    .name = "patience",
    .patience = 7,
    .leaves = leaves,
};
