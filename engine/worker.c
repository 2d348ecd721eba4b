/* SPDX-License-Identifier: MIT */
/* A worker: takes frames from its group's queue, runs them to the end of the group's units or to their exit, hands them
 * on. A group is a preference, not a prison: with its own queue empty a worker helps in another one, the deepest
 * first (frames close to their end free their slots soonest), so no core idles while any frame waits. */
#define _GNU_SOURCE
#include "engine/internal.h"

#include "common/clock.h"
#include "engine/affinity.h"

#define ADD_OWN(counter, n) /* single writer: no read-modify-write needed; relaxed: carries no other data */ \
    atomic_store_explicit(&(counter), atomic_load_explicit(&(counter), memory_order_relaxed) + (n), \
                          memory_order_relaxed)

void ees__slot_release_frame(struct ees__slot *slot) {
    if (slot->frame_held && slot->frame.release)
        slot->frame.release(slot->frame.opaque);
    slot->frame_held = false;
}

static void count_arrival(struct ees__queue *q) {
    uint32_t depth = ees__ring_count(&q->ring);
    atomic_fetch_add_explicit(&q->n_arrivals, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&q->depth_sum, depth, memory_order_relaxed);
    uint32_t max = atomic_load_explicit(&q->depth_max, memory_order_relaxed);
    while (depth > max && !atomic_compare_exchange_weak_explicit(&q->depth_max, &max, depth, memory_order_relaxed,
                                                                 memory_order_relaxed))
        ;
}

/* A queue has room for every slot twice over, so "full" only means that a consumer was preempted between drawing a
 * ticket and emptying its cell, a whole lap ago: give it the core. */
static void push_until_in(struct ees__ring *ring, uint32_t value) {
    while (!ees__ring_push(ring, value))
        sched_yield();
}

void ees__engine_enqueue(struct ees_engine *e, unsigned group, uint32_t slot_idx) {
    struct ees__queue *q = &e->queues[group];
    push_until_in(&q->ring, slot_idx);
    count_arrival(q);
    ees__event_notify(&e->work, (int)group);
}

/* The frame is done: into the window, where pull finds it when its turn comes. */
static void retire(struct ees_engine *e, uint32_t slot_idx) {
    struct ees__slot *slot = &e->slots[slot_idx];
    ees__slot_release_frame(slot);
    slot->done_ns = ees__now_ns();
    /* release, pairs with the acquire in ees_engine_pull(). Guards: the answer in the slot. If weaker: pull may read
     * logits not yet written. Test: stress_engine under TSan. */
    atomic_store_explicit(&e->window[slot->item.seq & e->window_mask], slot_idx + 1, memory_order_release);
    ees__event_notify(&e->answered, EES__WAKE_ANY);
}

/* Run one frame through its group. */
static void run_slot(struct ees__worker *w, unsigned group, uint32_t slot_idx) {
    struct ees_engine *e = w->engine;
    struct ees__slot *slot = &e->slots[slot_idx];
    unsigned end = e->plan.groups[group].end_unit;
    uint64_t start_ns = ees__now_ns(), now_ns = start_ns;
    int rc = EES__UNIT_NEXT;
    if (slot->frame.error && slot->next_unit == 0) {
        slot->item.error = *slot->frame.error;
        rc = EES_EDAMAGED;
    }
    while (rc == EES__UNIT_NEXT && slot->next_unit < end) {
        unsigned unit = slot->next_unit++;
        ees__unit_run(e->model, &e->policy, unit, &(struct ees__item *){&slot->item}, 1, &rc, w->lane, NULL);
        if (unit == 0)
            ees__slot_release_frame(slot);
        uint64_t then_ns = now_ns;
        now_ns = ees__now_ns();
        ADD_OWN(w->unit_runs[unit], 1);
        ADD_OWN(w->unit_ns[unit], now_ns - then_ns);
    }
    ADD_OWN(w->busy_ns, now_ns - start_ns);
    ADD_OWN(w->n_runs, 1);
    if (group != w->group)
        ADD_OWN(w->n_helped, 1);
    slot->failed = rc < 0;
    if (rc == EES__UNIT_NEXT)
        ees__engine_enqueue(e, group + 1, slot_idx);
    else
        retire(e, slot_idx);
}

/* Take a frame: own queue, then the others, deepest first. */
static bool take(struct ees__worker *w, unsigned *group, uint32_t *slot_idx) {
    struct ees_engine *e = w->engine;
    *group = w->group;
    bool got = ees__ring_pop(&e->queues[*group].ring, slot_idx);
    for (unsigned g = e->plan.n_groups; g-- > 0 && !got;)
        if (g != w->group) {
            *group = g;
            got = ees__ring_pop(&e->queues[g].ring, slot_idx);
        }
    /* Two frames may become visible to one woken sleeper (ring.h: a producer preempted mid-push hides those behind it);
     * pass the wake-up on. */
    if (got && ees__event_has_waiters(&e->work) && ees__ring_count(&e->queues[*group].ring) > 0)
        ees__event_notify(&e->work, (int)*group);
    return got;
}

static bool stopping(struct ees_engine *e) {
    /* acquire, pairs with the release in ees_engine_close(); the rings need no more than that. */
    return atomic_load_explicit(&e->stop, memory_order_acquire);
}

static void pause_cpu(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Poll for spin_ns, then sleep. A hand-over takes well under a microsecond, a futex wake-up tens: polling a little
 * longer than a wake-up costs catches the frames that are about to arrive; bounded, so an idle engine uses no CPU.
 * @return false: told to stop */
static bool wait_for_work(struct ees__worker *w, unsigned *group, uint32_t *slot_idx) {
    struct ees_engine *e = w->engine;
    for (uint64_t until_ns = ees__now_ns() + e->spin_ns; ees__now_ns() < until_ns; pause_cpu())
        if (take(w, group, slot_idx))
            return true;
    for (;;) {
        uint32_t key = ees__event_prepare(&e->work);
        if (take(w, group, slot_idx)) {
            ees__event_cancel(&e->work);
            return true;
        }
        if (stopping(e)) {
            ees__event_cancel(&e->work);
            return false;
        }
        ees__event_wait(&e->work, key, w->group, UINT64_MAX);
    }
}

void *ees__worker_main(void *worker) {
    struct ees__worker *w = worker;
    unsigned group;
    uint32_t slot_idx;
    atomic_store_explicit(&w->cpu, ees__affinity_pin(w->want_cpu), memory_order_relaxed);
    while (!stopping(w->engine)) {
        if (!take(w, &group, &slot_idx) && !wait_for_work(w, &group, &slot_idx))
            break;
        run_slot(w, group, slot_idx);
    }
    return NULL;
}
