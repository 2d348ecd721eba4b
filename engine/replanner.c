/* SPDX-License-Identifier: MIT */
#include "engine/replanner.h"

#include <math.h>
#include <string.h>

#include "common/fail.h"
#include "common/mem.h"
#include "engine/plan_costs.h"

/* Two memories of the mix. The short one sees a change: half a second, but at least so many frames, or a slow stream would be
 * judged by a handful. The long one tells plans of nearly equal speed apart; it is dropped when the short one contradicts it. */
static const double short_ns = 5e8, short_frames = 64, long_ns = 8e9, long_frames = 1024;

/* Contradiction: a share differs by so many standard errors. Chance does this once in some minutes at most, and then does no harm. */
static const double errors_to_contradict = 4;

/* After that the short memory holds frames of both mixes; when so many of its lengths have passed, the old ones are few. */
static const double memories_to_settle = 2;

/* Fewer frames than this say too little. */
static const double min_frames = 32;

/* What a change must promise: so much, and so many times the error that chance makes, in so many calls in a row. */
static const double min_gain = 0.03, errors_to_beat = 2;
enum { CALLS_THAT_AGREE = 2 };

/* A unit's cost is believed as far as it was seen; so many visits weigh as much as the average of its core type. */
static const double prior_visits = 16;

struct ees__replanner {
    ees_profile measured, live;
    ees_plan candidate, current; /* here because they are large */
    unsigned n_of_type[EES_MAX_CORE_TYPES], n_workers;
    double n_to_skip;                                      /* frames that fill the pipeline */
    double lately[EES_MAX_UNITS], for_long[EES_MAX_UNITS]; /* frames that ran each unit */
    double runs[EES_MAX_CORE_TYPES][EES_MAX_UNITS],
        ns[EES_MAX_CORE_TYPES][EES_MAX_UNITS]; /* costs under the plan in force */
    double since_change;                       /* in lengths of the short memory */
    double reach[EES_MAX_UNITS];
    unsigned n_agreed;
};

int ees__replanner_open(const ees_profile *profile, const unsigned *n_of_type, struct ees__replanner **out,
                        ees_error *err) {
    struct ees__replanner *r = ees__calloc_aligned(1, sizeof *r);
    if (!r)
        return EES_FAIL(err, EES_ENOMEM, "no memory to follow %u units", profile->n_units);
    r->measured = *profile;
    ees__replanner_set_cores(r, n_of_type);
    r->n_to_skip = 4 * r->n_workers;
    *out = r;
    return 0;
}

void ees__replanner_close(struct ees__replanner *r) { ees__free(r); }

static void forget_costs(struct ees__replanner *r) {
    memset(r->runs, 0, sizeof r->runs);
    memset(r->ns, 0, sizeof r->ns);
    r->n_agreed = 0;
}

void ees__replanner_set_cores(struct ees__replanner *r, const unsigned *n_of_type) {
    r->n_workers = 0;
    for (unsigned t = 0; t < r->measured.n_types; t++)
        r->n_workers += r->n_of_type[t] = n_of_type[t];
    forget_costs(r);
}

/* ---- Averages ------------------------------------------------------------------------------------------ */

static double sum_types(const struct ees__replanner *r, double runs[][EES_MAX_UNITS], unsigned unit) {
    double sum = 0;
    for (unsigned t = 0; t < r->measured.n_types; t++)
        sum += runs[t][unit];
    return sum;
}

/* A step as a part of a memory's length. While no frames come, nothing is forgotten. */
static double part_of(double dt_ns, double begun, double memory_ns, double memory_frames) {
    return fmin(dt_ns / memory_ns, begun / memory_frames);
}

static void add_costs(struct ees__replanner *r, double keep, double runs[][EES_MAX_UNITS], double ns[][EES_MAX_UNITS]) {
    for (unsigned t = 0; t < r->measured.n_types; t++)
        for (unsigned u = 0; u < r->measured.n_units; u++) {
            r->runs[t][u] = keep * r->runs[t][u] + runs[t][u];
            r->ns[t][u] = keep * r->ns[t][u] + ns[t][u];
        }
}

/* An exponential average over n frames is as sharp as a plain one over 2n. */
static bool contradicts(const struct ees__replanner *r) {
    double n = r->lately[0], n_long = r->for_long[0];
    for (unsigned u = 0; u < r->measured.n_units && n > 0; u++) {
        double p = fmin(1, r->for_long[u] / n_long), error = sqrt((p * (1 - p) + 1 / n) / (2 * n));
        if (fabs(r->lately[u] / n - p) > errors_to_contradict * error)
            return true;
    }
    return false;
}

void ees__replanner_add(struct ees__replanner *r, double dt_ns, double runs[][EES_MAX_UNITS],
                        double ns[][EES_MAX_UNITS]) {
    double begun = sum_types(r, runs, 0);
    double step = part_of(dt_ns, begun, short_ns, short_frames);
    double keep_short = exp(-step), keep_long = exp(-part_of(dt_ns, begun, long_ns, long_frames));
    add_costs(r, keep_short, runs, ns);
    /* The first frames are on their way: deep units have seen few of them yet, which says nothing about the mix. */
    if (r->n_to_skip > 0) {
        r->n_to_skip -= begun;
        return;
    }
    for (unsigned u = 0; u < r->measured.n_units; u++) {
        double n = sum_types(r, runs, u);
        r->lately[u] = keep_short * r->lately[u] + n;
        r->for_long[u] = keep_long * r->for_long[u] + n;
    }
    r->since_change = contradicts(r) ? 0 : r->since_change + step;
    if (r->since_change < memories_to_settle)
        memcpy(r->for_long, r->lately, sizeof r->for_long);
}

/* Share of frames that get to each unit. @return frames it is known from, 0: too few */
static double see_reach(struct ees__replanner *r) {
    double begun = r->for_long[0];
    if (begun < min_frames)
        return 0;
    for (unsigned u = 0; u < r->measured.n_units; u++)
        r->reach[u] = fmin(1, r->for_long[u] / begun);
    return begun;
}

/* What the plan in force makes each unit cost on a type, by the profile. */
static void expect_costs(const struct ees__replanner *r, const ees_plan *now, unsigned type, double *expected_ns) {
    const ees_unit_costs *costs = &r->measured.types[type];
    for (unsigned g = 0; g < now->n_groups; g++) {
        const ees_plan_group *group = &now->groups[g];
        bool warm = ees__group_fits(&r->measured, type, group);
        for (unsigned u = group->first_unit; u < group->end_unit; u++)
            expected_ns[u] = warm ? costs->warm_ns[u] : now->batch[u] > 1 ? costs->batch_ns[u] : costs->cold_ns[u];
    }
}

/* The profile of one type with all three costs of a unit moved by what was seen of the one in use. */
static void see_costs_of_type(struct ees__replanner *r, const ees_plan *now, unsigned type) {
    ees_unit_costs *live = &r->live.types[type];
    double expected_ns[EES_MAX_UNITS] = {0}, seen = 0, expected = 0;
    expect_costs(r, now, type, expected_ns);
    for (unsigned u = 0; u < r->measured.n_units; u++) {
        seen += r->ns[type][u];
        expected += r->runs[type][u] * expected_ns[u];
    }
    double of_type = seen > 0 && expected > 0 ? seen / expected : 1;
    for (unsigned u = 0; u < r->measured.n_units; u++) {
        double runs = r->runs[type][u], ratio = of_type;
        if (expected_ns[u] > 0)
            ratio = (prior_visits * of_type + r->ns[type][u] / expected_ns[u]) / (prior_visits + runs);
        live->cold_ns[u] *= ratio;
        live->warm_ns[u] *= ratio;
        live->batch_ns[u] *= ratio;
    }
}

static void see_costs(struct ees__replanner *r, const ees_plan *now) {
    r->live = r->measured;
    for (unsigned t = 0; t < r->measured.n_types; t++)
        see_costs_of_type(r, now, t);
}

/* ---- Deciding ------------------------------------------------------------------------------------------ */

static bool same_groups(const ees_plan *a, const ees_plan *b) {
    if (a->n_groups != b->n_groups)
        return false;
    for (unsigned g = 0; g < a->n_groups; g++)
        if (a->groups[g].end_unit != b->groups[g].end_unit ||
            memcmp(a->groups[g].n_of_type, b->groups[g].n_of_type, sizeof a->groups[g].n_of_type) != 0)
            return false;
    return true;
}

/* The plan in force with its workers on the cores there are now. */
static bool predict_current(struct ees__replanner *r, const ees_plan *now) {
    r->current = *now;
    for (unsigned g = 0; g < now->n_groups; g++)
        memset(r->current.groups[g].n_of_type, 0, sizeof r->current.groups[g].n_of_type);
    return ees_plan_predict(&r->live, r->reach, r->n_of_type, &r->current, NULL) == 0;
}

/* Frames a second if every core were always busy at each unit's least cost: no plan is faster. */
static double fps_bound(const struct ees__replanner *r) {
    double rate = 0;
    for (unsigned t = 0; t < r->live.n_types; t++) {
        const ees_unit_costs *c = &r->live.types[t];
        double work_ns = 0;
        for (unsigned u = 0; u < r->live.n_units; u++)
            work_ns += r->reach[u] *
                       fmin(c->warm_ns[u], r->live.batch > 1 ? fmin(c->cold_ns[u], c->batch_ns[u]) : c->cold_ns[u]);
        rate += work_ns > 0 ? r->n_of_type[t] * 1e9 / work_ns : INFINITY;
    }
    return rate;
}

/* Standard error of a group's work as seen on n frames, relative: some frames leave before it, some inside. Frames that get to a
 * unit got to all before, so with S(u) the cost of the group up to unit u, E[work^2] is the sum of reach(u) (S(u)^2 - S(u-1)^2). */
static double error_of_group(const struct ees__replanner *r, const ees_plan_group *group, double n_frames) {
    double cost = 0, mean = 0, square = 0;
    for (unsigned u = group->first_unit; u < group->end_unit; u++) {
        double unit = r->live.types[0].cold_ns[u];
        mean += r->reach[u] * unit;
        square += r->reach[u] * unit * (2 * cost + unit);
        cost += unit;
    }
    return mean > 0 ? sqrt(fmax(0, square / (mean * mean) - 1) / (2 * n_frames)) : 0;
}

/* Relative standard error of a plan's predicted speed. Groups with capacity to spare may be off by more. */
static double error_of_plan(const struct ees__replanner *r, const ees_plan *plan, double n_frames) {
    double most = 0;
    for (unsigned g = 0; g < plan->n_groups; g++)
        most = fmax(most, error_of_group(r, &plan->groups[g], n_frames) * plan->fps / plan->groups[g].rate_hz);
    return most;
}

/* The candidate is the best of many for exactly these frames, the plan in force is not: chance alone lets it look faster. */
static bool beats_chance(const struct ees__replanner *r, double n_frames) {
    double error = fmax(error_of_plan(r, &r->current, n_frames), error_of_plan(r, &r->candidate, n_frames));
    return r->candidate.fps > (1 + fmax(min_gain, errors_to_beat * error)) * r->current.fps;
}

static bool is_better(struct ees__replanner *r, const ees_plan *now) {
    double n_frames = see_reach(r);
    if (n_frames == 0)
        return false;
    see_costs(r, now);
    if (!predict_current(r, now) || fps_bound(r) < (1 + min_gain) * r->current.fps) /* not worth solving */
        return false;
    return ees_plan_solve(&r->live, r->reach, r->n_of_type, &r->candidate, NULL) == 0 &&
           !same_groups(&r->candidate, &r->current) && beats_chance(r, n_frames);
}

bool ees__replanner_propose(struct ees__replanner *r, const ees_plan *now, ees_plan *out, double *fps_before) {
    r->n_agreed = is_better(r, now) ? r->n_agreed + 1 : 0;
    if (r->n_agreed < CALLS_THAT_AGREE)
        return false;
    forget_costs(r); /* they were those of the plan before: cold units, say, that are warm from now on */
    *fps_before = r->current.fps;
    *out = r->candidate;
    return true;
}
