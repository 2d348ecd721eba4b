/* SPDX-License-Identifier: MIT */
/* "temporal": for video. Leave when `patience` exits in a row gave the class that an earlier frame of the same stream
 * was answered with, and were at least this confident. The earlier frame is a fixed number of frames before (`lag`),
 * not the latest one that happens to be answered: so the same frames leave at the same exits under every plan. A frame
 * without such an answer, and one whose picture shows something new, goes to full depth and becomes a sound reference.
 * Ours. */
#include "stages/policies/runs.h"

static float score(const struct ees__scores *scores) { return scores->confidence; }

static bool count(const struct ees__policy_setup *setup, const struct ees__scores *scores, bool beyond, void *state) {
    bool agrees = scores->reference == scores->class_idx + 1;
    return ees__count_beyond(setup, scores, beyond && agrees, state);
}

const struct ees__policy ees__policy_temporal = {
    .name = "temporal",
    .direction = EES__LEAVES_AT_LEAST,
    .threshold = 0.5f,
    .patience = 1,
    .lag = 4,
    .score = score,
    .count = count,
};
