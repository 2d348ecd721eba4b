/* SPDX-License-Identifier: MIT */
/* A worker: takes frames (sched.c says which), runs them to the end of their group's units or to their exit, hands them on.
 * One stretch of that is a visit; it has one frame, or a micro-batch of frames at the same position. Frames that exit leave
 * the batch, the others close up. */
#define _GNU_SOURCE
#include "common/clock.h"
#include "engine/affinity.h"
#include "engine/internal.h"
#include "engine/relaxed.h"

/* Frames that run together. slots[i] and items[i] belong together; those that left are gone from both. */
struct visit {
    struct ees__worker *w;
    unsigned group, first_unit, unit; /* next */
    unsigned n_taken, n;
    uint64_t start_ns, now_ns;
    uint32_t slots[EES__MAX_BATCH];
    struct ees__item *items[EES__MAX_BATCH];
    int rc[EES__MAX_BATCH];
    uint32_t left[EES__MAX_BATCH]; /* slots that have their answer, until settle() gives it out */
    uint32_t held[EES__MAX_BATCH]; /* slots that wait for another frame (follow.h), until settle() lets them go */
    unsigned n_left, n_held;
    uint64_t seq; /* of the first frame, and its stream: for the trace */
    uint32_t stream;
};

/* ---- Leaving ------------------------------------------------------------------------------------------- */

/* Write down what this visit did to a frame. Beyond EES_MAX_VISITS the last entry adds up. */
static void record_visit(const struct visit *v, struct ees__slot *slot) {
    bool full = slot->n_visits == EES_MAX_VISITS;
    ees_visit *at = &slot->visits[full ? EES_MAX_VISITS - 1 : slot->n_visits++];
    uint64_t wait_ns = v->start_ns > slot->queued_ns ? v->start_ns - slot->queued_ns : 0;
    if (!full)
        *at = (ees_visit){
            .group = (uint16_t)v->group, .first_unit = (uint16_t)v->first_unit, .n_batch = (uint16_t)v->n_taken};
    at->worker = (uint16_t)v->w->idx;
    at->end_unit = (uint16_t)v->unit;
    at->wait_ns += wait_ns;
    at->run_ns += v->now_ns - v->start_ns;
}

/* Frame i of the visit has its answer. */
static void leave(struct visit *v, unsigned i, enum ees_status status, enum ees_early early) {
    struct ees__slot *slot = &v->w->engine->slots[v->slots[i]];
    slot->status = status;
    slot->early = early;
    record_visit(v, slot);
    v->left[v->n_left++] = v->slots[i];
}

static void keep(struct visit *v, unsigned i, unsigned *n_kept) {
    v->slots[*n_kept] = v->slots[i];
    v->items[*n_kept] = v->items[i];
    ++*n_kept;
}

/* Frame i goes on once an earlier frame of its stream is as far as it needs. */
static void hold(struct visit *v, unsigned i) {
    struct ees__slot *slot = &v->w->engine->slots[v->slots[i]];
    record_visit(v, slot);
    slot->queued_ns = v->now_ns;
    v->w->engine->sched.slots[v->slots[i]].unit = (uint16_t)v->unit;
    v->held[v->n_held++] = v->slots[i];
}

static void trace_visit(const struct visit *v) {
    struct ees__worker *w = v->w;
    if (ees__trace_is_on(&w->trace))
        ees__trace_tell(&w->trace, &(ees_trace_event){.kind = EES_TRACE_VISIT,
                                                      .worker = (uint16_t)w->idx,
                                                      .group = (uint16_t)v->group,
                                                      .unit = (uint16_t)v->first_unit,
                                                      .n_batch = (uint16_t)v->n_taken,
                                                      .stream = v->stream,
                                                      .seq = v->seq,
                                                      .start_ns = v->start_ns,
                                                      .length_ns = v->now_ns - v->start_ns});
}

static void end_visit(const struct visit *v) {
    struct ees__worker *w = v->w;
    struct ees_engine *e = w->engine;
    STORE(w->unit, e->info->n_units);
    COUNT_OWN(w->busy_ns, v->now_ns - v->start_ns);
    if (e->options.hint == EES_HINT_LATENCY)
        ees__leader_end(e);
    trace_visit(v);
}

/* Give out the answers there are, and let go of frames that wait. Behind the last frame's the visit may never be heard of
 * again, so it is told before: who has pulled every answer finds complete counters and a complete trace. */
static void settle(struct visit *v) {
    struct ees_engine *e = v->w->engine;
    if (v->n == 0 && v->n_left + v->n_held > 0)
        end_visit(v);
    for (unsigned i = 0; i < v->n_left; i++) {
        if (e->slots[v->left[i]].status == EES_STATUS_OK && v->unit < e->info->n_units)
            ees__audits_consider(e, v->left[i], v->unit);
        ees__answer(e, v->left[i]);
    }
    for (unsigned i = 0; i < v->n_held; i++)
        (e->slots[v->held[i]].passed ? ees__follow_wait : ees__follow_arrive)(e, v->held[i]);
    v->n_left = v->n_held = 0;
}

/* ---- Before a unit ------------------------------------------------------------------------------------- */

/* What the worker knows a frame's share of this unit to cost. */
static uint64_t mean_ns(const struct ees__worker *w, unsigned unit) {
    uint64_t runs = LOAD(w->unit_runs[unit]);
    return runs ? LOAD(w->unit_ns[unit]) / runs : 0;
}

/* Frames whose deadline would pass inside this unit leave with the best answer so far. Those without one are dropped, or, in
 * a stream that drops nothing, go on to their first head. */
static void keep_deadlines(struct visit *v) {
    struct ees_engine *e = v->w->engine;
    uint64_t end_ns = v->now_ns + mean_ns(v->w, v->unit) * v->n;
    unsigned n_kept = 0;
    for (unsigned i = 0; i < v->n; i++) {
        struct ees__slot *slot = &e->slots[v->slots[i]];
        bool block = ees__stream_at(e, slot->stream)->options.overload == EES_OVERLOAD_BLOCK;
        if (end_ns <= slot->deadline_ns)
            keep(v, i, &n_kept);
        else if (slot->item.exit_idx >= 0)
            leave(v, i, EES_STATUS_OK, EES_EARLY_DEADLINE);
        else if (block || v->now_ns <= slot->deadline_ns) /* no answer yet: until the deadline itself it may get one */
            keep(v, i, &n_kept);
        else
            leave(v, i, EES_STATUS_DROPPED, EES_EARLY_NONE);
    }
    v->n = n_kept;
    settle(v);
}

/* Before the first exit: frames whose reference has no answer yet wait for it. */
static void keep_referenced(struct visit *v) {
    struct ees_engine *e = v->w->engine;
    unsigned n_kept = 0;
    if (v->unit != e->reference_unit)
        return;
    for (unsigned i = 0; i < v->n; i++) {
        if (ees__follow_ready(e, &e->slots[v->slots[i]]))
            keep(v, i, &n_kept);
        else
            hold(v, i);
    }
    v->n = n_kept;
    settle(v);
}

/* Frames that their source found damaged fail at once. */
static void fail_damaged(struct visit *v) {
    unsigned n_kept = 0;
    for (unsigned i = 0; i < v->n; i++) {
        struct ees__slot *slot = &v->w->engine->slots[v->slots[i]];
        if (slot->frame.error) {
            slot->item.error = *slot->frame.error;
            leave(v, i, EES_STATUS_FAILED, EES_EARLY_NONE);
        } else {
            keep(v, i, &n_kept);
        }
    }
    v->n = n_kept;
    settle(v);
}

/* ---- Running ------------------------------------------------------------------------------------------- */

static void count_unit(struct visit *v, uint64_t then_ns) {
    struct ees__worker *w = v->w;
    COUNT_OWN(w->unit_runs[v->unit], v->n);
    COUNT_OWN(w->unit_ns[v->unit], v->now_ns - then_ns);
    if (ees__trace_is_on(&w->trace)) {
        const struct ees__slot *slot = &w->engine->slots[v->slots[0]];
        ees__trace_tell(&w->trace, &(ees_trace_event){.kind = EES_TRACE_UNIT,
                                                      .worker = (uint16_t)w->idx,
                                                      .group = (uint16_t)v->group,
                                                      .unit = (uint16_t)v->unit,
                                                      .n_batch = (uint16_t)v->n,
                                                      .stream = slot->stream,
                                                      .seq = slot->item.seq,
                                                      .start_ns = then_ns,
                                                      .length_ns = v->now_ns - then_ns});
    }
}

/* Run the next unit on all frames together where batches pay, else one after the other. */
static void compute(struct visit *v) {
    struct ees__worker *w = v->w;
    struct ees_engine *e = w->engine;
    bool shares = e->options.hint == EES_HINT_LATENCY && e->n_workers > 1;
    struct ees__team *team = shares ? &w->leader.team : NULL;
    unsigned step = LOAD(e->sched.batch_of[v->unit]);
    for (unsigned i = 0; i < v->n; i += step) {
        unsigned n = v->n - i < step ? v->n - i : step;
        ees__unit_run(e->model, &e->policy, v->unit, v->items + i, n, v->rc + i, w->lane, team);
    }
}

static void run_unit(struct visit *v) {
    struct ees__worker *w = v->w;
    struct ees_engine *e = w->engine;
    uint64_t then_ns = v->now_ns;
    STORE(w->since_ns, then_ns);
    STORE(w->unit, v->unit); /* relaxed, both: for the watchdog's eyes */
    compute(v);
    v->now_ns = ees__now_ns();
    count_unit(v, then_ns);
    if (v->unit == 0)
        for (unsigned i = 0; i < v->n; i++)
            ees__slot_release_frame(&e->slots[v->slots[i]]);
    v->unit++;
    unsigned n_kept = 0;
    for (unsigned i = 0; i < v->n; i++) {
        if (v->rc[i] == EES__UNIT_NEXT && v->unit == 1 && ees__skips(e))
            hold(v, i);
        else if (v->rc[i] == EES__UNIT_NEXT)
            keep(v, i, &n_kept);
        else if (v->rc[i] == EES__UNIT_DONE)
            leave(v, i, EES_STATUS_OK, v->items[i]->degraded ? EES_EARLY_DEGRADED : EES_EARLY_NONE);
        else
            leave(v, i, EES_STATUS_FAILED, EES_EARLY_NONE);
    }
    v->n = n_kept;
    settle(v);
}

static void begin_visit(struct visit *v, struct ees__worker *w, const struct ees__taken *taken) {
    struct ees_engine *e = w->engine;
    *v = (struct visit){.w = w, .group = taken->group, .n_taken = taken->n, .n = taken->n};
    v->first_unit = v->unit = e->sched.slots[taken->slots[0]].unit;
    for (unsigned i = 0; i < v->n; i++) {
        v->slots[i] = taken->slots[i];
        v->items[i] = &e->slots[taken->slots[i]].item;
        struct ees__stream *s = ees__stream_at(e, e->slots[taken->slots[i]].stream);
        v->items[i]->degrade = (float)LOAD(s->degrade_permille) * 1e-3f;
    }
    v->stream = e->slots[v->slots[0]].stream;
    v->seq = v->items[0]->seq;
    v->start_ns = v->now_ns = ees__now_ns();
    COUNT_OWN(w->n_runs, v->n);
    COUNT_OWN(w->n_batched, v->n > 1 ? v->n : 0);
    COUNT_OWN(w->n_helped, v->group == LOAD(e->sched.home[w->idx]) ? 0 : v->n);
    if (e->options.hint == EES_HINT_LATENCY)
        ees__leader_begin(e);
}

/* Frames that are not done wait for the next group. */
static void hand_on(struct visit *v) {
    struct ees_engine *e = v->w->engine;
    for (unsigned i = 0; i < v->n; i++) {
        struct ees__slot *slot = &e->slots[v->slots[i]];
        record_visit(v, slot);
        slot->queued_ns = v->now_ns;
        e->sched.slots[v->slots[i]].unit = (uint16_t)v->unit;
        ees__event_notify(&e->work, (int)ees__sched_put(&e->sched, v->slots[i]));
    }
}

static void visit(struct ees__worker *w, const struct ees__taken *taken) {
    struct visit v;
    begin_visit(&v, w, taken);
    unsigned end = ees__sched_end(&w->engine->sched, v.unit);
    if (v.unit == 0)
        fail_damaged(&v);
    while (v.n > 0 && v.unit < end) {
        keep_deadlines(&v);
        keep_referenced(&v);
        if (v.n > 0)
            run_unit(&v);
    }
    if (v.n > 0) {
        end_visit(&v);
        hand_on(&v);
    }
}

/* ---- Taking and waiting -------------------------------------------------------------------------------- */

static bool stopping(struct ees_engine *e) { return LOAD(e->stop); } /* relaxed: see stop_workers() */

static bool take(struct ees__worker *w, struct ees__taken *taken) {
    struct ees_engine *e = w->engine;
    if (!ees__sched_take(&e->sched, w->idx, taken))
        return false;
    /* Two frames may become visible to one woken sleeper (ring.h: a producer preempted mid-push hides those behind it);
     * pass the wake-up on. */
    if (ees__event_has_waiters(&e->work) && ees__sched_waiting(&e->sched) > 0)
        ees__event_notify(&e->work, EES__WAKE_ANY);
    return true;
}

/* Something to do beside frames: pieces of another worker's unit, or an audit. */
static bool do_side_work(struct ees__worker *w) {
    if (w->engine->options.hint == EES_HINT_LATENCY && ees__team_help(w))
        return true;
    return ees__audits_run(w);
}

/* Poll for spin_ns, then sleep. A hand-over takes well under a microsecond, a futex wake-up tens: polling a little
 * longer than a wake-up costs catches the frames that are about to arrive; bounded, so an idle engine uses no CPU. While a
 * worker leads (EES_HINT_LATENCY), pieces turn up faster than anybody wakes: polling goes on.
 * @return false: nothing came and it is told to stop */
static bool wait_for_work(struct ees__worker *w, struct ees__taken *taken) {
    struct ees_engine *e = w->engine;
    for (;;) {
        uint64_t spin_ns = LOAD(e->spin_ns), until_ns = ees__now_ns() + spin_ns;
        bool teams = e->options.hint == EES_HINT_LATENCY && spin_ns > 0;
        do {
            if (take(w, taken))
                return true;
            if (do_side_work(w))
                until_ns = ees__now_ns() + spin_ns;
            else
                ees__pause_cpu();
        } while (ees__now_ns() < until_ns || (teams && ees__leader_any(e)));
        uint32_t key = ees__event_prepare(&e->work);
        if (take(w, taken)) {
            ees__event_cancel(&e->work);
            return true;
        }
        bool stop = stopping(e), again = do_side_work(w);
        if (stop || again || (teams && ees__leader_any(e)))
            ees__event_cancel(&e->work);
        else
            ees__event_wait(&e->work, key, LOAD(e->sched.home[w->idx]), UINT64_MAX);
        if (stop)
            return false;
    }
}

void *ees__worker_main(void *worker) {
    struct ees__worker *w = worker;
    struct ees__taken taken;
    while (!stopping(w->engine)) {
        ees__audits_keep_free(w);
        if (!take(w, &taken) && !wait_for_work(w, &taken))
            break;
        visit(w, &taken);
    }
    return NULL;
}
