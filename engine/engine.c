/* SPDX-License-Identifier: MIT */
/* Opening and closing an engine. Frames go through stream.c (in), worker.c, answers.c (out); governor.c watches. */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>

#include "common/fail.h"
#include "engine/affinity.h"
#include "engine/internal.h"

void ees_engine_options_default(ees_engine_options *options) {
    *options = (ees_engine_options){.pin = true, .spin_ns = 20000, .replan = true, .stall_ns = UINT64_C(10000000000)};
    ees_stream_options_default(&options->stream);
}

/* ---- Plan ---------------------------------------------------------------------------------------------- */

/* Reach probabilities for "auto": the caller's exit shares, else the replay's, else full depth. */
static int expected_reach(struct ees_engine *e, const ees_engine_options *o, double *reach, ees_error *err) {
    double share[EES_MAX_EXITS + 1] = {0};
    const double *given = o->exit_share;
    if (!e->policy.policy && !e->policy.replay) {
        given = NULL; /* full depth: nobody leaves early */
    } else if (!given && e->policy.replay) {
        for (size_t i = 0; i < e->policy.n_replay; i++)
            share[e->policy.replay[i]] += 1;
        given = share;
    }
    return ees_plan_reach(e->model, given, reach, err);
}

/* The profile for "auto": the caller's or measured now into `measured`. @return NULL without a failure: the sample frame is
 * beyond the model's limits, or the weights give no finite logits */
static int find_profile(struct ees_engine *e, const ees_engine_options *o, ees_profile *measured,
                        const ees_profile **out, ees_error *err) {
    ees_error measuring = {0};
    *out = o->profile;
    if (o->profile)
        return 0;
    int rc = ees_profile_measure(e->model, NULL, 0, &e->cores, measured, &measuring);
    if (rc == EES_EDAMAGED)
        return 0;
    if (rc < 0)
        return EES_FAIL(err, rc, "%s", measuring.message);
    *out = measured;
    return 0;
}

/* "auto": solved, and followed from then on by the governor, which keeps the profile. */
static int solve_plan(struct ees_engine *e, const ees_engine_options *o, ees_error *err) {
    double reach[EES_MAX_UNITS];
    unsigned n_of_type[EES_MAX_CORE_TYPES] = {0};
    const ees_profile *profile = NULL;
    EES_TRY(expected_reach(e, o, reach, err));
    e->profile = ees__calloc_aligned(1, sizeof *e->profile);
    if (!e->profile)
        return EES_FAIL(err, EES_ENOMEM, "no memory for a profile");
    EES_TRY(find_profile(e, o, e->profile, &profile, err));
    if (!profile) {
        ees__free(e->profile);
        e->profile = NULL;
        return ees_plan_parse(e->model, "replicas", e->n_workers, &e->plan, err);
    }
    if (profile != e->profile)
        ees_profile_scale(profile, &e->cores, e->profile);
    ees_cores_count(&e->cores, e->n_workers, n_of_type);
    return ees_plan_solve(e->profile, reach, n_of_type, &e->plan, err);
}

/* A plan as written; where costs are known its groups get the core types that suit them. */
static int parse_plan(struct ees_engine *e, const ees_engine_options *o, const char *text, ees_error *err) {
    double reach[EES_MAX_UNITS];
    unsigned n_of_type[EES_MAX_CORE_TYPES] = {0};
    EES_TRY(ees_plan_parse(e->model, text, e->n_workers, &e->plan, err));
    if (!o->profile || o->profile->n_types != e->cores.n_types)
        return 0;
    EES_TRY(expected_reach(e, o, reach, err));
    ees_cores_count(&e->cores, e->n_workers, n_of_type);
    return ees_plan_predict(o->profile, reach, n_of_type, &e->plan, err);
}

static int choose_plan(struct ees_engine *e, const ees_engine_options *o, ees_error *err) {
    const char *text = o->plan ? o->plan : "auto";
    if (strcmp(text, "auto") != 0)
        return parse_plan(e, o, text, err);
    if (e->n_workers == 1 && !o->profile)
        return parse_plan(e, o, "replicas", err);
    return solve_plan(e, o, err);
}

/* Frames of a micro-batch: as the plan says, as the caller says, none when latency counts. */
static void choose_batch(struct ees_engine *e, const ees_engine_options *o) {
    e->max_batch = 1;
    if (o->hint == EES_HINT_LATENCY)
        return;
    for (unsigned u = 0; u < e->info->n_units && o->max_batch > 0; u++)
        e->plan.batch[u] = (uint8_t)o->max_batch;
    e->max_batch = ees__largest_batch(&e->plan, o->max_batch == 0 && o->replan ? e->profile : NULL);
}

static int set_policy(struct ees_engine *e, const ees_policy_options *options, ees_error *err) {
    ees_policy_options resolved;
    EES_TRY(ees_policy_resolve(e->model, options, &resolved, err));
    if (options->replay && options->n_replay > 0) {
        e->replay = ees__calloc_aligned(options->n_replay, 1);
        if (!e->replay)
            return EES_FAIL(err, EES_ENOMEM, "no memory for %zu forced exits", options->n_replay);
        memcpy(e->replay, options->replay, options->n_replay);
        for (size_t i = 0; i < options->n_replay; i++)
            if (e->replay[i] > e->info->n_exits)
                return EES_FAIL(err, EES_EINVAL,
                                "forced exit %u at position %zu: the model has exits 0 to %u (%u: final)", e->replay[i],
                                i, e->info->n_exits, e->info->n_exits);
        resolved.replay = e->replay;
        resolved.n_replay = options->n_replay;
    }
    return ees__policy_setup(e->model, &resolved, &e->policy, err);
}

/* Frames that depend on earlier ones (follow.h) need those to leave first. */
static int find_reference_unit(struct ees_engine *e, const ees_engine_options *o, ees_error *err) {
    if (o->unordered && (e->policy.lag || ees__skips(e)))
        return EES_FAIL(err, EES_EINVAL, "%s follows the frames of a stream: not with unordered answers",
                        e->policy.lag ? "a policy with a lag" : "skipping frames that hardly changed");
    e->reference_unit = e->info->n_units;
    for (unsigned u = e->info->n_units; u > 0 && e->policy.lag; u--)
        if (ees_model_get_unit(e->model, u - 1)->exit_idx == 0)
            e->reference_unit = u - 1;
    return 0;
}

/* ---- Memory -------------------------------------------------------------------------------------------- */

/* Records for dropped frames: as many again, four times over, as wait for their turn behind frames that take longest. */
enum { RECORDS_PER_SLOT = 5 };

static int make_slots(struct ees_engine *e, ees_error *err) {
    size_t state = ees__round_up(e->info->state_bytes, EES_CACHE_LINE);
    size_t logits = ees__round_up(e->info->n_classes * sizeof(float), EES_CACHE_LINE), each, total;
    size_t policy = ees__round_up(e->policy.memory_floats * sizeof(float), EES_CACHE_LINE);
    size_t picture = ees__skips(e) ? ees__round_up(ees__picture_floats(e->model) * sizeof(float), EES_CACHE_LINE) : 0;
    size_t n_all = ees__all_logits_floats(e->info->n_exits, e->info->n_classes);
    size_t all = e->options.all_logits ? ees__round_up(n_all * sizeof(float), EES_CACHE_LINE) : 0;
    e->n_records = RECORDS_PER_SLOT * e->n_slots;
    if (!ees__add(state, logits + policy + picture + all, &each) || !ees__mul(each, e->n_slots, &total) ||
        !(e->memory = ees__calloc_aligned(total, 1)) ||
        !(e->slots = ees__calloc_aligned(e->n_records, sizeof *e->slots)))
        return EES_FAIL(err, EES_ENOMEM, "no memory for %u frame slots of %zu bytes", e->n_slots, state + logits);
    for (unsigned i = 0; i < e->n_slots; i++) {
        char *at = (char *)e->memory + i * each;
        e->slots[i].item.state = (float *)(void *)at;
        e->slots[i].item.logits = (float *)(void *)(at + state);
        e->slots[i].item.policy_memory = policy ? (float *)(void *)(at + state + logits) : NULL;
        e->slots[i].picture = picture ? (float *)(void *)(at + state + logits + policy) : NULL;
        e->slots[i].item.all_logits = all ? (float *)(void *)(at + state + logits + policy + picture) : NULL;
    }
    return 0;
}

/* Rings have room for every number twice over, as ees__ring_push_until_in() wants it. */
static int make_rings(struct ees_engine *e, ees_error *err) {
    for (e->window_mask = 1; e->window_mask < e->n_records; e->window_mask *= 2)
        ;
    e->window_mask--;
    e->latency_by_exit = ees__calloc_aligned(e->info->n_exits + 1, sizeof *e->latency_by_exit);
    if (!e->latency_by_exit || !ees__ring_init(&e->free_slots, 2 * e->n_slots, 0) ||
        !ees__ring_init(&e->free_records, 2 * e->n_records, 0) || !ees__ring_init(&e->answers, 2 * e->n_records, 0) ||
        !ees__sched_init(&e->sched, e->info->n_units, e->n_workers, e->n_records, e->options.take))
        return EES_FAIL(err, EES_ENOMEM, "no memory for queues of %u frames", e->n_records);
    for (unsigned i = 0; i <= e->info->n_exits; i++)
        ees__histogram_init(&e->latency_by_exit[i]);
    for (uint32_t i = 0; i < e->n_records; i++)
        ees__ring_push(i < e->n_slots ? &e->free_slots : &e->free_records, i);
    return 0;
}

/* ---- Workers ------------------------------------------------------------------------------------------- */

static int init_worker(struct ees_engine *e, unsigned idx, ees_error *err) {
    struct ees__worker *w = &e->workers[idx];
    w->engine = e;
    w->idx = idx;
    w->type = e->cores.type[idx % e->cores.n_cores];
    atomic_init(&w->cpu, -1);
    atomic_init(&w->unit, e->info->n_units);
    ees__leader_init(&w->leader, e, e->n_workers);
    w->lane = ees__lane_open(e->model, e->max_batch);
    if (!w->lane || !ees__trace_init(&w->trace, e->options.trace_events))
        return EES_FAIL(err, EES_ENOMEM, "no memory for the scratch space of worker %u", idx);
    return 0;
}

int ees__thread_start(pthread_t *thread, void *(*run)(void *), void *arg) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

/* All are made before the first one starts: workers look at each other. */
static int start_workers(struct ees_engine *e, ees_error *err) {
    e->workers = ees__calloc_aligned(e->n_workers, sizeof *e->workers);
    if (!e->workers)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %u workers", e->n_workers);
    uint8_t types[EES_MAX_WORKERS];
    for (unsigned w = 0; w < e->n_workers; w++) {
        EES_TRY(init_worker(e, w, err));
        types[w] = e->workers[w].type;
    }
    ees__sched_publish(&e->sched, &e->plan, types, e->max_batch);
    for (unsigned w = 0; w < e->n_workers; w++) {
        int error = ees__thread_start(&e->workers[w].thread, ees__worker_main, &e->workers[w]);
        if (error)
            return EES_FAIL_OS(err, EES_ENOMEM, error, "worker thread %u cannot be started", w);
        e->n_started++;
    }
    return 0;
}

/* ---- Open and close ------------------------------------------------------------------------------------ */

static int check_options(const ees_engine_options *o, ees_error *err) {
    if (o->n_workers > EES_MAX_WORKERS)
        return EES_FAIL(err, EES_EINVAL, "%u workers: at most %d", o->n_workers, EES_MAX_WORKERS);
    if (o->n_slots > 65536)
        return EES_FAIL(err, EES_EINVAL, "%u slots: at most 65536", o->n_slots);
    if (o->max_batch > EES__MAX_BATCH)
        return EES_FAIL(err, EES_EINVAL, "micro-batches of %u frames: at most %d", o->max_batch, EES__MAX_BATCH);
    if (o->trace_events > 1u << 24)
        return EES_FAIL(err, EES_EINVAL, "%u trace events a worker: at most %u", o->trace_events, 1u << 24);
    if ((unsigned)o->hint > EES_HINT_LATENCY || (unsigned)o->take > EES_TAKE_UPSTREAM)
        return EES_FAIL(err, EES_EINVAL, "hint %d or take order %d is unknown", (int)o->hint, (int)o->take);
    return 0;
}

static int choose_sizes(struct ees_engine *e, const ees_engine_options *o, ees_error *err) {
    e->n_slots = o->n_slots ? o->n_slots : ees__default_slots(e->n_workers, e->max_batch);
    if (e->n_slots < e->n_workers + 1)
        return EES_FAIL(err, EES_EINVAL, "%u slots for %u workers: at least %u", e->n_slots, e->n_workers,
                        e->n_workers + 1);
    return 0;
}

static int open_engine(struct ees_engine *e, ees_error *err) {
    const ees_engine_options *o = &e->options;
    unsigned stream;
    EES_TRY(check_options(o, err));
    EES_TRY(ees_cores_detect(&e->cores, err));
    e->n_workers = o->n_workers ? o->n_workers : e->cores.n_workers;
    EES_TRY(set_policy(e, &o->policy, err));
    EES_TRY(find_reference_unit(e, o, err));
    EES_TRY(choose_plan(e, o, err));
    choose_batch(e, o);
    EES_TRY(choose_sizes(e, o, err));
    EES_TRY(make_slots(e, err));
    EES_TRY(make_rings(e, err));
    EES_TRY(ees__stream_add(e, &o->stream, &stream, err));
    EES_TRY(ees__audits_init(e, err));
    EES_TRY(start_workers(e, err));
    return ees__governor_start(e, err);
}

int ees_engine_open(const ees_model *model, const ees_engine_options *options, ees_engine **out, ees_error *err) {
    struct ees_engine *e = ees__calloc_aligned(1, sizeof *e);
    if (!e)
        return EES_FAIL(err, EES_ENOMEM, "no memory for an engine");
    if (options)
        e->options = *options;
    else
        ees_engine_options_default(&e->options);
    e->model = model;
    e->info = ees_model_get_info(model);
    pthread_mutex_init(&e->lock, NULL);
    ees__event_init(&e->work);
    ees__event_init(&e->room);
    ees__event_init(&e->answered);
    ees__event_init(&e->tick);
    int rc = open_engine(e, err);
    /* What the caller lent was needed for opening only. */
    e->options.plan = NULL;
    e->options.profile = NULL;
    e->options.exit_share = NULL;
    e->options.policy = (ees_policy_options){0};
    if (rc < 0) {
        ees_engine_close(e);
        return rc;
    }
    *out = e;
    return 0;
}

static void stop_workers(struct ees_engine *e) {
    /* relaxed: nothing is published with it; notify_all orders it before the wake-up of every sleeper. Test: proof_event. */
    atomic_store_explicit(&e->stop, true, memory_order_relaxed);
    ees__event_notify_all(&e->work);
    for (unsigned i = 0; i < e->n_started; i++)
        pthread_join(e->workers[i].thread, NULL);
}

static void free_all(struct ees_engine *e) {
    for (unsigned i = 0; e->workers && i < e->n_workers; i++) {
        ees__lane_close(e->workers[i].lane);
        ees__trace_fini(&e->workers[i].trace);
    }
    for (unsigned i = 0; e->slots && i < e->n_records; i++) {
        ees__slot_release_frame(&e->slots[i]);
        ees__free(e->slots[i].copy);
    }
    for (unsigned i = 0; i < e->n_streams; i++)
        ees__stream_free(e->streams[i]);
    ees__audits_fini(&e->audits);
    ees__sched_fini(&e->sched);
    ees__ring_fini(&e->free_slots);
    ees__ring_fini(&e->free_records);
    ees__ring_fini(&e->answers);
    ees__free(e->latency_by_exit);
    ees__free(e->workers);
    ees__free(e->slots);
    ees__free(e->memory);
    ees__free(e->replay);
    ees__free(e->profile);
    pthread_mutex_destroy(&e->lock);
    ees__free(e);
}

void ees_engine_close(ees_engine *e) {
    if (!e)
        return;
    ees__governor_stop(e);
    stop_workers(e);
    free_all(e);
}

void ees_engine_get_plan(const ees_engine *engine, ees_plan *out) {
    struct ees_engine *e = (struct ees_engine *)engine;
    pthread_mutex_lock(&e->lock);
    *out = e->plan;
    pthread_mutex_unlock(&e->lock);
}
