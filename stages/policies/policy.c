/* SPDX-License-Identifier: MIT */
/* Choosing a policy and its parameters, and walking frames through it. */
#include "stages/policies/policy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/fail.h"
#include "stages/model.h"
#include "stages/stage_list.h"

static const char none[] = "none";

const char *const *ees_policy_names(void) { return ees__policy_names; }

void ees__policy_list_names(char *text, size_t n_bytes) {
    size_t at = 0;
    text[0] = '\0';
    for (size_t i = 0; ees__policy_names[i] && at < n_bytes; i++)
        at += (size_t)snprintf(text + at, n_bytes - at, "%s%s", i ? ", " : "", ees__policy_names[i]);
}

/* *out NULL for "none". */
static int find_policy(const char *name, const struct ees__policy **out, ees_error *err) {
    *out = NULL;
    for (size_t i = 0; ees__policies[i]; i++)
        if (strcmp(name, ees__policies[i]->name) == 0)
            *out = ees__policies[i];
    if (*out || strcmp(name, none) == 0)
        return 0;
    char known[128];
    ees__policy_list_names(known, sizeof known);
    return EES_FAIL(err, EES_EINVAL, "policy '%s' is unknown, there are %s", name, known);
}

static int fill_thresholds(const struct ees__policy *policy, const ees_policy_options *options, unsigned n_exits,
                           ees_policy_options *out, ees_error *err) {
    unsigned n = options->n_thresholds;
    if (n && !policy->direction)
        return EES_FAIL(err, EES_EINVAL, "policy '%s' takes no threshold", policy->name);
    if (n > 1 && n != n_exits)
        return EES_FAIL(err, EES_EINVAL, "policy '%s' got %u thresholds, expected 1 or %u (one an exit)", policy->name,
                        n, n_exits);
    for (unsigned i = 0; i < n; i++)
        if (!isfinite(options->thresholds[i]))
            return EES_FAIL(err, EES_EINVAL, "threshold %u of policy '%s' is not a finite number", i, policy->name);
    out->n_thresholds = policy->direction ? n_exits : 0;
    for (unsigned i = 0; i < out->n_thresholds; i++)
        out->thresholds[i] = n == 0 ? policy->threshold : options->thresholds[n == 1 ? 0 : i];
    return 0;
}

static int check_degraded(const struct ees__policy *policy, const ees_policy_options *options, unsigned n_exits,
                          ees_error *err) {
    unsigned n = options->n_degraded;
    if (n && !policy->direction)
        return EES_FAIL(err, EES_EINVAL, "policy '%s' cannot degrade: it has no threshold", policy->name);
    if (n > 1 && n != n_exits)
        return EES_FAIL(err, EES_EINVAL, "policy '%s' got %u degraded thresholds, expected 1 or %u (one an exit)",
                        policy->name, n, n_exits);
    for (unsigned i = 0; i < n; i++)
        if (!isfinite(options->degraded[i]))
            return EES_FAIL(err, EES_EINVAL, "degraded threshold %u of policy '%s' is not a finite number", i,
                            policy->name);
    return 0;
}

/* Behind fill_thresholds(). @param yields  a degraded threshold that is stricter than its threshold becomes equal to
 * it, instead of being refused */
static int fill_degraded(const struct ees__policy *policy, const ees_policy_options *options, unsigned n_exits,
                         bool yields, ees_policy_options *out, ees_error *err) {
    EES_TRY(check_degraded(policy, options, n_exits, err));
    bool above = policy->direction == EES__LEAVES_ABOVE;
    out->n_degraded = options->n_degraded ? n_exits : 0;
    for (unsigned i = 0; i < out->n_degraded; i++) {
        float normal = out->thresholds[i], degraded = options->degraded[options->n_degraded == 1 ? 0 : i];
        bool stricter = above ? degraded > normal : degraded < normal;
        if (stricter && !yields)
            return EES_FAIL(err, EES_EINVAL,
                            "degraded threshold %u of policy '%s' is %g, expected %s %g or equal: it must let more frames "
                            "leave",
                            i, policy->name, (double)degraded, above ? "below" : "above", (double)normal);
        out->degraded[i] = stricter ? normal : degraded;
    }
    return 0;
}

/* Defaults filled in for a model of n_exits. `options->name` is set. @param yields  see fill_degraded() */
static int complete_options(const ees_policy_options *options, unsigned n_exits, bool yields, ees_policy_options *out,
                            const struct ees__policy **policy, ees_error *err) {
    if (n_exits > EES_MAX_EXITS)
        return EES_FAIL(err, EES_EINVAL, "%u exits, at most %d are possible", n_exits, EES_MAX_EXITS);
    EES_TRY(find_policy(options->name, policy, err));
    if (!*policy) {
        *out = (ees_policy_options){.name = none};
        return 0;
    }
    ees_policy_options filled = {.name = (*policy)->name};
    EES_TRY(fill_thresholds(*policy, options, n_exits, &filled, err));
    EES_TRY(fill_degraded(*policy, options, n_exits, yields, &filled, err));
    if (options->patience && !(*policy)->patience)
        return EES_FAIL(err, EES_EINVAL, "policy '%s' takes no patience", (*policy)->name);
    filled.patience = options->patience ? options->patience : (*policy)->patience;
    *out = filled;
    return 0;
}

static int check_replay(const ees_policy_options *options, unsigned n_exits, ees_error *err) {
    if (options->replay && options->n_replay == 0)
        return EES_FAIL(err, EES_EINVAL, "the replay is empty");
    for (size_t i = 0; options->replay && i < options->n_replay; i++)
        if (options->replay[i] > n_exits)
            return EES_FAIL(err, EES_EINVAL, "replay[%zu] is exit %u, the model has 0 to %u (the final classifier)", i,
                            options->replay[i], n_exits);
    return 0;
}

int ees_policy_resolve(const ees_model *model, const ees_policy_options *options, ees_policy_options *out,
                       ees_error *err) {
    const ees_policy_options *own = &model->policy;
    ees_policy_options wanted = options ? *options : (ees_policy_options){0};
    const struct ees__policy *policy;
    bool yields = false;
    EES_TRY(check_replay(&wanted, model->info.n_exits, err));
    if (!wanted.name)
        wanted.name = own->name;
    /* The model's numbers belong to the model's policy. */
    if (strcmp(wanted.name, own->name) == 0) {
        if (wanted.n_degraded == 0) {
            yields = wanted.n_thresholds > 0; /* they belong to the model's thresholds, not to the caller's */
            wanted.n_degraded = own->n_degraded;
            memcpy(wanted.degraded, own->degraded, sizeof own->degraded);
        }
        if (wanted.n_thresholds == 0) {
            wanted.n_thresholds = own->n_thresholds;
            memcpy(wanted.thresholds, own->thresholds, sizeof own->thresholds);
        }
        if (wanted.patience == 0)
            wanted.patience = own->patience;
    }
    return complete_options(&wanted, model->info.n_exits, yields, out, &policy, err);
}

static int setup_policy(const ees_policy_options *options, unsigned n_exits, struct ees__policy_setup *out,
                        ees_error *err) {
    ees_policy_options filled;
    const struct ees__policy *policy;
    EES_TRY(complete_options(options, n_exits, false, &filled, &policy, err));
    *out = (struct ees__policy_setup){
        .policy = policy, .patience = filled.patience, .degrades = filled.n_degraded > 0};
    memcpy(out->thresholds, filled.thresholds, sizeof out->thresholds);
    memcpy(out->degraded, filled.degraded, sizeof out->degraded);
    return 0;
}

int ees__policy_setup(const ees_model *model, const ees_policy_options *resolved, struct ees__policy_setup *out,
                      ees_error *err) {
    EES_TRY(check_replay(resolved, model->info.n_exits, err));
    EES_TRY(setup_policy(resolved, model->info.n_exits, out, err));
    out->replay = resolved->replay;
    out->n_replay = resolved->replay ? resolved->n_replay : 0;
    return 0;
}

/* The threshold as far as it moved: exact at both ends. */
static float move_threshold(float normal, float degraded, float degrade) {
    return (1.0f - degrade) * normal + degrade * degraded;
}

bool ees__policy_decide(const struct ees__policy_setup *setup, unsigned exit_idx, const struct ees__scores *scores,
                        struct ees__item *item) {
    const struct ees__policy *policy = setup->policy;
    item->degraded = false;
    if (setup->replay)
        return scores->finite && setup->replay[item->seq % setup->n_replay] == exit_idx;
    if (!policy)
        return false;
    float normal = setup->thresholds[exit_idx];
    bool leaves = policy->leaves(setup, normal, scores, item->policy_state[0]);
    if (setup->degrades) { /* at every exit, also at degrade 0: a policy that counts must see them all */
        float moved = move_threshold(normal, setup->degraded[exit_idx], item->degrade);
        bool leaves_moved = policy->leaves(setup, moved, scores, item->policy_state[1]);
        item->degraded = scores->finite && leaves_moved && !leaves;
    }
    return scores->finite && (leaves || item->degraded);
}

int ees_policy_walk(const ees_policy_options *resolved, unsigned n_exits, unsigned n_classes, const float *logits,
                    ees_error *err) {
    struct ees__policy_setup setup;
    if (!resolved->name || n_classes == 0)
        return EES_FAIL(err, EES_EINVAL, "a walk needs the name of a policy and at least one class");
    EES_TRY(setup_policy(resolved, n_exits, &setup, err));
    struct ees__item item = {0};
    for (unsigned e = 0; e < n_exits; e++) {
        struct ees__scores scores = ees__scores_compute(logits + (size_t)e * n_classes, n_classes);
        if (ees__policy_decide(&setup, e, &scores, &item))
            return (int)e;
    }
    return (int)n_exits;
}
