/* SPDX-License-Identifier: MIT */
/* The planner: which contiguous ranges of units, on how many cores of which type each.
 *
 * Is a time B between frames possible? Going along the units, front[e] holds the numbers of cores that are enough for
 * the units before e (plan_grid.h); a group [a, e) extends front[a] by every least choice of cores that carries 1/B
 * through its work. Phase 1 bisects on B. Phase 2 allows 1 % more and repeats this group by group, so that the
 * first count of groups to reach the end is the least.
 *
 * What keeps it short: a lower bound by linear-programming duality. Give each core type t a weight w_t with
 * sum over types of w_t x cores_t = 1. Of a plan with bottleneck B, a group with k_t cores of each type has
 * sum of k_t / work_t >= 1/B, so that B x sum of w_t k_t >= min over t of w_t x work_t; added up over the groups, B is at
 * least the shortest way from the first unit to the last, where a group is a step of that length. With costs equal up to
 * the types' speeds one group of all cores meets the bound, and where it comes within 1 % nothing is searched at all.
 * For a given B the steps can be made longer, to what whole cores weigh: min over a group's choices of sum of w_t k_t. If
 * the shortest way is longer than 1, B is impossible (with one type it is possible otherwise, too); if not, the ways tell
 * for each group, and each front's cell, whether enough is left for the rest.
 *
 * With one type two cold neighbours can always be merged (loads add, cores add), so cuts are made exactly where they buy
 * cache residency; with several types also where one type is the better one for a part of the units. */
#include <math.h>
#include <string.h>

#include "common/fail.h"
#include "common/mem.h"
#include "engine/plan_costs.h"
#include "engine/plan_grid.h"

/* Costs are measured to a percent or so. */
static const double same_within = 1.01;
/* How closely phase 1 closes in on the least bottleneck. */
static const double close_enough = 1.0001;
/* Of sums over all units, relative: what a comparison forgives. */
static const double rounding = 1e-9;

/* Groups as steps from unit to unit. */
struct ways {
    double *step;                     /* [first * (n + 1) + end] */
    double before[EES_MAX_UNITS + 1]; /* shortest way from the start to each unit */
    double after[EES_MAX_UNITS + 1];  /* and from there to the end */
};

struct solver {
    struct ees__costs costs;
    struct ees__grid grid;
    unsigned n, n_types;
    double *work;                      /* [(first * (n + 1) + end) * n_types + type] */
    double weight[EES_MAX_CORE_TYPES]; /* of a core of each type; all cores together: 1 */
    struct ways bound;                 /* in nanoseconds, for any B */
    struct ways whole;                 /* in weight, for the B of set_limit() */
    double limit_ns;
    struct ees__choice *choices;
    /* Fronts of one row: [end * n_cells]; row 0 is the start, row g the plans of g groups (phase 1 uses row 1). */
    ees__front *rows[EES_MAX_GROUPS + 1];
    bool alive[EES_MAX_GROUPS + 1][EES_MAX_UNITS + 1]; /* anything in the front */
};

static double *work_of(const struct solver *s, unsigned first, unsigned end) {
    return &s->work[((size_t)first * (s->n + 1) + end) * s->n_types];
}

static ees__front *front_of(const struct solver *s, unsigned row, unsigned end) {
    return s->rows[row] + (size_t)end * s->grid.n_cells;
}

/* ---- Tables -------------------------------------------------------------------------------------------- */

static void fill_work(struct solver *s) {
    for (unsigned first = 0; first < s->n; first++)
        for (unsigned t = 0; t < s->n_types; t++) {
            struct ees__group_cost sum = {0};
            for (unsigned u = first; u < s->n; u++) {
                ees__group_cost_add(&sum, &s->costs, t, u);
                work_of(s, first, u + 1)[t] = ees__group_cost_ns(&sum, &s->costs, t);
            }
        }
}

/* Any weights give a bound. These are right when the types differ by their speed alone. */
static void set_weights(struct solver *s, const unsigned *n_of_type) {
    const double *all = work_of(s, 0, s->n);
    double sum = 0;
    for (unsigned t = 0; t < s->n_types; t++) {
        s->weight[t] = all[t] > 0 ? 1 / all[t] : 1;
        sum += n_of_type[t] * s->weight[t];
    }
    for (unsigned t = 0; t < s->n_types; t++)
        s->weight[t] /= sum;
}

/* Least weighted work of a group over the types that have cores. */
static double weighted(const struct solver *s, const double *work_ns, const unsigned *n_of_type) {
    double least = INFINITY;
    for (unsigned t = 0; t < s->n_types; t++)
        if (n_of_type[t] > 0)
            least = fmin(least, s->weight[t] * work_ns[t]);
    return least;
}

static size_t range(const struct solver *s, unsigned first, unsigned end) { return (size_t)first * (s->n + 1) + end; }

static void find_ways(const struct solver *s, struct ways *w) {
    for (unsigned u = 0; u <= s->n; u++)
        w->before[u] = w->after[u] = INFINITY;
    w->before[0] = w->after[s->n] = 0;
    for (unsigned first = 0; first < s->n; first++)
        for (unsigned end = first + 1; end <= s->n; end++) {
            double way = w->before[first] + w->step[range(s, first, end)];
            w->before[end] = way < w->before[end] ? way : w->before[end];
        }
    for (unsigned first = s->n; first-- > 0;)
        for (unsigned end = first + 1; end <= s->n; end++) {
            double way = w->step[range(s, first, end)] + w->after[end];
            w->after[first] = way < w->after[first] ? way : w->after[first];
        }
}

static void fill_bound(struct solver *s, const unsigned *n_of_type) {
    set_weights(s, n_of_type);
    for (unsigned first = 0; first < s->n; first++)
        for (unsigned end = first + 1; end <= s->n; end++)
            s->bound.step[range(s, first, end)] = weighted(s, work_of(s, first, end), n_of_type);
    find_ways(s, &s->bound);
}

/* Weigh all groups in whole cores for this bottleneck. @return false: it is impossible */
static bool set_limit(struct solver *s, double limit_ns) {
    const struct ways *b = &s->bound;
    s->limit_ns = limit_ns;
    for (unsigned first = 0; first < s->n; first++)
        for (unsigned end = first + 1; end <= s->n; end++) {
            size_t at = range(s, first, end);
            bool hopeless = b->before[first] + b->step[at] + b->after[end] > limit_ns * (1 + rounding);
            s->whole.step[at] =
                hopeless ? INFINITY : ees__grid_lightest(&s->grid, work_of(s, first, end), 1 / limit_ns, s->weight);
        }
    find_ways(s, &s->whole);
    return s->whole.before[s->n] <= 1 + rounding;
}

/* ---- Fronts along the units ---------------------------------------------------------------------------- */

/* Strike what cannot be completed: the way that follows is longer than the cores left can go. */
static bool trim(const struct solver *s, unsigned end, ees__front *front) {
    if (!ees__grid_trim(&s->grid, front))
        return false;
    double most = 1 + rounding - s->whole.after[end];
    bool left = false;
    for (unsigned cell = 0; cell < s->grid.n_cells; cell++) {
        if (front[cell] != EES__FRONT_NONE && ees__grid_weigh(&s->grid, cell, front[cell], s->weight) > most)
            front[cell] = EES__FRONT_NONE;
        left |= front[cell] != EES__FRONT_NONE;
    }
    return left;
}

/* Choices of cores for a group, without those that leave too little for the ways before and after. @return how many */
static unsigned list_choices(struct solver *s, unsigned first, unsigned end) {
    double most = 1 + rounding - s->whole.before[first] - s->whole.after[end];
    if (s->whole.step[range(s, first, end)] > most)
        return 0;
    return ees__grid_choices(&s->grid, work_of(s, first, end), 1 / s->limit_ns, s->weight, most, s->choices);
}

/* Extend what `from` holds for `first` by the group [first, end). */
static void add_group(struct solver *s, unsigned from, unsigned to, unsigned first, unsigned end) {
    unsigned n = s->alive[from][first] ? list_choices(s, first, end) : 0;
    ees__grid_extend(&s->grid, front_of(s, from, first), s->choices, n, front_of(s, to, end));
}

/* Phase 1: any number of groups. Everything happens in row 1. */
static bool is_possible(struct solver *s, double limit_ns) {
    if (!set_limit(s, limit_ns))
        return false;
    if (s->grid.n_dims == 0)
        return true;
    ees__grid_start(&s->grid, front_of(s, 1, 0));
    s->alive[1][0] = true;
    for (unsigned end = 1; end <= s->n; end++) {
        ees__grid_clear(&s->grid, front_of(s, 1, end));
        for (unsigned first = 0; first < end; first++)
            add_group(s, 1, 1, first, end);
        s->alive[1][end] = trim(s, end, front_of(s, 1, end));
    }
    return s->alive[1][s->n];
}

static int add_row(struct solver *s, unsigned row, ees_error *err) {
    if (!s->rows[row])
        s->rows[row] = ees__calloc_aligned((size_t)(s->n + 1) * s->grid.n_cells, sizeof **s->rows);
    return s->rows[row] ? 0 : EES_FAIL(err, EES_ENOMEM, "no memory to plan %u units", s->n);
}

/* Phase 2: the least number of groups. @return it; 0: impossible, or with more than EES_MAX_GROUPS only; EES_ENOMEM */
static int least_groups(struct solver *s, double limit_ns, ees_error *err) {
    if (!set_limit(s, limit_ns))
        return 0;
    unsigned most = s->n < EES_MAX_GROUPS ? s->n : EES_MAX_GROUPS;
    memset(s->alive, 0, sizeof s->alive);
    ees__grid_start(&s->grid, front_of(s, 0, 0));
    s->alive[0][0] = true;
    for (unsigned row = 1; row <= most; row++) {
        EES_TRY(add_row(s, row, err));
        for (unsigned end = row; end <= s->n; end++) {
            ees__grid_clear(&s->grid, front_of(s, row, end));
            for (unsigned first = row - 1; first < end; first++)
                add_group(s, row - 1, row, first, end);
            s->alive[row][end] = trim(s, end, front_of(s, row, end));
        }
        if (s->alive[row][s->n])
            return (int)row;
    }
    return 0;
}

/* ---- The plan ------------------------------------------------------------------------------------------ */

static unsigned set_group(const struct solver *s, ees_plan_group *group, unsigned first, unsigned end,
                          const unsigned *n_of_type) {
    *group = (ees_plan_group){.first_unit = first, .end_unit = end};
    for (unsigned t = 0; t < s->n_types; t++) {
        group->n_of_type[t] = n_of_type[t];
        group->n_workers += n_of_type[t];
    }
    return group->n_workers;
}

/* One step back: the group that led to `cell` of the front at `end`. @return its first unit, and the cell before */
static unsigned read_group(struct solver *s, unsigned row, unsigned end, unsigned *cell, ees_plan_group *group) {
    ees__front value = front_of(s, row, end)[*cell];
    for (unsigned first = row - 1; first < end; first++) {
        if (!s->alive[row - 1][first])
            continue;
        unsigned n = list_choices(s, first, end);
        const struct ees__choice *c =
            ees__grid_explain(&s->grid, front_of(s, row - 1, first), s->choices, n, *cell, value);
        if (!c)
            continue;
        unsigned n_of_type[EES_MAX_CORE_TYPES];
        ees__grid_count(&s->grid, c, n_of_type);
        set_group(s, group, first, end, n_of_type);
        *cell -= c->shift;
        return first;
    }
    return 0; /* not reached: every value came from somewhere */
}

static double rate_of(const struct solver *s, const ees_plan_group *group) {
    const double *work_ns = work_of(s, group->first_unit, group->end_unit);
    double rate = 0;
    for (unsigned t = 0; t < s->n_types; t++)
        if (group->n_of_type[t] > 0)
            rate += work_ns[t] > 0 ? group->n_of_type[t] / work_ns[t] : INFINITY;
    return rate;
}

/* Cores that the plan does not need go, fastest first and one by one, to the group that is slowest then. */
static void deal_out_rest(const struct solver *s, const unsigned *n_of_type, ees_plan *plan) {
    double rate[EES_MAX_GROUPS];
    for (unsigned g = 0; g < plan->n_groups; g++)
        rate[g] = rate_of(s, &plan->groups[g]);
    for (unsigned t = 0; t < s->n_types; t++) {
        unsigned left = n_of_type[t];
        for (unsigned g = 0; g < plan->n_groups; g++)
            left -= plan->groups[g].n_of_type[t];
        for (; left > 0; left--) {
            unsigned slowest = 0;
            for (unsigned g = 1; g < plan->n_groups; g++)
                if (rate[g] < rate[slowest])
                    slowest = g;
            plan->groups[slowest].n_of_type[t]++;
            plan->groups[slowest].n_workers++;
            rate[slowest] = rate_of(s, &plan->groups[slowest]);
        }
    }
}

static void read_plan(struct solver *s, unsigned n_groups, const unsigned *n_of_type, ees_plan *out) {
    const ees__front *last = front_of(s, n_groups, s->n);
    unsigned cell = 0, end = s->n;
    while (last[cell] == EES__FRONT_NONE)
        cell++;
    *out = (ees_plan){.n_groups = n_groups};
    for (unsigned row = n_groups; row > 0; row--)
        end = read_group(s, row, end, &cell, &out->groups[row - 1]);
    deal_out_rest(s, n_of_type, out);
}

/* ---- The search ---------------------------------------------------------------------------------------- */

/* @return the largest bottleneck that is known to count as equal to the least */
static double find_limit(struct solver *s, double low, double high) {
    while (high > low * close_enough) {
        double middle = sqrt(low) * sqrt(high);
        if (is_possible(s, middle))
            high = middle;
        else
            low = middle;
    }
    return fmax(low * same_within, high);
}

static int search(struct solver *s, const unsigned *n_of_type, ees_plan *out, ees_error *err) {
    *out = (ees_plan){.n_groups = 1};
    set_group(s, &out->groups[0], 0, s->n, n_of_type);
    double replicas_ns = 1 / rate_of(s, &out->groups[0]), least_ns = s->bound.before[s->n];
    if (replicas_ns <= least_ns * same_within)
        return 0;
    /* A bound of nothing (all costs could be zero) would never be met by halving. */
    double limit_ns = find_limit(s, fmax(least_ns, 1e-6 * replicas_ns), replicas_ns);
    for (; limit_ns < replicas_ns; limit_ns *= same_within) { /* again only when EES_MAX_GROUPS are too few */
        int n_groups = least_groups(s, limit_ns, err);
        EES_TRY(n_groups);
        if (n_groups > 0) {
            read_plan(s, (unsigned)n_groups, n_of_type, out);
            return 0;
        }
    }
    return 0;
}

static int check(const ees_profile *p, const unsigned *n_of_type, ees_error *err) {
    unsigned n_workers = 0;
    if (p->n_types == 0 || p->n_types > EES_MAX_CORE_TYPES)
        return EES_FAIL(err, EES_EINVAL, "cannot plan for %u core types: 1 to %d", p->n_types, EES_MAX_CORE_TYPES);
    for (unsigned t = 0; t < p->n_types; t++)
        n_workers += n_of_type[t] <= EES_MAX_WORKERS ? n_of_type[t] : EES_MAX_WORKERS + 1;
    if (p->n_units == 0 || p->n_units > EES_MAX_UNITS || n_workers == 0 || n_workers > EES_MAX_WORKERS)
        return EES_FAIL(err, EES_EINVAL, "cannot plan %u units on %u workers: 1 to %d units, 1 to %d workers",
                        p->n_units, n_workers, EES_MAX_UNITS, EES_MAX_WORKERS);
    return 0;
}

static int solve(struct solver *s, const unsigned *n_of_type, ees_plan *out, ees_error *err) {
    size_t n_ranges = (size_t)(s->n + 1) * (s->n + 1);
    s->work = ees__calloc_aligned(n_ranges * s->n_types, sizeof *s->work);
    s->bound.step = ees__calloc_aligned(n_ranges, sizeof *s->bound.step);
    s->whole.step = ees__calloc_aligned(n_ranges, sizeof *s->whole.step);
    s->choices = ees__calloc_aligned(s->grid.n_cells, sizeof *s->choices);
    if (!s->work || !s->bound.step || !s->whole.step || !s->choices)
        return EES_FAIL(err, EES_ENOMEM, "no memory to plan %u units", s->n);
    EES_TRY(add_row(s, 0, err));
    EES_TRY(add_row(s, 1, err));
    fill_work(s);
    fill_bound(s, n_of_type);
    return search(s, n_of_type, out, err);
}

static void free_solver(struct solver *s) {
    for (unsigned row = 0; row <= EES_MAX_GROUPS; row++)
        ees__free(s->rows[row]);
    ees__free(s->work);
    ees__free(s->bound.step);
    ees__free(s->whole.step);
    ees__free(s->choices);
    ees__free(s);
}

int ees_plan_solve(const ees_profile *profile, const double *reach, const unsigned *n_of_type, ees_plan *out,
                   ees_error *err) {
    EES_TRY(check(profile, n_of_type, err));
    struct solver *s = ees__calloc_aligned(1, sizeof *s);
    if (!s)
        return EES_FAIL(err, EES_ENOMEM, "no memory to plan %u units", profile->n_units);
    s->n = profile->n_units;
    s->n_types = profile->n_types;
    ees__costs_init(&s->costs, profile, reach, n_of_type);
    ees__grid_init(&s->grid, profile->n_types, n_of_type);
    int rc = solve(s, n_of_type, out, err);
    free_solver(s);
    EES_TRY(rc);
    for (unsigned g = 0; g < out->n_groups; g++)
        out->n_workers += out->groups[g].n_workers;
    return ees_plan_predict(profile, reach, n_of_type, out, err);
}
