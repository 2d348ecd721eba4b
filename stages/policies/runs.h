/* SPDX-License-Identifier: MIT */
/* What policies that count exits in a row keep in a frame's policy state. */
#ifndef EES_STAGES_POLICIES_RUNS_H
#define EES_STAGES_POLICIES_RUNS_H

#include "stages/policies/policy.h"

struct ees__run_of_class {
    unsigned length; /* exits in a row that gave class_idx, the first of them counting 1; 0: none yet */
    unsigned class_idx;
};
_Static_assert(sizeof(struct ees__run_of_class) <= EES__POLICY_STATE_BYTES, "fits an item");

/* Logits that are not finite end the run. @return its length with this exit */
static inline unsigned ees__count_class(struct ees__run_of_class *run, const struct ees__scores *scores) {
    bool same = scores->finite && run->length && run->class_idx == scores->class_idx;
    run->length = same ? run->length + 1 : scores->finite;
    run->class_idx = scores->class_idx;
    return run->length;
}

/* Leave when `patience` exits in a row had their score beyond the threshold; their classes need not agree. */
static inline bool ees__count_beyond(const struct ees__policy_setup *setup, const struct ees__scores *scores,
                                     bool beyond, void *state) {
    unsigned *length = state;
    *length = beyond ? *length + 1 : 0;
    return *length >= setup->patience;
}

#endif
