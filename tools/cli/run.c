/* SPDX-License-Identifier: MIT */
/* `eestream run`: inputs through a model, one line a frame out. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/cli/file.h"
#include "tools/cli/metrics.h"
#include "tools/cli/mix.h"
#include "tools/cli/profile_store.h"
#include "tools/cli/progress.h"
#include "tools/cli/stream.h"
#include "tools/cli/summary.h"
#include "tools/cli/trace_file.h"
#include "tools/cli/verbs.h"

struct run {
    const struct options *o;
    struct stream stream;
    ees_model *model;
    ees_policy_options policy; /* resolved */
    struct truth truth;
    struct replay mix;
    ees_engine *engine;
    ees_sink *sink;
    bool sink_failed; /* answers in flight are still counted */
    const char *unit_names[EES_MAX_UNITS];
    struct progress progress;
    struct trace_file *trace; /* NULL: none */
    struct metrics metrics;
    struct summary summary;
};

static int check_options(const struct options *o, ees_error *err) {
    if (o->n_inputs == 0) {
        CLI_FAIL(err, EES_EINVAL, "run needs an input");
        return cli_hint(err, "eestream run video.avi; eestream help run lists the options");
    }
    if (o->truth_path && (o->n_inputs > 1 || ees_source_is_list(o->inputs[0])))
        return CLI_FAIL(err, EES_EINVAL, "--truth names frames of one input, %zu are given or it is a list",
                        o->n_inputs);
    if (o->logits && o->format != EES_SINK_JSONL)
        return CLI_FAIL(err, EES_EINVAL, "--logits goes with --format jsonl only");
    if (o->timing && o->format != EES_SINK_JSONL)
        return CLI_FAIL(err, EES_EINVAL, "--timing goes with --format jsonl only");
    if (o->replay_run && !o->replay_path)
        return CLI_FAIL(err, EES_EINVAL, "--replay-run %s needs --replay-exits FILE", o->replay_run);
    const char *stdout_file = o->trace_path && strcmp(o->trace_path, "-") == 0       ? "--trace"
                              : o->metrics_path && strcmp(o->metrics_path, "-") == 0 ? "--metrics"
                                                                                     : NULL;
    return stdout_file ? CLI_FAIL(err, EES_EINVAL, "%s -: a file is needed, stdout is for results", stdout_file) : 0;
}

static int check_weights(const struct options *o, size_t n_inputs, ees_error *err) {
    if (o->weights.n && !o->concurrent)
        return CLI_FAIL(err, EES_EINVAL, "--weights needs --concurrent: inputs read in turn share nothing");
    if (o->weights.n > 1 && o->weights.n != n_inputs)
        return CLI_FAIL(err, EES_EINVAL, "--weights has %u numbers for %zu inputs: one each, or one for all",
                        o->weights.n, n_inputs);
    for (unsigned i = 0; i < o->weights.n; i++)
        if (!(o->weights.values[i] > 0))
            return CLI_FAIL(err, EES_EINVAL, "--weights %g: allowed are numbers above 0", o->weights.values[i]);
    return 0;
}

/* Files are never dropped: what is said about live frames needs some. */
static int check_live(const struct options *o, size_t n_live, size_t n_inputs, ees_error *err) {
    bool degrades = o->overload == 0 || o->overload == EES_OVERLOAD_DEGRADE + 1;
    const char *without = n_live > 0                             ? NULL
                          : o->overload > EES_OVERLOAD_BLOCK + 1 ? "--overload"
                          : o->backlog                           ? "--backlog"
                          : o->degraded.n                        ? "--degrade-thresholds"
                                                                 : NULL;
    if (without) {
        CLI_FAIL(err, EES_EINVAL, "%s is for live inputs, none is: files are never dropped", without);
        return cli_hint(err, "--realtime makes all inputs live, live:FILE one of them");
    }
    if (o->degraded.n && !degrades)
        return CLI_FAIL(err, EES_EINVAL, "--degrade-thresholds needs --overload degrade, %s is given",
                        ees_overload_name((enum ees_overload)(o->overload - 1)));
    if (n_live > 0 && n_live < n_inputs && !o->concurrent) {
        CLI_FAIL(err, EES_EINVAL, "%zu of %zu inputs are live: read in turn, they would wait for the files", n_live,
                 n_inputs);
        return cli_hint(err, "--concurrent reads all at once");
    }
    return 0;
}

/* The inputs, and how the engine is to treat each. */
static int open_stream(struct run *r, ees_error *err) {
    const struct options *o = r->o;
    struct stream *s = &r->stream;
    ees_source_options source;
    size_t n_live = 0;
    options_source(o, &source);
    CLI_TRY(stream_init(s, o->inputs, o->n_inputs, &source, err));
    s->limit = o->limit;
    s->verbose = o->verbose;
    s->concurrent = o->concurrent;
    s->file_rule.deadline_ns = s->live_rule.deadline_ns = (uint64_t)(o->deadline_ms * 1e6);
    s->live_rule.overload = o->overload ? (enum ees_overload)(o->overload - 1) : EES_OVERLOAD_DEGRADE;
    s->live_rule.backlog = o->backlog;
    CLI_TRY(check_weights(o, s->n_inputs, err));
    for (size_t i = 0; i < s->n_inputs; i++) {
        s->inputs[i].live |= o->realtime;
        n_live += s->inputs[i].live;
        if (o->weights.n)
            s->inputs[i].weight = o->weights.values[o->weights.n > 1 ? i : 0];
    }
    CLI_TRY(check_live(o, n_live, s->n_inputs, err));
    if (o->concurrent && s->n_inputs > EES_MAX_STREAMS)
        return CLI_FAIL(err, EES_EINVAL, "--concurrent reads at most %d inputs, %zu are given", EES_MAX_STREAMS,
                        s->n_inputs);
    CLI_TRY(stream_catch_signals(s, err));
    return stream_open_first(s, err);
}

/* What was asked for and cannot happen. */
static void warn_of_policy(const struct run *r) {
    const struct options *o = r->o;
    unsigned n_exits = ees_model_get_info(r->model)->n_exits;
    bool wanted = n_exits > 0 && strcmp(r->policy.name, "none") != 0 && !o->replay_path && !o->quiet;
    char text[640];
    if (!wanted || ees_policy_can_leave(&r->policy, n_exits))
        return;
    policy_text(&r->policy, text, sizeof text);
    fprintf(stderr, "eestream: no frame can leave early under %s: the model has %u exits\n", text, n_exits);
}

static int open_model(struct run *r, ees_error *err) {
    const struct options *o = r->o;
    ees_policy_options policy;
    CLI_TRY(options_policy(o, &policy, err));
    CLI_TRY(options_open_model(o, NULL, &r->model, err));
    CLI_TRY(ees_policy_resolve(r->model, &policy, &r->policy, err));
    warn_of_policy(r);
    if (o->truth_path)
        CLI_TRY(truth_open(&r->truth, o->truth_path, r->model, err));
    return mix_open(&r->mix, o, r->model, false, err);
}

/* Costs that the caller names, or from the cache where the engine would measure them. @return *found NULL: not needed, or the
 * engine knows what to do without (a sample frame that the model refuses) */
static int find_profile(const struct run *r, const char *plan, ees_profile *profile, const ees_profile **found,
                        ees_error *err) {
    const struct options *o = r->o;
    ees_error why = {0};
    *found = NULL;
    bool measured = strcmp(plan, "auto") == 0 && o->n_workers != 1 && !o->no_profile_cache;
    if (!measured && !o->profile_path)
        return 0;
    int rc = profile_get(o, r->model, NULL, profile, o->profile_path ? err : &why);
    if (rc == 0)
        *found = profile;
    return o->profile_path ? rc : 0;
}

static int open_engine(struct run *r, ees_error *err) {
    const struct options *o = r->o;
    static ees_profile profile;
    ees_engine_options e;
    ees_engine_options_default(&e);
    e.n_workers = o->n_workers;
    e.n_slots = o->n_slots;
    e.pin = !o->no_pin;
    /* interrupted while the first input was being opened: no frame will come that costs need measuring for */
    e.plan = stream_was_interrupted(&r->stream) ? "replicas" : o->plan;
    CLI_TRY(find_profile(r, e.plan, &profile, &e.profile, err));
    e.exit_share = r->mix.exits ? r->mix.share : NULL;
    e.policy = r->policy;
    e.policy.replay = mix_forced(&r->mix);
    e.policy.n_replay = r->mix.n;
    e.hint = (enum ees_hint)o->hint;
    e.max_batch = o->max_batch;
    e.replan = !o->no_replan;
    e.unordered = o->unordered;
    e.audit_share = o->audit_share;
    e.stall_ns = (uint64_t)(o->stall_s * 1e9);
    e.trace_events = r->trace ? TRACE_EVENTS : 0;
    e.stream = stream_rule(&r->stream, 0);
    CLI_TRY(ees_engine_open(r->model, &e, &r->engine, err));
    r->metrics =
        (struct metrics){.path = o->metrics_path, .stream = &r->stream, .model = r->model, .engine = r->engine};
    return r->trace ? trace_file_start(r->trace, r->model, r->engine, err) : 0;
}

/* Somebody may wait at the other end: each line goes out at once. */
static bool is_live(const char *path) {
    struct stat st;
    bool known = strcmp(path, "-") == 0 ? fstat(STDOUT_FILENO, &st) == 0 : stat(path, &st) == 0;
    return known && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) || S_ISCHR(st.st_mode));
}

static int open_sink(struct run *r, ees_error *err) {
    const struct options *o = r->o;
    const char *path = o->out_path ? o->out_path : "-";
    bool wanted = o->format != EES_SINK_NULL && (o->out_path || !isatty(STDOUT_FILENO));
    ees_sink_options s = {.format = wanted ? (enum ees_sink_format)o->format : EES_SINK_NULL,
                          .logits = o->logits,
                          .flush = wanted && is_live(path)};
    if (o->timing) {
        s.n_units = ees_model_get_info(r->model)->n_units;
        for (unsigned u = 0; u < s.n_units; u++)
            r->unit_names[u] = ees_model_get_unit(r->model, u)->name;
        s.unit_names = r->unit_names;
    }
    return ees_sink_open(path, &s, &r->sink, err);
}

static int take_result(void *opaque, const ees_result *result, ees_error *err) {
    struct run *r = opaque;
    summary_add(&r->summary, result, truth_of(&r->truth, result, r->model));
    if (result->error && r->o->verbose)
        print_error(result->error, true);
    if (r->sink_failed)
        return 0;
    int rc = ees_sink_write(r->sink, result, err);
    r->sink_failed = rc < 0;
    return rc;
}

/* Whoever looks on: the progress line, a trace, metrics. */
static int tick(void *opaque, ees_error *err) {
    struct run *r = opaque;
    progress_tick(&r->progress, r->engine, ees_model_get_info(r->model)->n_exits, stream_expected(&r->stream));
    /* relaxed: a request, no data comes with it */
    if (atomic_exchange_explicit(&r->stream.report_wanted, false, memory_order_relaxed))
        metrics_print(&r->metrics);
    CLI_TRY(metrics_tick(&r->metrics, err));
    return trace_file_drain(r->trace, err);
}

static int open_summary(struct run *r, ees_error *err) {
    summary_init(&r->summary, r->model, &r->policy, mix_forced(&r->mix) ? r->mix.description : NULL);
    r->summary.trace_path = r->o->trace_path;
    r->summary.unordered = r->o->unordered;
    r->summary.certificate = mix_certificate(r->o, r->model);
    return r->stream.n_inputs > 1 ? summary_count_sources(&r->summary, &r->stream, err) : 0;
}

static int open_all(struct run *r, ees_error *err) {
    const struct options *o = r->o;
    CLI_TRY(check_options(o, err));
    CLI_TRY(open_stream(r, err));
    CLI_TRY(open_model(r, err));
    CLI_TRY(progress_open(&r->progress, o->progress, o->quiet, err));
    if (o->trace_path)
        CLI_TRY(trace_file_open(o->trace_path, &r->trace, err));
    CLI_TRY(open_engine(r, err));
    CLI_TRY(open_summary(r, err));
    return open_sink(r, err);
}

static void report(struct run *r, bool stalled, ees_error *err) {
    if (!r->o->quiet)
        summary_print(stderr, &r->summary);
    if (!r->o->summary_path)
        return;
    json_t *json = summary_json(&r->summary);
    json_object_set_new(json, "interrupted", json_boolean(stream_was_interrupted(&r->stream)));
    json_object_set_new(json, "stalled", json_boolean(stalled));
    file_write_json(r->o->summary_path, json, err);
}

/* A worker hangs, and closing the engine would hang with it: tell what there is and leave. */
static _Noreturn void leave_stalled(struct run *r, const ees_error *stall) {
    static char table[1 << 16];
    ees_error ignored = {0};
    ees_sink_flush(r->sink, &ignored);
    trace_file_finish(r->trace, &ignored);
    metrics_write(&r->metrics, &ignored);
    progress_close(&r->progress, r->engine, ees_model_get_info(r->model)->n_exits);
    summary_finish(&r->summary, r->engine, NULL);
    r->summary.n_trace_events = trace_file_events(r->trace);
    print_error(stall, r->o->verbose);
    if (!r->o->quiet) {
        ees_engine_describe(r->engine, table, sizeof table);
        console_write(table);
    }
    report(r, true, &ignored);
    _exit(EXIT_STALLED);
}

/* Stream, then write everything out even when a part failed: the first failure is kept in err. */
static void stream_all(struct run *r, ees_error *err) {
    const struct stream_events events = {.result = take_result, .tick = tick, .opaque = r};
    if (stream_run(&r->stream, r->engine, &events, err) == EES_ESTALLED)
        leave_stalled(r, err);
    ees_sink_close(r->sink, err);
    r->sink = NULL;
    trace_file_finish(r->trace, err);
    metrics_write(&r->metrics, err);
    progress_close(&r->progress, r->engine, ees_model_get_info(r->model)->n_exits);
    summary_finish(&r->summary, r->engine, &r->stream);
    r->summary.n_trace_events = trace_file_events(r->trace);
    summary_check(&r->summary, &r->stream, err);
}

static enum exit_code verdict(struct run *r, const ees_error *err) {
    if (err->code)
        return leave_with(err, r->o->verbose);
    if (stream_was_interrupted(&r->stream))
        return EXIT_INTERRUPTED;
    if (r->stream.source_failure)
        return exit_code_of(r->stream.source_failure);
    const struct summary *s = &r->summary;
    bool damaged = s->n_by_status[EES_STATUS_FAILED] || s->n_by_status[EES_STATUS_DROPPED] || s->n_warned;
    return r->o->strict && damaged ? EXIT_DAMAGED : EXIT_DONE;
}

static void close_all(struct run *r) {
    ees_sink_close(r->sink, NULL);
    trace_file_close(r->trace);
    progress_close(&r->progress, NULL, 0);
    ees_engine_close(r->engine);
    summary_fini(&r->summary);
    truth_close(&r->truth);
    replay_close(&r->mix);
    ees_model_close(r->model);
    stream_fini(&r->stream);
}

enum exit_code verb_run(const struct options *o) {
    struct run r = {.o = o, .stream = {.stop_fd = -1}, .progress = {.fd = -1}};
    ees_error err = {0};
    if (open_all(&r, &err) == 0) {
        stream_all(&r, &err);
        report(&r, false, &err);
    }
    enum exit_code code = verdict(&r, &err);
    close_all(&r);
    return code;
}
