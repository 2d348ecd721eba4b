/* SPDX-License-Identifier: MIT */
/* What will happen when, in virtual time: a binary heap. Events of one moment come out in the order they went in, which makes
 * simulations repeat exactly. */
#ifndef EES_ENGINE_SIM_EVENTS_H
#define EES_ENGINE_SIM_EVENTS_H

#include <stddef.h>
#include <stdint.h>

enum ees__sim_kind {
    EES__SIM_ARRIVAL,   /* a paced source has its next frame */
    EES__SIM_ANSWER,    /* a frame is done; `idx`: slot */
    EES__SIM_VISIT_END, /* a worker hands on what is left of its visit; `idx`: worker */
    EES__SIM_LOOK,      /* time to think about another plan */
};

struct ees__sim_event {
    uint64_t at_ns, number;
    enum ees__sim_kind kind;
    uint32_t idx;
};

struct ees__sim_events {
    struct ees__sim_event *heap; /* the caller's; room for all that can be pending at once */
    size_t n;
    uint64_t n_added;
};

static inline int ees__sim_event_before(const struct ees__sim_event *a, const struct ees__sim_event *b) {
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->number < b->number;
}

static inline void ees__sim_events_add(struct ees__sim_events *q, uint64_t at_ns, enum ees__sim_kind kind,
                                       uint32_t idx) {
    struct ees__sim_event event = {.at_ns = at_ns, .number = q->n_added++, .kind = kind, .idx = idx};
    size_t hole = q->n++;
    for (size_t up; hole > 0 && ees__sim_event_before(&event, &q->heap[up = (hole - 1) / 2]); hole = up)
        q->heap[hole] = q->heap[up];
    q->heap[hole] = event;
}

/* The earliest. There must be one. */
static inline struct ees__sim_event ees__sim_events_take(struct ees__sim_events *q) {
    struct ees__sim_event first = q->heap[0], last = q->heap[--q->n];
    size_t hole = 0;
    for (size_t down; (down = 2 * hole + 1) < q->n; hole = down) {
        if (down + 1 < q->n && ees__sim_event_before(&q->heap[down + 1], &q->heap[down]))
            down++;
        if (!ees__sim_event_before(&q->heap[down], &last))
            break;
        q->heap[hole] = q->heap[down];
    }
    if (q->n > 0)
        q->heap[hole] = last;
    return first;
}

#endif
