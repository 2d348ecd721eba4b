/* SPDX-License-Identifier: MIT */
/* `eestream plan --simulate`: the plan in virtual time, on the cores asked for. */
#include <string.h>

#include "tools/cli/fail.h"
#include "tools/cli/file.h"
#include "tools/cli/plan_text.h"
#include "tools/cli/planning.h"
#include "tools/cli/text.h"

/* Ends cost about two frames' time, when cores run empty: a hundred frames a core keep that near 1 %. */
static uint64_t default_frames(unsigned n_cores) { return n_cores > 100 ? 100 * (uint64_t)n_cores : 10000; }

void planning_simulation_options(const struct planning *p, ees_simulation_options *out) {
    const struct options *o = p->o;
    ees_simulation_options_default(out);
    out->n_frames = o->n_frames ? o->n_frames : default_frames(p->cores.n_cores);
    out->rate_hz = o->rate_hz;
    out->n_slots = o->n_slots;
    out->take = (enum ees_take)o->take;
    out->no_help = o->no_help;
    out->unordered = o->unordered;
    out->jitter = o->jitter;
    out->cores = &p->cores;
    out->profile = &p->profile;
}

/* Workers are one a core: only the first n_workers cores are used. */
static int use_workers_only(struct planning *p, ees_error *err) {
    if (p->n_workers > p->cores.n_cores)
        return CLI_FAIL(err, EES_EINVAL, "%u workers on %u cores: a simulation has one worker a core at most",
                        p->n_workers, p->cores.n_cores);
    p->cores.n_cores = p->n_workers;
    for (unsigned t = 0; t < p->cores.n_types; t++)
        p->cores.types[t].n_cores = p->n_of_type[t];
    return 0;
}

/* "2 big + 3 little", or the number alone */
static void cores_text(const struct planning *p, char *out, size_t n) {
    struct text text = text_in(out, n);
    if (p->cores.n_types == 1) {
        text_add(&text, "%u", p->cores.n_cores);
        return;
    }
    for (unsigned t = 0; t < p->cores.n_types; t++)
        text_add(&text, "%s%u %s (speed %.2f)", t ? " + " : "", p->cores.types[t].n_cores, p->cores.types[t].name,
                 p->cores.types[t].capacity);
}

/* ---- Text ---------------------------------------------------------------------------------------------- */

static void print_source(const struct planning *p, const ees_simulation_options *s) {
    if (s->rate_hz > 0)
        printf("source     %.2f fps\n", s->rate_hz);
    else
        printf("source     always a next frame\n");
    printf("workers    %s%s; answers %s\n", s->no_help ? "stay in their group" : "help, frames taken ",
           s->no_help ? "" : take_name(p->o), s->unordered ? "as they are ready" : "in order");
}

static void print_text(const struct planning *p, const ees_simulation_options *s, const ees_simulation *r) {
    char plan[512], cores[160];
    plan_to_text(p->model, &p->plan, plan, sizeof plan);
    cores_text(p, cores, sizeof cores);
    printf("model      %s, kernels %s\n", p->info->name, p->info->kernels);
    printf("cores      %s\n", cores);
    printf("exit mix   %s\n", p->mix.exits ? p->mix.description : "none given: every frame goes to the end");
    printf("plan       %s (%.2f fps if nobody helped)\n", plan, p->plan.fps);
    print_source(p, s);
    if (r->n_replans > 0) {
        plan_to_text(p->model, &r->plan, plan, sizeof plan);
        printf("re-plans   %llu, the last one: %s\n", (unsigned long long)r->n_replans, plan);
    }
    printf("\nsimulated  %llu frames, %.1f s\n", (unsigned long long)r->n_frames, (double)r->n_frames / r->fps);
    printf("speed      %.2f fps, cores %.1f %% busy, %.1f %% of visits helped another group\n", r->fps,
           100 * r->busy_share, 100 * (double)r->n_helped / (double)r->n_visits);
    printf("latency    p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, of the mean %.1f ms waiting for order\n",
           (double)r->latency.p50_ns * 1e-6, (double)r->latency.p90_ns * 1e-6, (double)r->latency.p99_ns * 1e-6,
           (double)r->reorder_wait_ns * 1e-6 / (double)r->n_frames);
}

/* ---- JSON ---------------------------------------------------------------------------------------------- */

static json_t *latency_json(const ees_latency *l) {
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "mean", l->mean_ns * 1e-6, "p50", (double)l->p50_ns * 1e-6,
                     "p90", (double)l->p90_ns * 1e-6, "p99", (double)l->p99_ns * 1e-6, "p99.9",
                     (double)l->p999_ns * 1e-6, "max", (double)l->max_ns * 1e-6);
}

static json_t *core_types_json(const struct planning *p) {
    json_t *types = json_array();
    for (unsigned t = 0; t < p->cores.n_types; t++)
        json_array_append_new(types, json_pack("{s:s, s:i, s:f}", "name", p->cores.types[t].name, "cores",
                                               (int)p->cores.types[t].n_cores, "speed", p->cores.types[t].capacity));
    return types;
}

static json_t *doubles_json(const double *values, unsigned n) {
    json_t *array = json_array();
    for (unsigned i = 0; i < n; i++)
        json_array_append_new(array, json_real(values[i]));
    return array;
}

static json_t *result_json(const struct planning *p, const ees_simulation_options *s, const ees_simulation *r) {
    char plan[512];
    plan_to_text(p->model, &r->plan, plan, sizeof plan);
    json_t *json = json_pack("{s:s, s:s, s:i, s:o, s:s?, s:s, s:f}", "model", p->info->name, "kernels",
                             p->info->kernels, "cores", (int)p->cores.n_cores, "core_types", core_types_json(p), "mix",
                             p->mix.exits ? p->mix.description : NULL, "plan", plan, "plan_fps", p->plan.fps);
    json_t *run = json_pack("{s:I, s:o, s:s, s:b, s:b}", "frames", (json_int_t)r->n_frames, "rate_fps",
                            s->rate_hz > 0 ? json_real(s->rate_hz) : json_null(), "take", take_name(p->o), "help",
                            !s->no_help, "ordered", !s->unordered);
    json_t *came = json_pack("{s:f, s:f, s:o, s:o, s:f, s:f, s:I}", "fps", r->fps, "busy_share", r->busy_share, "busy",
                             doubles_json(r->busy, p->cores.n_cores), "latency_ms", latency_json(&r->latency),
                             "reorder_wait_ms", (double)r->reorder_wait_ns * 1e-6 / (double)r->n_frames, "helped_share",
                             (double)r->n_helped / (double)r->n_visits, "replans", (json_int_t)r->n_replans);
    json_object_set_new(json, "exit_share",
                        p->mix.exits ? doubles_json(p->mix.share, p->info->n_exits + 1) : json_null());
    json_object_update_new(json, run);
    json_object_update_new(json, came);
    return json;
}

int planning_simulate(struct planning *p, ees_error *err) {
    static ees_simulation result; /* too large for a stack of unknown size */
    ees_simulation_options s;
    CLI_TRY(use_workers_only(p, err));
    planning_simulation_options(p, &s);
    s.plan = &p->plan;
    s.exits = p->mix.exits;
    s.n_exits_given = p->mix.n;
    s.replan = strcmp(p->o->plan, "auto") == 0 && !p->o->no_replan && !p->o->no_help; /* as an engine would */
    CLI_TRY(ees_simulate(p->model, &s, &result, err));
    if (p->o->format == REPORT_JSON)
        return file_write_json("-", result_json(p, &s, &result), err);
    print_text(p, &s, &result);
    return file_finish_stdout(err);
}
