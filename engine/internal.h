/* SPDX-License-Identifier: MIT */
/* What the files of the engine share: slots, workers, and the engine that owns them.
 *
 *   push: free ring -> slot -> ring of group 0        (any thread)
 *   worker: ring g -> units of group g -> ring g+1, or the answers' window when the frame exits   (engine/worker.c)
 *   pull: answers' window, in push order -> caller -> free ring                     (one thread at a time)
 *
 * A slot is owned by exactly one party at any moment: whoever popped its number from a ring or the window. The rings
 * and the window publish what was written before, so nothing inside a slot is atomic. */
#ifndef EES_ENGINE_INTERNAL_H
#define EES_ENGINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "eestream/engine.h"
#include "engine/histogram.h"
#include "engine/ring.h"
#include "engine/wait.h"
#include "stages/stage.h"

/* One frame in flight. */
struct ees__slot {
    struct ees__item item;
    ees_frame frame;     /* as pushed; held until the ingest unit has run */
    bool frame_held;     /* frame.release is still owed */
    void *copy;          /* bytes of a frame pushed without release; grows to the largest */
    size_t copy_bytes;
    ees_error error_copy; /* its error, for the same reason */
    unsigned next_unit;
    bool failed;
    uint64_t pushed_ns, done_ns;
};

/* One thread. The counters have a single writer, itself; ees_engine_get_stats() reads them relaxed. */
struct ees__worker {
    _Alignas(EES_CACHE_LINE) struct ees_engine *engine;
    pthread_t thread;
    unsigned idx, group;
    int want_cpu;
    struct ees__lane *lane;
    _Atomic int cpu;
    _Atomic uint64_t busy_ns, n_runs, n_helped;
    _Atomic uint64_t unit_runs[EES_MAX_UNITS], unit_ns[EES_MAX_UNITS];
};

/* Frames waiting for a group. */
struct ees__queue {
    struct ees__ring ring;
    _Atomic uint64_t n_arrivals, depth_sum;
    _Atomic uint32_t depth_max;
};

struct ees_engine {
    const ees_model *model;
    const ees_model_info *info;
    ees_plan plan;
    struct ees__policy_setup policy;
    uint8_t *replay;
    uint64_t spin_ns;

    unsigned n_slots, n_workers, n_started;
    struct ees__slot *slots;
    float *memory; /* state and logits of all slots */
    struct ees__worker *workers;
    struct ees__queue *queues; /* one a group */
    struct ees__ring free_slots;

    struct ees__event work;     /* a queue got a frame, or stop: workers sleep here */
    struct ees__event room;     /* a slot came free, or finish: push sleeps here */
    struct ees__event answered; /* a frame was answered, or finish: pull sleeps here */

    /* Frames pushed so far (their sequence numbers count from 0); the top bit says that no more will come. One word, so
     * that pull sees the flag and the final count together. */
    _Alignas(EES_CACHE_LINE) _Atomic uint64_t tickets;
    _Atomic bool stop;

    /* Answers' window: frame seq stands at [seq & window_mask] as slot number + 1, 0 while unanswered. Unpulled frames
     * hold a slot each, so at most n_slots numbers are open and two never meet. */
    _Atomic uint32_t *window;
    uint64_t window_mask;
    uint64_t next_seq;       /* pull's own */
    uint64_t newest_done_ns; /* pull's own: latest done_ns of the answers pulled so far */

    _Atomic uint64_t first_push_ns, last_done_ns, reorder_wait_ns;
    _Atomic uint64_t n_ok, n_failed, n_warned;
    _Atomic uint64_t n_by_exit[EES_MAX_EXITS + 1];
    struct ees__histogram latency;
};

#define EES__FINISHED (UINT64_C(1) << 63)

/* Put a slot into a group's queue and wake somebody for it. */
void ees__engine_enqueue(struct ees_engine *e, unsigned group, uint32_t slot_idx);

/* Give the frame back to whoever owns its bytes, once. */
void ees__slot_release_frame(struct ees__slot *slot);

/* Thread body of a worker. */
void *ees__worker_main(void *worker);

#endif
