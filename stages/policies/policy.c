/* SPDX-License-Identifier: MIT */
/* What a policy says at an exit. */
#include "stages/policies/policy.h"

/* The threshold as far as it moved: exact at both ends. */
static float move_threshold(float normal, float degraded, float degrade) {
    return (1.0f - degrade) * normal + degrade * degraded;
}

bool ees__policy_is_beyond(const struct ees__policy *policy, float score, float threshold) {
    switch (policy->direction) {
    case EES__LEAVES_ABOVE:
        return score > threshold;
    case EES__LEAVES_AT_LEAST:
        return score >= threshold;
    case EES__LEAVES_BELOW:
        return score < threshold;
    case EES__NO_THRESHOLD:
        break;
    }
    return true;
}

bool ees__policy_leaves(const struct ees__policy_setup *setup, float threshold, float score,
                        const struct ees__scores *scores, void *state) {
    const struct ees__policy *policy = setup->policy;
    bool beyond = scores->finite && ees__policy_is_beyond(policy, score, threshold);
    return (policy->count ? policy->count(setup, scores, beyond, state) : beyond) && scores->finite;
}

bool ees__policy_decide(const struct ees__policy_setup *setup, unsigned exit_idx, struct ees__scores *scores,
                        struct ees__item *item) {
    const struct ees__policy *policy = setup->policy;
    item->degraded = false;
    scores->gate = item->gate;
    scores->reference = item->reference;
    if (policy && policy->combine)
        policy->combine(setup, exit_idx, scores, item->policy_memory);
    if (exit_idx == setup->n_exits)
        return scores->finite;
    if (setup->replay)
        return scores->finite && setup->replay[item->seq % setup->n_replay] == exit_idx;
    if (!policy)
        return false;
    float normal = setup->thresholds[exit_idx];
    float score = policy->score ? policy->score(scores) : 0.0f;
    bool leaves = ees__policy_leaves(setup, normal, score, scores, item->policy_state[0]);
    if (setup->degrades) { /* at every exit, also at degrade 0: a policy that counts must see them all */
        float moved = move_threshold(normal, setup->degraded[exit_idx], item->degrade);
        item->degraded = ees__policy_leaves(setup, moved, score, scores, item->policy_state[1]) && !leaves;
    }
    return leaves || item->degraded;
}
