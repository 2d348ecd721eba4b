/* SPDX-License-Identifier: MIT */
#include "engine/follow.h"

#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "engine/internal.h"

/* Stands in `arrived` for a frame that never comes: it was dropped or failed before its picture was there. */
enum { GONE = -1 };

/* ---- Open and close ------------------------------------------------------------------------------------ */

static bool open_skip(const struct ees_engine *e, struct ees__follow *f) {
    f->arrived = ees__calloc_aligned(e->window_mask + 1, sizeof *f->arrived);
    f->picture = ees__calloc_aligned(ees__picture_floats(e->model), sizeof *f->picture);
    f->last.logits = ees__calloc_aligned(e->info->n_classes, sizeof *f->last.logits);
    f->last.copy = ees__calloc_aligned(1, sizeof *f->last.copy);
    return f->arrived && f->picture && f->last.logits && f->last.copy;
}

static bool open_references(const struct ees_engine *e, struct ees__follow *f) {
    for (f->mask = 1; f->mask < e->n_records + EES_MAX_LAG; f->mask *= 2)
        ;
    f->references = ees__calloc_aligned(f->mask, sizeof *f->references);
    for (uint64_t i = 0; f->references && i < f->mask; i++)
        f->references[i].nth = UINT64_MAX;
    f->mask--;
    return f->references;
}

struct ees__follow *ees__follow_open(const struct ees_engine *e) {
    struct ees__follow *f = ees__calloc_aligned(1, sizeof *f);
    if (!f)
        return NULL;
    pthread_mutex_init(&f->lock, NULL);
    if ((ees__skips(e) && !open_skip(e, f)) || (e->policy.lag && !open_references(e, f))) {
        ees__follow_close(f);
        return NULL;
    }
    return f;
}

void ees__follow_close(struct ees__follow *f) {
    if (!f)
        return;
    pthread_mutex_destroy(&f->lock);
    ees__free(f->arrived);
    ees__free(f->picture);
    ees__free(f->references);
    ees__free(f->last.logits);
    ees__free(f->last.copy);
    ees__free(f);
}

static void requeue(struct ees_engine *e, uint32_t slot_idx) {
    ees__event_notify(&e->work, (int)ees__sched_put(&e->sched, slot_idx));
}

/* ---- Skip ---------------------------------------------------------------------------------------------- */

/* The frame's turn: does its picture differ from that of the last computed frame? */
static bool is_repeat(const struct ees_engine *e, struct ees__follow *f, struct ees__slot *slot) {
    slot->passed = true;
    bool comparable = f->has_picture && f->source_idx == slot->frame.source_idx;
    slot->change = comparable ? ees__picture_change(e->model, slot->picture, f->picture) : INFINITY;
    if (slot->change < e->policy.skip_below)
        return true;
    memcpy(f->picture, slot->picture, ees__picture_floats(e->model) * sizeof *f->picture);
    f->has_picture = true;
    f->source_idx = slot->frame.source_idx;
    f->computed_seq = slot->item.seq;
    slot->nth = f->n_computed++;
    return false;
}

/* @return the next frame whose turn it is, UINT32_MAX: it has not arrived */
static uint32_t take_turn(struct ees_engine *e, struct ees__follow *f, bool *repeats) {
    uint32_t value, taken = UINT32_MAX;
    pthread_mutex_lock(&f->lock);
    do {
        value = f->arrived[f->next_seq & e->window_mask];
        if (value == 0)
            break;
        f->arrived[f->next_seq++ & e->window_mask] = 0;
    } while (value == (uint32_t)GONE);
    if (value != 0) {
        taken = value - 1;
        *repeats = is_repeat(e, f, &e->slots[taken]);
    }
    pthread_mutex_unlock(&f->lock);
    return taken;
}

static void take_turns(struct ees_engine *e, struct ees__follow *f) {
    bool repeats;
    for (uint32_t slot_idx; (slot_idx = take_turn(e, f, &repeats)) != UINT32_MAX;) {
        if (!repeats) {
            requeue(e, slot_idx);
            continue;
        }
        e->slots[slot_idx].status = EES_STATUS_SKIPPED;
        ees__answer(e, slot_idx);
    }
}

static void arrive(struct ees_engine *e, struct ees__follow *f, uint64_t seq, uint32_t value) {
    pthread_mutex_lock(&f->lock);
    f->arrived[seq & e->window_mask] = value;
    pthread_mutex_unlock(&f->lock);
    take_turns(e, f);
}

void ees__follow_arrive(struct ees_engine *e, uint32_t slot_idx) {
    struct ees__slot *slot = &e->slots[slot_idx];
    ees__picture_make(e->model, slot->item.state, slot->picture);
    arrive(e, ees__stream_at(e, slot->stream)->follow, slot->item.seq, slot_idx + 1);
}

/* ---- References ---------------------------------------------------------------------------------------- */

/* The place of the frame it compares with. Under the lock. */
static struct ees__reference *find_reference(const struct ees_engine *e, struct ees__follow *f,
                                             const struct ees__slot *slot) {
    uint64_t nth = slot->nth - e->policy.lag;
    struct ees__reference *r = &f->references[nth & f->mask];
    if (r->nth != nth) /* whoever stood here before is answered and pulled, and so is whoever compared with it */
        *r = (struct ees__reference){.nth = nth};
    return r;
}

/* Under the lock. */
static bool look_up(const struct ees_engine *e, struct ees__follow *f, struct ees__slot *slot) {
    slot->item.reference = 0;
    if (slot->nth < e->policy.lag)
        return true;
    const struct ees__reference *r = find_reference(e, f, slot);
    slot->item.reference = r->source_idx == slot->frame.source_idx ? r->value : 0;
    return r->answered;
}

bool ees__follow_ready(struct ees_engine *e, struct ees__slot *slot) {
    struct ees__follow *f = ees__stream_at(e, slot->stream)->follow;
    pthread_mutex_lock(&f->lock);
    bool ready = look_up(e, f, slot);
    pthread_mutex_unlock(&f->lock);
    return ready;
}

void ees__follow_wait(struct ees_engine *e, uint32_t slot_idx) {
    struct ees__slot *slot = &e->slots[slot_idx];
    struct ees__follow *f = ees__stream_at(e, slot->stream)->follow;
    pthread_mutex_lock(&f->lock);
    bool ready = look_up(e, f, slot);
    if (!ready)
        find_reference(e, f, slot)->waiter = slot_idx + 1;
    pthread_mutex_unlock(&f->lock);
    if (ready)
        requeue(e, slot_idx);
}

/* @return slot number + 1 of the frame that waited for this one; 0: none */
static uint32_t publish(struct ees__follow *f, const struct ees__slot *slot) {
    bool has_answer = slot->status == EES_STATUS_OK && slot->item.exit_idx >= 0;
    struct ees__reference *r = &f->references[slot->nth & f->mask];
    pthread_mutex_lock(&f->lock);
    uint32_t waiter = r->nth == slot->nth ? r->waiter : 0;
    *r = (struct ees__reference){.nth = slot->nth,
                                 .answered = true,
                                 .value = has_answer ? slot->item.class_idx + 1 : 0,
                                 .source_idx = slot->frame.source_idx};
    pthread_mutex_unlock(&f->lock);
    return waiter;
}

/* A dropped frame has no answer to repeat: the next one is computed, or a still scene would never get one. A failed one
 * stays: its repetitions would fail like it. */
static void forget_dropped(struct ees__follow *f, const struct ees__slot *slot) {
    pthread_mutex_lock(&f->lock);
    if (slot->status == EES_STATUS_DROPPED && f->computed_seq == slot->item.seq)
        f->has_picture = false;
    pthread_mutex_unlock(&f->lock);
}

void ees__follow_answered(struct ees_engine *e, uint32_t slot_idx) {
    const struct ees__slot *slot = &e->slots[slot_idx];
    struct ees__follow *f = ees__stream_at(e, slot->stream)->follow;
    if (!f || slot->status == EES_STATUS_SKIPPED)
        return;
    if (!slot->passed) {
        arrive(e, f, slot->item.seq, (uint32_t)GONE);
        return;
    }
    if (ees__skips(e))
        forget_dropped(f, slot);
    uint32_t waiter = e->policy.lag ? publish(f, slot) : 0;
    if (waiter)
        requeue(e, waiter - 1);
}

/* ---- Pull ---------------------------------------------------------------------------------------------- */

static void keep_answer(const struct ees_engine *e, struct ees__last_answer *last, const struct ees__slot *slot) {
    last->frame_idx = slot->frame.frame_idx;
    last->copy->status = slot->status;
    last->copy->item = slot->item;
    if (slot->status == EES_STATUS_OK)
        memcpy(last->logits, slot->item.logits, e->info->n_classes * sizeof *last->logits);
}

static void repeat_answer(const struct ees_engine *e, const struct ees__last_answer *last, struct ees__slot *slot) {
    const struct ees__item *from = &last->copy->item;
    struct ees__item *to = &slot->item;
    slot->same_as = last->frame_idx;
    if (last->copy->status != EES_STATUS_OK) {
        slot->status = last->copy->status;
        to->error = from->error;
        return;
    }
    to->exit_idx = from->exit_idx;
    to->block = from->block;
    to->class_idx = from->class_idx;
    to->confidence = from->confidence;
    to->entropy = from->entropy;
    memcpy(to->logits, last->logits, e->info->n_classes * sizeof *to->logits);
}

void ees__follow_pulled(struct ees_engine *e, struct ees__slot *slot) {
    struct ees__follow *f = ees__stream_at(e, slot->stream)->follow;
    if (slot->status == EES_STATUS_SKIPPED)
        repeat_answer(e, &f->last, slot);
    else if (slot->passed)
        keep_answer(e, &f->last, slot);
}
