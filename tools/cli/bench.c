/* SPDX-License-Identifier: MIT */
/* `eestream bench`: one worker, replicas and the planned pipeline, each with and without early exits, alternating round
 * by round in one process so that a drift of the machine meets all of them. Frames are in memory before the clock
 * starts; decoding and preprocessing are inside. */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli/bench.h"
#include "tools/cli/fail.h"
#include "tools/cli/frame_store.h"
#include "tools/cli/machine.h"
#include "tools/cli/plan_text.h"
#include "tools/cli/profile_store.h"
#include "tools/cli/progress.h"
#include "tools/cli/summary.h"
#include "tools/cli/verbs.h"

#define STORED_FRAMES 256
#define MIN_FRAMES    24

/* ---- One repetition ------------------------------------------------------------------------------------ */

int bench_check(const ees_result *result, ees_error *err) {
    if (result->status == EES_STATUS_OK)
        return 0;
    return CLI_FAIL(err, EES_ESOURCE, "frame %llu cannot be used: %s", (unsigned long long)result->frame_idx,
                    result->error ? result->error->message : ees_status_name(result->status));
}

static int pull_one(struct bench_config *c, uint64_t *latency_ns, ees_error *err) {
    ees_result result;
    CLI_TRY(ees_engine_pull(c->engine, &result, -1, err));
    int rc = bench_check(&result, err);
    *latency_ns = result.latency_ns;
    ees_engine_release(c->engine, &result);
    return rc;
}

/* Keep every slot filled from one thread: push while there is room, then wait for the next answer. */
static int stream_frames(const struct bench *b, struct bench_config *c, size_t n, uint64_t *latencies_ns,
                         ees_error *err) {
    for (size_t pushed = 0, pulled = 0; pulled < n; pulled++) {
        while (pushed < n) {
            int rc = ees_engine_push(c->engine, &b->frames[pushed % b->n_frames], 0, err);
            if (rc == EES_EAGAIN)
                break;
            CLI_TRY(rc);
            pushed++;
        }
        CLI_TRY(pull_one(c, &latencies_ns[pulled], err));
    }
    return 0;
}

static void add_stats(struct bench_config *c, const ees_stats *before, double wall_s) {
    ees_engine_get_stats(c->engine, &c->stats);
    for (unsigned w = 0; w < c->stats.n_workers; w++)
        c->busy[w] += (double)(c->stats.workers[w].busy_ns - before->workers[w].busy_ns) * 1e-9;
    for (unsigned e = 0; e <= EES_MAX_EXITS; e++)
        c->n_by_exit[e] += c->stats.n_by_exit[e] - before->n_by_exit[e];
    c->measured_s += wall_s;
}

static int run_rep(const struct bench *b, struct bench_config *c, size_t round, ees_error *err) {
    static ees_stats before;
    ees_engine_get_stats(c->engine, &before);
    double cpu_s = cpu_seconds();
    uint64_t start_ns = now_ns();
    CLI_TRY(stream_frames(b, c, c->n_frames, c->latencies_ns + c->n_latencies, err));
    double wall_s = (double)(now_ns() - start_ns) * 1e-9;
    c->n_latencies += c->n_frames;
    c->reps[round] =
        (struct bench_rep){.wall_s = wall_s, .fps = (double)c->n_frames / wall_s, .cpu_s = cpu_seconds() - cpu_s};
    add_stats(c, &before, wall_s);
    return 0;
}

/* ---- Configurations ------------------------------------------------------------------------------------ */

struct bench_config *bench_find(const struct bench_model *m, int kind, bool exits) {
    for (unsigned i = 0; i < m->n_configs; i++)
        if (m->configs[i].kind == kind && m->configs[i].exits == exits)
            return (struct bench_config *)&m->configs[i];
    return NULL;
}

/* A replayed mix is right over whole windows, and a repetition that is as long as the sequence holds each of its frames
 * once, wherever it begins: all configurations and repetitions see the very same mix. */
static size_t whole_windows(size_t n) { return n < REPLAY_WINDOW ? n : n - n % REPLAY_WINDOW; }

static size_t rep_length(const struct bench *b, const struct bench_model *m, int kind, size_t n_frames) {
    if (!b->o->n_frames && kind == BENCH_SINGLE)
        n_frames /= b->n_workers;
    if (!b->o->n_frames && n_frames < MIN_FRAMES)
        n_frames = MIN_FRAMES;
    return mix_forced(&m->mix) ? whole_windows(n_frames + REPLAY_WINDOW - 1) : n_frames;
}

static int engine_policy(const struct bench *b, const struct bench_model *m, bool exits, size_t n_frames,
                         ees_policy_options *out, ees_error *err) {
    if (!exits) {
        *out = (ees_policy_options){.name = "none"};
        return 0;
    }
    size_t n = whole_windows(m->mix.n);
    CLI_TRY(options_policy(b->o, out, err));
    out->skip_below = -1.0f; /* the same few frames again and again */
    out->replay = mix_forced(&m->mix);
    out->n_replay = n_frames < n ? n_frames : n;
    return 0;
}

static int open_engine(const struct bench *b, const struct bench_model *m, struct bench_config *c, ees_error *err) {
    ees_engine_options e;
    ees_engine_options_default(&e);
    e.n_workers = c->kind == BENCH_SINGLE ? 1 : b->n_workers;
    e.n_slots = b->o->n_slots;
    e.pin = !b->o->no_pin;
    e.plan = c->kind == BENCH_PLANNED ? b->o->plan : "replicas";
    e.hint = (enum ees_hint)b->o->hint;
    e.take = (enum ees_take)b->o->take;
    e.max_batch = b->o->max_batch;
    e.replan = !b->o->no_replan;
    e.profile = &m->profile;
    e.exit_share = c->exits && m->mix_known ? m->exit_share : NULL;
    CLI_TRY(engine_policy(b, m, c->exits, c->n_frames, &e.policy, err));
    return ees_engine_open(m->model, &e, &c->engine, err);
}

/* Stream without measuring. @return frames per second through *fps */
static int warm_up(const struct bench *b, struct bench_config *c, size_t n, double *fps, ees_error *err) {
    uint64_t *ignored = calloc(n, sizeof *ignored), start_ns = now_ns();
    if (!ignored)
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for %zu frames", n);
    int rc = stream_frames(b, c, n, ignored, err);
    free(ignored);
    *fps = 1e9 * (double)n / (double)(now_ns() - start_ns);
    return rc;
}

/* Replicas with exits, in an engine of their own: their speed sets the length of a repetition, and the exits a model
 * with its own policy takes set the mix that its plan is made for, where none is known. */
static int probe(const struct bench *b, struct bench_model *m, size_t *n_frames, ees_error *err) {
    static ees_stats stats;
    struct bench_config c = {.kind = BENCH_REPLICAS, .exits = m->info->n_exits > 0, .n_frames = REPLAY_WINDOW};
    double fps = 0, again = 0;
    memcpy(m->exit_share, m->mix.share, sizeof m->exit_share);
    m->mix_known = m->mix.exits;
    CLI_TRY(open_engine(b, m, &c, err));
    int rc = warm_up(b, &c, MIN_FRAMES, &fps, err);
    if (rc == 0)
        rc = warm_up(b, &c, MIN_FRAMES, &again, err);
    ees_engine_get_stats(c.engine, &stats);
    for (unsigned e = 0; !m->mix.exits && e <= m->info->n_exits; e++)
        m->exit_share[e] = (double)stats.n_by_exit[e];
    m->mix_known = true;
    *n_frames = b->o->n_frames ? b->o->n_frames : (size_t)ceil(b->o->min_time_s * fmax(fps, again));
    ees_engine_close(c.engine);
    return rc;
}

/* An engine, warm, and memory for all repetitions, before the first of them. */
static int open_config(const struct bench *b, struct bench_model *m, int kind, bool exits, size_t n_frames,
                       ees_error *err) {
    static const char *const names[] = {"1 worker", "replicas", "plan"};
    struct bench_config *c = &m->configs[m->n_configs++];
    *c = (struct bench_config){.kind = kind, .exits = exits};
    c->n_frames = rep_length(b, m, kind, n_frames);
    c->reps = calloc(b->o->n_reps, sizeof *c->reps);
    c->latencies_ns = calloc((size_t)b->o->n_reps * c->n_frames, sizeof *c->latencies_ns);
    if (!c->reps || !c->latencies_ns)
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for %zu frames", c->n_frames);
    snprintf(c->name, sizeof c->name, "%s%s", names[kind], exits ? " + exits" : "");
    CLI_TRY(open_engine(b, m, c, err));
    ees_plan plan;
    ees_engine_get_plan(c->engine, &plan);
    plan_to_text(m->model, &plan, c->plan, sizeof c->plan);
    double fps;
    return warm_up(b, c, kind == BENCH_SINGLE ? MIN_FRAMES / 4 : MIN_FRAMES / 2, &fps, err);
}

static int open_configs(const struct bench *b, struct bench_model *m, ees_error *err) {
    size_t n_frames;
    CLI_TRY(profile_get(b->o, m->model, &b->frames[0], &m->profile, err));
    CLI_TRY(probe(b, m, &n_frames, err));
    for (int exits = m->info->n_exits > 0; exits >= 0; exits--)
        for (int kind = 0; kind < BENCH_N_KINDS; kind++)
            CLI_TRY(open_config(b, m, kind, exits, n_frames, err));
    return 0;
}

/* ---- One model ----------------------------------------------------------------------------------------- */

static void finish(struct bench_model *m) {
    for (unsigned i = 0; i < m->n_configs; i++) {
        struct bench_config *c = &m->configs[i];
        bench_sort(c->latencies_ns, c->n_latencies);
        for (unsigned w = 0; w < EES_MAX_WORKERS; w++)
            c->busy[w] /= c->measured_s;
        ees_engine_close(c->engine);
        c->engine = NULL;
    }
}

static void note(const struct bench *b, const struct bench_model *m, size_t round) {
    char line[128];
    snprintf(line, sizeof line, "eestream: %s: round %zu of %u\n", m->info->name, round + 1, b->o->n_reps);
    if (b->o->verbose)
        console_write(line);
}

/* Each round starts with another configuration, so that none always follows the same neighbour. */
static int measure_model(const struct bench *b, struct bench_model *m, ees_error *err) {
    CLI_TRY(options_open_model(b->o, m->arch, &m->model, err));
    m->info = ees_model_get_info(m->model);
    CLI_TRY(mix_open(&m->mix, b->o, m->model, m->arch != NULL, err));
    CLI_TRY(open_configs(b, m, err));
    for (size_t round = 0; round < b->o->n_reps; round++) {
        note(b, m, round);
        for (unsigned i = 0; i < m->n_configs; i++)
            CLI_TRY(run_rep(b, &m->configs[(i + round) % m->n_configs], round, err));
    }
    if (b->o->load > 0)
        CLI_TRY(bench_measure_load(b, m, err));
    finish(m);
    return 0;
}

static void close_model(struct bench_model *m) {
    for (unsigned i = 0; i < m->n_configs; i++) {
        ees_engine_close(m->configs[i].engine);
        free(m->configs[i].reps);
        free(m->configs[i].latencies_ns);
        free(m->configs[i].load.latencies_ns);
    }
    free(m->rooflines);
    replay_close(&m->mix);
    ees_model_close(m->model);
}

/* ---- Verb ---------------------------------------------------------------------------------------------- */

/* "a,b,c" -> one model each. The names are cut in place out of `list`. */
static int list_models(struct bench *b, char *list, ees_error *err) {
    size_t n = 1;
    for (const char *c = list; c && *c; c++)
        n += *c == ',';
    b->models = calloc(n, sizeof *b->models);
    if (!b->models)
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for %zu models", n);
    b->n_models = n;
    for (size_t i = 0; list && i < n; i++)
        b->models[i].arch = strsep(&list, ",");
    return 0;
}

static int bench(struct bench *b, char *arch, ees_error *err) {
    const struct options *o = b->o;
    ees_source_options source;
    if (o->n_inputs > 0) {
        CLI_FAIL(err, EES_EINVAL, "unexpected argument '%s'", o->inputs[0]);
        return cli_hint(err, "frames come from --input FILE, models from --model DIR or --arch NAME");
    }
    options_source(o, &source);
    CLI_TRY(frame_store_read(o->bench_input, &source, STORED_FRAMES, &b->frames, &b->n_frames, err));
    CLI_TRY(list_models(b, arch, err));
    b->n_workers = o->n_workers ? o->n_workers : allowed_cores();
    b->load_before = load_average();
    if (o->roofline)
        return bench_roofline(b, err);
    for (size_t i = 0; i < b->n_models; i++)
        CLI_TRY(measure_model(b, &b->models[i], err));
    return bench_report(b, err);
}

enum exit_code verb_bench(const struct options *o) {
    struct bench b = {.o = o};
    ees_error err = {0};
    char *arch = o->model_dir && !o->arch ? NULL : strdup(o->arch ? o->arch : "vit-ti16");
    if (!arch && !o->model_dir)
        CLI_FAIL(&err, EES_ENOMEM, "out of memory");
    else
        bench(&b, arch, &err);
    for (size_t i = 0; i < b.n_models; i++)
        close_model(&b.models[i]);
    free(b.models);
    frame_store_free(b.frames, b.n_frames);
    free(arch);
    return err.code ? leave_with(&err, o->verbose) : EXIT_DONE;
}
