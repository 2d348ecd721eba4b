/* SPDX-License-Identifier: MIT */
#include "engine/replanner.h"

#include <math.h>
#include <string.h>

#include "common/fail.h"
#include "common/mem.h"

/* Half a second forgets two thirds of what was before: new content shows within a second, and at ten frames a second there are
 * still enough of them in the average. */
static const double time_constant_ns = 5e8;

/* Fewer frames than this say too little about the mix; fewer visits than this say nothing about a cost. */
enum { MIN_FRAMES = 32, MIN_VISITS = 4 };

/* Costs and mixes are known to a percent or two: a change must promise more. */
static const double gain_to_move = 1.03;

enum { CALLS_THAT_AGREE = 2 };

struct ees__replanner {
    ees_profile measured, live;
    ees_plan candidate, current; /* here because they are large */
    unsigned n_of_type[EES_MAX_CORE_TYPES];
    double runs[EES_MAX_CORE_TYPES][EES_MAX_UNITS], ns[EES_MAX_CORE_TYPES][EES_MAX_UNITS];
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
    *out = r;
    return 0;
}

void ees__replanner_close(struct ees__replanner *r) { ees__free(r); }

void ees__replanner_set_cores(struct ees__replanner *r, const unsigned *n_of_type) {
    memcpy(r->n_of_type, n_of_type, r->measured.n_types * sizeof *n_of_type);
    memset(r->runs, 0, sizeof r->runs);
    memset(r->ns, 0, sizeof r->ns);
    r->n_agreed = 0;
}

void ees__replanner_add(struct ees__replanner *r, double dt_ns, double runs[][EES_MAX_UNITS], double ns[][EES_MAX_UNITS]) {
    double kept = exp(-dt_ns / time_constant_ns);
    for (unsigned t = 0; t < r->measured.n_types; t++)
        for (unsigned u = 0; u < r->measured.n_units; u++) {
            r->runs[t][u] = kept * r->runs[t][u] + runs[t][u];
            r->ns[t][u] = kept * r->ns[t][u] + ns[t][u];
        }
}

static double runs_of(const struct ees__replanner *r, unsigned unit) {
    double runs = 0;
    for (unsigned t = 0; t < r->measured.n_types; t++)
        runs += r->runs[t][unit];
    return runs;
}

/* Share of frames that get to each unit. Frames on their way make it uneven; it cannot rise behind an exit. */
static bool see_reach(struct ees__replanner *r) {
    double begun = runs_of(r, 0);
    if (begun < MIN_FRAMES)
        return false;
    for (unsigned u = 0; u < r->measured.n_units; u++)
        r->reach[u] = fmin(1, runs_of(r, u) / begun);
    return true;
}

/* What the plan in force makes a unit cost on a type, by the profile. */
static double expected_ns(const struct ees__replanner *r, const ees_plan *now, unsigned type, unsigned unit) {
    const ees_unit_costs *costs = &r->measured.types[type];
    for (unsigned g = 0; g < now->n_groups; g++) {
        const ees_plan_group *group = &now->groups[g];
        size_t weights = 0;
        if (unit >= group->end_unit)
            continue;
        for (unsigned u = group->first_unit; u < group->end_unit; u++)
            weights += r->measured.weights_bytes[u];
        if (weights <= costs->private_cache_bytes)
            return costs->warm_ns[unit];
        break;
    }
    return now->batch[unit] > 1 ? costs->batch_ns[unit] : costs->cold_ns[unit];
}

/* Seen cost over expected cost of all units of a type together, 1 where nothing was seen. */
static double ratio_of_type(const struct ees__replanner *r, const ees_plan *now, unsigned type) {
    double seen = 0, expected = 0;
    for (unsigned u = 0; u < r->measured.n_units; u++) {
        seen += r->ns[type][u];
        expected += r->runs[type][u] * expected_ns(r, now, type, u);
    }
    return seen > 0 && expected > 0 ? seen / expected : 1;
}

/* The profile with all three costs of a unit moved by what was seen of the one in use. */
static void see_costs(struct ees__replanner *r, const ees_plan *now) {
    r->live = r->measured;
    for (unsigned t = 0; t < r->measured.n_types; t++) {
        double of_type = ratio_of_type(r, now, t);
        for (unsigned u = 0; u < r->measured.n_units; u++) {
            double expected = expected_ns(r, now, t, u), ratio = of_type;
            if (r->runs[t][u] >= MIN_VISITS && expected > 0)
                ratio = r->ns[t][u] / r->runs[t][u] / expected;
            r->live.types[t].cold_ns[u] *= ratio;
            r->live.types[t].warm_ns[u] *= ratio;
            r->live.types[t].batch_ns[u] *= ratio;
        }
    }
}

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

bool ees__replanner_propose(struct ees__replanner *r, const ees_plan *now, ees_plan *out, double *fps_before) {
    bool better = false;
    if (see_reach(r)) {
        see_costs(r, now);
        better = predict_current(r, now) &&
                 ees_plan_solve(&r->live, r->reach, r->n_of_type, &r->candidate, NULL) == 0 &&
                 r->candidate.fps > gain_to_move * r->current.fps && !same_groups(&r->candidate, &r->current);
    }
    r->n_agreed = better ? r->n_agreed + 1 : 0;
    if (r->n_agreed < CALLS_THAT_AGREE)
        return false;
    r->n_agreed = 0;
    *fps_before = r->current.fps;
    *out = r->candidate;
    return true;
}
