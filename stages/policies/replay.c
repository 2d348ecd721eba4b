/* SPDX-License-Identifier: MIT */
/* Deciding for recorded frames again and again: what a policy sees of them is computed once, its decisions are the same
 * code that frames of a stream pass. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/fail.h"
#include "stages/model.h"
#include "stages/policies/policy.h"

_Static_assert((int)EES_THRESHOLD_NONE == EES__NO_THRESHOLD && (int)EES_THRESHOLD_ABOVE == EES__LEAVES_ABOVE &&
                   (int)EES_THRESHOLD_AT_LEAST == EES__LEAVES_AT_LEAST && (int)EES_THRESHOLD_BELOW == EES__LEAVES_BELOW,
               "one order");

int ees_policy_get_info(const char *name, ees_policy_info *out, ees_error *err) {
    const struct ees__policy *policy = ees__policy_find(name);
    *out = (ees_policy_info){0};
    if (!policy) {
        struct ees__policy_setup unused; /* tells whether it is unknown or "none" */
        return ees__policy_setup_alone(&(ees_policy_options){.name = name}, 0, 1, NULL, &unused, err);
    }
    *out = (ees_policy_info){.rule = (enum ees_threshold_rule)policy->direction,
                             .counts = policy->count != NULL,
                             .patience = policy->patience,
                             .views_by_patience = policy->combines_by_patience,
                             .looks_back = policy->lag > 0,
                             .needs_gate = policy->needs_gate,
                             .needs_members = policy->needs_members};
    return 0;
}

/* One frame, all exits. */
static void view_frame(const struct ees__policy_setup *setup, const float *logits, const float *gates, float *memory,
                       ees_exit_view *out) {
    const struct ees__policy *policy = setup->policy;
    for (unsigned e = 0; e <= setup->n_exits; e++) {
        struct ees__scores scores = ees__scores_compute(logits + (size_t)e * setup->n_classes, setup->n_classes);
        scores.gate = gates && e < setup->n_exits ? gates[e] : NAN;
        if (policy && policy->combine)
            policy->combine(setup, e, &scores, memory);
        out[e] = (ees_exit_view){.score = policy && policy->score && scores.finite ? policy->score(&scores) : NAN,
                                 .confidence = scores.confidence,
                                 .class_idx = scores.class_idx,
                                 .n_votes = (uint16_t)scores.n_votes,
                                 .finite = scores.finite};
    }
}

int ees_policy_view(const ees_model *model, const ees_policy_options *resolved, unsigned n_exits, unsigned n_classes,
                    const float *logits, const float *gates, size_t n_frames, ees_exit_view *out, ees_error *err) {
    const struct ees__policy_weights *learned = model ? &model->learned : NULL;
    struct ees__policy_setup setup;
    float *memory = NULL;
    EES_TRY(ees__policy_setup_alone(resolved, n_exits, n_classes, learned, &setup, err));
    bool gated = setup.policy && setup.policy->needs_gate;
    if (gated && !gates)
        return EES_FAIL(err, EES_EINVAL, "policy '%s' cannot be replayed: logits do not tell what its gate said",
                        setup.policy->name);
    if (!gated)
        EES_TRY(ees__policy_check_learned(setup.policy, learned, err));
    if (setup.memory_floats && !(memory = calloc(setup.memory_floats, sizeof *memory)))
        return EES_FAIL(err, EES_ENOMEM, "no memory to replay policy '%s'", setup.policy->name);
    size_t n_rows = (size_t)n_exits + 1;
    for (size_t i = 0; i < n_frames; i++)
        view_frame(&setup, logits + i * n_rows * n_classes, gates ? gates + i * n_exits : NULL, memory,
                   out + i * n_rows);
    free(memory);
    return 0;
}

/* @return the exit */
static unsigned walk_views(const struct ees__policy_setup *setup, const ees_exit_view *views, unsigned reference) {
    _Alignas(8) unsigned char state[EES__POLICY_STATE_BYTES] = {0};
    unsigned e = 0;
    for (; e < setup->n_exits; e++) {
        const ees_exit_view *v = &views[e];
        const struct ees__scores scores = {
            .finite = v->finite, .class_idx = v->class_idx, .n_votes = v->n_votes, .reference = reference};
        if (ees__policy_leaves(setup, setup->thresholds[e], v->score, &scores, state))
            break;
    }
    return e;
}

int ees_policy_replay(const ees_policy_options *resolved, unsigned n_exits, const ees_exit_view *views, size_t n_frames,
                      uint8_t *exits, ees_error *err) {
    struct ees__policy_setup setup;
    size_t n_rows = (size_t)n_exits + 1;
    EES_TRY(ees__policy_setup_alone(resolved, n_exits, 1, NULL, &setup, err));
    for (size_t i = 0; i < n_frames; i++) {
        const ees_exit_view *v = views + i * n_rows;
        bool known = setup.lag && i >= setup.lag;
        const ees_exit_view *before = known ? &views[(i - setup.lag) * n_rows + exits[i - setup.lag]] : NULL;
        exits[i] = (uint8_t)(setup.policy ? walk_views(&setup, v, before && before->finite ? before->class_idx + 1 : 0)
                                          : n_exits);
    }
    return 0;
}
