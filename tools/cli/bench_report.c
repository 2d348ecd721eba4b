/* SPDX-License-Identifier: MIT */
/* The figures of `eestream bench` as Markdown, CSV or JSON. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli/bench.h"
#include "tools/cli/fail.h"
#include "tools/cli/file.h"
#include "tools/cli/machine.h"
#include "tools/cli/summary.h"

#define BUSY_SPREAD 0.10 /* sd over median above which the machine was doing something else */

/* ---- Figures ------------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct spread spread_of(const double *x, size_t n) {
    double sorted[1000], sum = 0, squares = 0;
    n = n < 1000 ? n : 1000;
    memcpy(sorted, x, n * sizeof *x);
    qsort(sorted, n, sizeof *sorted, by_value);
    for (size_t i = 0; i < n; i++)
        sum += sorted[i];
    for (size_t i = 0; i < n; i++)
        squares += (sorted[i] - sum / (double)n) * (sorted[i] - sum / (double)n);
    return (struct spread){.median = n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2,
                           .min = sorted[0],
                           .max = sorted[n - 1],
                           .sd = n > 1 ? sqrt(squares / (double)(n - 1)) : 0};
}

struct spread bench_fps(const struct bench_config *c, size_t n) {
    double x[1000];
    for (size_t i = 0; i < n; i++)
        x[i] = c->reps[i].fps;
    return spread_of(x, n);
}

static struct spread cpu_of(const struct bench_config *c, size_t n) {
    double x[1000];
    for (size_t i = 0; i < n; i++)
        x[i] = c->reps[i].cpu_s;
    return spread_of(x, n);
}

struct spread ratio_of(const struct bench_config *a, const struct bench_config *b, size_t n_rounds) {
    double x[1000];
    for (size_t i = 0; i < n_rounds; i++)
        x[i] = a->reps[i].fps / b->reps[i].fps;
    return spread_of(x, n_rounds);
}

struct spread load_ratio_of(const struct bench_config *a, const struct bench_config *b, size_t n_rounds) {
    double x[1000];
    for (size_t i = 0; i < n_rounds; i++)
        x[i] = a->reps[i].load_p99_ms / b->reps[i].load_p99_ms;
    return spread_of(x, n_rounds);
}

static int by_time(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

void bench_sort(uint64_t *latencies_ns, size_t n) { qsort(latencies_ns, n, sizeof *latencies_ns, by_time); }

double bench_rank_ms(const uint64_t *sorted_ns, size_t n, double share) {
    size_t rank = (size_t)ceil(share * (double)n);
    return (double)sorted_ns[rank > 0 ? rank - 1 : 0] * 1e-6;
}

static double latency_ms(const struct bench_config *c, double share) {
    return bench_rank_ms(c->latencies_ns, c->n_latencies, share);
}

static double load_ms(const struct bench_config *c, double share) {
    return bench_rank_ms(c->load.latencies_ns, c->load.n_latencies, share);
}

static const struct bench_config *reference(const struct bench_model *m) {
    return bench_find(m, BENCH_REPLICAS, m->info->n_exits > 0);
}

static const struct bench_config *same_without_exits(const struct bench_model *m, const struct bench_config *c) {
    return c->exits ? bench_find(m, c->kind, false) : NULL;
}

static const struct bench_config *fastest(const struct bench_model *m, size_t n) {
    const struct bench_config *best = &m->configs[0];
    for (unsigned i = 1; i < m->n_configs; i++)
        if (bench_fps(&m->configs[i], n).median > bench_fps(best, n).median)
            best = &m->configs[i];
    return best;
}

/* The largest relative spread of fps among the configurations. */
static double worst_spread(const struct bench_model *m, size_t n) {
    double worst = 0;
    for (unsigned i = 0; i < m->n_configs; i++) {
        struct spread fps = bench_fps(&m->configs[i], n);
        worst = fmax(worst, fps.sd / fps.median);
    }
    return worst;
}

/* ---- What was asked ------------------------------------------------------------------------------------ */

static const char *hint_name(const struct options *o) { return o->hint == EES_HINT_LATENCY ? "latency" : "throughput"; }

static const char *batch_name(const struct options *o) {
    static char text[16];
    snprintf(text, sizeof text, o->max_batch ? "%u" : "auto", o->max_batch);
    return text;
}

/* ---- Markdown ------------------------------------------------------------------------------------------ */

void bench_print_machine(FILE *f, const struct bench *b) {
    char cpu[128], governor[64], info[4096];
    cpu_model(cpu, sizeof cpu);
    cpu_governor(governor, sizeof governor);
    ees_build_info(info, sizeof info);
    fprintf(f, "eestream %s, %.*s\n", ees_version(), (int)strcspn(info, "\n"), info);
    fprintf(f, "machine: %s, %u of %u cores allowed%s%s, load %.2f before\n", cpu, allowed_cores(), online_cores(),
            governor[0] ? ", governor " : "", governor, b->load_before);
}

static void print_setup(FILE *f, const struct bench *b) {
    fprintf(f, "input: %s, %zu frames in memory; %u rounds, configurations alternating\n", b->o->bench_input,
            b->n_frames, b->o->n_reps);
    fprintf(f, "engine: hint %s, micro-batches %s, %s first%s\n", hint_name(b->o), batch_name(b->o), take_name(b->o),
            b->o->no_replan ? ", plans stay" : "");
}

static void print_ratio(FILE *f, const struct bench_config *a, const struct bench_config *b, size_t n) {
    if (!b) {
        fprintf(f, " - |");
        return;
    }
    struct spread r = ratio_of(a, b, n);
    fprintf(f, " %.3f (%.3f-%.3f) |", r.median, r.min, r.max);
}

static void print_row(FILE *f, const struct bench_model *m, const struct bench_config *c, size_t n) {
    struct spread fps = bench_fps(c, n);
    fprintf(f, "| %-16s | %8.2f | %8.2f | %8.2f | %6.2f | %7.2f | %7.2f | %7.2f | %7.2f | %6.2f |", c->name, fps.median,
            fps.min, fps.max, fps.sd, latency_ms(c, 0.5), latency_ms(c, 0.9), latency_ms(c, 0.99), latency_ms(c, 0.999),
            cpu_of(c, n).median);
    print_ratio(f, c, c == reference(m) ? NULL : reference(m), n);
    print_ratio(f, c, same_without_exits(m, c), n);
    fputc('\n', f);
}

static void print_details(FILE *f, const struct bench_model *m, const struct bench_config *c) {
    fprintf(f, "%-16s plan %s, %u slots, %zu frames a round\n", c->name, c->plan, c->stats.n_slots, c->n_frames);
    fprintf(f, "%-16s busy %% per worker:", "");
    for (unsigned w = 0; w < c->stats.n_workers; w++)
        fprintf(f, " %.0f", 100 * c->busy[w]);
    fprintf(f, "; waiting frames per group, mean/max:");
    for (unsigned g = 0; g < c->stats.n_groups; g++)
        fprintf(f, " %.1f/%u", c->stats.groups[g].queue_mean, c->stats.groups[g].queue_max);
    fprintf(f, "; exits:");
    for (unsigned e = 0; e <= m->info->n_exits; e++)
        fprintf(f, " %llu", (unsigned long long)c->n_by_exit[e]);
    fputc('\n', f);
}

/* Overloaded: it could not answer as fast as frames were offered, and its latency says how long one measured. */
static bool is_overloaded(const struct bench_config *c) { return c->load.answered_fps < 0.95 * c->load.offered_fps; }

static void print_load_table(FILE *f, const struct bench *b, const struct bench_model *m) {
    fprintf(
        f,
        "\nframes offered at %.0f %% of what replicas can do with the same exits; latency from the moment a frame is "
        "due\n\n",
        100 * b->o->load);
    fprintf(f, "| configuration | offered fps | answered fps | p50 ms | p90 | p99 | p99.9 | p99 x replicas, by round: median (min-max) |\n"
               "|---|---:|---:|---:|---:|---:|---:|---:|\n");
    for (unsigned i = 0; i < m->n_configs; i++) {
        const struct bench_config *c = &m->configs[i];
        struct spread r = load_ratio_of(c, bench_find(m, BENCH_REPLICAS, c->exits), b->o->n_reps);
        fprintf(f, "| %-16s | %8.2f | %8.2f%s | %7.2f | %7.2f | %7.2f | %7.2f | %.3f (%.3f-%.3f) |\n", c->name, c->load.offered_fps,
                c->load.answered_fps, is_overloaded(c) ? " (overloaded)" : "", load_ms(c, 0.5), load_ms(c, 0.9),
                load_ms(c, 0.99), load_ms(c, 0.999), r.median, r.min, r.max);
    }
}

static void print_unit_table(FILE *f, const struct bench_model *m) {
    fprintf(f, "\nmean ms a visit\n| unit |");
    for (unsigned i = 0; i < m->n_configs; i++)
        fprintf(f, " %s |", m->configs[i].name);
    fprintf(f, "\n|---|");
    for (unsigned i = 0; i < m->n_configs; i++)
        fprintf(f, "---:|");
    fputc('\n', f);
    for (unsigned u = 0; u < m->info->n_units; u++) {
        fprintf(f, "| %s |", ees_model_get_unit(m->model, u)->name);
        for (unsigned i = 0; i < m->n_configs; i++) {
            const ees_unit_stats *unit = &m->configs[i].stats.units[u];
            fprintf(f, " %.4f |", unit->n_runs ? (double)unit->total_ns * 1e-6 / (double)unit->n_runs : 0);
        }
        fputc('\n', f);
    }
}

static void print_winner(FILE *f, const struct bench_model *m, size_t n) {
    const struct bench_config *best = fastest(m, n), *replicas = reference(m);
    struct spread r = ratio_of(best, replicas, n);
    if (best == replicas)
        fprintf(f, "fastest: %s\n", best->name);
    else if (r.min > 1)
        fprintf(f, "fastest: %s, %.3f times %s, in every round\n", best->name, r.median, replicas->name);
    else
        fprintf(f, "fastest: %s, but not apart from %s: ratio %.3f, rounds from %.3f to %.3f\n", best->name,
                replicas->name, r.median, r.min, r.max);
    double spread = worst_spread(m, n);
    if (spread > BUSY_SPREAD)
        fprintf(
            f, "warning: fps of one configuration spread by %.0f %% (sd/median): the machine was busy, measure again\n",
            100 * spread);
}

static void print_markdown(FILE *f, const struct bench *b) {
    size_t n = b->o->n_reps;
    bench_print_machine(f, b);
    print_setup(f, b);
    for (size_t i = 0; i < b->n_models; i++) {
        const struct bench_model *m = &b->models[i];
        fprintf(f, "\n## %s%s, kernels %s\nexits: %s%s%s\n\n", m->info->name, m->arch ? " (random weights)" : "",
                m->info->kernels,
                mix_forced(&m->mix)    ? ""
                : m->info->n_exits > 0 ? "decided by the model's policy"
                                       : "the model has none",
                m->mix.is_expected ? "; first plan for the mix of " : "", m->mix.exits ? m->mix.description : "");
        fprintf(
            f,
            "| configuration | fps median | min | max | sd | p50 ms | p90 | p99 | p99.9 | CPU s | x %s | x no exits |\n"
            "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
            reference(m)->name);
        for (unsigned c = 0; c < m->n_configs; c++)
            print_row(f, m, &m->configs[c], n);
        fputc('\n', f);
        for (unsigned c = 0; c < m->n_configs; c++)
            print_details(f, m, &m->configs[c]);
        if (b->o->load > 0)
            print_load_table(f, b, m);
        if (b->o->unit_table)
            print_unit_table(f, m);
        fputc('\n', f);
        print_winner(f, m, n);
    }
    fprintf(f, "max RSS %.1f MiB\n", (double)max_rss_bytes() / (1 << 20));
}

/* ---- CSV ----------------------------------------------------------------------------------------------- */

static void print_csv_load(FILE *f, const struct bench *b, const struct bench_config *c) {
    fprintf(f, ",%s,%s,%s", hint_name(b->o), batch_name(b->o), take_name(b->o));
    if (b->o->load > 0)
        fprintf(f, ",%.3f,%.3f,%.3f,%.3f,%.3f,%.3f\n", c->load.offered_fps, c->load.answered_fps, load_ms(c, 0.5),
                load_ms(c, 0.9), load_ms(c, 0.99), load_ms(c, 0.999));
    else
        fprintf(f, ",,,,,,\n");
}

static void print_csv(FILE *f, const struct bench *b) {
    size_t n = b->o->n_reps;
    fprintf(
        f, "model,configuration,exits,plan,workers,slots,frames,rounds,fps_median,fps_min,fps_max,fps_sd,p50_ms,p90_ms,"
           "p99_ms,p999_ms,cpu_s,ratio_replicas,ratio_no_exits,hint,batch,take,load_offered_fps,load_answered_fps,"
           "load_p50_ms,load_p90_ms,load_p99_ms,load_p999_ms\n");
    for (size_t i = 0; i < b->n_models; i++)
        for (unsigned k = 0; k < b->models[i].n_configs; k++) {
            const struct bench_model *m = &b->models[i];
            const struct bench_config *c = &m->configs[k], *plain = same_without_exits(m, c);
            struct spread fps = bench_fps(c, n);
            fprintf(f, "%s,%s,%d,\"%s\",%u,%u,%zu,%zu,%.3f,%.3f,%.3f,%.3f,%.3f,%.3f,%.3f,%.3f,%.3f,%.4f,",
                    m->info->name, c->name, c->exits, c->plan, c->stats.n_workers, c->stats.n_slots, c->n_frames, n,
                    fps.median, fps.min, fps.max, fps.sd, latency_ms(c, 0.5), latency_ms(c, 0.9), latency_ms(c, 0.99),
                    latency_ms(c, 0.999), cpu_of(c, n).median, ratio_of(c, reference(m), n).median);
            if (plain)
                fprintf(f, "%.4f", ratio_of(c, plain, n).median);
            print_csv_load(f, b, c);
        }
}

/* ---- JSON ---------------------------------------------------------------------------------------------- */

static json_t *spread_json(struct spread s) {
    return json_pack("{s:f, s:f, s:f, s:f}", "median", s.median, "min", s.min, "max", s.max, "sd", s.sd);
}

static json_t *config_json(const struct bench_model *m, const struct bench_config *c, size_t n) {
    json_t *reps = json_array(), *busy = json_array(), *queues = json_array(), *exits = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(reps, json_pack("{s:f, s:f, s:f}", "fps", c->reps[i].fps, "wall_s", c->reps[i].wall_s,
                                              "cpu_s", c->reps[i].cpu_s));
    for (unsigned w = 0; w < c->stats.n_workers; w++)
        json_array_append_new(busy, json_pack("{s:i, s:i, s:f}", "cpu", c->stats.workers[w].cpu, "group",
                                              (int)c->stats.workers[w].group, "busy", c->busy[w]));
    for (unsigned g = 0; g < c->stats.n_groups; g++)
        json_array_append_new(queues, json_pack("{s:f, s:i}", "mean", c->stats.groups[g].queue_mean, "max",
                                                (int)c->stats.groups[g].queue_max));
    for (unsigned e = 0; e <= m->info->n_exits; e++)
        json_array_append_new(exits, json_integer((json_int_t)c->n_by_exit[e]));
    json_t *o = json_pack("{s:s, s:b, s:s, s:i, s:i, s:o, s:{s:f, s:f, s:f, s:f}, s:o, s:o, s:o, s:o, s:o}", "name",
                          c->name, "exits", (int)c->exits, "plan", c->plan, "slots", (int)c->stats.n_slots, "frames",
                          (int)c->n_frames, "fps", spread_json(bench_fps(c, n)), "latency_ms", "p50",
                          latency_ms(c, 0.5), "p90", latency_ms(c, 0.9), "p99", latency_ms(c, 0.99), "p99.9",
                          latency_ms(c, 0.999), "ratio_replicas", spread_json(ratio_of(c, reference(m), n)), "workers",
                          busy, "queues", queues, "by_exit", exits, "reps", reps);
    const struct bench_config *replicas = bench_find(m, BENCH_REPLICAS, c->exits);
    if (c->load.n_latencies)
        json_object_set_new(o, "load",
                            json_pack("{s:f, s:f, s:b, s:{s:f, s:f, s:f, s:f}, s:o}", "offered_fps",
                                      c->load.offered_fps, "answered_fps", c->load.answered_fps, "overloaded",
                                      (int)is_overloaded(c), "latency_ms", "p50", load_ms(c, 0.5), "p90",
                                      load_ms(c, 0.9), "p99", load_ms(c, 0.99), "p99.9", load_ms(c, 0.999),
                                      "p99_ratio_replicas", spread_json(load_ratio_of(c, replicas, n))));
    if (same_without_exits(m, c))
        json_object_set_new(o, "ratio_no_exits", spread_json(ratio_of(c, same_without_exits(m, c), n)));
    return o;
}

static json_t *units_json(const struct bench_model *m) {
    json_t *units = json_array();
    for (unsigned u = 0; u < m->info->n_units; u++) {
        json_t *times = json_object();
        for (unsigned i = 0; i < m->n_configs; i++) {
            const ees_unit_stats *unit = &m->configs[i].stats.units[u];
            if (unit->n_runs)
                json_object_set_new(times, m->configs[i].name,
                                    json_real((double)unit->total_ns * 1e-6 / (double)unit->n_runs));
        }
        json_array_append_new(units,
                              json_pack("{s:s, s:o}", "name", ees_model_get_unit(m->model, u)->name, "mean_ms", times));
    }
    return units;
}

static json_t *model_json(const struct bench *b, const struct bench_model *m) {
    json_t *configs = json_array();
    for (unsigned i = 0; i < m->n_configs; i++)
        json_array_append_new(configs, config_json(m, &m->configs[i], b->o->n_reps));
    json_t *o = json_pack("{s:s, s:b, s:s, s:s?, s:s, s:f, s:o}", "model", m->info->name, "random_weights",
                          m->arch != NULL, "kernels", m->info->kernels, "exit_mix",
                          m->mix.exits ? m->mix.description : NULL, "fastest", fastest(m, b->o->n_reps)->name,
                          "worst_spread", worst_spread(m, b->o->n_reps), "configurations", configs);
    if (b->o->unit_table)
        json_object_set_new(o, "units", units_json(m));
    return o;
}

static json_t *bench_json(const struct bench *b) {
    char cpu[128], governor[64], info[4096];
    cpu_model(cpu, sizeof cpu);
    cpu_governor(governor, sizeof governor);
    ees_build_info(info, sizeof info);
    json_t *models = json_array();
    for (size_t i = 0; i < b->n_models; i++)
        json_array_append_new(models, model_json(b, &b->models[i]));
    return json_pack("{s:i, s:s, s:s, s:s, s:i, s:i, s:s, s:f, s:s, s:i, s:i, s:f, s:s, s:s, s:s, s:f, s:o}", "v", 1,
                     "version", ees_version(), "build", info, "cpu", cpu, "cores_allowed", (int)allowed_cores(),
                     "cores_online", (int)online_cores(), "governor", governor, "load_before", b->load_before, "input",
                     b->o->bench_input, "frames_in_memory", (int)b->n_frames, "rounds", (int)b->o->n_reps,
                     "max_rss_mib", (double)max_rss_bytes() / (1 << 20), "hint", hint_name(b->o), "batch",
                     batch_name(b->o), "take", take_name(b->o), "load", b->o->load, "models", models);
}

/* ---- Out ----------------------------------------------------------------------------------------------- */

int bench_print(const struct bench *b, const struct bench_printer *printer, ees_error *err) {
    const char *path = b->o->out_path ? b->o->out_path : "-";
    if (b->o->format == BENCH_JSON)
        return file_write_json(path, printer->json(b), err);
    bool to_stdout = strcmp(path, "-") == 0;
    FILE *f = to_stdout ? stdout : fopen(path, "we");
    if (!f)
        return CLI_FAIL_OS(err, EES_EOUTPUT, errno, "%s", path);
    (b->o->format == BENCH_CSV ? printer->csv : printer->markdown)(f, b);
    bool good = fflush(f) == 0 && !ferror(f);
    if (!to_stdout && fclose(f) != 0)
        good = false;
    return good ? 0 : CLI_FAIL(err, EES_EOUTPUT, "%s cannot be written", to_stdout ? "stdout" : path);
}

int bench_report(const struct bench *b, ees_error *err) {
    return bench_print(b, &(struct bench_printer){print_markdown, print_csv, bench_json}, err);
}
