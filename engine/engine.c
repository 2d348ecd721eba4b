/* SPDX-License-Identifier: MIT */
/* The engine's front: open, push, pull, release, close. The threads behind it are in worker.c. */
#define _GNU_SOURCE
#include "engine/internal.h"

#include <sched.h>
#include <signal.h>
#include <string.h>

#include "common/clock.h"
#include "common/fail.h"
#include "engine/affinity.h"

void ees_engine_options_default(ees_engine_options *options) {
    *options = (ees_engine_options){.pin = true, .spin_ns = 20000};
}

/* ---- Open and close ------------------------------------------------------------------------------------ */

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

static int choose_plan(struct ees_engine *e, const ees_engine_options *o, ees_error *err) {
    const char *text = o->plan ? o->plan : "auto";
    if (strcmp(text, "auto") != 0)
        return ees_plan_parse(e->model, text, e->n_workers, &e->plan, err);
    if (e->n_workers == 1)
        return ees_plan_parse(e->model, "replicas", 1, &e->plan, err);
    double reach[EES_MAX_UNITS];
    EES_TRY(expected_reach(e, o, reach, err));
    if (o->profile)
        return ees_plan_solve(o->profile, reach, e->n_workers, &e->plan, err);
    ees_profile profile;
    ees_error measuring = {0};
    int rc = ees_profile_measure(e->model, NULL, 0, &profile, &measuring);
    if (rc == EES_EDAMAGED) /* the sample frame is beyond the model's limits, or the weights give no finite logits */
        return ees_plan_parse(e->model, "replicas", e->n_workers, &e->plan, err);
    if (rc < 0)
        return EES_FAIL(err, rc, "%s", measuring.message);
    return ees_plan_solve(&profile, reach, e->n_workers, &e->plan, err);
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
                return EES_FAIL(err, EES_EINVAL, "forced exit %u at position %zu: the model has exits 0 to %u (%u: final)",
                                e->replay[i], i, e->info->n_exits, e->info->n_exits);
        resolved.replay = e->replay;
        resolved.n_replay = options->n_replay;
    }
    return ees__policy_setup(e->model, &resolved, &e->policy, err);
}

static int make_slots(struct ees_engine *e, ees_error *err) {
    size_t state = ees__round_up(e->info->state_bytes, EES_CACHE_LINE);
    size_t logits = ees__round_up(e->info->n_classes * sizeof(float), EES_CACHE_LINE), each, total;
    if (!ees__add(state, logits, &each) || !ees__mul(each, e->n_slots, &total) ||
        !(e->memory = ees__calloc_aligned(total, 1)) || !(e->slots = ees__calloc_aligned(e->n_slots, sizeof *e->slots)))
        return EES_FAIL(err, EES_ENOMEM, "no memory for %u frame slots of %zu bytes", e->n_slots, state + logits);
    for (unsigned i = 0; i < e->n_slots; i++) {
        char *at = (char *)e->memory + i * each;
        e->slots[i].item.state = (float *)(void *)at;
        e->slots[i].item.logits = (float *)(void *)(at + state);
    }
    return 0;
}

/* Twice the slots: see push_until_in() in worker.c. */
static int make_rings(struct ees_engine *e, ees_error *err) {
    size_t window = 1;
    while (window < e->n_slots)
        window *= 2;
    e->window_mask = window - 1;
    e->window = ees__calloc_aligned(window, sizeof *e->window);
    e->queues = ees__calloc_aligned(e->plan.n_groups, sizeof *e->queues);
    bool ok = e->window && e->queues && ees__ring_init(&e->free_slots, 2 * e->n_slots, 0);
    for (unsigned g = 0; ok && g < e->plan.n_groups; g++)
        ok = ees__ring_init(&e->queues[g].ring, 2 * e->n_slots, 0);
    if (!ok)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %u queues of %u slots", e->plan.n_groups, e->n_slots);
    for (uint32_t i = 0; i < e->n_slots; i++)
        ees__ring_push(&e->free_slots, i);
    return 0;
}

/* Signals are the application's: workers block all, so that its handlers run on its own threads. */
static int start_worker(struct ees__worker *w, ees_error *err) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&w->thread, NULL, ees__worker_main, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return EES_FAIL_OS(err, EES_ENOMEM, rc, "worker thread %u cannot be started", w->idx);
    return 0;
}

static int start_workers(struct ees_engine *e, const int *cpus, unsigned n_cpus, bool pin, ees_error *err) {
    e->workers = ees__calloc_aligned(e->n_workers, sizeof *e->workers);
    if (!e->workers)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %u workers", e->n_workers);
    unsigned group = 0, left = e->plan.groups[0].n_workers;
    for (unsigned i = 0; i < e->n_workers; i++, left--) {
        if (left == 0)
            left = e->plan.groups[++group].n_workers;
        struct ees__worker *w = &e->workers[i];
        w->engine = e;
        w->idx = i;
        w->group = group;
        w->want_cpu = pin ? cpus[i % n_cpus] : -1;
        atomic_init(&w->cpu, -1);
        w->lane = ees__lane_open(e->model, 1);
        if (!w->lane)
            return EES_FAIL(err, EES_ENOMEM, "no memory for the scratch space of worker %u", i);
        EES_TRY(start_worker(w, err));
        e->n_started++;
    }
    return 0;
}

static int check_options(const ees_engine_options *o, ees_error *err) {
    if (o->n_workers > EES_MAX_WORKERS)
        return EES_FAIL(err, EES_EINVAL, "%u workers: at most %d", o->n_workers, EES_MAX_WORKERS);
    if (o->n_slots > 65536)
        return EES_FAIL(err, EES_EINVAL, "%u slots: at most 65536", o->n_slots);
    return 0;
}

static int open_engine(struct ees_engine *e, const ees_engine_options *o, ees_error *err) {
    int cpus[EES_MAX_WORKERS];
    unsigned n_cpus = ees__affinity_cpus(cpus, EES_MAX_WORKERS);
    EES_TRY(check_options(o, err));
    e->n_workers = o->n_workers ? o->n_workers : n_cpus;
    e->n_slots = o->n_slots ? o->n_slots : 4 * e->n_workers + 4;
    if (e->n_slots < e->n_workers + 1)
        return EES_FAIL(err, EES_EINVAL, "%u slots for %u workers: at least %u", e->n_slots, e->n_workers,
                        e->n_workers + 1);
    /* With more workers than cores a polling worker would only keep a working one from its core. */
    e->spin_ns = e->n_workers > n_cpus ? 0 : o->spin_ns;
    EES_TRY(set_policy(e, &o->policy, err));
    EES_TRY(choose_plan(e, o, err));
    EES_TRY(make_slots(e, err));
    EES_TRY(make_rings(e, err));
    return start_workers(e, cpus, n_cpus, o->pin, err);
}

int ees_engine_open(const ees_model *model, const ees_engine_options *options, ees_engine **out, ees_error *err) {
    ees_engine_options defaults;
    ees_engine_options_default(&defaults);
    struct ees_engine *e = ees__calloc_aligned(1, sizeof *e);
    if (!e)
        return EES_FAIL(err, EES_ENOMEM, "no memory for an engine");
    e->model = model;
    e->info = ees_model_get_info(model);
    ees__event_init(&e->work);
    ees__event_init(&e->room);
    ees__event_init(&e->answered);
    ees__histogram_init(&e->latency);
    int rc = open_engine(e, options ? options : &defaults, err);
    if (rc < 0) {
        ees_engine_close(e);
        return rc;
    }
    *out = e;
    return 0;
}

const ees_plan *ees_engine_get_plan(const ees_engine *engine) { return &engine->plan; }

static void stop_workers(struct ees_engine *e) {
    /* release, pairs with stopping() in worker.c. notify_all orders it before the wake-up of every sleeper. */
    atomic_store_explicit(&e->stop, true, memory_order_release);
    ees__event_notify_all(&e->work);
    for (unsigned i = 0; i < e->n_started; i++)
        pthread_join(e->workers[i].thread, NULL);
}

void ees_engine_close(ees_engine *e) {
    if (!e)
        return;
    stop_workers(e);
    for (unsigned i = 0; e->workers && i < e->n_workers; i++)
        ees__lane_close(e->workers[i].lane);
    for (unsigned i = 0; e->slots && i < e->n_slots; i++) {
        ees__slot_release_frame(&e->slots[i]);
        ees__free(e->slots[i].copy);
    }
    for (unsigned g = 0; e->queues && g < e->plan.n_groups; g++)
        ees__ring_fini(&e->queues[g].ring);
    ees__ring_fini(&e->free_slots);
    ees__free(e->queues);
    ees__free(e->window);
    ees__free(e->workers);
    ees__free(e->slots);
    ees__free(e->memory);
    ees__free(e->replay);
    ees__free(e);
}

/* ---- Push ---------------------------------------------------------------------------------------------- */

static uint64_t deadline_after(int64_t timeout_us) {
    return timeout_us < 0 ? UINT64_MAX : ees__now_ns() + (uint64_t)timeout_us * 1000;
}

static bool is_finished(struct ees_engine *e) {
    return atomic_load_explicit(&e->tickets, memory_order_relaxed) & EES__FINISHED; /* relaxed: an early hint */
}

/* A free slot, waiting for one until the deadline. @return 0, EES_EAGAIN, EES_ECANCELED */
static int take_free_slot(struct ees_engine *e, int64_t timeout_us, uint32_t *slot_idx) {
    uint64_t deadline_ns = deadline_after(timeout_us);
    if (is_finished(e))
        return EES_ECANCELED;
    for (bool in_time = timeout_us != 0; !ees__ring_pop(&e->free_slots, slot_idx);) {
        if (!in_time)
            return EES_EAGAIN;
        uint32_t key = ees__event_prepare(&e->room);
        bool got = ees__ring_pop(&e->free_slots, slot_idx), finished = is_finished(e);
        if (got || finished) {
            ees__event_cancel(&e->room);
            return got ? 0 : EES_ECANCELED;
        }
        in_time = ees__event_wait(&e->room, key, 0, deadline_ns);
    }
    return 0;
}

static void give_back_slot(struct ees_engine *e, uint32_t slot_idx) {
    while (!ees__ring_push(&e->free_slots, slot_idx))
        sched_yield(); /* as push_until_in() in worker.c */
    ees__event_notify(&e->room, EES__WAKE_ANY);
}

static int check_tensor(const struct ees_engine *e, const ees_frame *f, ees_error *err) {
    if (f->height_px != e->info->image_height_px || f->width_px != e->info->image_width_px)
        return EES_FAIL(err, EES_EINVAL, "tensor frame of %ux%u: the model takes %ux%u (width x height)", f->width_px,
                        f->height_px, e->info->image_width_px, e->info->image_height_px);
    return 0;
}

static int check_frame(const struct ees_engine *e, const ees_frame *f, ees_error *err) {
    if (f->error)
        return 0;
    if (f->kind < EES_FRAME_JPEG || f->kind > EES_FRAME_TENSOR)
        return EES_FAIL(err, EES_EINVAL, "frame kind %d is unknown", (int)f->kind);
    if (!f->data[0])
        return EES_FAIL(err, EES_EINVAL, "frame without data");
    return f->kind == EES_FRAME_TENSOR ? check_tensor(e, f, err) : 0;
}

/* Bytes of plane `i` of a frame; 0: it has none. */
static size_t plane_bytes(const ees_frame *f, unsigned i) {
    switch (f->kind) {
    case EES_FRAME_JPEG:
        return i == 0 ? f->bytes : 0;
    case EES_FRAME_RGB24:
        return i == 0 ? f->stride[0] * f->height_px : 0;
    case EES_FRAME_TENSOR:
        return i == 0 ? (size_t)3 * f->height_px * f->width_px * sizeof(float) : 0;
    case EES_FRAME_YUV:
        if (i > 0 && !f->data[1])
            return 0;
        return f->stride[i] *
               (i == 0 ? f->height_px : (f->height_px + (1u << f->chroma_shift_y) - 1) >> f->chroma_shift_y);
    }
    return 0;
}

/* The caller keeps its bytes: copy them into the slot. */
static int copy_frame(struct ees__slot *slot, ees_error *err) {
    ees_frame *f = &slot->frame;
    if (f->error) {
        slot->error_copy = *f->error;
        f->error = &slot->error_copy;
        return 0;
    }
    size_t bytes[3], total = 0;
    for (unsigned i = 0; i < 3; i++) {
        bytes[i] = plane_bytes(f, i);
        total += ees__round_up(bytes[i], EES_CACHE_LINE);
    }
    if (total > slot->copy_bytes) {
        void *copy = ees__calloc_aligned(total, 1);
        if (!copy)
            return EES_FAIL(err, EES_ENOMEM, "no memory to copy a frame of %zu bytes", total);
        ees__free(slot->copy);
        slot->copy = copy;
        slot->copy_bytes = total;
    }
    char *to = slot->copy;
    for (unsigned i = 0; i < 3; i++) {
        if (bytes[i] > 0) {
            memcpy(to, f->data[i], bytes[i]);
            f->data[i] = to;
        }
        to += ees__round_up(bytes[i], EES_CACHE_LINE);
    }
    return 0;
}

static int fill_slot(struct ees_engine *e, struct ees__slot *slot, const ees_frame *frame, ees_error *err) {
    float *state = slot->item.state, *logits = slot->item.logits;
    slot->item = (struct ees__item){.frame = &slot->frame, .state = state, .logits = logits, .exit_idx = -1};
    slot->frame = *frame;
    slot->next_unit = 0;
    slot->failed = false;
    slot->pushed_ns = ees__now_ns();
    if (!frame->release)
        EES_TRY(copy_frame(slot, err));
    uint64_t unset = 0;
    atomic_compare_exchange_strong_explicit(&e->first_push_ns, &unset, slot->pushed_ns, memory_order_relaxed,
                                            memory_order_relaxed); /* relaxed: statistics */
    return 0;
}

/* Draw the frame's place in the order. @return false: finished meanwhile */
static bool draw_ticket(struct ees_engine *e, uint64_t *seq) {
    uint64_t ticket = atomic_load_explicit(&e->tickets, memory_order_relaxed);
    do {
        if (ticket & EES__FINISHED)
            return false;
        /* acq_rel, pairs with itself on other pushing threads. Guards: pull's clearing of our place in the window. A frame a
         * whole window behind us has been pulled; whoever got a slot out of that drew an earlier ticket than we do, so
         * through it the clearing happens before our answer. If weaker: with a pusher that stalls between its slot and its
         * ticket, the clearing might wipe out the answer. */
    } while (!atomic_compare_exchange_weak_explicit(&e->tickets, &ticket, ticket + 1, memory_order_acq_rel,
                                                    memory_order_relaxed));
    *seq = ticket;
    return true;
}

int ees_engine_push(ees_engine *e, const ees_frame *frame, int64_t timeout_us, ees_error *err) {
    uint32_t slot_idx;
    EES_TRY(check_frame(e, frame, err));
    EES_TRY(take_free_slot(e, timeout_us, &slot_idx));
    struct ees__slot *slot = &e->slots[slot_idx];
    int rc = fill_slot(e, slot, frame, err);
    if (rc == 0 && !draw_ticket(e, &slot->item.seq))
        rc = EES_ECANCELED;
    if (rc < 0) {
        give_back_slot(e, slot_idx);
        return rc;
    }
    slot->frame_held = true;
    ees__engine_enqueue(e, 0, slot_idx);
    return 0;
}

void ees_engine_finish(ees_engine *e) {
    /* relaxed: the flag travels with the count in one word; the notifications below order it for sleepers. */
    atomic_fetch_or_explicit(&e->tickets, EES__FINISHED, memory_order_relaxed);
    ees__event_notify_all(&e->room);
    ees__event_notify_all(&e->answered);
}

/* ---- Pull ---------------------------------------------------------------------------------------------- */

static void fill_result(const struct ees_engine *e, struct ees__slot *slot, ees_result *out) {
    const struct ees__item *item = &slot->item;
    *out = (ees_result){.source_idx = slot->frame.source_idx,
                        .frame_idx = slot->frame.frame_idx,
                        .pts_ns = slot->frame.pts_ns,
                        .source = slot->frame.source,
                        .truth = slot->frame.truth,
                        .n_classes = e->info->n_classes,
                        .n_warnings = item->n_warnings,
                        .latency_ns = slot->done_ns - slot->pushed_ns,
                        .exit_idx = -1,
                        .class_idx = -1,
                        .slot = slot};
    if (slot->failed) {
        out->status = EES_STATUS_FAILED;
        out->error = &item->error;
        return;
    }
    out->status = EES_STATUS_OK;
    out->exit_idx = item->exit_idx;
    out->block = item->block;
    out->class_idx = (int)item->class_idx;
    out->label = ees_model_get_label(e->model, item->class_idx);
    out->confidence = item->confidence;
    out->entropy = item->entropy;
    out->logits = item->logits;
}

#define COUNT(counter, n) atomic_fetch_add_explicit(&(counter), (n), memory_order_relaxed)

/* pull runs on one thread at a time, so its own fields are plain; what get_stats reads is relaxed atomic. */
static void count_answer(struct ees_engine *e, const struct ees__slot *slot, const ees_result *r) {
    if (slot->done_ns < e->newest_done_ns)
        COUNT(e->reorder_wait_ns, e->newest_done_ns - slot->done_ns);
    else
        e->newest_done_ns = slot->done_ns;
    atomic_store_explicit(&e->last_done_ns, e->newest_done_ns, memory_order_relaxed);
    if (r->status == EES_STATUS_FAILED) {
        COUNT(e->n_failed, 1);
        return;
    }
    COUNT(e->n_ok, 1);
    COUNT(e->n_by_exit[r->exit_idx], 1);
    if (r->n_warnings > 0)
        COUNT(e->n_warned, 1);
    ees__histogram_add(&e->latency, r->latency_ns);
}

/* The next answer's slot. @return 0, EES_EAGAIN not there yet, EES_EOF */
static int next_answer(struct ees_engine *e, struct ees__slot **slot) {
    _Atomic uint32_t *place = &e->window[e->next_seq & e->window_mask];
    /* acquire, pairs with the release in retire(): the answer is complete. */
    uint32_t value = atomic_load_explicit(place, memory_order_acquire);
    if (value == 0)
        return atomic_load_explicit(&e->tickets, memory_order_relaxed) == (e->next_seq | EES__FINISHED) ? EES_EOF
                                                                                                        : EES_EAGAIN;
    /* relaxed: the place is used again a whole window later; draw_ticket() says what orders that. */
    atomic_store_explicit(place, 0, memory_order_relaxed);
    *slot = &e->slots[value - 1];
    e->next_seq++;
    return 0;
}

int ees_engine_pull(ees_engine *e, ees_result *out, int64_t timeout_us, ees_error *err) {
    uint64_t deadline_ns = deadline_after(timeout_us);
    struct ees__slot *slot = NULL;
    int rc = next_answer(e, &slot);
    for (bool in_time = timeout_us != 0; rc == EES_EAGAIN && in_time;) {
        uint32_t key = ees__event_prepare(&e->answered);
        rc = next_answer(e, &slot);
        if (rc != EES_EAGAIN) {
            ees__event_cancel(&e->answered);
        } else {
            in_time = ees__event_wait(&e->answered, key, 0, deadline_ns);
            rc = next_answer(e, &slot);
        }
    }
    if (rc < 0)
        return rc;
    fill_result(e, slot, out);
    count_answer(e, slot, out);
    return 0;
}

void ees_engine_release(ees_engine *e, ees_result *result) {
    struct ees__slot *slot = result->slot;
    result->slot = NULL;
    if (slot)
        give_back_slot(e, (uint32_t)(slot - e->slots));
}
