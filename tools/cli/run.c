/* SPDX-License-Identifier: MIT */
/* `eestream run`: inputs through a model, one line a frame out. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/cli/file.h"
#include "tools/cli/profile_store.h"
#include "tools/cli/replay.h"
#include "tools/cli/stream.h"
#include "tools/cli/summary.h"
#include "tools/cli/verbs.h"

struct run {
    const struct options *o;
    struct stream stream;
    ees_model *model;
    ees_policy_options policy; /* resolved */
    struct truth truth;
    struct replay replay;
    ees_engine *engine;
    ees_sink *sink;
    bool sink_failed; /* answers in flight are still counted */
    struct progress progress;
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
    if (o->replay_run && !o->replay_path)
        return CLI_FAIL(err, EES_EINVAL, "--replay-run %s needs --replay-exits FILE", o->replay_run);
    return 0;
}

static int open_model(struct run *r, ees_error *err) {
    const struct options *o = r->o;
    ees_policy_options policy;
    CLI_TRY(options_policy(o, &policy, err));
    CLI_TRY(options_open_model(o, NULL, &r->model, err));
    CLI_TRY(ees_policy_resolve(r->model, &policy, &r->policy, err));
    if (o->truth_path)
        CLI_TRY(truth_open(&r->truth, o->truth_path, r->model, err));
    if (o->replay_path)
        CLI_TRY(replay_open(&r->replay, o->replay_path, o->replay_run, ees_model_get_info(r->model)->n_exits, err));
    return 0;
}

/* Costs from the cache, where the engine would measure them. @return NULL: not needed, or the engine knows what to do
 * without (a sample frame that the model refuses) */
static const ees_profile *find_profile(const struct run *r, const char *plan, ees_profile *profile) {
    const struct options *o = r->o;
    ees_error ignored = {0};
    bool needed = strcmp(plan, "auto") == 0 && o->n_workers != 1 && !o->no_profile_cache;
    return needed && profile_get(o, r->model, NULL, profile, &ignored) == 0 ? profile : NULL;
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
    e.profile = find_profile(r, e.plan, &profile);
    e.policy = r->policy;
    e.policy.replay = r->replay.exits;
    e.policy.n_replay = r->replay.n;
    return ees_engine_open(r->model, &e, &r->engine, err);
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

static int open_all(struct run *r, ees_error *err) {
    const struct options *o = r->o;
    ees_source_options source;
    CLI_TRY(check_options(o, err));
    options_source(o, &source);
    CLI_TRY(stream_init(&r->stream, o->inputs, o->n_inputs, &source, err));
    r->stream.limit = o->limit;
    r->stream.verbose = o->verbose;
    CLI_TRY(stream_catch_signals(&r->stream, err));
    CLI_TRY(stream_open_first(&r->stream, err));
    CLI_TRY(open_model(r, err));
    CLI_TRY(progress_open(&r->progress, o->progress, o->quiet, err));
    CLI_TRY(open_engine(r, err));
    summary_init(&r->summary, r->model, &r->policy, r->replay.exits ? r->replay.description : NULL, r->stream.n_inputs);
    return open_sink(r, err);
}

/* Stream, then write everything out even when a part failed: the first failure is kept in err. */
static void stream_all(struct run *r, ees_error *err) {
    unsigned n_exits = ees_model_get_info(r->model)->n_exits;
    stream_run(&r->stream, r->engine, &r->progress, n_exits, take_result, r, err);
    ees_sink_close(r->sink, err);
    r->sink = NULL;
    progress_close(&r->progress, r->engine, n_exits);
    summary_finish(&r->summary, r->engine, r->stream.n_pushed, err);
}

static void report(struct run *r, ees_error *err) {
    if (!r->o->quiet)
        summary_print(stderr, &r->summary);
    if (!r->o->summary_path)
        return;
    json_t *json = summary_json(&r->summary);
    json_object_set_new(json, "interrupted", json_boolean(stream_was_interrupted(&r->stream)));
    file_write_json(r->o->summary_path, json, err);
    json_decref(json);
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
    progress_close(&r->progress, NULL, 0);
    ees_engine_close(r->engine);
    truth_close(&r->truth);
    replay_close(&r->replay);
    ees_model_close(r->model);
    stream_fini(&r->stream);
}

enum exit_code verb_run(const struct options *o) {
    struct run r = {.o = o, .stream = {.stop_fd = -1}, .progress = {.fd = -1}};
    ees_error err = {0};
    if (open_all(&r, &err) == 0) {
        stream_all(&r, &err);
        report(&r, &err);
    }
    enum exit_code code = verdict(&r, &err);
    close_all(&r);
    return code;
}
