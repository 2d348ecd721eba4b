/* SPDX-License-Identifier: MIT */
/* What `eestream plan` found: plan.c fills it, plan_report.c prints it, simulate.c and compare.c try it out. */
#ifndef EES_CLI_PLANNING_H
#define EES_CLI_PLANNING_H

#include "tools/cli/mix.h"
#include "tools/cli/options.h"

enum { MAX_ALTERNATIVES = 8 };

struct alternative {
    char name[32];
    ees_plan plan;
};

struct planning {
    const struct options *o;
    ees_model *model;
    const ees_model_info *info;
    ees_cores cores;
    unsigned n_workers, n_of_type[EES_MAX_CORE_TYPES]; /* the workers' cores */
    struct replay mix;
    ees_profile profile; /* on these cores */
    double reach[EES_MAX_UNITS];
    ees_plan plan; /* the one in force */
    struct alternative others[MAX_ALTERNATIVES];
    unsigned n_others;
};

/* ---- plan_report.c ---- */

/* As --format, --explain and --dot ask. @return 0; EES_EOUTPUT; EES_ENOMEM */
int planning_report(struct planning *p, ees_error *err);

/* ---- simulate.c ---- */

/* What a simulation needs of the options; the caller adds plan and mix. */
void planning_simulation_options(const struct planning *p, ees_simulation_options *out);

/* Simulate the plan in force and print what came of it. @return 0; EES_EINVAL; EES_EOUTPUT; EES_ENOMEM */
int planning_simulate(struct planning *p, ees_error *err);

/* ---- compare.c ---- */

/* Simulate the ways to use cores over core counts and mixes, and print the table. Uses p's model, profile and options.
 * @return 0; EES_EINVAL; EES_EOUTPUT; EES_ENOMEM */
int planning_compare(struct planning *p, ees_error *err);

#endif
