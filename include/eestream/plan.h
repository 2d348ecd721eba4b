/* SPDX-License-Identifier: MIT */
/** Plans: which cores run which units.
 *
 *  A plan is an ordered list of groups; group g covers a contiguous range of units and has one or more workers.
 *  One group with all workers = replicas; one worker a group = the classic pipeline; anything between is a hybrid.
 *  Cores come in up to four types (big.LITTLE); a group may have workers on cores of several.
 *
 *      ees_cores_detect() -> ees_profile_measure() -> ees_plan_reach() -> ees_plan_solve()
 *
 *  All functions may be called from any thread. They touch only their arguments (and files where one is named), so
 *  calls with different outputs may run at once. Structs are plain data: copy them freely. */
#ifndef EESTREAM_PLAN_H
#define EESTREAM_PLAN_H

#include "eestream/model.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EES_MAX_UNITS      256
#define EES_MAX_GROUPS     64
#define EES_MAX_WORKERS    256
#define EES_MAX_CORE_TYPES 4

/* ---- Cores --------------------------------------------------------------------------------------------- */

/** Cores that are alike. */
typedef struct ees_core_type {
    char name[16];              /**< "core" when all are alike; detected types are "big", "mid", "low", "little" */
    unsigned n_cores;           /**< of this type in ees_cores.cpu, SMT siblings included */
    double capacity;            /**< speed relative to the fastest type, which has 1 */
    size_t private_cache_bytes; /**< a core's own L2, or its share of one that several cores have; 0: unknown */
    size_t last_cache_bytes;    /**< the largest cache a core has or shares; 0: unknown */
} ees_core_type;

/** The cores a process may use, or those of a machine one thinks about. */
typedef struct ees_cores {
    unsigned n_cores; /**< logical ones, at most EES_MAX_WORKERS (the slowest are left out) */
    unsigned n_types;
    unsigned n_workers; /**< recommended: physical cores, but not more than the quota lets run at once */
    double quota;       /**< CPUs' worth of time the control group grants (1.5: three halves); 0: no limit */
    ees_core_type types[EES_MAX_CORE_TYPES]; /**< fastest first */
    /** Kernel numbers of the cores in the order workers should take them: one thread of every physical core, fastest
     *  type first, then their SMT siblings. -1: a core of another machine. */
    int cpu[EES_MAX_WORKERS];
    uint8_t type[EES_MAX_WORKERS]; /**< position in types[] of each */
} ees_cores;

/** Cores of the calling thread's affinity mask: types by the kernel's cpu_capacity, else by the highest frequencies
 *  where these differ clearly, else one type; SMT siblings, L2 sizes and the CPU quota of the control group (v2 and
 *  v1). What the system does not tell is taken as "all alike", "no siblings", "no limit". Reads some files a core.
 *  @return 0; EES_ENOMEM */
EES_API int ees_cores_detect(ees_cores *out, ees_error *err);

/** Cores from text: "8" alike, or "NAME=COUNT[@SPEED],...": "big=4,little=4", "a=2@1,b=2@0.5". Speeds are relative to
 *  each other. big is 1, mid 0.75 and little 0.4 unless given; any other name needs its speed. Cache sizes are
 *  unknown.
 *  @return 0; EES_EINVAL: the word, what is wrong with it and what is allowed */
EES_API int ees_cores_parse(const char *text, ees_cores *out, ees_error *err);

/** How many of the first `n_workers` cores are of each type. Workers beyond n_cores begin again with the first core.
 *  @param n_of_type  cores->n_types numbers */
EES_API void ees_cores_count(const ees_cores *cores, unsigned n_workers, unsigned *n_of_type);

/* ---- Costs --------------------------------------------------------------------------------------------- */

/** Cost of each unit on a core of one type, nanoseconds a frame. */
typedef struct ees_unit_costs {
    char name[16];                  /**< of the core type */
    size_t private_cache_bytes;     /**< 0: unknown, nothing is ever warm */
    double cold_ns[EES_MAX_UNITS];  /**< in turn with all other units, as a worker that runs the whole chain does */
    double warm_ns[EES_MAX_UNITS];  /**< its weights still in the core's private cache */
    double batch_ns[EES_MAX_UNITS]; /**< a frame's share when ees_profile.batch frames run the unit together, cold */
} ees_unit_costs;

typedef struct ees_profile {
    unsigned n_units, n_types;
    unsigned batch;                           /**< frames in a micro-batch; 1: none was measured */
    ees_unit_costs types[EES_MAX_CORE_TYPES]; /**< in the order of ees_cores.types */
    size_t weights_bytes[EES_MAX_UNITS];
} ees_profile;

/** Measure every unit on a core of each type, in the thread's CPU time: other programs do not count. With several types the calling thread is pinned to one core after the
 *  other and its mask is restored; with one type it is not pinned. A type whose core cannot be had gets the costs of
 *  the first one measured, scaled by capacity.
 *  @param frame  what the stream's frames look like (decode cost); NULL: a synthetic 640x480 JPEG
 *  @param min_ns CPU time to spend per unit, core type and cache state; 0: 2 ms, at least 3 runs
 *  @param cores  NULL: ees_cores_detect()
 *  @return 0; EES_ENOMEM; EES_EDAMAGED the frame; EES_EINVAL cores of another machine */
EES_API int ees_profile_measure(const ees_model *model, const ees_frame *frame, uint64_t min_ns, const ees_cores *cores,
                                ees_profile *out, ees_error *err);

/** Costs for other cores: a type that the profile knows by name keeps its costs, any other gets those of the
 *  profile's first type divided by its capacity. A cache size known in `cores` replaces the profile's.
 *  @param out  may be `profile` itself */
EES_API void ees_profile_scale(const ees_profile *profile, const ees_cores *cores, ees_profile *out);

/** Text that changes with whatever the costs depend on: version, model shape, kernels, processor, core types. Not with the
 *  frames, nor with how they are decoded.
 *  @param out  at most `n` bytes are written, always terminated when n > 0
 *  @return length without the terminator, as snprintf(): out was cut when it is >= n */
EES_API size_t ees_profile_key(const ees_model *model, char *out, size_t n);

/** Write a profile as JSON. The file appears whole or not at all (written beside `path`, then renamed).
 *  @param key  stored with it, for ees_profile_load()
 *  @return 0; EES_EOUTPUT with the path and the system's reason; EES_ENOMEM */
EES_API int ees_profile_save(const ees_profile *profile, const char *key, const char *path, ees_error *err);

/** Read what ees_profile_save() wrote. Trusts nothing: every number is checked.
 *  @param key  NULL: any; otherwise the file must have been saved with the same
 *  @return 0; EES_EINVAL naming file, field and value; EES_ENOMEM. *out is untouched on failure. */
EES_API int ees_profile_load(const char *path, const char *key, ees_profile *out, ees_error *err);

/* ---- Plans --------------------------------------------------------------------------------------------- */

typedef struct ees_plan_group {
    unsigned first_unit; /**< inclusive */
    unsigned end_unit;   /**< exclusive */
    unsigned n_workers;
    unsigned n_of_type[EES_MAX_CORE_TYPES]; /**< of these, on cores of each type; all 0: not assigned yet */
    double work_ns; /**< expected work of one source frame here, sum of cost x reach, on its fastest core type */
    double rate_hz; /**< source frames a second its workers can carry together; infinite when nobody gets there */
} ees_plan_group;

typedef struct ees_plan {
    unsigned n_groups;
    unsigned n_workers;
    ees_plan_group groups[EES_MAX_GROUPS];
    uint8_t batch[EES_MAX_UNITS]; /**< frames that should run each unit together when as many wait; 0 and 1: alone */
    double bottleneck_ns;         /**< 1e9 / the least rate_hz: time between frames */
    double fps;                   /**< 1e9 / bottleneck_ns */
    double busy_share;            /**< mean share of time the workers have work if nobody helps another group */
} ees_plan;

/** Probability that each unit runs, from the share of frames that take each exit.
 *  @param exit_share  n_exits + 1 numbers >= 0, normalised here; NULL: every frame goes to the end
 *  @param reach       model's n_units numbers */
EES_API int ees_plan_reach(const ees_model *model, const double *exit_share, double *reach, ees_error *err);

/** The plan with the least bottleneck; bottlenecks within 1 % count as equal, and among them the fewest groups win (least
 *  latency, least memory). A group with k cores of type t and work W on that type carries k / W frames a second; types
 *  add up. A unit costs its warm time on a type when the weights of its whole group fit that type's private cache, else
 *  its cold time, or its batched time where batching saves 2 % or more.
 *
 *  Exact for up to two types and for three or four of which all but the most numerous can be split among groups in at
 *  most 400 ways ((n1 + 1) x (n2 + 1) x ...); beyond that, cores are dealt out in bundles. The bottleneck is known to
 *  0.01 %, so a plan that is 0.99 % to 1 % slower may or may not count as equal.
 *  @param reach      n_units probabilities
 *  @param n_of_type  profile->n_types numbers: cores to use of each type, 1 to EES_MAX_WORKERS together
 *  @return 0; EES_EINVAL; EES_ENOMEM */
EES_API int ees_plan_solve(const ees_profile *profile, const double *reach, const unsigned *n_of_type, ees_plan *out,
                           ees_error *err);

/** Parse "replicas", "equal:G" (G groups of equal block count) or groups "RANGE[xWORKERS],...". "auto" is
 *  ees_plan_solve()'s. RANGE is FIRST-LAST in 1-based blocks; a bound may be a unit name
 *  ("1-block4.attn,block4.mlp-12"). The first group takes everything before its range, the last everything after; heads
 *  follow their block. Without xWORKERS the workers are dealt out evenly, remainders to the later groups. Core types
 *  are left for ees_plan_predict() to assign.
 *  @return 0; EES_EINVAL: gap, overlap, more groups than workers or units, wrong worker total (all values named) */
EES_API int ees_plan_parse(const ees_model *model, const char *text, unsigned n_workers, ees_plan *out, ees_error *err);

/** Fill batch, work_ns, rate_hz, bottleneck_ns, fps and busy_share of a plan for these costs. Groups without core
 *  types get theirs so that the bottleneck is least: exactly within the bound given for ees_plan_solve(), beyond it the
 *  slowest group takes the fastest core left, in turn.
 *  @param n_of_type  profile->n_types numbers: cores there are of each type
 *  @return 0; EES_EINVAL more workers than cores of a type, units beyond the profile; EES_ENOMEM */
EES_API int ees_plan_predict(const ees_profile *profile, const double *reach, const unsigned *n_of_type, ees_plan *plan,
                             ees_error *err);

/** The plan as a Graphviz graph: a box per group with its units, workers and load, arrows with the share of frames that
 *  go on, and the exits where frames leave.
 *  @param profile  names the core types; NULL: none are named
 *  @param reach    shares on the arrows; NULL: arrows without
 *  @param out      at most `n` bytes are written, always terminated when n > 0
 *  @return length without the terminator, as snprintf(): out was cut when it is >= n */
EES_API size_t ees_plan_dot(const ees_model *model, const ees_profile *profile, const ees_plan *plan,
                            const double *reach, char *out, size_t n);

#ifdef __cplusplus
}
#endif
#endif
