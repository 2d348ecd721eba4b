/* SPDX-License-Identifier: MIT */
/* What `eestream plan` found: plan.c fills it, plan_report.c prints it. */
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
int planning_report(const struct planning *p, ees_error *err);

#endif
