/* SPDX-License-Identifier: MIT */
/* What the files of the engine share: slots, streams, workers, and the engine that owns them.
 *
 *   push: free slot -> entry of the frame's stream                                   (stream.c, any thread)
 *   worker: entry or queue -> units up to the end of the group -> next queue, or the stream's window   (worker.c)
 *   pull: the streams' windows, each in push order -> caller -> free slot            (answers.c, one thread at a time)
 *   governor: looks at all of it ten times a second: re-plans, stalls, overload      (governor.c, one thread)
 *
 * A slot is owned by exactly one party at any moment: whoever popped its number from a ring or a window. The rings
 * and windows publish what was written before, so nothing inside a slot is atomic. */
#ifndef EES_ENGINE_INTERNAL_H
#define EES_ENGINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "eestream/engine.h"
#include "engine/audit.h"
#include "engine/follow.h"
#include "engine/histogram.h"
#include "engine/ring.h"
#include "engine/sched.h"
#include "engine/team.h"
#include "engine/trace.h"
#include "engine/wait.h"
#include "stages/stage.h"

/* One frame inside. Slots 0 .. n_slots-1 have memory for a frame's state; those beyond are only for the answers of dropped
 * frames, so that dropping needs no room. */
struct ees__slot {
    struct ees__item item;
    ees_frame frame; /* as pushed; held until the ingest unit has run */
    bool frame_held; /* frame.release is still owed */
    void *copy;      /* bytes of a frame pushed without release; grows to the largest */
    size_t copy_bytes;
    ees_error error_copy; /* its error, for the same reason */
    unsigned stream;
    enum ees_status status;
    enum ees_early early;
    uint64_t pushed_ns, queued_ns, done_ns;
    uint64_t deadline_ns; /* on the clock of ees__now_ns(); UINT64_MAX: none */
    /* follow.h. `nth`: of its stream's computed frames. `passed`: it is known whether the frame repeats another one. `change`:
     * against the last computed picture, in grey levels; infinite for the first, 0 where nobody asks. */
    uint64_t nth, same_as;
    bool passed;
    float change;
    float *picture;
    bool audit; /* it repeats another frame's answer, and runs to full depth when it is released */
    unsigned n_visits;
    ees_visit visits[EES_MAX_VISITS];
};

/* A source inside the engine. Statistics are relaxed atomics; pull writes them. */
struct ees__stream {
    ees_stream_options options;
    struct ees__entry entry;

    /* Frames pushed so far (their sequence numbers count from 0); the top bit says that no more will come. One word, so
     * that pull sees the flag and the final count together. */
    _Alignas(EES_CACHE_LINE) _Atomic uint64_t tickets;
    _Alignas(EES_CACHE_LINE) _Atomic uint32_t n_inside; /* slots with state it holds */
    _Atomic uint32_t share;                             /* how many it may hold */
    _Atomic uint32_t degrade_permille;                  /* how far overload has moved the thresholds */

    struct ees__follow *follow; /* NULL: no frame depends on another one */

    /* Answers' window: frame seq stands at [seq & window_mask] as slot number + 1, 0 while unanswered. Unpulled frames
     * hold a slot each, so at most n_records numbers are open and two never meet. */
    _Atomic uint32_t *window;
    uint64_t n_pulled;       /* pull's own; in order it is the next number */
    uint64_t newest_done_ns; /* pull's own: latest done_ns of the answers pulled so far */

    _Atomic uint64_t n_ok, n_skipped, n_dropped, n_failed, n_degraded, n_deadline;
    struct ees__histogram latency;
};

/* One thread. The counters have a single writer, itself; others read them relaxed. */
struct ees__worker {
    _Alignas(EES_CACHE_LINE) struct ees_engine *engine;
    pthread_t thread;
    unsigned idx;
    uint8_t type; /* core type it was started for */
    struct ees__lane *lane;
    struct ees__trace trace;
    struct ees__leader leader;
    _Atomic int cpu;       /* -1: not pinned */
    _Atomic uint32_t unit; /* running now; n_units: none */
    _Atomic uint64_t since_ns;
    _Atomic uint64_t busy_ns, n_runs, n_helped, n_batched, team_ns;
    _Atomic uint64_t unit_runs[EES_MAX_UNITS], unit_ns[EES_MAX_UNITS];
};

struct ees__governor;

struct ees_engine {
    const ees_model *model;
    const ees_model_info *info;
    ees_engine_options options; /* pointers in it are not kept */
    struct ees__policy_setup policy;
    uint8_t *replay;
    _Atomic uint64_t spin_ns; /* 0 while workers share cores: polling would only keep a working one from its core */
    unsigned max_batch;
    unsigned reference_unit; /* where frames need their reference: the first early exit; n_units: nowhere */

    ees_cores cores;
    unsigned n_slots, n_records, n_workers, n_started;
    uint64_t window_mask;    /* of every stream's window: room for n_records */
    struct ees__slot *slots; /* n_records */
    float *memory;           /* state, logits, policy memory and picture of the slots with state */
    struct ees__worker *workers;
    struct ees__sched sched;
    struct ees__ring free_slots;   /* with state */
    struct ees__ring free_records; /* without */
    struct ees__ring answers;      /* unordered: answered slots */
    struct ees__audits audits;
    struct ees__governor *governor;

    pthread_mutex_t lock; /* guards opening streams, shares, `plan` and the governor's list of re-plans */
    ees_plan plan;        /* in force */
    ees_profile *profile; /* what an "auto" plan was solved from; NULL: none */
    _Atomic uint32_t n_streams;
    _Atomic(struct ees__stream *) streams[EES_MAX_STREAMS];

    struct ees__event work;     /* a queue got a frame, or stop: workers sleep here */
    struct ees__event room;     /* a slot came free, or finish: push sleeps here */
    struct ees__event answered; /* a frame was answered, or finish: pull sleeps here */
    struct ees__event tick;     /* stop: the governor sleeps here */

    _Atomic bool finished; /* no stream takes frames any more */
    _Atomic bool stop;
    _Atomic uint32_t stalled;   /* worker number + 1; 0: none */
    _Atomic uint32_t n_leading; /* EES_HINT_LATENCY: workers inside a frame, who may have pieces to share */

    unsigned next_stream; /* pull's own: which stream is asked first */
    _Atomic uint64_t first_push_ns, last_done_ns, reorder_wait_ns;
    _Atomic uint64_t n_warned, n_nonfinite;
    _Atomic uint64_t n_by_exit[EES_MAX_EXITS + 1];
    struct ees__histogram *latency_by_exit; /* n_exits + 1; answers without exits are in none */
};

#define EES__FINISHED (UINT64_C(1) << 63)

/* Are frames answered like the one before where their picture has hardly changed? */
static inline bool ees__skips(const struct ees_engine *e) { return e->policy.skip_below > 0; }

static inline void ees__pause_cpu(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* ---- engine.c ---- */

/* Start a thread of the engine's. It blocks all signals: those are the application's, whose handlers run on its own
 * threads. @return 0 or the errno */
int ees__thread_start(pthread_t *thread, void *(*run)(void *), void *arg);

/* ---- stream.c ---- */

/* Open a stream; takes the lock. @return 0; EES_EINVAL; EES_ENOMEM; EES_ECANCELED */
int ees__stream_add(struct ees_engine *e, const ees_stream_options *options, unsigned *stream, ees_error *err);
void ees__stream_free(struct ees__stream *stream);
struct ees__stream *ees__stream_at(struct ees_engine *e, unsigned idx); /* idx below n_streams */
unsigned ees__stream_count(struct ees_engine *e);

/* ---- answers.c ---- */

/* The frame is done, its status and item are set: into its stream's window, where pull finds it when its turn comes. */
void ees__answer(struct ees_engine *e, uint32_t slot_idx);

/* Give a slot back to the ring it came from and wake a waiting push. */
void ees__slot_free(struct ees_engine *e, uint32_t slot_idx);

/* Give the frame back to whoever owns its bytes, once. */
void ees__slot_release_frame(struct ees__slot *slot);

/* ---- worker.c ---- */

void *ees__worker_main(void *worker);

/* ---- governor.c ---- */

/* Pin the workers and start watching over them. @return 0; EES_ENOMEM */
int ees__governor_start(struct ees_engine *e, ees_error *err);
void ees__governor_stop(struct ees_engine *e); /* and free; accepts an engine without one */
struct ees__trace *ees__governor_trace(struct ees_engine *e);
uint64_t ees__governor_n_replans(struct ees_engine *e);

#endif
