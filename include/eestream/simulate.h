/* SPDX-License-Identifier: MIT */
/** The what-if simulator: the engine's own planner, queues and rules for taking frames, driven by virtual time instead
 *  of threads. Answers how a model would run on cores that are not here. */
#ifndef EESTREAM_SIMULATE_H
#define EESTREAM_SIMULATE_H

#include "eestream/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ees_simulation_options {
    const ees_cores *cores;     /**< workers are one a core */
    const ees_profile *profile; /**< of the core types in `cores`, see ees_profile_scale() */
    const ees_plan *plan;       /**< NULL: solved for `exits` */
    const uint8_t *exits;       /**< frame i leaves at exits[i % n_exits_given] (0 .. number of exits); NULL: full depth
                                     without early heads */
    size_t n_exits_given;
    uint64_t n_frames; /**< 0: 10000 */
    double rate_hz;    /**< frames a second of a steady source; 0: there is always a next frame */
    unsigned n_slots;  /**< as ees_engine_options.n_slots */
    enum ees_take take;
    bool no_help; /**< false; true: workers never leave their group (the classic pipeline) */
    bool unordered;
    bool replan;   /**< follow the exits, as an engine does, once a simulated second */
    double jitter; /**< 0: each unit takes its cost exactly; else its relative standard deviation */
    uint64_t seed;
} ees_simulation_options;

typedef struct ees_simulation {
    ees_plan plan; /**< in force at the end */
    uint64_t n_frames;
    double fps, busy_share;
    double busy[EES_MAX_WORKERS]; /**< share of the time, a worker */
    ees_latency latency;          /**< push to answer in order, nanoseconds of virtual time */
    uint64_t reorder_wait_ns, n_replans, n_helped, n_visits;
} ees_simulation;

EES_API void ees_simulation_options_default(ees_simulation_options *options);

/** Simulate. Any thread; deterministic for one seed.
 *  @param model  its chain of units and exits; weights are not read
 *  @return 0; EES_EINVAL; EES_ENOMEM */
EES_API int ees_simulate(const ees_model *model, const ees_simulation_options *options, ees_simulation *out,
                         ees_error *err);

#ifdef __cplusplus
}
#endif
#endif
