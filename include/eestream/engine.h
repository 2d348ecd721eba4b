/* SPDX-License-Identifier: MIT */
/** The engine: frames in, answers out.
 *
 *      ees_engine_push() from any threads -> workers -> ees_engine_pull() from any thread, one at a time
 *
 *  Memory is fixed at open: `n_slots` frames are inside at most (waiting, being worked on, or answered and not yet
 *  released); push waits for room, or drops frames of a live stream by its rule. After open the steady state allocates
 *  nothing. Several engines may live in one process, on one model.
 *
 *  A stream is one source inside an engine: its frames keep their order, have a share of the slots and of the
 *  workers' time by its weight, and one rule for overload. Stream 0 always exists; cameras that come and go open
 *  and finish streams of their own. */
#ifndef EESTREAM_ENGINE_H
#define EESTREAM_ENGINE_H

#include "eestream/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EES_MAX_STREAMS 64
#define EES_MAX_VISITS  8

typedef struct ees_engine ees_engine;

enum ees_status { EES_STATUS_OK = 0, EES_STATUS_SKIPPED, EES_STATUS_DROPPED, EES_STATUS_FAILED };

EES_API const char *ees_status_name(enum ees_status status); /**< "ok", "skipped", "dropped", "failed" */

/** What happens to frames of a stream that come faster than they are answered. Every outcome is an answer: a dropped
 *  frame comes out as EES_STATUS_DROPPED, in its place. */
enum ees_overload {
    EES_OVERLOAD_BLOCK = 0,   /**< push waits: files. Nothing is ever dropped */
    EES_OVERLOAD_DROP_OLDEST, /**< the frame that waits longest makes room for the new one */
    EES_OVERLOAD_DROP_NEWEST, /**< the new frame is dropped */
    /** First less depth (thresholds move towards ees_policy_options.degraded), then, at the deadline, the answer of the last
     *  head that ran, and only then the frame that waits longest is dropped. */
    EES_OVERLOAD_DEGRADE,
};

EES_API const char *ees_overload_name(enum ees_overload overload); /**< "block", "drop-oldest", ... */

/** What idle workers do while others have work. */
enum ees_hint {
    EES_HINT_THROUGHPUT = 0, /**< sleep; frames waiting at one place may run together as a micro-batch */
    EES_HINT_LATENCY,        /**< join a busy worker inside a block; no micro-batches */
};

/** Which frame a worker takes when its own group has none. docs/experiments.md has the data behind the default. */
enum ees_take { EES_TAKE_DEEPEST = 0, EES_TAKE_OLDEST, EES_TAKE_UPSTREAM };

typedef struct ees_stream_options {
    double weight;              /**< 1: share of slots and workers' time beside other streams, > 0 */
    enum ees_overload overload; /**< EES_OVERLOAD_BLOCK */
    unsigned backlog;           /**< frames not yet begun above which a live stream is overloaded; 0: two a worker */
    /** 0: none. So long after its push a frame is answered with the last head that ran ("deadline"); before any head it
     *  goes on to the first one under EES_OVERLOAD_BLOCK and is dropped otherwise. */
    uint64_t deadline_ns;
} ees_stream_options;

typedef struct ees_engine_options {
    unsigned n_workers; /**< 0: as ees_cores_detect() recommends. More than cores is allowed */
    unsigned n_slots;   /**< 0: 4 per worker + 4 (micro-batches: + 4 per worker). At least n_workers + 1 */
    bool pin;           /**< true: workers are pinned to the cores of the affinity mask, fastest first, and the mask is
                           followed when it changes */
    const char *plan;   /**< NULL or "auto": solved from measured costs, replicas where none can be measured; otherwise
                           as ees_plan_parse() */
    const ees_profile *profile; /**< NULL: measured at open when the plan is "auto" */
    const double *exit_share;   /**< mix for "auto", n_exits + 1 numbers; NULL: the replay's, else full depth */
    ees_policy_options policy;
    uint64_t spin_ns; /**< 20000: an idle worker polls this long before it sleeps */

    enum ees_hint hint;
    enum ees_take take;
    bool replan;    /**< true: a plan that was solved ("auto") follows the stream's exits and costs */
    bool unordered; /**< false: answers leave in push order of their stream; true: as they finish */
    /** false; true: heads run under "none" too, and each answer carries what every head on its way said. Costs a copy
     *  of each head's logits, and memory for them in each slot. */
    bool all_logits;
    unsigned max_batch; /**< 0: from the measured costs; 1: off; else frames a micro-batch has at most (<= 16) */
    double audit_share; /**< 0: off; share of early answers that are run on to full depth with spare capacity */
    uint64_t audit_seed;
    uint64_t stall_ns;         /**< 10 s: a unit that runs longer is a stall (EES_ESTALLED); 0: never */
    unsigned trace_events;     /**< 0: off; events each worker can hold until ees_engine_read_trace() takes them */
    ees_stream_options stream; /**< of stream 0 */
} ees_engine_options;

/** How an answer came to be early. */
enum ees_early {
    EES_EARLY_NONE = 0, /**< by the policy, or at the end */
    EES_EARLY_DEGRADED, /**< at a threshold that overload had lowered */
    EES_EARLY_DEADLINE, /**< at the deadline, the last head's answer */
};

EES_API const char *ees_early_name(enum ees_early early); /**< "none", "degraded", "deadline" */

/** One worker's uninterrupted work on a frame. */
typedef struct ees_visit {
    uint16_t worker, group;
    uint16_t first_unit, end_unit; /**< units it ran; a visit that ended at an exit ends there */
    uint16_t n_batch;              /**< frames that ran together, 1: alone */
    uint64_t wait_ns;              /**< in a queue before it */
    uint64_t run_ns;
} ees_visit;

/** One answer. Pointers live until ees_engine_release(). */
typedef struct ees_result {
    unsigned stream;
    uint32_t source_idx;
    uint64_t frame_idx;
    int64_t pts_ns;
    const char *source, *truth; /**< from the frame */
    enum ees_status status;
    enum ees_early early;
    int exit_idx;      /**< 0 .. n_exits (the final classifier); -1 without an answer */
    unsigned block;    /**< 1-based block after which the frame left; 0 without an answer */
    int class_idx;     /**< lowest index among the largest logits; -1 without an answer */
    const char *label; /**< NULL without an answer */
    float confidence;  /**< max softmax */
    float entropy;     /**< natural log */
    /** float32 (K,) before softmax, of the head it left at; NULL without an answer. Policies that answer for several heads
     *  ("ensemble", "vote", ...) have class_idx, confidence and entropy of their own. */
    const float *logits;
    /** all_logits: float32 (n_exits + 1, K), of the heads on the frame's way, whatever the policy made of them; rows of
     *  heads that did not run mean nothing. NULL without all_logits, or without an answer */
    const float *all_logits;
    const float *all_gates; /**< the same: (n_exits,) what the gate said at each, NaN: the model has none */
    unsigned n_classes;
    unsigned n_warnings;  /**< recoverable oddities the JPEG decoder met; the frame was used */
    unsigned n_nonfinite; /**< exit heads on its way whose logits were NaN or infinite: never an exit */
    /** EES_STATUS_SKIPPED: the frame_idx of the frame whose answer this is, up to the logits. */
    uint64_t same_as;
    /** Where ees_policy_options.skip_below is in force: how much the picture differs from the last one that was computed,
     *  in grey levels; infinite for a stream's first. Else 0, and for frames that never had a picture. */
    float change;
    uint64_t latency_ns; /**< push to answer */
    unsigned n_visits;   /**< of `visits`; the last one adds up what would be beyond EES_MAX_VISITS */
    const ees_visit *visits;
    const ees_error *error; /**< why it failed; NULL when it did not */
    void *slot;             /**< the engine's */
} ees_result;

typedef struct ees_latency {
    uint64_t n;
    uint64_t min_ns, max_ns, p50_ns, p90_ns, p99_ns, p999_ns; /**< percentiles within 1 % */
    double mean_ns;
} ees_latency;

typedef struct ees_worker_stats {
    int cpu; /**< core it is pinned to, -1: not pinned */
    unsigned group;
    uint64_t busy_ns;   /**< time inside units, audits and other workers' units included */
    uint64_t n_runs;    /**< visits of a frame */
    uint64_t n_helped;  /**< of these, frames taken from another group's queue */
    uint64_t n_batched; /**< of these, frames that ran in a micro-batch */
    uint64_t team_ns;   /**< of busy_ns, inside another worker's unit (EES_HINT_LATENCY) */
    unsigned unit;      /**< it is running, n_units: none */
    uint64_t unit_ns;   /**< for how long */
} ees_worker_stats;

typedef struct ees_group_stats {
    ees_plan_group plan;
    unsigned queue_now;
    double queue_mean; /**< frames waiting for it, seen at each arrival */
    unsigned queue_max;
} ees_group_stats;

typedef struct ees_unit_stats {
    uint64_t n_runs;
    uint64_t total_ns;
} ees_unit_stats;

/** Counters of one stream. Always n_pushed = n_ok + n_skipped + n_dropped + n_failed + frames inside. */
typedef struct ees_stream_stats {
    uint64_t n_pushed, n_ok, n_skipped, n_dropped, n_failed;
    uint64_t n_degraded, n_deadline; /**< of n_ok */
    unsigned queue_now;              /**< frames not yet begun */
    bool finished;
    ees_latency latency;
} ees_stream_stats;

/** Early and repeated answers compared with full depth. */
typedef struct ees_audit_stats {
    uint64_t n_done, n_agreed;                 /**< agreed: the same class at full depth */
    uint64_t n_done_skipped, n_agreed_skipped; /**< of these, skipped frames, run once they are released */
    uint64_t n_missed;                         /**< chosen, but full depth gave no finite logits */
    uint64_t busy_ns;                          /**< what it cost */
    uint64_t n_done_by_exit[EES_MAX_EXITS], n_agreed_by_exit[EES_MAX_EXITS];
} ees_audit_stats;

/** Counters since open. Always n_pushed = n_ok + n_skipped + n_dropped + n_failed + frames inside. */
typedef struct ees_stats {
    uint64_t n_pushed, n_ok, n_skipped, n_dropped, n_failed;
    uint64_t n_warned;                     /**< of n_ok, frames whose JPEG decoded with warnings */
    uint64_t n_nonfinite;                  /**< of n_ok, frames that passed a head with NaN or infinite logits */
    uint64_t n_degraded, n_deadline;       /**< of n_ok */
    uint64_t n_by_exit[EES_MAX_EXITS + 1]; /**< index n_exits: the final classifier */
    uint64_t wall_ns;                      /**< first push to last answer */
    uint64_t reorder_wait_ns;              /**< summed: answered frames waiting for an earlier one */
    ees_latency latency;
    ees_latency latency_by_exit[EES_MAX_EXITS + 1];
    ees_audit_stats audit;
    uint64_t n_replans;
    double degrade;        /**< level now, 0: none .. 1 */
    uint64_t n_trace_lost; /**< trace events nobody read in time */
    unsigned n_workers, n_groups, n_units, n_slots, n_streams;
    ees_worker_stats workers[EES_MAX_WORKERS];
    ees_group_stats groups[EES_MAX_GROUPS];
    ees_unit_stats units[EES_MAX_UNITS];
} ees_stats;

EES_API void ees_engine_options_default(ees_engine_options *options);

/** Start an engine on a model. Starts n_workers threads and one that watches over them.
 *  @param model  read-only; must outlive the engine
 *  @return 0; EES_EINVAL; EES_ENOMEM (also when threads cannot be started) */
EES_API int ees_engine_open(const ees_model *model, const ees_engine_options *options, ees_engine **out,
                            ees_error *err);

/** The plan in force; it may change at any time. Any thread. */
EES_API void ees_engine_get_plan(const ees_engine *engine, ees_plan *out);

/* ---- Streams ------------------------------------------------------------------------------------------- */

EES_API void ees_stream_options_default(ees_stream_options *options);

/** Open another stream. Any thread.
 *  @param stream  its number, for ees_frame.stream; numbers of finished streams are not used again
 *  @return 0; EES_EINVAL EES_MAX_STREAMS reached, bad weight; EES_ENOMEM; EES_ECANCELED after ees_engine_finish() */
EES_API int ees_stream_open(ees_engine *engine, const ees_stream_options *options, unsigned *stream, ees_error *err);

/** No more frames will come from this stream; its share goes to the others once its last answer is released. Any
 *  thread, idempotent. */
EES_API void ees_stream_finish(ees_engine *engine, unsigned stream);

/** Snapshot. Any thread. @return 0; EES_EINVAL no such stream */
EES_API int ees_stream_get_stats(const ees_engine *engine, unsigned stream, ees_stream_stats *out);

/* ---- Frames and answers -------------------------------------------------------------------------------- */

/** Hand a frame in. Any thread. On success the engine takes over frame->release (or has copied the bytes). Frames of a
 *  stream are answered in the order in which push calls returned their slots: one thread pushing keeps its order.
 *  A live stream (any overload rule but EES_OVERLOAD_BLOCK) waits only when answers are not pulled.
 *  @param timeout_us  longest wait for room; 0 poll, -1 no limit
 *  @return 0 (also for a frame that is dropped: that is its answer); EES_EAGAIN no room in time; EES_ECANCELED after
 *          finish or stop; EES_EINVAL frame of no known kind, tensor of another shape, no such stream; EES_ENOMEM;
 *          EES_ESTALLED. On failure the frame stays the caller's. */
EES_API int ees_engine_push(ees_engine *engine, const ees_frame *frame, int64_t timeout_us, ees_error *err);

/** No more frames will come from any stream: pull returns EES_EOF after the last answer. Any thread, idempotent, and
 *  async-signal-safe. */
EES_API void ees_engine_finish(ees_engine *engine);

/** Next answer: of each stream in push order (unless `unordered`), of several streams with an answer in turn. Any
 *  thread, one at a time. A failed or dropped frame is an answer too.
 *  @param timeout_us  as in push
 *  @return 0; EES_EAGAIN; EES_EOF finished and everything answered, audits included; EES_ESTALLED a worker is stuck: the
 *          report has the table of threads and queues; ees_engine_close() would wait for it */
EES_API int ees_engine_pull(ees_engine *engine, ees_result *out, int64_t timeout_us, ees_error *err);

/** Give a result's slot back. Any thread, any order. */
EES_API void ees_engine_release(ees_engine *engine, ees_result *result);

/* ---- Looking inside ------------------------------------------------------------------------------------ */

/** Snapshot. Any thread; counters of frames inside may lag by one. */
EES_API void ees_engine_get_stats(const ees_engine *engine, ees_stats *out);

/** Threads and queues as a table for people: what each worker runs and since when, what waits where. Any thread.
 *  @return length without the terminating 0; `out` is cut at n - 1 bytes, as snprintf() does */
EES_API size_t ees_engine_describe(const ees_engine *engine, char *out, size_t n);

enum ees_trace_kind {
    EES_TRACE_VISIT,   /**< a worker's work on a frame (or micro-batch: its first frame) */
    EES_TRACE_UNIT,    /**< one unit within a visit */
    EES_TRACE_AUDIT,   /**< an early answer run on to full depth */
    EES_TRACE_TEAM,    /**< a worker inside another worker's unit */
    EES_TRACE_QUEUES,  /**< sample: `value` frames wait for group `group`; group n_groups: not yet begun */
    EES_TRACE_REPLAN,  /**< a new plan of `group` groups was published: `value` its number, from 1 */
    EES_TRACE_DEGRADE, /**< the degrade level changed to `value` per mille */
    EES_TRACE_CORES,   /**< the affinity mask changed to `value` cores */
};

typedef struct ees_trace_event {
    uint8_t kind;    /**< enum ees_trace_kind */
    uint16_t worker; /**< of VISIT, UNIT, AUDIT, TEAM: track; else n_workers */
    uint16_t group, unit, n_batch;
    uint32_t stream;
    uint64_t seq;       /**< frame within its stream */
    uint64_t start_ns;  /**< on CLOCK_MONOTONIC */
    uint64_t length_ns; /**< 0 for samples and instants */
    uint64_t value;
} ees_trace_event;

/** Take events out, of each worker in order of their end. One thread at a time. Events nobody takes in time are lost
 *  and counted (ees_stats.n_trace_lost).
 *  @return number of events written, 0 .. max */
EES_API size_t ees_engine_read_trace(ees_engine *engine, ees_trace_event *out, size_t max);

/** A plan that was published while running. */
typedef struct ees_replan {
    uint64_t at_ns;    /**< since the first push */
    double fps_before; /**< predicted for the plan before, with the costs and exits measured now */
    ees_plan plan;
} ees_replan;

/** The latest re-plans, oldest first. Any thread.
 *  @return how many were written; the engine keeps the last 16 */
EES_API unsigned ees_engine_get_replans(const ees_engine *engine, ees_replan *out, unsigned max);

/** Stop the workers, release every frame still inside, free everything. Accepts NULL. All results must have been
 *  released and no other call may be running. */
EES_API void ees_engine_close(ees_engine *engine);

#ifdef __cplusplus
}
#endif
#endif
