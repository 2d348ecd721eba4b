/* SPDX-License-Identifier: MIT */
/* Streams and how frames get in: room, overload, sequence numbers. The way out is in answers.c. */
#define _GNU_SOURCE
#include <math.h>
#include <string.h>

#include "common/clock.h"
#include "common/fail.h"
#include "engine/internal.h"
#include "engine/relaxed.h"

/* ---- Streams ------------------------------------------------------------------------------------------- */

void ees_stream_options_default(ees_stream_options *options) { *options = (ees_stream_options){.weight = 1}; }

const char *ees_overload_name(enum ees_overload overload) {
    static const char *const names[] = {"block", "drop-oldest", "drop-newest", "degrade"};
    return (unsigned)overload < sizeof names / sizeof names[0] ? names[overload] : "?";
}

unsigned ees__stream_count(struct ees_engine *e) {
    /* acquire, pairs with the release in ees__stream_add(). Guards: the streams below the count. [stream.count.load] */
    return atomic_load_explicit(&e->n_streams, memory_order_acquire);
}

struct ees__stream *ees__stream_at(struct ees_engine *e, unsigned idx) {
    return LOAD(e->streams[idx]);
}

static int check_stream(const ees_stream_options *o, ees_error *err) {
    if (!(o->weight > 0) || !isfinite(o->weight))
        return EES_FAIL(err, EES_EINVAL, "stream weight %g: a number above 0 is needed", o->weight);
    if ((unsigned)o->overload > EES_OVERLOAD_DEGRADE)
        return EES_FAIL(err, EES_EINVAL, "overload rule %d is unknown", (int)o->overload);
    return 0;
}

static struct ees__stream *make_stream(const struct ees_engine *e, const ees_stream_options *options) {
    struct ees__stream *s = ees__calloc_aligned(1, sizeof *s);
    if (!s)
        return NULL;
    s->options = *options;
    if (s->options.backlog == 0)
        s->options.backlog = 2 * e->n_workers;
    s->window = ees__calloc_aligned(e->window_mask + 1, sizeof *s->window);
    ees__histogram_init(&s->latency);
    bool follows = ees__skips(e) || e->policy.lag > 0;
    s->follow = follows ? ees__follow_open(e) : NULL;
    if (!s->window || (follows && !s->follow) || !ees__entry_init(&s->entry, options->weight, e->n_records)) {
        ees__stream_free(s);
        return NULL;
    }
    return s;
}

void ees__stream_free(struct ees__stream *s) {
    if (!s)
        return;
    ees__entry_fini(&s->entry);
    ees__follow_close(s->follow);
    ees__free(s->window);
    ees__free(s);
}

static bool is_finished(struct ees__stream *s) { return LOAD(s->tickets) & EES__FINISHED; } /* relaxed: an early hint */

/* Deal the slots out by weight among the streams that still push; one stream may hold all. Under the lock. */
static void deal_shares(struct ees_engine *e) {
    double total = 0;
    unsigned n = LOAD(e->n_streams);
    for (unsigned i = 0; i < n; i++)
        total += is_finished(LOAD(e->streams[i])) ? 0 : LOAD(e->streams[i])->options.weight;
    for (unsigned i = 0; i < n; i++) {
        struct ees__stream *s = LOAD(e->streams[i]);
        double share = total > 0 ? floor((double)e->n_slots * s->options.weight / total) : e->n_slots;
        STORE(s->share, share < 1 ? 1 : (uint32_t)share);
    }
}

static void mark_finished(struct ees__stream *s) {
    /* relaxed: the flag travels with the count in one word; the notifications that follow order it for sleepers. */
    atomic_fetch_or_explicit(&s->tickets, EES__FINISHED, memory_order_relaxed);
}

static int add_locked(struct ees_engine *e, struct ees__stream *s, unsigned *idx, ees_error *err) {
    unsigned n = LOAD(e->n_streams);
    if (LOAD(e->finished))
        return EES_FAIL(err, EES_ECANCELED, "the engine takes no more streams");
    if (n == EES_MAX_STREAMS)
        return EES_FAIL(err, EES_EINVAL, "%d streams are open already: that is all there can be", EES_MAX_STREAMS);
    STORE(e->streams[n], s); /* published by the count */
    ees__sched_add_entry(&e->sched, &s->entry);
    /* Sequentially consistent, release included (pairs with the acquire in ees__stream_count(), guards the stream): here the
     * count is stored and then `finished` read, in ees_engine_finish() the other way round. One of the two must see the
     * other, or a stream stays open after the end. [stream.count.store] */
    atomic_store(&e->n_streams, n + 1);
    if (atomic_load(&e->finished)) /* the same argument [stream.finished.load] */
        mark_finished(s);
    deal_shares(e);
    *idx = n;
    return 0;
}

int ees__stream_add(struct ees_engine *e, const ees_stream_options *options, unsigned *stream, ees_error *err) {
    EES_TRY(check_stream(options, err));
    struct ees__stream *s = make_stream(e, options);
    if (!s)
        return EES_FAIL(err, EES_ENOMEM, "no memory for a stream");
    pthread_mutex_lock(&e->lock);
    int rc = add_locked(e, s, stream, err);
    pthread_mutex_unlock(&e->lock);
    if (rc < 0)
        ees__stream_free(s);
    return rc;
}

int ees_stream_open(ees_engine *e, const ees_stream_options *options, unsigned *stream, ees_error *err) {
    ees_stream_options defaults;
    ees_stream_options_default(&defaults);
    return ees__stream_add(e, options ? options : &defaults, stream, err);
}

void ees_stream_finish(ees_engine *e, unsigned stream) {
    if (stream >= ees__stream_count(e))
        return;
    mark_finished(ees__stream_at(e, stream));
    pthread_mutex_lock(&e->lock);
    deal_shares(e);
    pthread_mutex_unlock(&e->lock);
    ees__event_notify_all(&e->room);
    ees__event_notify_all(&e->answered);
}

/* No lock: this may run in a signal handler. A stream that is being opened meanwhile sees `finished`, or is in the count:
 * see add_locked(). */
void ees_engine_finish(ees_engine *e) {
    atomic_store(&e->finished, true); /* the other side of it [stream.finished.store] */
    /* and acquire, as in ees__stream_count() [stream.count.load.finish] */
    for (unsigned i = 0, n = atomic_load(&e->n_streams); i < n; i++)
        mark_finished(ees__stream_at(e, i));
    ees__event_notify_all(&e->room);
    ees__event_notify_all(&e->answered);
}

/* ---- Checking and copying a frame ---------------------------------------------------------------------- */

static int check_tensor(const struct ees_engine *e, const ees_frame *f, ees_error *err) {
    if (f->height_px != e->info->image_height_px || f->width_px != e->info->image_width_px)
        return EES_FAIL(err, EES_EINVAL, "tensor frame of %ux%u: the model takes %ux%u (width x height)", f->width_px,
                        f->height_px, e->info->image_width_px, e->info->image_height_px);
    return 0;
}

static int check_frame(struct ees_engine *e, const ees_frame *f, ees_error *err) {
    if (f->stream >= ees__stream_count(e))
        return EES_FAIL(err, EES_EINVAL, "frame of stream %u: the engine has %u", f->stream, ees__stream_count(e));
    if (f->error)
        return 0;
    if (f->kind < EES_FRAME_JPEG || f->kind > EES_FRAME_TENSOR)
        return EES_FAIL(err, EES_EINVAL, "frame kind %d is unknown", (int)f->kind);
    if (!f->data[0])
        return EES_FAIL(err, EES_EINVAL, "frame without data");
    return f->kind == EES_FRAME_TENSOR ? check_tensor(e, f, err) : 0;
}

/* Bytes of plane `i` of a frame; 0: it has none. */
static size_t plane_bytes(const ees_frame *f, unsigned i) {
    switch (f->kind) {
    case EES_FRAME_JPEG:
        return i == 0 ? f->bytes : 0;
    case EES_FRAME_RGB24:
        return i == 0 ? f->stride[0] * f->height_px : 0;
    case EES_FRAME_TENSOR:
        return i == 0 ? (size_t)3 * f->height_px * f->width_px * sizeof(float) : 0;
    case EES_FRAME_YUV:
        if (i > 0 && !f->data[1])
            return 0;
        return f->stride[i] *
               (i == 0 ? f->height_px : (f->height_px + (1u << f->chroma_shift_y) - 1) >> f->chroma_shift_y);
    }
    return 0;
}

/* The caller keeps its bytes: copy them into the slot. */
static int copy_frame(struct ees__slot *slot, ees_error *err) {
    ees_frame *f = &slot->frame;
    if (f->error) {
        slot->error_copy = *f->error;
        f->error = &slot->error_copy;
        return 0;
    }
    size_t bytes[3], total = 0;
    for (unsigned i = 0; i < 3; i++) {
        bytes[i] = plane_bytes(f, i);
        total += ees__round_up(bytes[i], EES_CACHE_LINE);
    }
    if (total > slot->copy_bytes) {
        void *copy = ees__calloc_aligned(total, 1);
        if (!copy)
            return EES_FAIL(err, EES_ENOMEM, "no memory to copy a frame of %zu bytes", total);
        ees__free(slot->copy);
        slot->copy = copy;
        slot->copy_bytes = total;
    }
    char *to = slot->copy;
    for (unsigned i = 0; i < 3; i++) {
        if (bytes[i] > 0) {
            memcpy(to, f->data[i], bytes[i]);
            f->data[i] = to;
        }
        to += ees__round_up(bytes[i], EES_CACHE_LINE);
    }
    return 0;
}

/* ---- Room ---------------------------------------------------------------------------------------------- */

static uint64_t deadline_after(int64_t timeout_us) {
    return timeout_us < 0 ? UINT64_MAX : ees__now_ns() + (uint64_t)timeout_us * 1000;
}

/* A slot with state, within the stream's share. */
static bool take_slot(struct ees_engine *e, struct ees__stream *s, uint32_t *slot_idx) {
    uint32_t inside = LOAD(s->n_inside);
    do {
        if (inside >= LOAD(s->share))
            return false;
        /* relaxed: a count of slots; each slot itself comes through the ring. */
    } while (!atomic_compare_exchange_weak_explicit(&s->n_inside, &inside, inside + 1, memory_order_relaxed,
                                                    memory_order_relaxed));
    if (ees__ring_pop(&e->free_slots, slot_idx))
        return true;
    atomic_fetch_sub_explicit(&s->n_inside, 1, memory_order_relaxed);
    return false;
}

/* A record for the answer of a dropped frame. */
static bool take_record(struct ees_engine *e, struct ees__stream *s, uint32_t *slot_idx) {
    return ees__ring_pop(&e->free_records, slot_idx);
}

typedef bool take_fn(struct ees_engine *e, struct ees__stream *s, uint32_t *slot_idx);

/* Wait for what `take` takes until the deadline. @return 0, EES_EAGAIN, EES_ECANCELED, EES_ESTALLED */
static int wait_for(struct ees_engine *e, struct ees__stream *s, take_fn *take, int64_t timeout_us,
                    uint32_t *slot_idx) {
    uint64_t deadline_ns = deadline_after(timeout_us);
    for (bool in_time = timeout_us != 0;;) {
        if (is_finished(s))
            return EES_ECANCELED;
        if (take(e, s, slot_idx))
            return 0;
        if (LOAD(e->stalled))
            return EES_ESTALLED;
        if (!in_time)
            return EES_EAGAIN;
        uint32_t key = ees__event_prepare(&e->room);
        bool got = take(e, s, slot_idx);
        if (got || is_finished(s) || LOAD(e->stalled)) {
            ees__event_cancel(&e->room);
            if (got)
                return 0;
        } else {
            in_time = ees__event_wait(&e->room, key, 0, deadline_ns);
        }
    }
}

void ees__slot_free(struct ees_engine *e, uint32_t slot_idx) {
    bool has_state = slot_idx < e->n_slots;
    if (has_state)
        atomic_fetch_sub_explicit(&ees__stream_at(e, e->slots[slot_idx].stream)->n_inside, 1, memory_order_relaxed);
    ees__ring_push_until_in(has_state ? &e->free_slots : &e->free_records, slot_idx);
    ees__event_notify_all(&e->room); /* all: whoever sleeps may wait for its own stream's share, or for a record */
}

/* ---- Push ---------------------------------------------------------------------------------------------- */

static int fill_slot(struct ees_engine *e, struct ees__stream *s, struct ees__slot *slot, const ees_frame *frame,
                     ees_error *err) {
    slot->item = (struct ees__item){.frame = &slot->frame,
                                    .state = slot->item.state,
                                    .logits = slot->item.logits,
                                    .all_logits = slot->item.all_logits,
                                    .policy_memory = slot->item.policy_memory,
                                    .exit_idx = -1};
    slot->frame = *frame;
    slot->stream = frame->stream;
    slot->status = EES_STATUS_OK;
    slot->early = EES_EARLY_NONE;
    slot->passed = !ees__skips(e);
    slot->change = 0.0f;
    slot->audit = false;
    slot->n_visits = 0;
    slot->pushed_ns = slot->queued_ns = ees__now_ns();
    slot->deadline_ns = s->options.deadline_ns ? slot->pushed_ns + s->options.deadline_ns : UINT64_MAX;
    if (!frame->release)
        EES_TRY(copy_frame(slot, err));
    uint64_t unset = 0;
    if (LOAD(e->first_push_ns) == 0)
        atomic_compare_exchange_strong_explicit(&e->first_push_ns, &unset, slot->pushed_ns, memory_order_relaxed,
                                                memory_order_relaxed); /* relaxed: statistics */
    return 0;
}

/* Draw the frame's place in the order. @return false: finished meanwhile */
static bool draw_ticket(struct ees__stream *s, uint64_t *seq) {
    uint64_t ticket = LOAD(s->tickets);
    do {
        if (ticket & EES__FINISHED)
            return false;
        /* acq_rel, pairs with itself on other pushing threads. Guards: pull's clearing of our place in the window. A frame a
         * whole window behind us has been pulled; whoever got a slot out of that drew an earlier ticket than we do, so
         * through it the clearing happens before our answer. If weaker: with a pusher that stalls between its slot and its
         * ticket, the clearing might wipe out the answer. [window.ticket] */
    } while (!atomic_compare_exchange_weak_explicit(&s->tickets, &ticket, ticket + 1, memory_order_acq_rel,
                                                    memory_order_relaxed));
    *seq = ticket;
    return true;
}

/* Put a frame into a slot and into its stream's order. On failure the slot is given back. */
static int enter(struct ees_engine *e, struct ees__stream *s, uint32_t slot_idx, const ees_frame *frame,
                 ees_error *err) {
    struct ees__slot *slot = &e->slots[slot_idx];
    slot->stream = frame->stream;
    int rc = fill_slot(e, s, slot, frame, err);
    if (rc == 0 && !draw_ticket(s, &slot->item.seq))
        rc = EES_ECANCELED;
    if (rc < 0) {
        ees__slot_free(e, slot_idx);
        return rc;
    }
    slot->frame_held = true;
    slot->nth = slot->item.seq; /* where frames are skipped, until its turn */
    return 0;
}

static void drop(struct ees_engine *e, uint32_t slot_idx) {
    e->slots[slot_idx].status = EES_STATUS_DROPPED;
    ees__answer(e, slot_idx);
}

/* The new frame is dropped. */
static int drop_newest(struct ees_engine *e, struct ees__stream *s, const ees_frame *frame, int64_t timeout_us,
                       ees_error *err) {
    uint32_t record;
    EES_TRY(wait_for(e, s, take_record, timeout_us, &record));
    EES_TRY(enter(e, s, record, frame, err));
    drop(e, record);
    return 0;
}

/* The frame in slot `old_idx`, which has not begun, is dropped: its identity moves to a record, the slot is free again. */
static void move_to_record(struct ees_engine *e, uint32_t old_idx, uint32_t record_idx) {
    struct ees__slot *old = &e->slots[old_idx], *record = &e->slots[record_idx];
    record->item.seq = old->item.seq;
    record->item.exit_idx = -1;
    record->item.n_warnings = record->item.n_nonfinite = 0;
    record->item.error.code = 0;
    ees__slot_release_frame(old);
    record->frame = old->frame;
    record->frame.error = NULL;
    record->frame_held = false;
    record->stream = old->stream;
    record->early = EES_EARLY_NONE;
    record->passed = old->passed;
    record->nth = old->nth;
    record->change = 0.0f;
    record->audit = false;
    record->n_visits = 0;
    record->pushed_ns = old->pushed_ns;
}

/* Make room by dropping the frame that waits longest. @return 0 and its slot, still counted in n_inside; EES_EAGAIN
 * nothing waits or no record is free in time */
static int drop_oldest(struct ees_engine *e, struct ees__stream *s, unsigned stream, int64_t timeout_us,
                       uint32_t *slot_idx) {
    uint32_t record;
    EES_TRY(wait_for(e, s, take_record, timeout_us, &record));
    if (!ees__sched_evict(&e->sched, stream, slot_idx)) {
        e->slots[record].stream = stream;
        ees__slot_free(e, record);
        return EES_EAGAIN;
    }
    move_to_record(e, *slot_idx, record);
    drop(e, record);
    return 0;
}

/* A slot for a frame of a live stream, or 1: the frame itself is to be dropped. */
static int room_for_live(struct ees_engine *e, struct ees__stream *s, unsigned stream, int64_t timeout_us,
                         uint32_t *slot_idx) {
    bool newest = s->options.overload == EES_OVERLOAD_DROP_NEWEST;
    bool behind = ees__ring_count(&s->entry.queue.ring) >= s->options.backlog;
    if (behind && !newest) {
        int rc = drop_oldest(e, s, stream, timeout_us, slot_idx);
        if (rc != EES_EAGAIN)
            return rc;
    }
    if (!(behind && newest) && take_slot(e, s, slot_idx))
        return 0;
    if (newest)
        return 1;
    int rc = drop_oldest(e, s, stream, timeout_us, slot_idx);
    return rc == EES_EAGAIN ? 1 : rc; /* all its frames have begun: only the new one is left to drop */
}

static int push_live(struct ees_engine *e, struct ees__stream *s, const ees_frame *frame, int64_t timeout_us,
                     ees_error *err) {
    uint32_t slot_idx;
    if (is_finished(s))
        return EES_ECANCELED;
    int rc = room_for_live(e, s, frame->stream, timeout_us, &slot_idx);
    EES_TRY(rc);
    if (rc == 1)
        return drop_newest(e, s, frame, timeout_us, err);
    EES_TRY(enter(e, s, slot_idx, frame, err));
    ees__sched_admit(&e->sched, frame->stream, slot_idx);
    ees__event_notify(&e->work, 0);
    return 0;
}

int ees_engine_push(ees_engine *e, const ees_frame *frame, int64_t timeout_us, ees_error *err) {
    EES_TRY(check_frame(e, frame, err));
    struct ees__stream *s = ees__stream_at(e, frame->stream);
    int rc;
    if (s->options.overload != EES_OVERLOAD_BLOCK) {
        rc = push_live(e, s, frame, timeout_us, err);
    } else {
        uint32_t slot_idx;
        rc = wait_for(e, s, take_slot, timeout_us, &slot_idx);
        if (rc == 0)
            rc = enter(e, s, slot_idx, frame, err);
        if (rc == 0) {
            ees__sched_admit(&e->sched, frame->stream, slot_idx);
            ees__event_notify(&e->work, 0);
        }
    }
    return rc == EES_ESTALLED ? EES_FAIL(err, rc, "a worker is stuck and no room comes free") : rc;
}

int ees_stream_get_stats(const ees_engine *engine, unsigned stream, ees_stream_stats *out) {
    struct ees_engine *e = (struct ees_engine *)engine; /* atomic loads take a non-const object before C23 */
    if (stream >= ees__stream_count(e))
        return EES_EINVAL;
    struct ees__stream *s = ees__stream_at(e, stream);
    uint64_t tickets = LOAD(s->tickets);
    *out = (ees_stream_stats){.n_pushed = tickets & ~EES__FINISHED,
                              .finished = tickets & EES__FINISHED,
                              .n_ok = LOAD(s->n_ok),
                              .n_skipped = LOAD(s->n_skipped),
                              .n_dropped = LOAD(s->n_dropped),
                              .n_failed = LOAD(s->n_failed),
                              .n_degraded = LOAD(s->n_degraded),
                              .n_deadline = LOAD(s->n_deadline),
                              .queue_now = ees__ring_count(&s->entry.queue.ring)};
    ees__histogram_read(&s->latency, &out->latency);
    return 0;
}
