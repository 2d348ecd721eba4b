/* SPDX-License-Identifier: MIT */
/* How answers get out: into a window that restores the order of their stream (or, unordered, a ring), then to the puller.
 * The way in is in stream.c. */
#include "common/clock.h"
#include "common/fail.h"
#include "engine/internal.h"
#include "engine/relaxed.h"

void ees__slot_release_frame(struct ees__slot *slot) {
    if (slot->frame_held && slot->frame.release)
        slot->frame.release(slot->frame.opaque);
    slot->frame_held = false;
}

void ees__answer(struct ees_engine *e, uint32_t slot_idx) {
    struct ees__slot *slot = &e->slots[slot_idx];
    ees__slot_release_frame(slot);
    slot->done_ns = ees__now_ns();
    ees__follow_answered(e, slot_idx);
    if (e->options.unordered) {
        ees__ring_push_until_in(&e->answers, slot_idx);
    } else {
        struct ees__stream *s = ees__stream_at(e, slot->stream);
        /* release, pairs with the acquire in next_in_order(). Guards: the answer in the slot. If weaker: pull may read logits
         * not yet written. Model: window; test_engine under TSan. [window.answer] */
        atomic_store_explicit(&s->window[slot->item.seq & e->window_mask], slot_idx + 1, memory_order_release);
    }
    ees__event_notify(&e->answered, EES__WAKE_ANY);
}

/* ---- Pull ---------------------------------------------------------------------------------------------- */

/* What a frame is called when it left at a block's end. */
static void fill_answer(const struct ees_engine *e, const struct ees__item *item, ees_result *out) {
    out->exit_idx = item->exit_idx;
    out->block = item->block;
    out->class_idx = (int)item->class_idx;
    out->label = ees_model_get_label(e->model, item->class_idx);
    out->confidence = item->confidence;
    out->entropy = item->entropy;
    out->logits = item->logits;
    out->all_logits = item->all_logits;
    out->all_gates = item->all_logits ? item->all_logits + (e->info->n_exits + 1) * (size_t)e->info->n_classes : NULL;
}

static void fill_result(const struct ees_engine *e, struct ees__slot *slot, ees_result *out) {
    const struct ees__item *item = &slot->item;
    *out = (ees_result){.stream = slot->stream,
                        .source_idx = slot->frame.source_idx,
                        .frame_idx = slot->frame.frame_idx,
                        .pts_ns = slot->frame.pts_ns,
                        .source = slot->frame.source,
                        .truth = slot->frame.truth,
                        .status = slot->status,
                        .early = slot->early,
                        .n_classes = e->info->n_classes,
                        .n_warnings = item->n_warnings,
                        .n_nonfinite = item->n_nonfinite,
                        .latency_ns = slot->done_ns - slot->pushed_ns,
                        .same_as = slot->same_as,
                        .change = slot->change,
                        .n_visits = slot->n_visits,
                        .visits = slot->visits,
                        .exit_idx = -1,
                        .class_idx = -1,
                        .slot = slot};
    if (slot->status == EES_STATUS_OK || slot->status == EES_STATUS_SKIPPED)
        fill_answer(e, item, out);
    else if (slot->status == EES_STATUS_FAILED)
        out->error = &item->error;
}

/* Pull runs on one thread at a time, so its own fields are plain; what get_stats reads is relaxed atomic. */
static void count_order(struct ees_engine *e, struct ees__stream *s, const struct ees__slot *slot) {
    if (slot->done_ns < s->newest_done_ns)
        COUNT(e->reorder_wait_ns, s->newest_done_ns - slot->done_ns);
    else
        s->newest_done_ns = slot->done_ns;
    if (slot->done_ns > LOAD(e->last_done_ns))
        STORE(e->last_done_ns, slot->done_ns);
}

static void count_ok(struct ees_engine *e, struct ees__stream *s, const ees_result *r) {
    COUNT(s->n_ok, 1);
    COUNT(s->n_degraded, r->early == EES_EARLY_DEGRADED);
    COUNT(s->n_deadline, r->early == EES_EARLY_DEADLINE);
    COUNT(e->n_warned, r->n_warnings > 0);
    COUNT(e->n_nonfinite, r->n_nonfinite > 0);
    COUNT(e->n_by_exit[r->exit_idx], 1);
    ees__histogram_add(&s->latency, r->latency_ns);
    ees__histogram_add(&e->latency_by_exit[r->exit_idx], r->latency_ns);
}

static void count_answer(struct ees_engine *e, const struct ees__slot *slot, const ees_result *r) {
    struct ees__stream *s = ees__stream_at(e, slot->stream);
    count_order(e, s, slot);
    switch (r->status) {
    case EES_STATUS_OK:
        count_ok(e, s, r);
        break;
    case EES_STATUS_SKIPPED:
        COUNT(s->n_skipped, 1);
        break;
    case EES_STATUS_DROPPED:
        COUNT(s->n_dropped, 1);
        break;
    case EES_STATUS_FAILED:
        COUNT(s->n_failed, 1);
        break;
    }
}

static bool next_in_order(struct ees_engine *e, struct ees__stream *s, uint32_t *slot_idx) {
    _Atomic uint32_t *place = &s->window[s->n_pulled & e->window_mask];
    /* acquire, pairs with the release in ees__answer(): the answer is complete. [window.pull] */
    uint32_t value = atomic_load_explicit(place, memory_order_acquire);
    if (value == 0)
        return false;
    /* relaxed: the place is used again a whole window later; draw_ticket() says what orders that. */
    STORE(*place, 0);
    *slot_idx = value - 1;
    return true;
}

/* Streams that have an answer take turns. */
static bool find_answer(struct ees_engine *e, uint32_t *slot_idx) {
    if (e->options.unordered)
        return ees__ring_pop(&e->answers, slot_idx);
    unsigned n = ees__stream_count(e);
    for (unsigned i = 0; i < n; i++) {
        unsigned stream = (e->next_stream + i) % n;
        if (next_in_order(e, ees__stream_at(e, stream), slot_idx)) {
            e->next_stream = stream + 1;
            return true;
        }
    }
    return false;
}

static bool all_pulled(struct ees_engine *e) {
    if (!LOAD(e->finished))
        return false;
    for (unsigned i = 0, n = ees__stream_count(e); i < n; i++)
        if (LOAD(ees__stream_at(e, i)->tickets) != (ees__stream_at(e, i)->n_pulled | EES__FINISHED))
            return false;
    return ees__audits_all_done(&e->audits);
}

/* The next answer's slot. @return 0, EES_EAGAIN not there yet, EES_EOF, EES_ESTALLED */
static int next_answer(struct ees_engine *e, uint32_t *slot_idx) {
    if (find_answer(e, slot_idx)) {
        ees__stream_at(e, e->slots[*slot_idx].stream)->n_pulled++;
        return 0;
    }
    if (all_pulled(e))
        return EES_EOF;
    return LOAD(e->stalled) ? EES_ESTALLED : EES_EAGAIN;
}

/* The worker may have gone on since it was found: then the report says that it is in no unit. */
static void report_stall(struct ees_engine *e, ees_error *err) {
    uint32_t stalled = LOAD(e->stalled);
    unsigned idx = stalled ? stalled - 1 : 0;
    struct ees__worker *w = &e->workers[idx];
    const ees_unit_info *info = ees_model_get_unit(e->model, LOAD(w->unit));
    EES_FAIL(err, EES_ESTALLED, "worker %u is stuck in %s for %.1f s, %.3g s are allowed", idx,
             info ? info->name : "no unit", 1e-9 * (double)(ees__now_ns() - LOAD(w->since_ns)),
             1e-9 * (double)e->options.stall_ns);
    ees__hint(err, "a machine under heavy load needs a longer stall_ns (--stall-timeout)");
}

/* Wait for an answer until the deadline. @return as next_answer() */
static int wait_for_answer(struct ees_engine *e, uint64_t deadline_ns, uint32_t *slot_idx) {
    for (bool in_time = deadline_ns > 0;;) {
        uint32_t key = ees__event_prepare(&e->answered);
        int rc = next_answer(e, slot_idx);
        if (rc != EES_EAGAIN || !in_time) {
            ees__event_cancel(&e->answered);
            return rc;
        }
        in_time = ees__event_wait(&e->answered, key, 0, deadline_ns);
    }
}

int ees_engine_pull(ees_engine *e, ees_result *out, int64_t timeout_us, ees_error *err) {
    uint64_t deadline_ns = timeout_us < 0    ? UINT64_MAX
                           : timeout_us == 0 ? 0
                                             : ees__now_ns() + (uint64_t)timeout_us * 1000;
    uint32_t slot_idx;
    int rc = next_answer(e, &slot_idx);
    if (rc == EES_EAGAIN && deadline_ns > 0)
        rc = wait_for_answer(e, deadline_ns, &slot_idx);
    if (rc == EES_ESTALLED)
        report_stall(e, err);
    if (rc < 0)
        return rc;
    if (ees__skips(e))
        ees__follow_pulled(e, &e->slots[slot_idx]);
    ees__audits_choose_skipped(e, &e->slots[slot_idx]);
    fill_result(e, &e->slots[slot_idx], out);
    count_answer(e, &e->slots[slot_idx], out);
    return 0;
}

void ees_engine_release(ees_engine *e, ees_result *result) {
    struct ees__slot *slot = result->slot;
    result->slot = NULL;
    if (!slot)
        return;
    uint32_t slot_idx = (uint32_t)(slot - e->slots);
    if (slot->audit)
        ees__audits_take_skipped(e, slot_idx);
    else
        ees__slot_free(e, slot_idx);
}
