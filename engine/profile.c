/* SPDX-License-Identifier: MIT */
/* Unit costs, measured on the calling thread: cold as part of the whole chain, warm one unit again and again, and
 * batched; on one core of each type in turn. */
#include <stdio.h>
#include <string.h>

#include "common/fail.h"
#include "engine/affinity.h"
#include "engine/chain_run.h"
#include "stages/stage.h"

static const uint64_t default_min_ns = 2000000;

struct bench {
    struct ees__chain_run chain;
    uint64_t min_ns;
};

/* ---- One core ------------------------------------------------------------------------------------------ */

static int measure_warm(struct bench *b, const ees_profile *profile, ees_unit_costs *out) {
    for (unsigned u = 0; u < profile->n_units; u++) {
        out->warm_ns[u] = out->cold_ns[u];
        if (profile->weights_bytes[u] == 0 || profile->weights_bytes[u] > out->private_cache_bytes)
            continue; /* nothing to keep warm (decoding one frame again and again would look it), or too much */
        uint64_t spent_ns = 0;
        for (unsigned run = 0; ees__chain_goes_on(run, spent_ns, b->min_ns); run++) {
            uint64_t ns;
            EES_TRY(ees__chain_run_unit(&b->chain, u, 1, &ns));
            spent_ns += ns;
            if (run > 0 && (double)ns < out->warm_ns[u])
                out->warm_ns[u] = (double)ns;
        }
    }
    return 0;
}

/* A chain so slow that trying batches would take much longer than all the rest has little to gain from them: its time
 * goes into products with many rows, which read their weights once as it is. */
static bool is_worth_trying(const struct bench *b, unsigned n_units, const ees_unit_costs *costs) {
    double chain_ns = 0;
    for (unsigned u = 0; u < n_units; u++)
        chain_ns += costs->cold_ns[u];
    return EES__CHAIN_MIN_RUNS * EES__CHAIN_BATCH * chain_ns < 10.0 * (double)b->min_ns * n_units;
}

static int measure_batch(struct bench *b, ees_profile *profile, ees_unit_costs *out) {
    memcpy(out->batch_ns, out->cold_ns, sizeof out->batch_ns);
    if (!is_worth_trying(b, profile->n_units, out))
        return 0;
    profile->batch = EES__CHAIN_BATCH;
    return ees__chain_run_all(&b->chain, EES__CHAIN_BATCH, b->min_ns * profile->n_units, out->batch_ns);
}

static int measure_type(struct bench *b, const ees_core_type *type, ees_profile *profile, ees_unit_costs *out) {
    memcpy(out->name, type->name, sizeof out->name);
    out->private_cache_bytes = type->private_cache_bytes;
    EES_TRY(ees__chain_run_all(&b->chain, 1, b->min_ns * profile->n_units, out->cold_ns));
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

/* ---- The frame ----------------------------------------------------------------------------------------- */

static int measure_frame(const ees_model *model, const ees_frame *frame, uint64_t min_ns, const ees_cores *cores,
                         ees_profile *out, ees_error *err) {
    struct bench b = {.min_ns = min_ns ? min_ns : default_min_ns};
    EES_TRY(ees__chain_run_open(&b.chain, model, frame, err));
    out->batch = 1;
    out->n_units = ees_model_get_info(model)->n_units;
    out->n_types = cores->n_types;
    for (unsigned u = 0; u < out->n_units; u++)
        out->weights_bytes[u] = ees_model_get_unit(model, u)->weights_bytes;
    int rc = measure_types(&b, cores, out);
    ees__chain_run_close(&b.chain);
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
    return measure_frame(model, frame, min_ns, cores, out, err);
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
