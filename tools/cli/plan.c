/* SPDX-License-Identifier: MIT */
/* `eestream plan`: measures the units on this machine, solves for the best groups and says why they are the best. */
#include <string.h>

#include "tools/cli/file.h"
#include "tools/cli/machine.h"
#include "tools/cli/mix.h"
#include "tools/cli/plan_text.h"
#include "tools/cli/verbs.h"

#define MAX_ALTERNATIVES 8

struct alternative {
    char name[32];
    ees_plan plan;
};

struct planning {
    const struct options *o;
    ees_model *model;
    const ees_model_info *info;
    unsigned n_workers;
    struct replay mix;
    ees_profile profile;
    double reach[EES_MAX_UNITS];
    ees_plan plan; /* the one in force */
    struct alternative others[MAX_ALTERNATIVES];
    unsigned n_others;
};

static bool is_auto(const struct planning *p) { return strcmp(p->o->plan, "auto") == 0; }

static int make_plan(const struct planning *p, const char *text, unsigned n_workers, ees_plan *out, ees_error *err) {
    if (strcmp(text, "auto") == 0)
        return ees_plan_solve(&p->profile, p->reach, n_workers, out, err);
    CLI_TRY(ees_plan_parse(p->model, text, n_workers, out, err));
    return ees_plan_predict(&p->profile, p->reach, out, err);
}

static int add_other(struct planning *p, const char *name, const char *text, unsigned n_workers, ees_error *err) {
    struct alternative *a = &p->others[p->n_others++];
    snprintf(a->name, sizeof a->name, "%s", name);
    return make_plan(p, text, n_workers, &a->plan, err);
}

static int make_others(struct planning *p, ees_error *err) {
    CLI_TRY(add_other(p, "1 worker", "replicas", 1, err));
    CLI_TRY(add_other(p, "replicas", "replicas", p->n_workers, err));
    unsigned most = p->n_workers < p->info->n_blocks ? p->n_workers : p->info->n_blocks;
    for (unsigned g = most; g >= 2 && p->n_others + 1 < MAX_ALTERNATIVES; g /= 2) {
        char text[24];
        snprintf(text, sizeof text, "equal:%u", g);
        CLI_TRY(add_other(p, text, text, p->n_workers, err));
    }
    return is_auto(p) ? 0 : add_other(p, "auto", "auto", p->n_workers, err);
}

static int prepare(struct planning *p, ees_error *err) {
    const struct options *o = p->o;
    if (o->n_inputs > 0)
        return CLI_FAIL(err, EES_EINVAL, "plan takes no input, '%s' is given (--model DIR or --arch NAME)",
                        o->inputs[0]);
    CLI_TRY(options_open_model(o, o->arch, &p->model, err));
    p->info = ees_model_get_info(p->model);
    p->n_workers = o->n_workers ? o->n_workers : allowed_cores();
    CLI_TRY(mix_open(&p->mix, o, p->info, o->arch != NULL, err));
    CLI_TRY(ees_profile_measure(p->model, NULL, 0, &p->profile, err));
    CLI_TRY(ees_plan_reach(p->model, p->mix.exits ? p->mix.share : NULL, p->reach, err));
    CLI_TRY(make_plan(p, o->plan, p->n_workers, &p->plan, err));
    return make_others(p, err);
}

/* ---- Text ---------------------------------------------------------------------------------------------- */

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

static void print_groups(const struct planning *p) {
    char text[136];
    printf("group  units                     workers  work ms  load ms   share  weights KiB\n");
    for (unsigned g = 0; g < p->plan.n_groups; g++) {
        const ees_plan_group *group = &p->plan.groups[g];
        group_to_text(p->model, group, text, sizeof text);
        printf("%5u  %-25s %7u %8.3f %8.3f %5.1f %% %12.1f\n", g, text, group->n_workers, group->work_ns * 1e-6,
               group->work_ns / group->n_workers * 1e-6, 100 * group_share(&p->plan, g),
               (double)group_weights(p, group) / 1024);
    }
}

static bool fits(const struct planning *p, unsigned unit) {
    for (unsigned g = 0; g < p->plan.n_groups; g++)
        if (unit >= p->plan.groups[g].first_unit && unit < p->plan.groups[g].end_unit)
            return group_weights(p, &p->plan.groups[g]) <= p->profile.private_cache_bytes;
    return false;
}

static void print_units(const struct planning *p) {
    printf("\nunit  name                       warm ms  cold ms   reach  expected ms\n");
    for (unsigned u = 0; u < p->info->n_units; u++) {
        double cost = fits(p, u) ? p->profile.warm_ns[u] : p->profile.cold_ns[u];
        printf("%4u  %-25s %8.3f %8.3f %7.3f %12.3f\n", u, ees_model_get_unit(p->model, u)->name,
               p->profile.warm_ns[u] * 1e-6, p->profile.cold_ns[u] * 1e-6, p->reach[u], cost * p->reach[u] * 1e-6);
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
    size_t cache_kib = p->profile.private_cache_bytes / 1024;
    if (!is_auto(p)) {
        const ees_plan *best = &find_other(p, "auto")->plan;
        printf("\nThe plan was given; the best one is predicted %.2f times as fast.\n", best->fps / p->plan.fps);
    } else if (p->plan.n_groups == 1) {
        printf("\nReplicas win: every worker carries the same load by construction, and no cut keeps enough weights\n"
               "in a core's private cache (%zu KiB) to pay for groups of uneven load.\n",
               cache_kib);
    } else {
        printf("\nCutting wins by %.1f %% over replicas: groups whose weights fit a core's private cache (%zu KiB)\n"
               "run at their warm cost.\n",
               100 * (p->plan.fps / replicas->fps - 1), cache_kib);
    }
}

static void print_text(const struct planning *p) {
    char text[512];
    plan_to_text(p->model, &p->plan, text, sizeof text);
    printf("model      %s, kernels %s\n", p->info->name, p->info->kernels);
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

static json_t *plan_json(const struct planning *p, const char *name, const ees_plan *plan) {
    json_t *groups = json_array();
    char text[512];
    plan_to_text(p->model, plan, text, sizeof text);
    for (unsigned g = 0; g < plan->n_groups; g++) {
        const ees_plan_group *group = &plan->groups[g];
        json_array_append_new(groups, json_pack("{s:s, s:s, s:i, s:f, s:f}", "first",
                                                ees_model_get_unit(p->model, group->first_unit)->name, "last",
                                                ees_model_get_unit(p->model, group->end_unit - 1)->name, "workers",
                                                (int)group->n_workers, "work_ms", group->work_ns * 1e-6, "share",
                                                group_share(plan, g)));
    }
    return json_pack("{s:s, s:s, s:i, s:f, s:f, s:o}", "name", name, "plan", text, "workers", (int)plan->n_workers,
                     "fps", plan->fps, "busy_share", plan->busy_share, "groups", groups);
}

static json_t *planning_json(const struct planning *p) {
    json_t *units = json_array(), *others = json_array();
    for (unsigned u = 0; u < p->info->n_units; u++)
        json_array_append_new(
            units, json_pack("{s:s, s:f, s:f, s:f, s:I}", "name", ees_model_get_unit(p->model, u)->name, "warm_ms",
                             p->profile.warm_ns[u] * 1e-6, "cold_ms", p->profile.cold_ns[u] * 1e-6, "reach",
                             p->reach[u], "weights_bytes", (json_int_t)p->profile.weights_bytes[u]));
    for (unsigned i = 0; i < p->n_others; i++)
        json_array_append_new(others, plan_json(p, p->others[i].name, &p->others[i].plan));
    return json_pack("{s:s, s:s, s:s?, s:I, s:o, s:o, s:o}", "model", p->info->name, "kernels", p->info->kernels,
                     "exit_mix", p->mix.exits ? p->mix.description : NULL, "private_cache_bytes",
                     (json_int_t)p->profile.private_cache_bytes, "best", plan_json(p, p->o->plan, &p->plan), "units",
                     units, "alternatives", others);
}

static int print_plan(const struct planning *p, ees_error *err) {
    if (p->o->format == REPORT_JSON) {
        json_t *json = planning_json(p);
        int rc = file_write_json("-", json, err);
        json_decref(json);
        return rc;
    }
    print_text(p);
    return fflush(stdout) == 0 ? 0 : CLI_FAIL(err, EES_EOUTPUT, "stdout cannot be written");
}

enum exit_code verb_plan(const struct options *o) {
    static struct planning p; /* hundreds of groups in each plan: too large for a stack of unknown size */
    ees_error err = {0};
    p = (struct planning){.o = o};
    if (prepare(&p, &err) == 0)
        print_plan(&p, &err);
    replay_close(&p.mix);
    ees_model_close(p.model);
    return err.code ? leave_with(&err, o->verbose) : EXIT_DONE;
}
