/* SPDX-License-Identifier: MIT */
/* Walking recorded frames through a policy, without a model. */
#include <math.h>
#include <stdlib.h>

#include "common/fail.h"
#include "stages/policies/policy.h"

unsigned ees__policy_walk(const struct ees__policy_setup *setup, const struct ees__record *record,
                          struct ees__item *item, struct ees__scores *answer) {
    struct ees__scores scores = {0};
    bool leaves = false;
    unsigned e = 0;
    item->reference = record->reference;
    for (; !leaves && e <= setup->n_exits; e++) {
        scores = ees__scores_compute(record->logits + (size_t)e * setup->n_classes, setup->n_classes);
        item->gate = record->gates && e < setup->n_exits ? record->gates[e] : NAN;
        leaves = ees__policy_decide(setup, e, &scores, item);
    }
    if (answer)
        *answer = scores;
    return e - 1;
}

/* One frame that no other came before. */
static int walk_one(const struct ees__policy_setup *setup, const float *logits, ees_error *err) {
    const struct ees__record record = {.logits = logits};
    struct ees__item item = {0};
    if (setup->memory_floats && !(item.policy_memory = calloc(setup->memory_floats, sizeof(float))))
        return EES_FAIL(err, EES_ENOMEM, "no memory to walk a frame through policy '%s'", setup->policy->name);
    unsigned exit_idx = ees__policy_walk(setup, &record, &item, NULL);
    free(item.policy_memory);
    return (int)exit_idx;
}

int ees_policy_walk(const ees_policy_options *resolved, unsigned n_exits, unsigned n_classes, const float *logits,
                    ees_error *err) {
    struct ees__policy_setup setup;
    if (!resolved->name || n_classes == 0)
        return EES_FAIL(err, EES_EINVAL, "a walk needs the name of a policy and at least one class");
    EES_TRY(ees__policy_setup_alone(resolved, n_exits, n_classes, NULL, &setup, err));
    EES_TRY(ees__policy_check_learned(setup.policy, NULL, err));
    return walk_one(&setup, logits, err);
}

/* The surest frame there can be: one class, entropy 0, margin and confidence 1, the gate at 0, in agreement with the
 * frame before. Ensembles and votes of it are as sure, learned weights aside. */
bool ees_policy_can_leave(const ees_policy_options *resolved, unsigned n_exits) {
    static const float logits[EES_MAX_EXITS + 1], gates[EES_MAX_EXITS];
    static const struct ees__record sure = {.logits = logits, .gates = gates, .reference = 1};
    struct ees__policy_setup setup;
    float memory[EES_MAX_EXITS + 2];
    struct ees__item item = {.policy_memory = memory};
    if (ees__policy_setup_alone(resolved, n_exits, 1, NULL, &setup, NULL) < 0 || !setup.policy ||
        setup.memory_floats > sizeof memory / sizeof *memory)
        return false;
    return ees__policy_walk(&setup, &sure, &item, NULL) < n_exits;
}
