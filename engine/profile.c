/* SPDX-License-Identifier: MIT */
/* Unit costs, measured on the calling thread: cold as part of the whole chain, warm one unit again and again, and
 * batched; on one core of each type in turn. */
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/fail.h"
#include "common/mem.h"
#include "eestream/plan.h"
#include "eestream/source.h"
#include "engine/affinity.h"
#include "stages/stage.h"

enum { MIN_RUNS = 3, MAX_RUNS = 200 }; /* the first warms up and does not count */

/* Frames of a micro-batch that is tried. What there is to gain, reading weights once for several frames, is mostly won with
 * four; more would only make the first of them wait (docs/measurements.md). */
enum { BATCH = 4 };

static const uint64_t default_min_ns = 2000000;

struct bench {
    const ees_model *model;
    struct ees__policy_setup policy; /* every frame goes to the end, past every head */
    uint8_t to_the_end;
    struct ees__lane *lane;
    float *memory;
    struct ees__item items[BATCH];
    uint64_t min_ns;
    ees_error *err;
};

/* ---- One core ------------------------------------------------------------------------------------------ */

/* Run a unit on the first n items together. */
static int time_unit(struct bench *b, unsigned unit, unsigned n, uint64_t *ns) {
    struct ees__item *items[BATCH];
    int rc[BATCH];
    for (unsigned i = 0; i < n; i++)
        items[i] = &b->items[i];
    uint64_t start_ns = ees__now_ns();
    ees__unit_run(b->model, &b->policy, unit, items, n, rc, b->lane, NULL);
    *ns = ees__now_ns() - start_ns;
    for (unsigned i = 0; i < n; i++)
        if (rc[i] < 0)
            return EES_FAIL(b->err, rc[i], "%s", b->items[i].error.message);
    return 0;
}

/* All units in turn with n frames, once. @return what all took together through *pass_ns */
static int pass_chain(struct bench *b, unsigned n_units, unsigned n, bool counts, double *least_ns, uint64_t *pass_ns) {
    *pass_ns = 0;
    for (unsigned u = 0; u < n_units; u++) {
        uint64_t ns;
        EES_TRY(time_unit(b, u, n, &ns));
        *pass_ns += ns;
        if (counts && (least_ns[u] == 0 || (double)ns < least_ns[u]))
            least_ns[u] = (double)ns;
    }
    return 0;
}

/* A frame's share of each unit when n frames run through all of them in turn. Noise only ever adds, so the least of several
 * passes is taken of each unit; but least times of units from different passes add up to less than any pass took, so they
 * are stretched to the least whole pass. */
static int measure_chain(struct bench *b, unsigned n_units, unsigned n, double *share_ns) {
    uint64_t spent_ns = 0, least_pass_ns = UINT64_MAX, enough_ns = b->min_ns * n_units;
    double sum_ns = 0;
    memset(share_ns, 0, n_units * sizeof *share_ns);
    for (unsigned pass = 0; pass < MIN_RUNS || (spent_ns < enough_ns && pass < MAX_RUNS); pass++) {
        uint64_t pass_ns;
        EES_TRY(pass_chain(b, n_units, n, pass > 0, share_ns, &pass_ns));
        spent_ns += pass_ns;
        if (pass > 0 && pass_ns < least_pass_ns)
            least_pass_ns = pass_ns;
    }
    for (unsigned u = 0; u < n_units; u++)
        sum_ns += share_ns[u];
    for (unsigned u = 0; u < n_units; u++)
        share_ns[u] *= sum_ns > 0 ? (double)least_pass_ns / sum_ns / n : 0;
    return 0;
}

static int measure_warm(struct bench *b, const ees_profile *profile, ees_unit_costs *out) {
    for (unsigned u = 0; u < profile->n_units; u++) {
        out->warm_ns[u] = out->cold_ns[u];
        if (profile->weights_bytes[u] == 0 || profile->weights_bytes[u] > out->private_cache_bytes)
            continue; /* nothing to keep warm (decoding one frame again and again would look it), or too much */
        uint64_t spent_ns = 0;
        for (unsigned run = 0; run < MIN_RUNS || (spent_ns < b->min_ns && run < MAX_RUNS); run++) {
            uint64_t ns;
            EES_TRY(time_unit(b, u, 1, &ns));
            spent_ns += ns;
            if (run > 0 && (double)ns < out->warm_ns[u])
                out->warm_ns[u] = (double)ns;
        }
    }
    return 0;
}

/* A chain so slow that trying batches would take much longer than all the rest has little to gain from them: its time goes
 * into products with many rows, which read their weights once as it is. */
static bool is_worth_trying(const struct bench *b, unsigned n_units, const ees_unit_costs *costs) {
    double chain_ns = 0;
    for (unsigned u = 0; u < n_units; u++)
        chain_ns += costs->cold_ns[u];
    return MIN_RUNS * BATCH * chain_ns < 10.0 * (double)b->min_ns * n_units;
}

static int measure_batch(struct bench *b, ees_profile *profile, ees_unit_costs *out) {
    memcpy(out->batch_ns, out->cold_ns, sizeof out->batch_ns);
    if (!is_worth_trying(b, profile->n_units, out))
        return 0;
    profile->batch = BATCH;
    return measure_chain(b, profile->n_units, BATCH, out->batch_ns);
}

static int measure_type(struct bench *b, const ees_core_type *type, ees_profile *profile, ees_unit_costs *out) {
    memcpy(out->name, type->name, sizeof out->name);
    out->private_cache_bytes = type->private_cache_bytes;
    EES_TRY(measure_chain(b, profile->n_units, 1, out->cold_ns));
    EES_TRY(measure_warm(b, profile, out));
    return measure_batch(b, profile, out);
}

/* ---- All core types ------------------------------------------------------------------------------------ */

static void scale_costs(const ees_unit_costs *from, double factor, const ees_core_type *type, ees_unit_costs *out) {
    ees_unit_costs scaled = {.private_cache_bytes = type->private_cache_bytes};
    memcpy(scaled.name, type->name, sizeof scaled.name);
    for (unsigned u = 0; u < EES_MAX_UNITS; u++) {
        scaled.cold_ns[u] = from->cold_ns[u] * factor;
        scaled.warm_ns[u] = from->warm_ns[u] * factor;
        scaled.batch_ns[u] = from->batch_ns[u] * factor;
    }
    *out = scaled;
}

static bool pin_to_type(const ees_cores *cores, unsigned type) {
    for (unsigned i = 0; i < cores->n_cores; i++)
        if (cores->type[i] == type && ees__affinity_pin(pthread_self(), cores->cpu[i]) >= 0)
            return true;
    return false;
}

/* Several types: the thread visits one core of each. What cannot be visited is scaled from the first that was. */
static int visit_types(struct bench *b, const ees_cores *cores, ees_profile *out) {
    bool measured[EES_MAX_CORE_TYPES] = {false};
    unsigned from = cores->n_types;
    for (unsigned t = 0; t < cores->n_types; t++) {
        measured[t] = pin_to_type(cores, t);
        if (!measured[t])
            continue;
        EES_TRY(measure_type(b, &cores->types[t], out, &out->types[t]));
        from = from == cores->n_types ? t : from;
    }
    if (from == cores->n_types) { /* pinning is forbidden: wherever the thread happens to run */
        from = 0;
        EES_TRY(measure_type(b, &cores->types[0], out, &out->types[0]));
    }
    for (unsigned t = 0; t < cores->n_types; t++)
        if (!measured[t] && t != from)
            scale_costs(&out->types[from], cores->types[from].capacity / cores->types[t].capacity, &cores->types[t],
                        &out->types[t]);
    return 0;
}

static int measure_types(struct bench *b, const ees_cores *cores, ees_profile *out) {
    if (cores->n_types == 1)
        return measure_type(b, &cores->types[0], out, &out->types[0]);
    struct ees__affinity_mask before = ees__affinity_save();
    int rc = visit_types(b, cores, out);
    ees__affinity_restore(&before);
    return rc;
}

static int make_items(struct bench *b, const ees_frame *frame, const ees_model_info *info) {
    size_t state = ees__round_up(info->state_bytes, EES_CACHE_LINE), logits = info->n_classes * sizeof(float), each,
           total;
    if (!ees__add(state, ees__round_up(logits, EES_CACHE_LINE), &each) || !ees__mul(each, BATCH, &total) ||
        !(b->memory = ees__calloc_aligned(total, 1)) || !(b->lane = ees__lane_open(b->model, BATCH)))
        return EES_FAIL(b->err, EES_ENOMEM, "no memory to measure the units");
    for (unsigned i = 0; i < BATCH; i++) {
        char *at = (char *)b->memory + i * each;
        b->items[i] = (struct ees__item){
            .frame = frame, .state = (float *)(void *)at, .logits = (float *)(void *)(at + state), .exit_idx = -1};
    }
    return 0;
}

static int measure(struct bench *b, const ees_frame *frame, const ees_cores *cores, ees_profile *out) {
    const ees_model_info *info = ees_model_get_info(b->model);
    EES_TRY(make_items(b, frame, info));
    out->batch = 1;
    out->n_units = info->n_units;
    out->n_types = cores->n_types;
    for (unsigned u = 0; u < info->n_units; u++)
        out->weights_bytes[u] = ees_model_get_unit(b->model, u)->weights_bytes;
    return measure_types(b, cores, out);
}

/* ---- The frame ----------------------------------------------------------------------------------------- */

static int measure_frame(const ees_model *model, const ees_frame *frame, uint64_t min_ns, const ees_cores *cores,
                         ees_profile *out, ees_error *err) {
    struct bench b = {.model = model, .min_ns = min_ns ? min_ns : default_min_ns, .err = err};
    b.to_the_end = (uint8_t)ees_model_get_info(model)->n_exits;
    ees_policy_options none = {.name = "none"}, resolved; /* the replay runs the heads */
    EES_TRY(ees_policy_resolve(model, &none, &resolved, err));
    resolved.replay = &b.to_the_end;
    resolved.n_replay = 1;
    EES_TRY(ees__policy_setup(model, &resolved, &b.policy, err));
    int rc = measure(&b, frame, cores, out);
    ees__lane_close(b.lane);
    ees__free(b.memory);
    return rc;
}

static int measure_synthetic(const ees_model *model, uint64_t min_ns, const ees_cores *cores, ees_profile *out,
                             ees_error *err) {
    ees_source *source;
    ees_frame synthetic;
    EES_TRY(ees_source_open("synthetic:640x480", NULL, &source, err));
    int rc = ees_source_next(source, &synthetic, err);
    if (rc == 0) {
        rc = measure_frame(model, &synthetic, min_ns, cores, out, err);
        synthetic.release(synthetic.opaque);
    }
    ees_source_close(source);
    return rc;
}

int ees_profile_measure(const ees_model *model, const ees_frame *frame, uint64_t min_ns, const ees_cores *cores,
                        ees_profile *out, ees_error *err) {
    ees_cores detected;
    *out = (ees_profile){0};
    if (!cores)
        EES_TRY(ees_cores_detect(&detected, err));
    cores = cores ? cores : &detected;
    if (cores->n_cores == 0 || cores->n_types == 0 || cores->n_types > EES_MAX_CORE_TYPES)
        return EES_FAIL(err, EES_EINVAL, "cannot measure %u cores of %u types", cores->n_cores, cores->n_types);
    for (unsigned i = 0; i < cores->n_cores; i++)
        if (cores->cpu[i] < 0)
            return EES_FAIL(err, EES_EINVAL, "core %u ('%s') is not of this machine: measure here, then scale", i,
                            cores->types[cores->type[i]].name);
    return frame ? measure_frame(model, frame, min_ns, cores, out, err)
                 : measure_synthetic(model, min_ns, cores, out, err);
}

/* ---- Other cores --------------------------------------------------------------------------------------- */

void ees_profile_scale(const ees_profile *profile, const ees_cores *cores, ees_profile *out) {
    ees_unit_costs known[EES_MAX_CORE_TYPES];
    unsigned n_known = profile->n_types;
    memcpy(known, profile->types, sizeof known); /* `out` may be `profile` */
    if (out != profile)
        *out = *profile;
    out->n_types = cores->n_types;
    for (unsigned t = 0; t < cores->n_types; t++) {
        const ees_core_type *type = &cores->types[t];
        const ees_unit_costs *from = NULL;
        for (unsigned k = 0; k < n_known && !from; k++)
            if (strcmp(known[k].name, type->name) == 0)
                from = &known[k];
        scale_costs(from ? from : &known[0], from ? 1 : 1 / type->capacity, type, &out->types[t]);
        if (type->private_cache_bytes == 0)
            out->types[t].private_cache_bytes = (from ? from : &known[0])->private_cache_bytes;
    }
}
