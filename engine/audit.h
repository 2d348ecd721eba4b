/* SPDX-License-Identifier: MIT */
/* Audits: a random share of early answers is run on to full depth, to see whether the last head would have said the same.
 * The answer has left long before; the audit keeps the frame's tokens, and the slot gets the audit's spare memory in
 * exchange. Audits run when a worker finds nothing else to do, or when places for more run out: so the share asked for is
 * audited whatever the load, and its cost stays in proportion. */
#ifndef EES_ENGINE_AUDIT_H
#define EES_ENGINE_AUDIT_H

#include <stdatomic.h>
#include <stdbool.h>

#include "eestream/engine.h"
#include "engine/ring.h"
#include "stages/stage.h"

struct ees_engine;
struct ees__slot;
struct ees__worker;

struct ees__audit_job {
    struct ees__item item;
    unsigned unit, exit_idx, class_idx, stream;
};

struct ees__audits {
    struct ees__audit_job *jobs; /* NULL: off */
    float *memory;
    unsigned n_jobs;
    struct ees__policy_setup policy; /* full depth */
    struct ees__ring free, waiting;
    _Atomic uint64_t n_open; /* chosen and not yet judged */
    _Atomic uint64_t n_missed, busy_ns;
    _Atomic uint64_t n_done[EES_MAX_EXITS], n_agreed[EES_MAX_EXITS];
    /* Skipped frames need no job: their slot holds the picture they were skipped with, and stays until it has been run. */
    struct ees__ring skipped;
    _Atomic uint64_t n_done_skipped, n_agreed_skipped;
};

/* @return 0; EES_EINVAL share outside 0 .. 1; EES_ENOMEM */
int ees__audits_init(struct ees_engine *e, ees_error *err);
void ees__audits_fini(struct ees__audits *a);

/* A frame has just answered early and its slot is still the caller's: audit it, perhaps. */
void ees__audits_consider(struct ees_engine *e, uint32_t slot_idx, unsigned next_unit);

/* Pull: is this skipped frame's answer to be audited? It has just been filled in. */
void ees__audits_choose_skipped(struct ees_engine *e, struct ees__slot *slot);

/* The chosen frame is released: its slot stays until the audit is done. */
void ees__audits_take_skipped(struct ees_engine *e, uint32_t slot_idx);

/* Run one that waits. @return false: none does */
bool ees__audits_run(struct ees__worker *w);

/* Before a visit: run audits until there is a place for every answer the visit may give. */
void ees__audits_keep_free(struct ees__worker *w);

static inline bool ees__audits_all_done(struct ees__audits *a) {
    /* acquire, pairs with the release in judge(): the counts are complete when the last one is done. [audit.open.load] */
    return atomic_load_explicit(&a->n_open, memory_order_acquire) == 0;
}

void ees__audits_read(struct ees__audits *a, ees_audit_stats *out);

#endif
