/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "engine/audit.h"

#include <sched.h>

#include "common/clock.h"
#include "common/fail.h"
#include "common/random.h"
#include "engine/internal.h"
#include "engine/relaxed.h"

/* ---- Open and close ------------------------------------------------------------------------------------ */

static int make_jobs(struct ees_engine *e, ees_error *err) {
    struct ees__audits *a = &e->audits;
    size_t state = ees__round_up(e->info->state_bytes, EES_CACHE_LINE);
    size_t logits = ees__round_up(e->info->n_classes * sizeof(float), EES_CACHE_LINE), each, total;
    a->n_jobs = e->n_workers * (e->max_batch + 2);
    if (!ees__add(state, logits, &each) || !ees__mul(each, a->n_jobs, &total) ||
        !(a->memory = ees__calloc_aligned(total, 1)) || !(a->jobs = ees__calloc_aligned(a->n_jobs, sizeof *a->jobs)) ||
        !ees__ring_init(&a->free, 2 * a->n_jobs, 0) || !ees__ring_init(&a->waiting, 2 * a->n_jobs, 0) ||
        !ees__ring_init(&a->skipped, 2 * e->n_slots, 0))
        return EES_FAIL(err, EES_ENOMEM, "no memory for %u audits of %zu bytes", a->n_jobs, state + logits);
    for (uint32_t i = 0; i < a->n_jobs; i++) {
        char *at = (char *)a->memory + i * each;
        a->jobs[i].item.state = (float *)(void *)at;
        a->jobs[i].item.logits = (float *)(void *)(at + state);
        ees__ring_push(&a->free, i);
    }
    return 0;
}

int ees__audits_init(struct ees_engine *e, ees_error *err) {
    double share = e->options.audit_share;
    if (!(share >= 0 && share <= 1))
        return EES_FAIL(err, EES_EINVAL, "audit share %g: 0 to 1", share);
    if (share == 0 || (e->info->n_exits == 0 && !ees__skips(e)))
        return 0;
    ees_policy_options none = {.name = "none", .skip_below = -1.0f}, resolved;
    EES_TRY(ees_policy_resolve(e->model, &none, &resolved, err));
    EES_TRY(ees__policy_setup(e->model, &resolved, &e->audits.policy, err));
    return make_jobs(e, err);
}

void ees__audits_fini(struct ees__audits *a) {
    ees__ring_fini(&a->free);
    ees__ring_fini(&a->waiting);
    ees__ring_fini(&a->skipped);
    ees__free(a->jobs);
    ees__free(a->memory);
}

/* ---- Choosing ------------------------------------------------------------------------------------------ */

/* A number in [0, 1) from seed, stream and frame: the same frames are chosen whatever the number of workers and their
 * order. */
static double draw(const struct ees_engine *e, unsigned stream, uint64_t seq) {
    uint64_t state = e->options.audit_seed + EES_RANDOM_STEP * (seq + 1) + 0xd1b54a32d192ed03u * stream;
    return (double)(ees__mix64(state) >> 11) * 0x1p-53;
}

void ees__audits_consider(struct ees_engine *e, uint32_t slot_idx, unsigned next_unit) {
    struct ees__audits *a = &e->audits;
    struct ees__slot *slot = &e->slots[slot_idx];
    if (!a->jobs || slot->item.exit_idx >= (int)e->info->n_exits ||
        draw(e, slot->stream, slot->item.seq) >= e->options.audit_share)
        return;
    COUNT(a->n_open, 1); /* relaxed: before the answer is published, which orders it for pull */
    uint32_t idx;
    while (!ees__ring_pop(&a->free, &idx))
        sched_yield(); /* keep_free() left one: a producer was preempted mid-push */
    struct ees__audit_job *job = &a->jobs[idx];
    float *spare = job->item.state, *logits = job->item.logits;
    job->item = slot->item;
    job->item.logits = logits;
    job->item.all_logits = NULL; /* the slot's */
    slot->item.state = spare;
    job->unit = next_unit;
    job->stream = slot->stream;
    job->exit_idx = (unsigned)slot->item.exit_idx;
    job->class_idx = slot->item.class_idx;
    ees__ring_push_until_in(&a->waiting, idx);
    ees__event_notify(&e->work, EES__WAKE_ANY);
}

void ees__audits_choose_skipped(struct ees_engine *e, struct ees__slot *slot) {
    slot->audit = e->audits.jobs && slot->status == EES_STATUS_SKIPPED &&
                  draw(e, slot->stream, slot->item.seq) < e->options.audit_share;
}

void ees__audits_take_skipped(struct ees_engine *e, uint32_t slot_idx) {
    struct ees__audits *a = &e->audits;
    COUNT(a->n_open, 1); /* relaxed: on the thread that pulls, or before whatever tells that thread to go on */
    ees__ring_push_until_in(&a->skipped, slot_idx);
    ees__event_notify(&e->work, EES__WAKE_ANY);
}

/* ---- Running ------------------------------------------------------------------------------------------- */

/* One audit is over. */
static void close_one(struct ees_engine *e) {
    /* release, pairs with the acquire in ees__audits_all_done(). Guards: what it counted. [audit.open.sub] */
    if (atomic_fetch_sub_explicit(&e->audits.n_open, 1, memory_order_release) == 1)
        ees__event_notify_all(&e->answered);
}

/* Full depth for an item at unit `first`. @return whether it gave an answer */
static bool run_to_end(struct ees__worker *w, struct ees__item *item, unsigned first, unsigned stream) {
    struct ees_engine *e = w->engine;
    uint64_t start_ns = ees__now_ns();
    int rc = EES__UNIT_NEXT;
    for (unsigned unit = first; rc == EES__UNIT_NEXT; unit++) {
        STORE(w->since_ns, ees__now_ns());
        STORE(w->unit, unit); /* relaxed: for the watchdog's eyes */
        ees__unit_run(e->model, &e->audits.policy, unit, &item, 1, &rc, w->lane, NULL);
    }
    STORE(w->unit, e->info->n_units);
    uint64_t length_ns = ees__now_ns() - start_ns;
    COUNT_OWN(w->busy_ns, length_ns);
    COUNT(e->audits.busy_ns, length_ns);
    COUNT(e->audits.n_missed, rc != EES__UNIT_DONE);
    if (ees__trace_is_on(&w->trace))
        ees__trace_tell(&w->trace, &(ees_trace_event){.kind = EES_TRACE_AUDIT,
                                                      .worker = (uint16_t)w->idx,
                                                      .n_batch = 1,
                                                      .unit = (uint16_t)first,
                                                      .stream = stream,
                                                      .seq = item->seq,
                                                      .start_ns = start_ns,
                                                      .length_ns = length_ns});
    return rc == EES__UNIT_DONE;
}

static void run_job(struct ees__worker *w, uint32_t idx) {
    struct ees__audits *a = &w->engine->audits;
    struct ees__audit_job *job = &a->jobs[idx];
    if (run_to_end(w, &job->item, job->unit, job->stream)) {
        COUNT(a->n_done[job->exit_idx], 1);
        COUNT(a->n_agreed[job->exit_idx], job->item.class_idx == job->class_idx);
    }
    close_one(w->engine);
    ees__ring_push_until_in(&a->free, idx);
}

/* From behind ingest: what the state holds is the picture the frame was skipped with. */
static void run_skipped(struct ees__worker *w, uint32_t slot_idx) {
    struct ees_engine *e = w->engine;
    struct ees__slot *slot = &e->slots[slot_idx];
    unsigned repeated = slot->item.class_idx;
    if (run_to_end(w, &slot->item, 1, slot->stream)) {
        COUNT(e->audits.n_done_skipped, 1);
        COUNT(e->audits.n_agreed_skipped, slot->item.class_idx == repeated);
    }
    close_one(e);
    ees__slot_free(e, slot_idx);
}

bool ees__audits_run(struct ees__worker *w) {
    struct ees__audits *a = &w->engine->audits;
    uint32_t idx;
    if (!a->jobs)
        return false;
    if (ees__ring_pop(&a->waiting, &idx))
        run_job(w, idx);
    else if (ees__ring_pop(&a->skipped, &idx))
        run_skipped(w, idx);
    else
        return false;
    return true;
}

/* Jobs are n_workers * (max_batch + 2) and at most n_workers of them are being run, so with fewer than n_workers * max_batch
 * free, some wait; and with that many free, no visit of any worker can find none. Skipped frames keep their slots: no
 * more than one a worker is left to wait, or there would be no room for new frames. */
void ees__audits_keep_free(struct ees__worker *w) {
    struct ees_engine *e = w->engine;
    struct ees__audits *a = &e->audits;
    while (a->jobs &&
           (ees__ring_count(&a->free) < e->n_workers * e->max_batch || ees__ring_count(&a->skipped) > e->n_workers) &&
           ees__audits_run(w))
        ;
}

void ees__audits_read(struct ees__audits *a, ees_audit_stats *out) {
    *out = (ees_audit_stats){.n_missed = LOAD(a->n_missed),
                             .busy_ns = LOAD(a->busy_ns),
                             .n_done_skipped = LOAD(a->n_done_skipped),
                             .n_agreed_skipped = LOAD(a->n_agreed_skipped)};
    out->n_done = out->n_done_skipped;
    out->n_agreed = out->n_agreed_skipped;
    for (unsigned i = 0; i < EES_MAX_EXITS; i++) {
        out->n_done_by_exit[i] = LOAD(a->n_done[i]);
        out->n_agreed_by_exit[i] = LOAD(a->n_agreed[i]);
        out->n_done += out->n_done_by_exit[i];
        out->n_agreed += out->n_agreed_by_exit[i];
    }
}
