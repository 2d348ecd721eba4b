/* SPDX-License-Identifier: MIT */
/* What a core can do, and how near to it a model's units run. Rates are taken before and after the units, and the best
 * of all tries counts: other programs and a processor that still clocks up only ever take away. */
#define _GNU_SOURCE
#include "eestream/roofline.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fail.h"
#include "common/mem.h"
#include "engine/affinity.h"
#include "engine/chain_run.h"
#include "engine/counters.h"

/* What other programs take from the core is neither the unit's nor the rate's. */
#define TIMER CLOCK_THREAD_CPUTIME_ID

static const uint64_t default_min_ns = 3000000000;

enum { TRIES = 8 };                     /* of a rate, before the units and after them */
static const uint64_t TRY_NS = 1000000; /* a try takes at least this long */

enum { PAGE = 4096, COUNTED_FRAMES = 2 };
static const size_t UNKNOWN_PRIVATE = 256 << 10, LEAST_MEMORY = (size_t)64 << 20;

struct roofline {
    struct ees__chain_run chain;
    void *memory; /* out->read_memory.bytes, written once: each page is there */
    ees_roofline *out;
};

/* ---- Rates --------------------------------------------------------------------------------------------- */

/* Something done n times over. @return how much was done */
struct task {
    double (*run)(const struct task *task, size_t n);
    const struct roofline *r;
    const char *precision;
    size_t bytes;
};

static double time_task(const struct task *task, size_t n, uint64_t *ns) {
    uint64_t start_ns = ees__clock_ns(TIMER);
    double done = task->run(task, n);
    *ns = ees__clock_ns(TIMER) - start_ns;
    return done;
}

/* Keep in *best_per_s the best of several tries and of what it holds already. */
static void improve(const struct task *task, double *best_per_s) {
    uint64_t ns;
    size_t n = 1;
    time_task(task, n, &ns); /* warms up */
    while (time_task(task, n, &ns) > 0 && ns < TRY_NS)
        n *= 2;
    for (unsigned i = 0; i < TRIES; i++) {
        double done = time_task(task, n, &ns);
        *best_per_s = fmax(*best_per_s, 1e9 * done / (double)ns);
    }
}

static double run_peak(const struct task *task, size_t n) {
    return ees__peak_run(task->r->chain.model, task->precision, n);
}

static double run_read(const struct task *task, size_t n) {
    for (size_t i = 0; i < n; i++)
        ees__read_run(task->r->chain.model, task->r->memory, task->bytes);
    return (double)n * (double)task->bytes;
}

/* Each addition waits for the one before. @return cycles, one an addition on any core there is */
static double run_additions(const struct task *task, size_t n) {
    enum { UNROLL = 64 };
    uint64_t x = n, y = n | 1;
    for (size_t i = 0; i < n; i++) {
#pragma GCC unroll 64
        for (int j = 0; j < UNROLL; j++) {
            x += y;
            __asm__("" : "+r"(x));
        }
    }
    __asm__ volatile("" ::"r"(x));
    return (double)n * UNROLL;
}

static void improve_read(const struct roofline *r, ees_read_rate *rate) {
    improve(&(struct task){.run = run_read, .r = r, .bytes = rate->bytes}, &rate->bytes_per_s);
}

/* Peaks right after the clock, so that both are of the same frequency as far as can be. */
static void improve_rates(struct roofline *r) {
    ees_roofline *out = r->out;
    for (unsigned i = 0; i < out->n_peaks; i++) {
        improve(&(struct task){.run = run_peak, .r = r, .precision = out->peaks[i].precision},
                &out->peaks[i].flops_per_s);
        improve(&(struct task){.run = run_additions, .r = r}, &out->cycles_per_s);
    }
    improve_read(r, &out->read_private);
    improve_read(r, &out->read_memory);
    if (out->read_model.bytes < out->read_memory.bytes)
        improve_read(r, &out->read_model);
    else
        out->read_model = out->read_memory;
}

/* ---- What to measure ----------------------------------------------------------------------------------- */

static double *find_peak(ees_roofline *out, const char *precision) {
    for (unsigned i = 0; i < out->n_peaks; i++)
        if (strcmp(out->peaks[i].precision, precision) == 0)
            return &out->peaks[i].flops_per_s;
    return NULL;
}

static void list_peaks(const ees_model *model, ees_roofline *out) {
    out->peaks[out->n_peaks++].precision = "fp32";
    for (unsigned u = 0; u < out->n_units; u++) {
        const char *precision = ees_model_get_unit(model, u)->precision;
        if (!find_peak(out, precision) && out->n_peaks < EES_ROOFLINE_PRECISIONS)
            out->peaks[out->n_peaks++].precision = precision;
    }
}

static size_t frame_bytes(const ees_frame *frame, size_t input_bytes) {
    if (frame->kind == EES_FRAME_JPEG)
        return frame->bytes;
    if (frame->kind == EES_FRAME_TENSOR)
        return input_bytes;
    size_t bytes = frame->stride[0] * frame->height_px;
    for (int plane = 1; frame->kind == EES_FRAME_YUV && plane < 3 && frame->data[plane]; plane++)
        bytes += frame->stride[plane] * (frame->height_px >> frame->chroma_shift_y);
    return bytes;
}

/* Bytes each unit needs: its weights, what the unit before it left, and what it leaves. Heads leave the tokens alone.
 */
static void count_bytes(struct roofline *r) {
    ees_roofline *out = r->out;
    size_t state = frame_bytes(r->chain.items[0].frame, ees_model_get_unit(r->chain.model, 0)->output_bytes),
           weights = 0;
    for (unsigned u = 0; u < out->n_units; u++) {
        const ees_unit_info *unit = ees_model_get_unit(r->chain.model, u);
        out->units[u].flops = unit->flops;
        out->units[u].weights_bytes = unit->weights_bytes;
        out->units[u].state_bytes = state + unit->output_bytes;
        if (unit->exit_idx < 0)
            state = unit->output_bytes;
        weights += unit->weights_bytes;
    }
    out->read_model.bytes = weights + ees_model_get_info(r->chain.model)->state_bytes;
}

static size_t whole_pages(size_t bytes) { return bytes < PAGE ? PAGE : bytes - bytes % PAGE; }

static void choose_sizes(const ees_core_type *type, ees_roofline *out) {
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    double quarter = pages > 0 && page_bytes > 0 ? (double)pages * (double)page_bytes / 4 : (double)LEAST_MEMORY;
    double memory = fmin(fmax(4.0 * (double)type->last_cache_bytes, (double)LEAST_MEMORY), quarter);
    size_t private_bytes = type->private_cache_bytes ? type->private_cache_bytes : UNKNOWN_PRIVATE;
    out->read_memory.bytes = whole_pages((size_t)memory);
    out->read_private.bytes = whole_pages(private_bytes / 2);
    out->read_model.bytes = whole_pages(out->read_model.bytes);
}

/* ---- Units --------------------------------------------------------------------------------------------- */

static int measure_units(struct roofline *r, uint64_t min_ns) {
    double ns[EES_MAX_UNITS];
    EES_TRY(ees__chain_run_all(&r->chain, 1, min_ns, ns));
    for (unsigned u = 0; u < r->out->n_units; u++)
        r->out->units[u].ns = ns[u];
    return 0;
}

/* In frames of their own: reading the counters takes time. */
static int count_units(struct roofline *r) {
    ees_roofline *out = r->out;
    struct ees__counters counters;
    double before[EES_N_COUNTERS], after[EES_N_COUNTERS];
    int rc = 0;
    for (unsigned u = 0; u < out->n_units; u++)
        for (unsigned i = 0; i < EES_N_COUNTERS; i++)
            out->units[u].counts[i] = NAN;
    if (ees__counters_open(&counters, &out->no_counters) == 0)
        for (unsigned k = 0; k < COUNTED_FRAMES * out->n_units && rc == 0; k++) {
            uint64_t ns;
            unsigned u = k % out->n_units;
            ees__counters_read(&counters, before);
            rc = ees__chain_run_unit(&r->chain, u, 1, &ns);
            ees__counters_read(&counters, after);
            for (unsigned i = 0; i < EES_N_COUNTERS; i++) /* the least of the frames */
                out->units[u].counts[i] = fmin(out->units[u].counts[i], after[i] - before[i]);
        }
    ees__counters_close(&counters);
    return rc;
}

static void find_limits(struct roofline *r) {
    ees_roofline *out = r->out;
    for (unsigned i = 0; i < out->n_peaks; i++)
        out->peaks[i].flops_per_cycle = out->peaks[i].flops_per_s / out->cycles_per_s;
    for (unsigned u = 0; u < out->n_units; u++) {
        ees_unit_roofline *unit = &out->units[u];
        const double *peak = find_peak(out, ees_model_get_unit(r->chain.model, u)->precision);
        unit->memory_ns = 1e9 * ((double)unit->weights_bytes / out->read_model.bytes_per_s +
                                 (double)unit->state_bytes / out->read_private.bytes_per_s);
        if (unit->flops > 0 && peak && *peak > 0) {
            unit->compute_ns = 1e9 * unit->flops / *peak;
            unit->limit_ns = fmax(unit->compute_ns, unit->memory_ns);
        }
        out->ns += unit->ns;
        out->limit_ns += unit->limit_ns;
    }
    for (unsigned u = 0; u < out->n_units; u++)
        out->units[u].share = out->ns > 0 ? out->units[u].ns / out->ns : 0;
}

static int measure(struct roofline *r, const ees_core_type *type, uint64_t min_ns) {
    ees_roofline *out = r->out;
    out->n_units = ees_model_get_info(r->chain.model)->n_units;
    list_peaks(r->chain.model, out);
    count_bytes(r);
    choose_sizes(type, out);
    r->memory = ees__calloc_aligned(out->read_memory.bytes, 1);
    if (!r->memory)
        return EES_FAIL(r->chain.err, EES_ENOMEM, "no memory to measure how fast %zu bytes are read",
                        out->read_memory.bytes);
    memset(r->memory, 1, out->read_memory.bytes);
    improve_rates(r);
    EES_TRY(measure_units(r, min_ns ? min_ns : default_min_ns));
    improve_rates(r);
    EES_TRY(count_units(r));
    find_limits(r);
    return 0;
}

/* ---- The core ------------------------------------------------------------------------------------------ */

/* On the first core of the type that takes the thread. */
static int pin_to(const ees_cores *cores, unsigned type) {
    for (unsigned i = 0; i < cores->n_cores; i++)
        if (cores->type[i] == type && ees__affinity_pin(pthread_self(), cores->cpu[i]) >= 0)
            return cores->cpu[i];
    return -1;
}

static int check_cores(const ees_cores *cores, unsigned type, ees_error *err) {
    if (type >= cores->n_types || cores->n_types > EES_MAX_CORE_TYPES)
        return EES_FAIL(err, EES_EINVAL, "roofline of core type %u: there are %u", type, cores->n_types);
    for (unsigned i = 0; i < cores->n_cores; i++)
        if (cores->cpu[i] < 0)
            return EES_FAIL(err, EES_EINVAL, "core %u ('%s') is not of this machine", i,
                            cores->types[cores->type[i]].name);
    return 0;
}

int ees_roofline_measure(const ees_model *model, const ees_frame *frame, const ees_cores *cores, unsigned type,
                         uint64_t min_ns, ees_roofline *out, ees_error *err) {
    ees_cores detected;
    *out = (ees_roofline){0};
    if (!cores)
        EES_TRY(ees_cores_detect(&detected, err));
    cores = cores ? cores : &detected;
    EES_TRY(check_cores(cores, type, err));
    struct roofline r = {.out = out};
    EES_TRY(ees__chain_run_open(&r.chain, model, frame, err));
    memcpy(out->core, cores->types[type].name, sizeof out->core);
    struct ees__affinity_mask before = ees__affinity_save();
    out->cpu = pin_to(cores, type);
    int rc = measure(&r, &cores->types[type], min_ns);
    ees__affinity_restore(&before);
    ees__free(r.memory);
    ees__chain_run_close(&r.chain);
    return rc;
}
