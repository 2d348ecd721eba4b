/* SPDX-License-Identifier: MIT */
/* Where frames wait, and which one a worker takes next. No threads and no clock in here: worker.c drives it with real
 * ones, simulate.c in virtual time.
 *
 *   entry of a stream: frames not yet begun        queue of a group: frames begun, waiting for a unit of its range
 *
 * The position of a frame (`unit`) is the truth, a plan is advice: group_of, end_of, batch_of and home are relaxed
 * atomics, and publishing a plan is storing them one by one. A worker that reads some of the old plan and some of the new
 * one still does right: end_of[u] is beyond u in every plan, and a frame in a queue that its unit no longer belongs to is
 * run from its own position by whoever takes it. So nothing is drained and nothing can be lost.
 *
 * A slot's number is in one place at a time; whoever popped it owns slots[n]. */
#ifndef EES_ENGINE_SCHED_H
#define EES_ENGINE_SCHED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "eestream/engine.h"
#include "engine/ring.h"

enum { EES__MAX_BATCH = 16 };

struct ees__queue {
    struct ees__ring ring;
    _Atomic uint64_t n_arrivals, depth_sum; /* statistics, relaxed */
    _Atomic uint32_t depth_max;
};

/* Frames of one stream that have not begun. Streams are served by virtual time: each frame taken moves its stream's
 * clock on by 1 / weight, and the stream that is furthest behind goes next. */
struct ees__entry {
    struct ees__queue queue;
    uint64_t step; /* EES__VTIME_ONE / weight */
    _Atomic uint64_t vtime;
};

#define EES__VTIME_ONE (UINT64_C(1) << 20)

struct ees__sched_slot {
    uint16_t unit;   /* to run next; the owner's */
    uint32_t stream; /* the owner's */
    _Atomic uint64_t
        age; /* smaller: admitted earlier. Read by peeking workers that do not own the slot: relaxed, a hint */
};

struct ees__sched {
    unsigned n_units, n_workers, n_queues;
    enum ees_take take;
    bool no_help;              /* simulator: workers never leave their group */
    struct ees__queue *queues; /* one a possible group */
    struct ees__sched_slot *slots;

    /* The plan in force. */
    _Atomic uint32_t n_groups;
    _Atomic uint16_t group_of[EES_MAX_UNITS], end_of[EES_MAX_UNITS];
    _Atomic uint8_t batch_of[EES_MAX_UNITS];
    _Atomic uint16_t home[EES_MAX_WORKERS]; /* group of each worker */

    _Atomic uint32_t n_entries;
    _Atomic(struct ees__entry *) entries[EES_MAX_STREAMS];
    _Alignas(EES_CACHE_LINE) _Atomic uint64_t vtime; /* of the stream served last */
    _Alignas(EES_CACHE_LINE) _Atomic uint64_t n_admitted;
};

/* What a worker got: frames at one position, to be run together. */
struct ees__taken {
    uint32_t slots[EES__MAX_BATCH];
    unsigned n;
    unsigned group; /* they belong to; not the worker's: it helps */
};

/* Frames inside unless the caller says otherwise: enough that no worker waits for answers in front of its own to be pulled, and
 * a micro-batch for each. */
static inline unsigned ees__default_slots(unsigned n_workers, unsigned max_batch) {
    return (4 + (max_batch > 1 ? max_batch : 0)) * n_workers + 4;
}

/* Frames of the largest micro-batch under a plan, and under those that may follow it where their profile is given (NULL: the
 * plan stays). */
unsigned ees__largest_batch(const ees_plan *plan, const ees_profile *later);

/* `n_slots`: numbers 0 .. n_slots-1 will be used. Queues for as many groups as there can be. */
bool ees__sched_init(struct ees__sched *s, unsigned n_units, unsigned n_workers, unsigned n_slots, enum ees_take take);
void ees__sched_fini(struct ees__sched *s);

/* Room for all slots in a stream's entry. */
bool ees__entry_init(struct ees__entry *entry, double weight, unsigned n_slots);
void ees__entry_fini(struct ees__entry *entry);

/* Make an entry known under the next number. One thread at a time. */
void ees__sched_add_entry(struct ees__sched *s, struct ees__entry *entry);

/* Put a plan in force. `types`: core type of each worker, NULL: all alike. One thread at a time; workers may run.
 * `max_batch` bounds the plan's batches. */
void ees__sched_publish(struct ees__sched *s, const ees_plan *plan, const uint8_t *types, unsigned max_batch);

/* A new frame of a stream: slots[slot] is set to the first unit. Any thread that owns the slot. */
void ees__sched_admit(struct ees__sched *s, unsigned stream, uint32_t slot);

/* A frame that has begun and goes on at slots[slot].unit. @return the group it waits for */
unsigned ees__sched_put(struct ees__sched *s, uint32_t slot);

/* What worker `worker` does next: of its own group first, then, by `take`, of others. @return false: nothing waits */
bool ees__sched_take(struct ees__sched *s, unsigned worker, struct ees__taken *out);

/* Take the frame of a stream that waits longest for its beginning. @return false: none */
bool ees__sched_evict(struct ees__sched *s, unsigned stream, uint32_t *slot);

/* Frames waiting anywhere: a hint. */
unsigned ees__sched_waiting(struct ees__sched *s);

static inline struct ees__entry *ees__sched_entry(struct ees__sched *s, unsigned stream) {
    /* acquire, pairs with the release in ees__sched_add_entry(). Guards: the entry's ring. [sched.entry.load] */
    return atomic_load_explicit(&s->entries[stream], memory_order_acquire);
}

/* First unit that a frame at `unit` is not run to in this visit. */
static inline unsigned ees__sched_end(struct ees__sched *s, unsigned unit) {
    return atomic_load_explicit(&s->end_of[unit], memory_order_relaxed); /* relaxed: advice, see above */
}

#endif
