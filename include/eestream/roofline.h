/* SPDX-License-Identifier: MIT */
/** Rooflines: how near the units of a model run to what a core can do, and what holds them back.
 *
 *  A core multiplies and adds at some rate at most, and reads at some rate at most. A unit of F operations on B bytes takes at
 *  least as long as the longer of F at the one rate and B at the other. That time's share of the measured one tells how
 *  much there is to gain. Rates are measured too, with the instructions of the model's kernel level, before and after the
 *  units. */
#ifndef EESTREAM_ROOFLINE_H
#define EESTREAM_ROOFLINE_H

#include "eestream/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { EES_ROOFLINE_PRECISIONS = 3 };

/** What the processor counts while a unit runs, in user mode, where the kernel lets it. */
enum ees_counter {
    EES_COUNTER_CYCLES,
    EES_COUNTER_INSTRUCTIONS,
    EES_COUNTER_CACHE_MISSES,   /**< of the last cache, as the kernel's generic event has it */
    EES_COUNTER_STALLED_CYCLES, /**< nothing went to the execution units because of what was before it ("backend") */
    EES_N_COUNTERS,
};

/** Multiply-adds in registers alone. */
typedef struct ees_peak_rate {
    const char *precision;  /**< "fp32", "bf16", "int8"; lives for ever */
    double flops_per_s;     /**< 2 operations a multiply-add */
    double flops_per_cycle; /**< whatever the frequency: vectors a cycle x lanes x 2 */
} ees_peak_rate;

/** Reading so many bytes from one end to the other, again and again. */
typedef struct ees_read_rate {
    size_t bytes;
    double bytes_per_s;
} ees_read_rate;

typedef struct ees_unit_roofline {
    double ns;            /**< CPU time a frame, in turn with all other units, as a worker pays that runs the whole chain */
    double share;         /**< of the time of all units */
    double flops;         /**< ees_unit_info.flops */
    size_t weights_bytes; /**< packed, each read once */
    size_t state_bytes;   /**< picture or state in, state or logits out, once each. Working memory inside the unit is left
                           *   out, as is whatever is read twice: no limit is put too high */
    double compute_ns;    /**< flops at the peak of the unit's precision; 0: no products */
    double memory_ns; /**< weights at read_model, and state, which the unit before has just left, at read_private */
    double limit_ns;  /**< the longer of the two; 0 for a unit without products, which has no limit */
    double counts[EES_N_COUNTERS]; /**< a frame's; NaN: not counted */
} ees_unit_roofline;

typedef struct ees_roofline {
    char core[16];       /**< name of the core's type */
    int cpu;             /**< it was pinned to; -1: the system forbids pinning */
    double cycles_per_s; /**< of dependent additions, one a cycle; a virtual or emulated core's may be odd */
    unsigned n_peaks;
    ees_peak_rate peaks[EES_ROOFLINE_PRECISIONS]; /**< fp32 first, then what else the model's units multiply */
    ees_read_rate read_private; /**< half the core's private cache, or 128 KiB where its size is unknown */
    ees_read_rate read_model;   /**< as many bytes as weights and state of the whole chain, read_memory.bytes at most */
    ees_read_rate read_memory;  /**< four times the last cache, at least 64 MiB, at most a quarter of the memory */
    ees_error no_counters;      /**< code 0: there are some; else why there are none, and what to do about it */
    unsigned n_units;
    ees_unit_roofline units[EES_MAX_UNITS];
    double ns, limit_ns; /**< of all units together; one without a limit adds to ns alone */
} ees_roofline;

/** Measure on a core of one type. The calling thread is pinned to it and its mask restored. Every head runs. Takes at
 *  least three frames, some 0.2 s for the rates, and memory of read_memory.bytes. Any thread; alone on the core, or the
 * shares come out too small.
 *  @param frame   NULL: a synthetic 640x480 JPEG
 *  @param cores   NULL: ees_cores_detect()
 *  @param type    position in cores->types
 *  @param min_ns  time to spend on frames; 0: 3 s
 *  @return 0; EES_ENOMEM; EES_EDAMAGED the frame; EES_EINVAL no such type, or a core of another machine */
EES_API int ees_roofline_measure(const ees_model *model, const ees_frame *frame, const ees_cores *cores, unsigned type,
                                 uint64_t min_ns, ees_roofline *out, ees_error *err);

/** "cycles", "instructions", "cache_misses", "stalled_cycles". */
EES_API const char *ees_counter_name(enum ees_counter counter);

#ifdef __cplusplus
}
#endif
#endif
