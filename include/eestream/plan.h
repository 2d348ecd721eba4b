/* SPDX-License-Identifier: MIT */
/** Plans: which cores run which units.
 *
 *  A plan is an ordered list of groups; group g covers a contiguous range of units and has one or more workers.
 *  One group with all workers = replicas; one worker a group = the classic pipeline; anything between is a hybrid. */
#ifndef EESTREAM_PLAN_H
#define EESTREAM_PLAN_H

#include "eestream/model.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EES_MAX_UNITS 256
#define EES_MAX_GROUPS 256
#define EES_MAX_WORKERS 256

/** Cost of each unit on this machine, nanoseconds a frame on one core. */
typedef struct ees_profile {
    unsigned n_units;
    double warm_ns[EES_MAX_UNITS]; /**< its weights still in the core's private cache */
    double cold_ns[EES_MAX_UNITS]; /**< run in turn with all other units, as a worker that runs the whole chain does */
    size_t weights_bytes[EES_MAX_UNITS];
    size_t private_cache_bytes; /**< a core's own L2; 0: unknown */
} ees_profile;

typedef struct ees_plan_group {
    unsigned first_unit; /**< inclusive */
    unsigned end_unit;   /**< exclusive */
    unsigned n_workers;
    double work_ns;      /**< expected work of one source frame in this group: sum of cost x reach */
} ees_plan_group;

typedef struct ees_plan {
    unsigned n_groups;
    unsigned n_workers;
    ees_plan_group groups[EES_MAX_GROUPS];
    double bottleneck_ns; /**< max over groups of work_ns / n_workers: time between frames */
    double fps;           /**< 1e9 / bottleneck_ns */
    double busy_share;    /**< mean share of time the workers have work if nobody helps another group */
} ees_plan;

/** Measure every unit on the calling thread (pins nothing).
 *  @param frame  what the stream's frames look like (decode cost); NULL: a synthetic 640x480 JPEG
 *  @param min_ns time to spend per unit and cache state; 0: 2 ms, at least 3 runs
 *  @return 0; EES_ENOMEM; EES_EDAMAGED */
EES_API int ees_profile_measure(const ees_model *model, const ees_frame *frame, uint64_t min_ns, ees_profile *out,
                                ees_error *err);

/** Probability that each unit runs, from the share of frames that take each exit.
 *  @param exit_share  n_exits + 1 numbers >= 0, normalised here; NULL: every frame goes to the end
 *  @param reach       model's n_units numbers */
EES_API int ees_plan_reach(const ees_model *model, const double *exit_share, double *reach, ees_error *err);

/** The plan with the least bottleneck; among equals the one with the fewest groups (lowest latency). Exact: dynamic
 *  programming over units x workers. Cost of a unit is warm_ns when its group's weights fit the private cache.
 *  @param reach  n_units probabilities
 *  @return 0; EES_EINVAL */
EES_API int ees_plan_solve(const ees_profile *profile, const double *reach, unsigned n_workers, ees_plan *out,
                           ees_error *err);

/** Parse "auto" excluded: "replicas", "equal:G" (G groups of equal block count) or groups "RANGE[xWORKERS],...".
 *  RANGE is FIRST-LAST in 1-based blocks; a bound may be a unit name ("1-block4.attn,block4.mlp-12"). The first
 *  group takes everything before its range, the last everything after; heads follow their block. Without xWORKERS the
 *  workers are dealt out evenly, remainders to the later groups.
 *  @return 0; EES_EINVAL: gap, overlap, more groups than workers or units, wrong worker total (all values named) */
EES_API int ees_plan_parse(const ees_model *model, const char *text, unsigned n_workers, ees_plan *out, ees_error *err);

/** Fill work_ns, bottleneck_ns, fps and busy_share of a plan for these costs. */
EES_API int ees_plan_predict(const ees_profile *profile, const double *reach, ees_plan *plan, ees_error *err);

#ifdef __cplusplus
}
#endif
#endif
