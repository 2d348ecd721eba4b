/* SPDX-License-Identifier: MIT */
/* A plan as text for people, as JSON for programs, or as Graphviz text; and why it is the best one. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli/fail.h"
#include "tools/cli/file.h"
#include "tools/cli/plan_text.h"
#include "tools/cli/planning.h"
#include "tools/cli/text.h"

static bool is_auto(const struct planning *p) { return strcmp(p->o->plan, "auto") == 0; }

/* Time between frames of a group: 0 when nobody gets there. */
static double group_load_ns(const ees_plan_group *g) { return isfinite(g->rate_hz) ? 1e9 / g->rate_hz : 0; }

static double group_share(const ees_plan *plan, unsigned g) {
    double total = 0;
    for (unsigned i = 0; i < plan->n_groups; i++)
        total += plan->groups[i].work_ns;
    return total > 0 ? plan->groups[g].work_ns / total : 0;
}

static size_t group_weights(const struct planning *p, const ees_plan_group *g) {
    size_t bytes = 0;
    for (unsigned u = g->first_unit; u < g->end_unit; u++)
        bytes += p->profile.weights_bytes[u];
    return bytes;
}

/* Types stand fastest first. */
static unsigned fastest_type(const ees_plan_group *g) {
    unsigned t = 0;
    while (t + 1 < EES_MAX_CORE_TYPES && g->n_of_type[t] == 0)
        t++;
    return t;
}

static const ees_plan_group *group_of(const struct planning *p, unsigned unit) {
    unsigned g = 0;
    while (g + 1 < p->plan.n_groups && unit >= p->plan.groups[g].end_unit)
        g++;
    return &p->plan.groups[g];
}

/* "2 big + 1 little" */
static void cores_text(const struct planning *p, const unsigned *n_of_type, char *out, size_t n) {
    struct text text = text_in(out, n);
    for (unsigned t = 0; t < p->cores.n_types; t++)
        if (n_of_type[t] > 0)
            text_add(&text, "%s%u %s", text.n ? " + " : "", n_of_type[t], p->cores.types[t].name);
}

/* ---- Text ---------------------------------------------------------------------------------------------- */

static void print_groups(const struct planning *p) {
    char text[136], cores[128] = "";
    bool several = p->cores.n_types > 1;
    printf("group  units                     workers  work ms  load ms   share  weights KiB%s\n",
           several ? "  cores" : "");
    for (unsigned g = 0; g < p->plan.n_groups; g++) {
        const ees_plan_group *group = &p->plan.groups[g];
        group_to_text(p->model, group, text, sizeof text);
        if (several)
            cores_text(p, group->n_of_type, cores, sizeof cores);
        printf("%5u  %-25s %7u %8.3f %8.3f %5.1f %% %12.1f%s%s\n", g, text, group->n_workers, group->work_ns * 1e-6,
               group_load_ns(group) * 1e-6, 100 * group_share(&p->plan, g), (double)group_weights(p, group) / 1024,
               several ? "  " : "", cores);
    }
}

/* Of the fastest core type of each unit's group. */
static void print_units(const struct planning *p) {
    printf("\nunit  name                       warm ms  cold ms  batch of   reach  expected ms\n");
    for (unsigned u = 0; u < p->info->n_units; u++) {
        const ees_plan_group *group = group_of(p, u);
        const ees_unit_costs *c = &p->profile.types[fastest_type(group)];
        bool warm = group_weights(p, group) <= c->private_cache_bytes;
        double cost = warm ? c->warm_ns[u] : p->plan.batch[u] > 1 ? c->batch_ns[u] : c->cold_ns[u];
        printf("%4u  %-25s %8.3f %8.3f %9u %7.3f %12.3f\n", u, ees_model_get_unit(p->model, u)->name,
               c->warm_ns[u] * 1e-6, c->cold_ns[u] * 1e-6, p->plan.batch[u], p->reach[u], cost * p->reach[u] * 1e-6);
    }
}

static void print_others(const struct planning *p) {
    printf("\nalternative        fps  busy %%  plan\n");
    for (unsigned i = 0; i <= p->n_others; i++) {
        const ees_plan *plan = i < p->n_others ? &p->others[i].plan : &p->plan;
        char text[512];
        plan_to_text(p->model, plan, text, sizeof text);
        printf("%-12s %9.2f %7.1f  %s\n", i < p->n_others ? p->others[i].name : "this plan", plan->fps,
               100 * plan->busy_share, text);
    }
}

static const struct alternative *find_other(const struct planning *p, const char *name) {
    for (unsigned i = 0; i < p->n_others; i++)
        if (strcmp(p->others[i].name, name) == 0)
            return &p->others[i];
    return NULL;
}

static void print_reason(const struct planning *p) {
    const ees_plan *replicas = &find_other(p, "replicas")->plan;
    size_t cache_kib = p->profile.types[0].private_cache_bytes / 1024;
    if (!is_auto(p)) {
        const ees_plan *best = &find_other(p, "auto")->plan;
        printf("\nThe plan was given; the best one is predicted %.2f times as fast.\n", best->fps / p->plan.fps);
    } else if (p->plan.n_groups == 1) {
        printf("\nReplicas win: every worker carries the same load by construction, and no cut keeps enough weights\n"
               "in a core's private cache (%zu KiB) to pay for groups of uneven load.\n",
               cache_kib);
    } else {
        printf("\nCutting wins by %.1f %% over replicas: groups whose weights fit a core's private cache (%zu KiB)\n"
               "run at their warm cost%s.\n",
               100 * (p->plan.fps / replicas->fps - 1), cache_kib,
               p->cores.n_types > 1 ? ", and units go to the cores that are best at them" : "");
    }
}

/* "4 big (1.00) + 4 little (0.40)" */
static void print_cores(const struct planning *p) {
    printf("cores      ");
    for (unsigned t = 0; t < p->cores.n_types; t++)
        printf("%s%u %s (speed %.2f)", t ? " + " : "", p->n_of_type[t], p->cores.types[t].name,
               p->cores.types[t].capacity);
    printf("%s\n", p->o->cores ? ", costs scaled from this machine's" : "");
}

static void print_text(const struct planning *p) {
    char text[512];
    plan_to_text(p->model, &p->plan, text, sizeof text);
    printf("model      %s, kernels %s\n", p->info->name, p->info->kernels);
    if (p->cores.n_types > 1 || p->o->cores)
        print_cores(p);
    printf("exit mix   %s\n", p->mix.exits ? p->mix.description : "none given: every frame goes to the end");
    printf("plan       %s\n", text);
    printf("predicted  %.2f fps, %.1f %% busy on %u workers\n\n", p->plan.fps, 100 * p->plan.busy_share, p->n_workers);
    print_groups(p);
    if (!p->o->explain)
        return;
    print_units(p);
    print_others(p);
    print_reason(p);
}

/* ---- JSON ---------------------------------------------------------------------------------------------- */

static json_t *group_json(const struct planning *p, const ees_plan *plan, unsigned g) {
    const ees_plan_group *group = &plan->groups[g];
    json_t *cores = json_object();
    for (unsigned t = 0; t < p->cores.n_types; t++)
        json_object_set_new(cores, p->cores.types[t].name, json_integer(group->n_of_type[t]));
    return json_pack(
        "{s:s, s:s, s:i, s:o, s:f, s:f, s:f}", "first", ees_model_get_unit(p->model, group->first_unit)->name, "last",
        ees_model_get_unit(p->model, group->end_unit - 1)->name, "workers", (int)group->n_workers, "cores", cores,
        "work_ms", group->work_ns * 1e-6, "load_ms", group_load_ns(group) * 1e-6, "share", group_share(plan, g));
}

static json_t *plan_json(const struct planning *p, const char *name, const ees_plan *plan) {
    json_t *groups = json_array();
    char text[512];
    plan_to_text(p->model, plan, text, sizeof text);
    for (unsigned g = 0; g < plan->n_groups; g++)
        json_array_append_new(groups, group_json(p, plan, g));
    return json_pack("{s:s, s:s, s:i, s:f, s:f, s:o}", "name", name, "plan", text, "workers", (int)plan->n_workers,
                     "fps", plan->fps, "busy_share", plan->busy_share, "groups", groups);
}

static json_t *cores_json(const struct planning *p) {
    json_t *types = json_array();
    for (unsigned t = 0; t < p->cores.n_types; t++)
        json_array_append_new(types,
                              json_pack("{s:s, s:i, s:f, s:I}", "name", p->cores.types[t].name, "workers",
                                        (int)p->n_of_type[t], "speed", p->cores.types[t].capacity,
                                        "private_cache_bytes", (json_int_t)p->profile.types[t].private_cache_bytes));
    return types;
}

/* Costs on the fastest core type. */
static json_t *unit_json(const struct planning *p, unsigned u) {
    const ees_unit_costs *c = &p->profile.types[0];
    return json_pack("{s:s, s:f, s:f, s:f, s:i, s:f, s:I}", "name", ees_model_get_unit(p->model, u)->name, "warm_ms",
                     c->warm_ns[u] * 1e-6, "cold_ms", c->cold_ns[u] * 1e-6, "batch_ms", c->batch_ns[u] * 1e-6, "batch",
                     (int)p->plan.batch[u], "reach", p->reach[u], "weights_bytes",
                     (json_int_t)p->profile.weights_bytes[u]);
}

static json_t *planning_json(const struct planning *p) {
    json_t *units = json_array(), *others = json_array();
    for (unsigned u = 0; u < p->info->n_units; u++)
        json_array_append_new(units, unit_json(p, u));
    for (unsigned i = 0; i < p->n_others; i++)
        json_array_append_new(others, plan_json(p, p->others[i].name, &p->others[i].plan));
    return json_pack("{s:s, s:s, s:s?, s:o, s:I, s:o, s:o, s:o}", "model", p->info->name, "kernels", p->info->kernels,
                     "exit_mix", p->mix.exits ? p->mix.description : NULL, "core_types", cores_json(p),
                     "private_cache_bytes", (json_int_t)p->profile.types[0].private_cache_bytes, "best",
                     plan_json(p, p->o->plan, &p->plan), "units", units, "alternatives", others);
}

/* ---- Graphviz ------------------------------------------------------------------------------------------ */

static int print_dot(const struct planning *p, ees_error *err) {
    size_t n = ees_plan_dot(p->model, &p->profile, &p->plan, p->reach, NULL, 0) + 1;
    char *text = malloc(n);
    if (!text)
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for a graph of %zu bytes", n);
    ees_plan_dot(p->model, &p->profile, &p->plan, p->reach, text, n);
    fputs(text, stdout);
    free(text);
    return 0;
}

int planning_report(struct planning *p, ees_error *err) {
    if (p->o->format == REPORT_JSON)
        return file_write_json("-", planning_json(p), err);
    if (p->o->dot)
        CLI_TRY(print_dot(p, err));
    else
        print_text(p);
    return file_finish_stdout(err);
}
