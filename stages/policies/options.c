/* SPDX-License-Identifier: MIT */
/* Choosing a policy and its parameters. */
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

const struct ees__policy *ees__policy_find(const char *name) {
    for (size_t i = 0; ees__policies[i]; i++)
        if (strcmp(name, ees__policies[i]->name) == 0)
            return ees__policies[i];
    return NULL;
}

/* *out NULL for "none". */
static int find_policy(const char *name, const struct ees__policy **out, ees_error *err) {
    *out = ees__policy_find(name);
    if (*out || strcmp(name, none) == 0)
        return 0;
    char known[EES__POLICY_LIST_BYTES];
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
    bool above = policy->direction != EES__LEAVES_BELOW;
    out->n_degraded = options->n_degraded ? n_exits : 0;
    for (unsigned i = 0; i < out->n_degraded; i++) {
        float normal = out->thresholds[i], degraded = options->degraded[options->n_degraded == 1 ? 0 : i];
        bool stricter = above ? degraded > normal : degraded < normal;
        if (stricter && !yields)
            return EES_FAIL(
                err, EES_EINVAL,
                "degraded threshold %u of policy '%s' is %g, expected %s %g or equal: it must let more frames "
                "leave",
                i, policy->name, (double)degraded, above ? "below" : "above", (double)normal);
        out->degraded[i] = stricter ? normal : degraded;
    }
    return 0;
}

static int fill_weights(const struct ees__policy *policy, const ees_policy_options *options, unsigned n_exits,
                        ees_policy_options *out, ees_error *err) {
    unsigned n = options->n_weights;
    if (n && !policy->takes_weights)
        return EES_FAIL(err, EES_EINVAL, "policy '%s' takes no weights", policy->name);
    if (n && n != n_exits + 1)
        return EES_FAIL(err, EES_EINVAL,
                        "policy '%s' got %u weights, expected %u (one an exit and one for the final classifier)",
                        policy->name, n, n_exits + 1);
    out->n_weights = policy->takes_weights ? n_exits + 1 : 0;
    for (unsigned i = 0; i < out->n_weights; i++) {
        out->weights[i] = n ? options->weights[i] : 1.0f;
        if (!(out->weights[i] > 0.0f) || !isfinite(out->weights[i]))
            return EES_FAIL(err, EES_EINVAL, "weight %u of policy '%s' is %g, expected a number above 0", i,
                            policy->name, (double)out->weights[i]);
    }
    return 0;
}

/* Counts: of exits in a row, and of frames back. */
static int fill_counts(const struct ees__policy *policy, const ees_policy_options *options, ees_policy_options *out,
                       ees_error *err) {
    if (options->patience && !policy->patience)
        return EES_FAIL(err, EES_EINVAL, "policy '%s' takes no patience", policy->name);
    if (options->lag && !policy->lag)
        return EES_FAIL(err, EES_EINVAL, "policy '%s' takes no lag: it looks at no other frame", policy->name);
    if (options->lag > EES_MAX_LAG)
        return EES_FAIL(err, EES_EINVAL, "policy '%s' got a lag of %u frames, expected 1 to %d", policy->name,
                        options->lag, EES_MAX_LAG);
    out->patience = options->patience ? options->patience : policy->patience;
    out->lag = options->lag ? options->lag : policy->lag;
    return 0;
}

/* Defaults filled in for a model of n_exits. `options->name` is set. @param yields  see fill_degraded() */
static int complete_options(const ees_policy_options *options, unsigned n_exits, bool yields, ees_policy_options *out,
                            const struct ees__policy **policy, ees_error *err) {
    if (n_exits > EES_MAX_EXITS)
        return EES_FAIL(err, EES_EINVAL, "%u exits, at most %d are possible", n_exits, EES_MAX_EXITS);
    EES_TRY(find_policy(options->name, policy, err));
    float skip_below = options->skip_below;
    if (!isfinite(skip_below))
        return EES_FAIL(err, EES_EINVAL, "frames cannot be skipped below a change of %g", (double)skip_below);
    skip_below = skip_below > 0.0f ? skip_below : -1.0f; /* resolved once is resolved for good */
    if (!*policy) {
        *out = (ees_policy_options){.name = none, .skip_below = skip_below};
        return 0;
    }
    ees_policy_options filled = {.name = (*policy)->name, .skip_below = skip_below};
    EES_TRY(fill_thresholds(*policy, options, n_exits, &filled, err));
    EES_TRY(fill_degraded(*policy, options, n_exits, yields, &filled, err));
    EES_TRY(fill_weights(*policy, options, n_exits, &filled, err));
    EES_TRY(fill_counts(*policy, options, &filled, err));
    *out = filled;
    return 0;
}

int ees__policy_check_learned(const struct ees__policy *policy, const struct ees__policy_weights *learned,
                              ees_error *err) {
    if (policy && policy->needs_gate && !(learned && learned->gate))
        return EES_FAIL(err, EES_EINVAL, "policy '%s' needs a model with a gate (tensors gate.weight and gate.bias)",
                        policy->name);
    if (policy && policy->needs_members && !(learned && learned->member))
        return EES_FAIL(err, EES_EINVAL,
                        "policy '%s' needs a model with learned weights (tensors ensemble.weight and ensemble.bias)",
                        policy->name);
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
        if (wanted.n_weights == 0) {
            wanted.n_weights = own->n_weights;
            memcpy(wanted.weights, own->weights, sizeof own->weights);
        }
        wanted.patience = wanted.patience ? wanted.patience : own->patience;
        wanted.lag = wanted.lag ? wanted.lag : own->lag;
    }
    if (wanted.skip_below == 0.0f && strcmp(wanted.name, none) != 0)
        wanted.skip_below = own->skip_below;
    EES_TRY(complete_options(&wanted, model->info.n_exits, yields, out, &policy, err));
    return ees__policy_check_learned(policy, &model->learned, err);
}

int ees__policy_setup_alone(const ees_policy_options *options, unsigned n_exits, unsigned n_classes,
                            const struct ees__policy_weights *learned, struct ees__policy_setup *out, ees_error *err) {
    ees_policy_options filled;
    const struct ees__policy *policy;
    EES_TRY(complete_options(options, n_exits, false, &filled, &policy, err));
    *out = (struct ees__policy_setup){.policy = policy,
                                      .n_exits = n_exits,
                                      .n_classes = n_classes,
                                      .patience = filled.patience,
                                      .lag = filled.lag,
                                      .skip_below = filled.skip_below > 0.0f ? filled.skip_below : 0.0f,
                                      .degrades = filled.n_degraded > 0,
                                      .learned = learned};
    memcpy(out->thresholds, filled.thresholds, sizeof out->thresholds);
    memcpy(out->degraded, filled.degraded, sizeof out->degraded);
    memcpy(out->weights, filled.weights, sizeof out->weights);
    if (policy && policy->memory_floats)
        out->memory_floats = policy->memory_floats(n_exits, n_classes);
    return 0;
}

int ees__policy_setup(const ees_model *model, const ees_policy_options *resolved, struct ees__policy_setup *out,
                      ees_error *err) {
    EES_TRY(check_replay(resolved, model->info.n_exits, err));
    EES_TRY(ees__policy_setup_alone(resolved, model->info.n_exits, model->info.n_classes, &model->learned, out, err));
    EES_TRY(ees__policy_check_learned(out->policy, &model->learned, err));
    out->replay = resolved->replay;
    out->n_replay = resolved->replay ? resolved->n_replay : 0;
    if (out->replay) { /* exits are forced: no frame looks at another */
        out->lag = 0;
        out->skip_below = 0.0f;
    }
    return 0;
}
