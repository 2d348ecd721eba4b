/* SPDX-License-Identifier: MIT */
/* The entropy's share of the largest there can be, shared by "entropy_norm" and "pcee". */
#ifndef EES_STAGES_POLICIES_ENTROPY_NORM_H
#define EES_STAGES_POLICIES_ENTROPY_NORM_H

#include <math.h>

#include "stages/policies/policy.h"

/* 0 .. 1; one class alone is certain: 0. */
static inline float ees__entropy_norm(const struct ees__scores *scores) {
    return scores->n_classes > 1 ? (float)((double)scores->entropy / log((double)scores->n_classes)) : scores->entropy;
}

#endif
