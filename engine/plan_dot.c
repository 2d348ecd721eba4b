/* SPDX-License-Identifier: MIT */
/* A plan as a picture: Graphviz text. */
#include <math.h>
#include <stdio.h>

#include "common/print.h"
#include "eestream/plan.h"

struct drawing {
    const ees_model *model;
    const ees_model_info *info;
    const ees_profile *profile; /* NULL: no names of core types */
    const ees_plan *plan;
    const double *reach; /* NULL: no shares */
    struct ees__printer text;
};

/* Text inside a quoted label: what Graphviz would take for its own is escaped. */
static void add_text(struct drawing *d, const char *text) {
    for (const char *c = text; *c; c++)
        ees__print(&d->text, "%s%c", *c == '"' || *c == '\\' ? "\\" : "", (unsigned char)*c < ' ' ? ' ' : *c);
}

static const char *unit_name(const struct drawing *d, unsigned unit) {
    const ees_unit_info *info = ees_model_get_unit(d->model, unit);
    return info ? info->name : "?";
}

static void add_core_types(struct drawing *d, const ees_plan_group *group) {
    const char *before = ": ";
    if (!d->profile || d->profile->n_types < 2)
        return;
    for (unsigned t = 0; t < d->profile->n_types; t++)
        if (group->n_of_type[t] > 0) {
            ees__print(&d->text, "%s%u ", before, group->n_of_type[t]);
            add_text(d, d->profile->types[t].name);
            before = ", ";
        }
}

static void add_group(struct drawing *d, unsigned g) {
    const ees_plan_group *group = &d->plan->groups[g];
    unsigned n_units = group->end_unit - group->first_unit;
    ees__print(&d->text, "  g%u [shape=box, label=\"group %u\\n", g, g);
    add_text(d, unit_name(d, group->first_unit));
    if (n_units > 1) {
        ees__print(&d->text, " to ");
        add_text(d, unit_name(d, group->end_unit - 1));
    }
    ees__print(&d->text, " (%u unit%s)\\n%u worker%s", n_units, n_units == 1 ? "" : "s", group->n_workers,
               group->n_workers == 1 ? "" : "s");
    add_core_types(d, group);
    if (group->rate_hz > 0 && isfinite(group->rate_hz) && d->plan->bottleneck_ns > 0)
        ees__print(&d->text, "\\nload %.3f ms a frame, %.0f %% busy", 1e3 / group->rate_hz,
                   1e11 / (group->rate_hz * d->plan->bottleneck_ns));
    ees__print(&d->text, "\"];\n");
}

/* `share` of those who could take the arrow. */
static void add_arrow(struct drawing *d, const char *from, unsigned g, const char *to, double share) {
    ees__print(&d->text, "  %s%u -> %s", from, g, to);
    if (d->reach)
        ees__print(&d->text, " [label=\"%.1f %%\"]", 100 * share);
    ees__print(&d->text, ";\n");
}

/* Exits whose heads stand in the group, with the share of all frames that leave there. */
static void add_exits(struct drawing *d, unsigned g) {
    const ees_plan_group *group = &d->plan->groups[g];
    for (unsigned u = group->first_unit; u < group->end_unit; u++) {
        const ees_unit_info *unit = ees_model_get_unit(d->model, u);
        char node[24];
        if (!unit || unit->exit_idx < 0)
            continue;
        bool final = (unsigned)unit->exit_idx >= d->info->n_exits;
        double after = final || u + 1 >= d->info->n_units ? 0 : d->reach ? d->reach[u + 1] : 0;
        if (d->reach && d->reach[u] == 0)
            continue; /* full depth passes the heads over */
        snprintf(node, sizeof node, "e%d", unit->exit_idx);
        if (final)
            ees__print(&d->text, "  %s [label=\"final\"];\n", node);
        else
            ees__print(&d->text, "  %s [label=\"exit %d\\nafter block %u\"];\n", node, unit->exit_idx, unit->block);
        add_arrow(d, "g", g, node, d->reach ? fmax(0, d->reach[u] - after) : 0);
    }
}

/* Full depth gives heads a reach of 0; a group is reached when any of its units is. */
static double group_reach(const struct drawing *d, unsigned g) {
    double reach = 0;
    for (unsigned u = d->plan->groups[g].first_unit; d->reach && u < d->plan->groups[g].end_unit; u++)
        reach = fmax(reach, d->reach[u]);
    return reach;
}

size_t ees_plan_dot(const ees_model *model, const ees_profile *profile, const ees_plan *plan, const double *reach,
                    char *out, size_t n) {
    struct drawing d = {.model = model,
                        .info = ees_model_get_info(model),
                        .profile = profile,
                        .plan = plan,
                        .reach = reach,
                        .text = ees__printer_on(out, n)};
    ees__print(&d.text,
               "digraph plan {\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n  edge [fontname=\"sans-serif\"];\n");
    ees__print(&d.text, "  frames [shape=plaintext];\n");
    for (unsigned g = 0; g < plan->n_groups; g++) {
        char to[24];
        add_group(&d, g);
        add_exits(&d, g);
        snprintf(to, sizeof to, "g%u", g + 1);
        if (g + 1 < plan->n_groups)
            add_arrow(&d, "g", g, to, group_reach(&d, g + 1));
    }
    if (plan->n_groups > 0)
        ees__print(&d.text, "  frames -> g0;\n");
    ees__print(&d.text, "}\n");
    return d.text.length;
}
