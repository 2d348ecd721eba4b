/* SPDX-License-Identifier: MIT */
/** The engine: frames in, answers out.
 *
 *      ees_engine_push() from any threads -> workers -> ees_engine_pull() from any thread, one at a time
 *
 *  Memory is fixed at open: `n_slots` frames are in flight at most (read, being worked on, or answered and not yet
 *  released); push waits for a free one. After open the steady state allocates nothing. Several engines may
 *  live in one process, on one model. */
#ifndef EESTREAM_ENGINE_H
#define EESTREAM_ENGINE_H

#include "eestream/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ees_engine ees_engine;

enum ees_status { EES_STATUS_OK = 0, EES_STATUS_SKIPPED, EES_STATUS_DROPPED, EES_STATUS_FAILED };

EES_API const char *ees_status_name(enum ees_status status); /**< "ok", "skipped", "dropped", "failed" */

typedef struct ees_engine_options {
    unsigned n_workers; /**< 0: one per core of the calling thread's affinity mask. More than cores is allowed */
    unsigned n_slots;   /**< 0: 4 per worker + 4. Bounds memory and sets the backpressure; at least n_workers + 1 */
    bool pin;           /**< true: worker i runs on the i-th core of the mask (modulo), read back after the start */
    const char *plan;   /**< NULL or "auto": solved from measured costs, replicas where none can be measured; otherwise
                           as ees_plan_parse() */
    const ees_profile *profile; /**< NULL: measured at open when the plan is "auto" */
    const double *exit_share;   /**< expected mix, n_exits + 1 numbers, for "auto"; NULL: from the replay, else full depth */
    ees_policy_options policy;
    uint64_t spin_ns; /**< 20000: an idle worker polls this long before it sleeps */
} ees_engine_options;

/** One answer. Pointers live until ees_engine_release(). */
typedef struct ees_result {
    uint32_t source_idx;
    uint64_t frame_idx;
    int64_t pts_ns;
    const char *source, *truth; /**< from the frame */
    enum ees_status status;
    int exit_idx;         /**< 0 .. n_exits (the final classifier); -1 without an answer */
    unsigned block;       /**< 1-based block after which the frame left; 0 without an answer */
    int class_idx;        /**< lowest index among the largest logits; -1 without an answer */
    const char *label;    /**< NULL without an answer */
    float confidence;     /**< max softmax */
    float entropy;        /**< natural log */
    const float *logits;  /**< float32 (K,) before softmax; NULL without an answer */
    unsigned n_classes;
    unsigned n_warnings;  /**< recoverable oddities the JPEG decoder met; the frame was used */
    uint64_t latency_ns;  /**< push to answer */
    const ees_error *error; /**< why it failed; NULL when it did not */
    void *slot;           /**< the engine's */
} ees_result;

typedef struct ees_latency {
    uint64_t n;
    uint64_t min_ns, max_ns, p50_ns, p90_ns, p99_ns, p999_ns; /**< percentiles within 1 % */
    double mean_ns;
} ees_latency;

typedef struct ees_worker_stats {
    int cpu;             /**< core it is pinned to, -1: not pinned */
    unsigned group;
    uint64_t busy_ns;    /**< time inside units */
    uint64_t n_runs;     /**< visits of a frame */
    uint64_t n_helped;   /**< of these, frames taken from another group's ring */
} ees_worker_stats;

typedef struct ees_group_stats {
    ees_plan_group plan;
    double queue_mean;   /**< frames waiting in its ring, seen at each arrival */
    unsigned queue_max;
} ees_group_stats;

typedef struct ees_unit_stats {
    uint64_t n_runs;
    uint64_t total_ns;
} ees_unit_stats;

/** Counters since open. Always n_pushed = n_ok + n_skipped + n_dropped + n_failed + frames in flight. */
typedef struct ees_stats {
    uint64_t n_pushed, n_ok, n_skipped, n_dropped, n_failed;
    uint64_t n_warned;                          /**< of n_ok, frames whose JPEG decoded with warnings */
    uint64_t n_by_exit[EES_MAX_EXITS + 1];      /**< index n_exits: the final classifier */
    uint64_t wall_ns;                           /**< first push to last answer */
    uint64_t reorder_wait_ns;                   /**< summed: answered frames waiting for an earlier one */
    ees_latency latency;
    unsigned n_workers, n_groups, n_units, n_slots;
    ees_worker_stats workers[EES_MAX_WORKERS];
    ees_group_stats groups[EES_MAX_GROUPS];
    ees_unit_stats units[EES_MAX_UNITS];
} ees_stats;

EES_API void ees_engine_options_default(ees_engine_options *options);

/** Start an engine on a model. Starts n_workers threads.
 *  @param model  read-only; must outlive the engine
 *  @return 0; EES_EINVAL; EES_ENOMEM (also when threads cannot be started) */
EES_API int ees_engine_open(const ees_model *model, const ees_engine_options *options, ees_engine **out,
                            ees_error *err);

/** The plan in force. */
EES_API const ees_plan *ees_engine_get_plan(const ees_engine *engine);

/** Hand a frame in. Any thread. On success the engine takes over frame->release (or has copied the bytes). Frames are
 *  answered in the order in which push calls returned their slots: one thread pushing keeps its order.
 *  @param timeout_us  longest wait for a free slot; 0 poll, -1 no limit
 *  @return 0; EES_EAGAIN no slot in time; EES_ECANCELED after finish or stop; EES_EINVAL frame of no known kind,
 *          tensor of another shape; EES_ENOMEM. On failure the frame stays the caller's. */
EES_API int ees_engine_push(ees_engine *engine, const ees_frame *frame, int64_t timeout_us, ees_error *err);

/** No more frames will come: pull returns EES_EOF after the last answer. Any thread, idempotent, and
 *  async-signal-safe. */
EES_API void ees_engine_finish(ees_engine *engine);

/** Next answer in push order. Any thread, one at a time. A failed frame is an answer too.
 *  @param timeout_us  as in push
 *  @return 0; EES_EAGAIN; EES_EOF finished and everything answered */
EES_API int ees_engine_pull(ees_engine *engine, ees_result *out, int64_t timeout_us, ees_error *err);

/** Give a result's slot back. Any thread, any order. */
EES_API void ees_engine_release(ees_engine *engine, ees_result *result);

/** Snapshot. Any thread; counters of frames in flight may lag by one. */
EES_API void ees_engine_get_stats(const ees_engine *engine, ees_stats *out);

/** Stop the workers, release every frame still inside, free everything. Accepts NULL. All results must have been
 *  released and no other call may be running. */
EES_API void ees_engine_close(ees_engine *engine);

#ifdef __cplusplus
}
#endif
#endif
