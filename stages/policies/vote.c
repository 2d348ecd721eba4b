/* SPDX-License-Identifier: MIT */
/* "vote": each exit votes for its class; leave when `patience` exits, in a row or not, voted for one. The answer is the
 * class with most votes, among equals the one with the larger sum of probabilities, then the lower index; the final
 * classifier votes too (spec 6, ours). Confidence and entropy are those of the voters' mean probabilities. */
#include <math.h>
#include <string.h>

#include "stages/policies/policy.h"

/* A frame's votes (K,), then its sums of probabilities (K,). */
static size_t memory_floats(unsigned n_exits, size_t n_classes) { return 2 * n_classes; }

static void add_vote(const struct ees__scores *scores, float *votes, float *sums) {
    votes[scores->class_idx] += 1.0f;
    float max = scores->logits[scores->class_idx];
    for (unsigned i = 0; i < scores->n_classes; i++)
        sums[i] += expf(scores->logits[i] - max) * scores->confidence; /* confidence = 1/S, see scores.c */
}

static unsigned find_winner(const float *votes, const float *sums, unsigned n) {
    unsigned best = 0;
    for (unsigned i = 1; i < n; i++)
        if (votes[i] > votes[best] || (votes[i] == votes[best] && sums[i] > sums[best]))
            best = i;
    return best;
}

static void combine(const struct ees__policy_setup *setup, unsigned exit_idx, struct ees__scores *scores,
                    float *memory) {
    unsigned n = scores->n_classes;
    float *votes = memory, *sums = memory + n;
    if (exit_idx == 0)
        memset(memory, 0, 2 * n * sizeof *memory);
    if (!scores->finite)
        return;
    add_vote(scores, votes, sums);
    unsigned winner = find_winner(votes, sums, n);
    double n_voters = 0.0, entropy = 0.0;
    for (unsigned i = 0; i < n; i++)
        n_voters += (double)votes[i];
    for (unsigned i = 0; i < n; i++) {
        double p = (double)sums[i] / n_voters;
        entropy -= p > 0.0 ? p * log(p) : 0.0;
    }
    scores->class_idx = winner;
    scores->n_votes = (unsigned)votes[winner];
    scores->confidence = (float)((double)sums[winner] / n_voters);
    scores->entropy = (float)entropy;
}

static bool count(const struct ees__policy_setup *setup, const struct ees__scores *scores, bool beyond, void *state) {
    return scores->n_votes >= setup->patience;
}

const struct ees__policy ees__policy_vote = {
    .name = "vote",
    .patience = 3,
    .memory_floats = memory_floats,
    .combine = combine,
    .count = count,
};
