/* SPDX-License-Identifier: MIT */
/* Recording: every frame to full depth through the engine, each head's logits kept, and beside them what each unit
 * costs. */
#define _GNU_SOURCE
#include <string.h>
#include <unistd.h>

#include "tools/cli/calibrate/log.h"
#include "tools/cli/fail.h"
#include "tools/cli/profile_store.h"
#include "tools/cli/progress.h"
#include "tools/cli/stream.h"
#include "tools/cli/truth.h"

struct recording {
    struct log *log;
    const struct options *o;
    const ees_model *model;
    ees_engine *engine;
    struct stream stream;
    struct truth truth;
    struct progress progress;
    size_t n_foreign; /* frames whose true class the model does not know */
};

static int take_result(void *opaque, const ees_result *result, ees_error *err) {
    struct recording *r = opaque;
    struct log *l = r->log;
    size_t row = ((size_t)l->n_exits + 1) * l->n_classes;
    if (result->status != EES_STATUS_OK) {
        l->n_failed++;
        return 0;
    }
    CLI_TRY(log_reserve(l, err));
    int label = truth_of(&r->truth, result, r->model);
    r->n_foreign += label == -2;
    memcpy(l->logits + l->n * row, result->all_logits, row * sizeof *l->logits);
    memcpy(l->gates + l->n * l->n_exits, result->all_gates, l->n_exits * sizeof *l->gates);
    l->labels[l->n] = label >= 0 ? label : -1;
    l->inputs[l->n] = (int32_t)result->source_idx;
    l->frames[l->n] = (int64_t)result->frame_idx;
    l->n_labels += label >= 0;
    l->n++;
    return 0;
}

static int tick(void *opaque, ees_error *err) {
    struct recording *r = opaque;
    progress_tick(&r->progress, r->engine, r->log->n_exits, stream_expected(&r->stream));
    return 0;
}

/* Costs on the fastest kind of core, and how many of those the machine's workers are worth. */
static int measure_costs(struct recording *r, ees_profile *profile, ees_error *err) {
    struct log *l = r->log;
    ees_cores cores;
    unsigned n_of_type[EES_MAX_CORE_TYPES] = {0};
    double sum[EES_MAX_CORE_TYPES] = {0};
    CLI_TRY(profile_get(r->o, r->model, NULL, profile, err));
    CLI_TRY(ees_cores_detect(&cores, err));
    ees_cores_count(&cores, r->o->n_workers ? r->o->n_workers : cores.n_workers, n_of_type);
    for (unsigned u = 0; u < l->n_units; u++) {
        l->unit_ns[u] = (float)profile->types[0].cold_ns[u];
        for (unsigned t = 0; t < profile->n_types; t++)
            sum[t] += profile->types[t].cold_ns[u];
    }
    l->n_cores = 0;
    for (unsigned t = 0; t < cores.n_types; t++)
        l->n_cores += n_of_type[t] * (t < profile->n_types && sum[t] > 0 ? sum[0] / sum[t] : 1);
    log_sum_costs(l);
    return 0;
}

static int open_engine(struct recording *r, const ees_profile *profile, ees_error *err) {
    ees_engine_options e;
    ees_engine_options_default(&e);
    e.n_workers = r->o->n_workers;
    e.pin = !r->o->no_pin;
    e.plan = r->o->plan;
    e.profile = profile;
    e.policy.name = "none";
    e.all_logits = true;
    e.stream = stream_rule(&r->stream, 0);
    return ees_engine_open(r->model, &e, &r->engine, err);
}

static int open_all(struct recording *r, ees_error *err) {
    const struct options *o = r->o;
    ees_source_options source;
    static ees_profile profile;
    options_source(o, &source);
    CLI_TRY(stream_init(&r->stream, o->inputs, o->n_inputs, &source, err));
    r->stream.limit = o->limit;
    r->stream.verbose = o->verbose;
    r->stream.hashes = true;
    if (o->truth_path && r->stream.n_inputs > 1)
        return CLI_FAIL(err, EES_EINVAL, "--truth names frames of one input, %zu are given", r->stream.n_inputs);
    CLI_TRY(stream_catch_signals(&r->stream, err));
    CLI_TRY(stream_open_first(&r->stream, err));
    if (o->truth_path)
        CLI_TRY(truth_open(&r->truth, o->truth_path, r->model, err));
    CLI_TRY(log_init(r->log, r->model, err));
    CLI_TRY(measure_costs(r, &profile, err));
    CLI_TRY(progress_open(&r->progress, NULL, o->quiet, err));
    return open_engine(r, &profile, err);
}

/* What makes the recording fit for use. */
static int finish(struct recording *r, ees_error *err) {
    struct log *l = r->log;
    if (stream_was_interrupted(&r->stream))
        return CLI_FAIL(err, EES_ECANCELED, "interrupted: a part of the frames calibrates nothing");
    if (r->stream.source_failure)
        return CLI_FAIL(err, r->stream.source_failure, "an input was not read to its end: nothing is calibrated");
    if (l->n == 0)
        return CLI_FAIL(err, EES_ESOURCE, "no frame could be used, %zu failed", l->n_failed);
    if (r->truth.rows && l->n_labels == 0)
        return CLI_FAIL(err, EES_EINVAL, "%s names none of the %zu frames", r->o->truth_path, l->n);
    if (r->n_foreign > 0 && l->n_labels == 0)
        return CLI_FAIL(err, EES_EINVAL, "none of the folders is named like a class of the model (%s, ...)",
                        ees_model_get_label(r->model, 0));
    uint64_t hash = ees_hash64(l->labels, l->n * sizeof *l->labels, r->stream.data_hash);
    snprintf(l->data_hash, sizeof l->data_hash, "xxh64:%016llx", (unsigned long long)hash);
    return 0;
}

static int record(struct log *l, const struct options *o, const ees_model *model, ees_error *err) {
    struct recording r = {.log = l, .o = o, .model = model, .stream = {.stop_fd = -1}, .progress = {.fd = -1}};
    const struct stream_events events = {.result = take_result, .tick = tick, .opaque = &r};
    int rc = open_all(&r, err);
    if (rc == 0)
        rc = stream_run(&r.stream, r.engine, &events, err);
    if (rc == EES_ESTALLED) /* closing the engine would wait for the stuck worker */
        _exit((int)leave_with(err, o->verbose));
    progress_close(&r.progress, r.engine, l->n_exits);
    if (rc == 0)
        rc = finish(&r, err);
    ees_engine_close(r.engine);
    truth_close(&r.truth);
    stream_fini(&r.stream);
    if (rc < 0)
        log_fini(l);
    return rc;
}

int log_open_model(const struct options *o, ees_model **out, ees_error *err) {
    struct options plain = *o;
    plain.certificate = "none";
    return options_open_model(&plain, NULL, out, err);
}

int log_obtain(struct log *l, const struct options *o, const ees_model *model, ees_error *err) {
    if (o->n_inputs == 0)
        return log_load(l, o->log_path, err);
    CLI_TRY(record(l, o, model, err));
    return o->log_path ? log_save(l, o->log_path, err) : 0;
}
