/* SPDX-License-Identifier: MIT */
/* Frames that depend on an earlier one of their stream. There are two ways.
 *
 * Skip: a frame whose picture hardly differs from the last one that was computed gets that one's answer. Decided in push
 * order, after ingest, before the model runs.
 *
 * Reference: a policy with a lag compares a frame with the answer of the frame so many before it, of those computed.
 *
 * Both are decided by frames' numbers alone, never by what happens to be finished: the same frames are skipped and leave
 * at the same exits under every plan and number of workers. So a frame may have to wait; it then lies in its slot, in no
 * queue, and whoever brings what it waits for puts it back into one. The earliest frame inside waits for nobody, so there
 * is no deadlock. A wait costs no work, but a small lag leaves less to do at once (docs/policies.md).
 *
 * A mutex a stream guards all of it: a few hundred nanoseconds a frame, a comparison of pictures in the longest case. */
#ifndef EES_ENGINE_FOLLOW_H
#define EES_ENGINE_FOLLOW_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct ees_engine;
struct ees__slot;
struct ees__stream;

/* One computed frame's answer, or who waits for it. */
struct ees__reference {
    uint64_t nth; /* UINT64_MAX: none yet */
    bool answered;
    unsigned value; /* its class + 1; 0: no answer */
    uint32_t source_idx;
    uint32_t waiter; /* slot number + 1 of the one frame that compares with it; 0: does not wait yet */
};

/* What a repeated answer is made of: pull's own. */
struct ees__last_answer {
    struct ees__slot *copy; /* status and item of the computed frame answered last; its logits are this struct's */
    float *logits;
    uint64_t frame_idx;
};

struct ees__follow {
    pthread_mutex_t lock; /* guards all but `last` */
    /* skip: frame seq stands at [seq & window_mask] until its turn: slot number + 1, 0 before it has arrived */
    uint32_t *arrived;
    uint64_t next_seq;
    float *picture; /* of the last frame that was computed */
    bool has_picture;
    uint32_t source_idx; /* of it: a stream that reads one input after the other starts anew with each */
    uint64_t computed_seq, n_computed;
    /* reference: computed frame nth at [nth & mask]; open numbers span the window and the lag at most */
    struct ees__reference *references;
    uint64_t mask;
    struct ees__last_answer last;
};

/* @return NULL: out of memory */
struct ees__follow *ees__follow_open(const struct ees_engine *e);
void ees__follow_close(struct ees__follow *f); /* accepts NULL */

/* A frame has been through ingest and the engine skips: it leaves the caller's hands until its turn, which may be at
 * once. */
void ees__follow_arrive(struct ees_engine *e, uint32_t slot_idx);

/* Is the answer there that the frame compares with? Then its item has it. */
bool ees__follow_ready(struct ees_engine *e, struct ees__slot *slot);

/* It was not: the frame leaves the caller's hands until it is, which may be by now. */
void ees__follow_wait(struct ees_engine *e, uint32_t slot_idx);

/* A frame is about to be answered, its status and item are set: whoever waited for it goes on. */
void ees__follow_answered(struct ees_engine *e, uint32_t slot_idx);

/* Pull, in order: keep a computed frame's answer, or give it to one that repeats it. */
void ees__follow_pulled(struct ees_engine *e, struct ees__slot *slot);

#endif
