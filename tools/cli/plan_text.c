/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "tools/cli/plan_text.h"
#include "tools/cli/text.h"

static unsigned block_of(const ees_model *model, unsigned u) { return ees_model_get_unit(model, u)->block; }

/* A block number where the bound is that of a whole block, the unit's name elsewhere. */
static void first_bound(const ees_model *model, const ees_plan_group *g, char *out, size_t n) {
    unsigned u = g->first_unit, last = block_of(model, g->end_unit - 1);
    if (u == 0 && last > 0)
        snprintf(out, n, "1");
    else if (block_of(model, u) > 0 && block_of(model, u - 1) != block_of(model, u))
        snprintf(out, n, "%u", block_of(model, u));
    else
        snprintf(out, n, "%s", ees_model_get_unit(model, u)->name);
}

static void last_bound(const ees_model *model, const ees_plan_group *g, char *out, size_t n) {
    unsigned u = g->end_unit - 1, block = block_of(model, u);
    const ees_unit_info *next = ees_model_get_unit(model, g->end_unit);
    if (block > 0 && (!next || next->block != block))
        snprintf(out, n, "%u", block);
    else
        snprintf(out, n, "%s", ees_model_get_unit(model, u)->name);
}

void group_to_text(const ees_model *model, const ees_plan_group *g, char *out, size_t n) {
    char first[64], last[64];
    first_bound(model, g, first, sizeof first);
    last_bound(model, g, last, sizeof last);
    bool one = strcmp(first, last) == 0;
    snprintf(out, n, "%s%s%s", first, one ? "" : "-", one ? "" : last);
}

void plan_to_text(const ees_model *model, const ees_plan *plan, char *out, size_t n) {
    struct text t = text_in(out, n);
    for (unsigned g = 0; g < plan->n_groups; g++) {
        char range[136];
        group_to_text(model, &plan->groups[g], range, sizeof range);
        text_add(&t, "%s%sx%u", g ? "," : "", range, plan->groups[g].n_workers);
    }
}
