/* SPDX-License-Identifier: MIT */
/* Which core types the groups of a given plan get: cuts and numbers of workers stand, only the kind of core is free.
 * Exact where the grid counts single cores: bisection on the rate, with fronts from group to group as in plan_solve.c.
 * Beyond that greedy. */
#include <math.h>

#include "common/fail.h"
#include "common/mem.h"
#include "engine/plan_costs.h"
#include "engine/plan_grid.h"

struct assigner {
    const struct ees__costs *costs;
    unsigned n_types, n_open;
    ees_plan_group *open[EES_MAX_GROUPS]; /* groups without types */
    double work_ns[EES_MAX_GROUPS][EES_MAX_CORE_TYPES];
    unsigned left[EES_MAX_CORE_TYPES]; /* cores that no group has */
    struct ees__grid grid;
    struct ees__choice *choices;
    ees__front *fronts; /* [(n_open + 1) * n_cells] */
};

static double core_rate(double work_ns) { return work_ns > 0 ? 1 / work_ns : 1e300; }

static void collect(struct assigner *a, const unsigned *n_of_type, ees_plan *plan) {
    for (unsigned t = 0; t < a->n_types; t++)
        a->left[t] = n_of_type[t];
    for (unsigned g = 0; g < plan->n_groups; g++) {
        ees_plan_group *group = &plan->groups[g];
        unsigned assigned = 0;
        for (unsigned t = 0; t < a->n_types; t++) {
            assigned += group->n_of_type[t];
            a->left[t] -= group->n_of_type[t];
        }
        if (assigned > 0)
            continue;
        for (unsigned t = 0; t < a->n_types; t++) {
            struct ees__group_cost cost = ees__group_cost(a->costs, t, group->first_unit, group->end_unit);
            a->work_ns[a->n_open][t] = ees__group_cost_ns(&cost, a->costs, t);
        }
        a->open[a->n_open++] = group;
    }
}

static unsigned splits(struct assigner *a, unsigned g, double rate) {
    return ees__grid_splits(&a->grid, a->work_ns[g], rate, a->open[g]->n_workers, a->choices);
}

/* Can every open group carry this rate at once? Leaves the fronts for read_back(). */
static bool is_possible(struct assigner *a, double rate) {
    size_t n_cells = a->grid.n_cells;
    ees__grid_start(&a->grid, a->fronts);
    for (unsigned g = 0; g < a->n_open; g++) {
        ees__front *to = a->fronts + (g + 1) * n_cells;
        ees__grid_clear(&a->grid, to);
        ees__grid_extend(&a->grid, a->fronts + g * n_cells, a->choices, splits(a, g, rate), to);
        if (!ees__grid_trim(&a->grid, to))
            return false;
    }
    return true;
}

static void read_back(struct assigner *a, double rate) {
    size_t n_cells = a->grid.n_cells;
    const ees__front *last = a->fronts + a->n_open * n_cells;
    unsigned cell = 0;
    while (last[cell] == EES__FRONT_NONE)
        cell++;
    for (unsigned g = a->n_open; g-- > 0;) {
        ees__front value = a->fronts[(g + 1) * n_cells + cell];
        const struct ees__choice *c =
            ees__grid_explain(&a->grid, a->fronts + g * n_cells, a->choices, splits(a, g, rate), cell, value);
        ees__grid_count(&a->grid, c, a->open[g]->n_of_type);
        cell -= c->shift;
    }
}

/* The fastest that the slowest group could be: all its workers on its best type. */
static double highest_rate(const struct assigner *a) {
    double highest = INFINITY;
    for (unsigned g = 0; g < a->n_open; g++) {
        double best = 0;
        for (unsigned t = 0; t < a->n_types; t++)
            best = a->left[t] > 0 ? fmax(best, core_rate(a->work_ns[g][t])) : best;
        highest = fmin(highest, best * a->open[g]->n_workers);
    }
    return highest;
}

static void assign_exactly(struct assigner *a) {
    double low = 0, high = highest_rate(a);
    if (is_possible(a, high)) {
        read_back(a, high);
        return;
    }
    for (int i = 0; i < 60 && high - low > 1e-9 * high; i++) {
        double middle = low + (high - low) / 2;
        if (is_possible(a, middle))
            low = middle;
        else
            high = middle;
    }
    is_possible(a, low); /* there are cores enough: at rate 0 anything will do */
    read_back(a, low);
}

static void assign_greedily(struct assigner *a) {
    double rate[EES_MAX_GROUPS] = {0};
    unsigned open[EES_MAX_GROUPS], t = 0;
    for (unsigned g = 0; g < a->n_open; g++)
        open[g] = a->open[g]->n_workers;
    for (;;) {
        unsigned slowest = a->n_open;
        for (unsigned g = 0; g < a->n_open; g++)
            if (open[g] > 0 && (slowest == a->n_open || rate[g] < rate[slowest]))
                slowest = g;
        if (slowest == a->n_open)
            return;
        while (a->left[t] == 0)
            t++;
        a->left[t]--;
        open[slowest]--;
        a->open[slowest]->n_of_type[t]++;
        rate[slowest] += core_rate(a->work_ns[slowest][t]);
    }
}

static int assign(struct assigner *a, ees_error *err) {
    ees__grid_init(&a->grid, a->n_types, a->left);
    if (!ees__grid_is_exact(&a->grid)) {
        assign_greedily(a);
        return 0;
    }
    a->choices = ees__calloc_aligned(a->grid.n_cells, sizeof *a->choices);
    a->fronts = ees__calloc_aligned((size_t)(a->n_open + 1) * a->grid.n_cells, sizeof *a->fronts);
    if (!a->choices || !a->fronts)
        return EES_FAIL(err, EES_ENOMEM, "no memory to assign cores to %u groups", a->n_open);
    assign_exactly(a);
    return 0;
}

int ees__plan_assign(const struct ees__costs *c, const unsigned *n_of_type, ees_plan *plan, ees_error *err) {
    struct assigner a = {.costs = c, .n_types = c->profile->n_types};
    collect(&a, n_of_type, plan);
    int rc = a.n_open > 0 ? assign(&a, err) : 0;
    ees__free(a.choices);
    ees__free(a.fronts);
    return rc;
}
