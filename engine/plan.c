/* SPDX-License-Identifier: MIT */
/* The planner: which contiguous ranges of units, on how many workers each.
 *
 * Work of a group = sum over its units of cost x probability that a frame gets there. A unit costs its warm time when
 * the weights of its whole group fit a core's private cache, its cold time otherwise. The time between frames of a plan
 * is max over groups of work / workers; with equal costs everywhere one group of all workers is optimal (its loads
 * are equal by construction), so cuts are made exactly where they buy cache residency. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/fail.h"
#include "common/mem.h"
#include "eestream/plan.h"

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

/* Expected work of units [first, end) as one group. */
static double group_work(const ees_profile *p, const double *reach, unsigned first, unsigned end) {
    size_t weights = 0;
    for (unsigned u = first; u < end; u++)
        weights += p->weights_bytes[u];
    const double *cost = weights <= p->private_cache_bytes ? p->warm_ns : p->cold_ns;
    double work = 0;
    for (unsigned u = first; u < end; u++)
        work += cost[u] * reach[u];
    return work;
}

int ees_plan_predict(const ees_profile *profile, const double *reach, ees_plan *plan, ees_error *err) {
    double total = 0, bottleneck = 0;
    for (unsigned g = 0; g < plan->n_groups; g++) {
        ees_plan_group *group = &plan->groups[g];
        if (group->end_unit > profile->n_units)
            return EES_FAIL(err, EES_EINVAL, "plan ends at unit %u, the profile has %u", group->end_unit, profile->n_units);
        group->work_ns = group_work(profile, reach, group->first_unit, group->end_unit);
        total += group->work_ns;
        bottleneck = fmax(bottleneck, group->work_ns / group->n_workers);
    }
    plan->bottleneck_ns = bottleneck;
    plan->fps = bottleneck > 0 ? 1e9 / bottleneck : 0;
    plan->busy_share = bottleneck > 0 ? total / (bottleneck * plan->n_workers) : 0;
    return 0;
}

/* Dynamic programming tables over (units covered, workers used). */
struct tables {
    unsigned n_units, n_workers;
    double *work;     /* [first * (n_units + 1) + end] */
    double *best;     /* [units * (n_workers + 1) + workers]: least bottleneck, or least number of groups */
    unsigned *from;   /* packed (first unit, workers of the last group) that reached it */
};

static double *best_at(struct tables *t, unsigned units, unsigned workers) {
    return &t->best[units * (t->n_workers + 1) + workers];
}

/* Cost of adding a group to a partial plan. Phase 1: the bottleneck. Phase 2: one more group, if it keeps the limit. */
static double extend(double before, double load, double limit) {
    if (limit == 0)
        return fmax(before, load);
    return load <= limit ? before + 1 : DBL_MAX;
}

/* Fill the tables; limit 0: phase 1. @return value of the best complete plan that uses at most all workers */
static double fill_tables(struct tables *t, double limit) {
    for (unsigned u = 0; u <= t->n_units; u++)
        for (unsigned w = 0; w <= t->n_workers; w++)
            *best_at(t, u, w) = u == 0 ? 0 : DBL_MAX;
    for (unsigned end = 1; end <= t->n_units; end++)
        for (unsigned first = 0; first < end; first++)
            for (unsigned k = 1; k <= t->n_workers; k++) {
                double load = t->work[first * (t->n_units + 1) + end] / k;
                for (unsigned w = k; w <= t->n_workers; w++) {
                    double before = *best_at(t, first, w - k);
                    if (before == DBL_MAX)
                        continue;
                    double value = extend(before, load, limit);
                    if (value < *best_at(t, end, w)) {
                        *best_at(t, end, w) = value;
                        t->from[end * (t->n_workers + 1) + w] = first << 16 | k;
                    }
                }
            }
    return *best_at(t, t->n_units, t->n_workers);
}

/* Read the groups off the tables, last first. Workers that phase 2 left over go, one by one, to the slowest group. */
static void read_plan(const struct tables *t, ees_plan *out) {
    ees_plan_group reversed[EES_MAX_GROUPS];
    unsigned n = 0, used = 0;
    for (unsigned end = t->n_units, w = t->n_workers; end > 0; n++) {
        unsigned packed = t->from[end * (t->n_workers + 1) + w], first = packed >> 16, k = packed & 0xffff;
        reversed[n] = (ees_plan_group){
            .first_unit = first, .end_unit = end, .n_workers = k, .work_ns = t->work[first * (t->n_units + 1) + end]};
        used += k;
        end = first;
        w -= k;
    }
    *out = (ees_plan){.n_groups = n, .n_workers = t->n_workers};
    for (unsigned g = 0; g < n; g++)
        out->groups[g] = reversed[n - 1 - g];
    for (; used < t->n_workers; used++) {
        unsigned slowest = 0;
        for (unsigned g = 1; g < n; g++)
            if (out->groups[g].work_ns / out->groups[g].n_workers >
                out->groups[slowest].work_ns / out->groups[slowest].n_workers)
                slowest = g;
        out->groups[slowest].n_workers++;
    }
}

/* Costs are measured to a percent or so: a plan within 1 % of the best counts as equal, and fewer groups win. */
static const double same_within = 1.01;

static void solve(struct tables *t, const ees_profile *profile, const double *reach, ees_plan *out) {
    for (unsigned first = 0; first < t->n_units; first++)
        for (unsigned end = first + 1; end <= t->n_units; end++)
            t->work[first * (t->n_units + 1) + end] = group_work(profile, reach, first, end);
    double least = fill_tables(t, 0);
    fill_tables(t, fmax(least * same_within, DBL_MIN));
    read_plan(t, out);
}

int ees_plan_solve(const ees_profile *profile, const double *reach, unsigned n_workers, ees_plan *out, ees_error *err) {
    unsigned n = profile->n_units;
    if (n == 0 || n > EES_MAX_UNITS || n_workers == 0 || n_workers > EES_MAX_WORKERS)
        return EES_FAIL(err, EES_EINVAL, "cannot plan %u units on %u workers: 1 to %d units, 1 to %d workers", n, n_workers,
                        EES_MAX_UNITS, EES_MAX_WORKERS);
    size_t n_states = (size_t)(n + 1) * (n_workers + 1);
    struct tables t = {.n_units = n,
                       .n_workers = n_workers,
                       .work = ees__calloc_aligned((size_t)(n + 1) * (n + 1), sizeof *t.work),
                       .best = ees__calloc_aligned(n_states, sizeof *t.best),
                       .from = ees__calloc_aligned(n_states, sizeof *t.from)};
    int rc = 0;
    if (t.work && t.best && t.from)
        solve(&t, profile, reach, out);
    else
        rc = EES_FAIL(err, EES_ENOMEM, "no memory to plan %u units on %u workers", n, n_workers);
    ees__free(t.work);
    ees__free(t.best);
    ees__free(t.from);
    return rc < 0 ? rc : ees_plan_predict(profile, reach, out, err);
}
