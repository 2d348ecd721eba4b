/* SPDX-License-Identifier: MIT */
/* Bounded lock-free ring, several producers and several consumers (groups are replicated). Carries slot numbers.
 *
 * Each cell has a sequence number that says whose turn it is; after D. Vyukov's bounded MPMC queue.
 *
 *   cell.seq == t            free: the producer that draws ticket t may fill it
 *   cell.seq == t + 1        full: the consumer that draws ticket t may empty it
 *   cell.seq == t + capacity free again, for ticket t + capacity
 *
 *   field  written by             store    read by      load     guards
 *   seq    producer (t + 1)       release  consumer     acquire  cell.value, and what the producer wrote into the slot
 *   seq    consumer (t + capacity) release producer     acquire  our read of cell.value, before it is overwritten
 *   wr     producers              relaxed CAS           relaxed  nothing: it only deals out tickets
 *   rd     consumers              relaxed CAS           relaxed  nothing: it only deals out tickets
 *
 * Tickets run freely over 32 bits and are compared by signed difference only. A thread that is preempted between its
 * ticket and its store to seq makes that one cell look full (to a producer one lap ahead) or empty (to a consumer)
 * until it goes on; callers treat both answers as "not now". */
#ifndef EES_ENGINE_RING_H
#define EES_ENGINE_RING_H

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/mem.h"
#include "engine/perturb.h"

struct ees__ring_cell {
    _Alignas(EES_CACHE_LINE) _Atomic uint32_t seq;
    _Atomic uint32_t value; /* atomic because of ees__ring_peek(): relaxed, ordered by seq for its owner */
};

struct ees__ring {
    _Alignas(EES_CACHE_LINE) _Atomic uint32_t wr;
    _Alignas(EES_CACHE_LINE) _Atomic uint32_t rd;
    _Alignas(EES_CACHE_LINE) struct ees__ring_cell *cells; /* read-only from here on */
    uint32_t mask;
};

/* Room for at least `n` values (at most 2^30). `start`: first ticket, 0 outside of tests. @return false: no memory */
static inline bool ees__ring_init(struct ees__ring *r, uint32_t n, uint32_t start) {
    uint32_t capacity = 2;
    while (capacity < n)
        capacity *= 2;
    r->cells = ees__calloc_aligned(capacity, sizeof *r->cells);
    if (!r->cells)
        return false;
    r->mask = capacity - 1;
    /* Plain initialisation: no other thread knows the ring yet, pthread_create() publishes it. */
    for (uint32_t i = 0; i < capacity; i++)
        atomic_init(&r->cells[(start + i) & r->mask].seq, start + i);
    atomic_init(&r->wr, start);
    atomic_init(&r->rd, start);
    return true;
}

static inline void ees__ring_fini(struct ees__ring *r) {
    ees__free(r->cells);
    r->cells = NULL;
}

/* @return false: full. Any thread. */
static inline bool ees__ring_push(struct ees__ring *r, uint32_t value) {
    /* relaxed: a stale ticket is caught by the sequence number or by the CAS. */
    uint32_t ticket = atomic_load_explicit(&r->wr, memory_order_relaxed);
    struct ees__ring_cell *cell;
    for (;;) {
        cell = &r->cells[ticket & r->mask];
        /* acquire, pairs with the release in ees__ring_pop(). Guards: the consumer's read of cell->value. If weaker: our
         * write below may overtake that read and hand one slot out twice. Test: proof_ring. [ring.push.seq.load] */
        uint32_t seq = atomic_load_explicit(&cell->seq, memory_order_acquire);
        int32_t lap = (int32_t)(seq - ticket);
        EES_PERTURB();
        if (lap == 0) {
            /* relaxed: exactly one thread draws the ticket by atomicity alone; nothing is published through wr. */
            if (atomic_compare_exchange_weak_explicit(&r->wr, &ticket, ticket + 1, memory_order_relaxed,
                                                      memory_order_relaxed))
                break;
        } else if (lap < 0) {
            return false;
        } else {
            ticket = atomic_load_explicit(&r->wr, memory_order_relaxed);
        }
    }
    EES_PERTURB();
    atomic_store_explicit(&cell->value, value, memory_order_relaxed); /* relaxed: published by seq */
    EES_PERTURB();
    /* release, pairs with the acquire in ees__ring_pop(). Guards: cell->value and everything this thread wrote into the
     * slot. If weaker: on AArch64 the consumer may run a unit on tokens not yet written. Test: proof_ring, stress_ring
     * under TSan. [ring.push.seq.store] */
    atomic_store_explicit(&cell->seq, ticket + 1, memory_order_release);
    return true;
}

/* @return false: empty; *value untouched. Any thread. */
static inline bool ees__ring_pop(struct ees__ring *r, uint32_t *value) {
    uint32_t ticket = atomic_load_explicit(&r->rd, memory_order_relaxed); /* relaxed: as in push */
    struct ees__ring_cell *cell;
    for (;;) {
        cell = &r->cells[ticket & r->mask];
        /* acquire, pairs with the release in ees__ring_push(). Guards: cell->value and the slot's content. If weaker: as
         * there. Test: proof_ring. [ring.pop.seq.load] */
        uint32_t seq = atomic_load_explicit(&cell->seq, memory_order_acquire);
        int32_t lap = (int32_t)(seq - (ticket + 1));
        EES_PERTURB();
        if (lap == 0) {
            /* relaxed: as in push */
            if (atomic_compare_exchange_weak_explicit(&r->rd, &ticket, ticket + 1, memory_order_relaxed,
                                                      memory_order_relaxed))
                break;
        } else if (lap < 0) {
            return false;
        } else {
            ticket = atomic_load_explicit(&r->rd, memory_order_relaxed);
        }
    }
    EES_PERTURB();
    *value = atomic_load_explicit(&cell->value, memory_order_relaxed); /* relaxed: ours since the acquire of seq */
    EES_PERTURB();
    /* release, pairs with the acquire in ees__ring_push(). Guards: the read of cell->value just above. If weaker: as there.
     * Test: proof_ring. [ring.pop.seq.store] */
    atomic_store_explicit(&cell->seq, ticket + r->mask + 1, memory_order_release);
    return true;
}

/* Push into a ring that has room for every value twice over. "Full" then only means that a consumer was preempted between
 * drawing its ticket and emptying the cell, a whole lap ago: it gets the core. Any thread. */
static inline void ees__ring_push_until_in(struct ees__ring *r, uint32_t value) {
    while (!ees__ring_push(r, value))
        sched_yield();
}

/* The value that the next pop would give, if nobody else pops first. A hint: by the time it is looked at it may be gone.
 * @return false: empty, or being filled */
static inline bool ees__ring_peek(struct ees__ring *r, uint32_t *value) {
    uint32_t ticket = atomic_load_explicit(&r->rd, memory_order_relaxed); /* relaxed: as in push */
    struct ees__ring_cell *cell = &r->cells[ticket & r->mask];
    /* acquire, pairs with the release in ees__ring_push(): the value belongs to this ticket or a later one. If
     * weaker: it may be of a lap before. Test: proof_ring. [ring.peek.seq.load] */
    if (atomic_load_explicit(&cell->seq, memory_order_acquire) != ticket + 1)
        return false;
    *value = atomic_load_explicit(&cell->value, memory_order_relaxed);
    return true;
}

/* Values inside, as seen at some moment during the call: for statistics and hints, never for decisions that must be
 * right. relaxed: two counters read apart are no snapshot anyway. */
static inline uint32_t ees__ring_count(struct ees__ring *r) {
    uint32_t rd = atomic_load_explicit(&r->rd, memory_order_relaxed);
    uint32_t wr = atomic_load_explicit(&r->wr, memory_order_relaxed);
    int32_t n = (int32_t)(wr - rd);
    return n > 0 ? (uint32_t)n : 0;
}

#endif
