/* SPDX-License-Identifier: MIT */
/* What plans are worth: costs of groups, reach probabilities, predicted speed. The search for the best one is in
 * plan_solve.c. */
#include <math.h>

#include "common/fail.h"
#include "engine/plan_costs.h"

int ees_plan_reach(const ees_model *model, const double *exit_share, double *reach, ees_error *err) {
    const ees_model_info *info = ees_model_get_info(model);
    double total = 0;
    for (unsigned i = 0; exit_share && i <= info->n_exits; i++) {
        if (!(exit_share[i] >= 0) || !isfinite(exit_share[i]))
            return EES_FAIL(err, EES_EINVAL, "share of exit %u is %g: a number >= 0 is needed", i, exit_share[i]);
        total += exit_share[i];
    }
    if (exit_share && total <= 0)
        return EES_FAIL(err, EES_EINVAL, "shares of the %u exits add up to 0", info->n_exits + 1);
    double here = 1;
    for (unsigned u = 0; u < info->n_units; u++) {
        const ees_unit_info *unit = ees_model_get_unit(model, u);
        bool early_head = unit->exit_idx >= 0 && (unsigned)unit->exit_idx < info->n_exits;
        reach[u] = early_head && !exit_share ? 0 : here; /* full depth passes the heads over */
        if (early_head && exit_share)
            here = fmax(0, here - exit_share[unit->exit_idx] / total);
    }
    return 0;
}

/* ---- Costs of groups ----------------------------------------------------------------------------------- */

/* A measured gain below this is noise, and a batch makes its first frame wait. */
static const double batch_pays_below = 0.98;

void ees__costs_init(struct ees__costs *c, const ees_profile *profile, const double *reach, const unsigned *n_of_type) {
    *c = (struct ees__costs){.profile = profile, .reach = reach};
    for (unsigned u = 0; profile->batch > 1 && u < profile->n_units; u++) {
        double together = 0, alone = 0; /* relative to the cold cost, so that every core counts the same */
        for (unsigned t = 0; t < profile->n_types; t++)
            if (profile->types[t].cold_ns[u] > 0) {
                together += n_of_type[t] * profile->types[t].batch_ns[u] / profile->types[t].cold_ns[u];
                alone += n_of_type[t];
            }
        c->batched[u] = together < batch_pays_below * alone;
    }
}

bool ees__group_fits(const ees_profile *profile, unsigned type, const ees_plan_group *group) {
    size_t weights_bytes = 0;
    for (unsigned u = group->first_unit; u < group->end_unit; u++)
        weights_bytes += profile->weights_bytes[u];
    return weights_bytes <= profile->types[type].private_cache_bytes;
}

void ees__group_cost_add(struct ees__group_cost *sum, const struct ees__costs *c, unsigned type, unsigned unit) {
    const ees_unit_costs *costs = &c->profile->types[type];
    sum->weights_bytes += c->profile->weights_bytes[unit];
    sum->warm_ns += costs->warm_ns[unit] * c->reach[unit];
    sum->cold_ns += (c->batched[unit] ? costs->batch_ns : costs->cold_ns)[unit] * c->reach[unit];
}

bool ees__group_cost_is_warm(const struct ees__group_cost *sum, const struct ees__costs *c, unsigned type) {
    return sum->weights_bytes <= c->profile->types[type].private_cache_bytes;
}

double ees__group_cost_ns(const struct ees__group_cost *sum, const struct ees__costs *c, unsigned type) {
    return ees__group_cost_is_warm(sum, c, type) ? sum->warm_ns : sum->cold_ns;
}

struct ees__group_cost ees__group_cost(const struct ees__costs *c, unsigned type, unsigned first, unsigned end) {
    struct ees__group_cost sum = {0};
    for (unsigned u = first; u < end; u++)
        ees__group_cost_add(&sum, c, type, u);
    return sum;
}

/* ---- Prediction ---------------------------------------------------------------------------------------- */

static unsigned count_assigned(const ees_plan_group *group) {
    unsigned n = 0;
    for (unsigned t = 0; t < EES_MAX_CORE_TYPES; t++)
        n += group->n_of_type[t];
    return n;
}

static int check_groups(const ees_profile *profile, const ees_plan *plan, ees_error *err) {
    if (profile->n_types == 0 || profile->n_types > EES_MAX_CORE_TYPES || profile->n_units > EES_MAX_UNITS)
        return EES_FAIL(err, EES_EINVAL, "profile of %u units and %u core types: at most %d and 1 to %d",
                        profile->n_units, profile->n_types, EES_MAX_UNITS, EES_MAX_CORE_TYPES);
    for (unsigned g = 0; g < plan->n_groups; g++) {
        const ees_plan_group *group = &plan->groups[g];
        unsigned assigned = count_assigned(group);
        if (group->end_unit > profile->n_units || group->end_unit <= group->first_unit)
            return EES_FAIL(err, EES_EINVAL, "group %u of the plan covers units %u to %u, the profile has %u", g,
                            group->first_unit, group->end_unit, profile->n_units);
        if (group->n_workers == 0 || (assigned && assigned != group->n_workers))
            return EES_FAIL(err, EES_EINVAL, "group %u of the plan has %u workers and %u cores", g, group->n_workers,
                            assigned);
    }
    return 0;
}

static int check_cores(const ees_profile *profile, const unsigned *n_of_type, const ees_plan *plan, ees_error *err) {
    unsigned wanted = 0, there = 0;
    for (unsigned t = 0; t < EES_MAX_CORE_TYPES; t++) {
        unsigned of_type = 0, have = t < profile->n_types ? n_of_type[t] : 0;
        for (unsigned g = 0; g < plan->n_groups; g++)
            of_type += plan->groups[g].n_of_type[t];
        if (of_type > have)
            return EES_FAIL(err, EES_EINVAL, "the plan uses %u cores of type %u (%s), there are %u", of_type, t,
                            t < profile->n_types ? profile->types[t].name : "unknown", have);
        there += have;
    }
    for (unsigned g = 0; g < plan->n_groups; g++)
        wanted += plan->groups[g].n_workers;
    if (wanted > there)
        return EES_FAIL(err, EES_EINVAL, "the plan has %u workers, there are %u cores", wanted, there);
    return 0;
}

static void predict_group(const struct ees__costs *c, ees_plan_group *group, uint8_t *batch) {
    bool any = false, cold = false;
    group->rate_hz = 0;
    for (unsigned t = 0; t < c->profile->n_types; t++) {
        if (group->n_of_type[t] == 0)
            continue;
        struct ees__group_cost cost = ees__group_cost(c, t, group->first_unit, group->end_unit);
        double work_ns = ees__group_cost_ns(&cost, c, t);
        group->rate_hz += work_ns > 0 ? 1e9 * group->n_of_type[t] / work_ns : INFINITY;
        if (!any) /* types stand fastest first */
            group->work_ns = work_ns;
        any = true;
        cold |= !ees__group_cost_is_warm(&cost, c, t);
    }
    for (unsigned u = group->first_unit; u < group->end_unit; u++)
        batch[u] = cold && c->batched[u] ? (uint8_t)c->profile->batch : 1;
}

int ees_plan_predict(const ees_profile *profile, const double *reach, const unsigned *n_of_type, ees_plan *plan,
                     ees_error *err) {
    struct ees__costs c;
    double slowest_hz = INFINITY, busy = 0;
    unsigned n_workers = 0;
    EES_TRY(check_groups(profile, plan, err));
    EES_TRY(check_cores(profile, n_of_type, plan, err));
    ees__costs_init(&c, profile, reach, n_of_type);
    EES_TRY(ees__plan_assign(&c, n_of_type, plan, err));
    for (unsigned g = 0; g < plan->n_groups; g++) {
        predict_group(&c, &plan->groups[g], plan->batch);
        slowest_hz = fmin(slowest_hz, plan->groups[g].rate_hz);
        n_workers += plan->groups[g].n_workers;
    }
    bool works = slowest_hz < INFINITY; /* otherwise nothing costs anything */
    for (unsigned g = 0; works && g < plan->n_groups; g++)
        busy += plan->groups[g].n_workers * slowest_hz / plan->groups[g].rate_hz;
    plan->bottleneck_ns = works ? 1e9 / slowest_hz : 0;
    plan->fps = works ? slowest_hz : 0;
    plan->busy_share = works ? busy / n_workers : 0;
    return 0;
}
