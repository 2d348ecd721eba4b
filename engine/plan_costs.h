/* SPDX-License-Identifier: MIT */
/* What a group of units costs on a core of each type: warm, cold or in batches. */
#ifndef EES_ENGINE_PLAN_COSTS_H
#define EES_ENGINE_PLAN_COSTS_H

#include <stdbool.h>

#include "eestream/plan.h"

/* Do a group's weights fit the private cache of a core of this type? Then its units run at their warm cost. */
bool ees__group_fits(const ees_profile *profile, unsigned type, const ees_plan_group *group);

/* Costs of a plan's units, with the reach that weighs them. Borrows profile and reach. */
struct ees__costs {
    const ees_profile *profile;
    const double *reach;
    bool batched[EES_MAX_UNITS]; /* run as micro-batches where cold: saves 2 % or more over the given cores */
};

void ees__costs_init(struct ees__costs *c, const ees_profile *profile, const double *reach, const unsigned *n_of_type);

/* Sum over the units of a group, one type. */
struct ees__group_cost {
    size_t weights_bytes;
    double warm_ns, cold_ns;
};

void ees__group_cost_add(struct ees__group_cost *sum, const struct ees__costs *c, unsigned type, unsigned unit);
bool ees__group_cost_is_warm(const struct ees__group_cost *sum, const struct ees__costs *c, unsigned type);
double ees__group_cost_ns(const struct ees__group_cost *sum, const struct ees__costs *c, unsigned type);

/* The same for units [first, end) at once. */
struct ees__group_cost ees__group_cost(const struct ees__costs *c, unsigned type, unsigned first, unsigned end);

/* Give core types to the groups that have none. The caller has checked that the cores are enough. @return 0; EES_ENOMEM */
int ees__plan_assign(const struct ees__costs *c, const unsigned *n_of_type, ees_plan *plan, ees_error *err);

#endif
