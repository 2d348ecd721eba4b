/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "engine/team.h"

#include <sched.h>

#include "common/clock.h"
#include "engine/internal.h"
#include "engine/relaxed.h"

enum { MAX_PIECES = UINT16_MAX };

static uint32_t pieces_of(uint64_t round) { return (uint32_t)(round >> 16) & UINT16_MAX; }
static uint32_t claimed_of(uint64_t round) { return (uint32_t)round & UINT16_MAX; }

struct loop {
    ees__part_fn *part;
    void *ctx;
    size_t n;
};

/* Claim the next piece of the round that is open, and learn what it is a piece of. @return false: none is left */
static bool claim(struct ees__leader *l, struct loop *loop, uint64_t *round) {
    for (;;) {
        /* acquire, pairs with the release in share(). Guards: part, ctx, n and the rows the pieces read. If weaker: on AArch64
         * a helper may run the loop of the round before, or on rows not yet written. Model: team. [team.round.load] */
        *round = atomic_load_explicit(&l->round, memory_order_acquire);
        if (claimed_of(*round) >= pieces_of(*round))
            return false;
        /* relaxed: ordered by the load above; see the table for a helper that is late. */
        *loop = (struct loop){.part = atomic_load_explicit(&l->part, memory_order_relaxed),
                              .ctx = atomic_load_explicit(&l->ctx, memory_order_relaxed),
                              .n = atomic_load_explicit(&l->n, memory_order_relaxed)};
        /* relaxed: one thread gets the piece by atomicity alone; the load above has ordered what belongs to it. */
        if (atomic_compare_exchange_strong_explicit(&l->round, round, *round + 1, memory_order_relaxed,
                                                    memory_order_relaxed))
            return true;
    }
}

static void run_piece(const struct loop *loop, uint64_t round, struct ees__lane *lane) {
    size_t n_pieces = pieces_of(round), piece = claimed_of(round);
    loop->part(loop->ctx, loop->n * piece / n_pieces, loop->n * (piece + 1) / n_pieces, lane);
}

/* Pieces are short, but a helper may lose its core in the middle of one: then waiting must not keep it from another. */
static void wait_until_done(struct ees__leader *l, uint32_t n_pieces) {
    uint64_t patient_until_ns = ees__now_ns() + 50000;
    /* acquire, pairs with the release in ees__team_help(). Guards: the rows helpers wrote. If weaker: the next step of the
     * unit may read rows of before. Model: team. [team.done.load] */
    while (atomic_load_explicit(&l->n_done, memory_order_acquire) != n_pieces) {
        ees__pause_cpu();
        if (ees__now_ns() > patient_until_ns)
            sched_yield();
    }
}

static void share(struct ees__team *team, ees__part_fn *part, void *ctx, size_t n, size_t grain,
                  struct ees__lane *own) {
    struct ees__leader *l = (struct ees__leader *)team;
    size_t n_pieces = grain ? (n + grain - 1) / grain : 1;
    n_pieces = n_pieces < MAX_PIECES ? n_pieces : MAX_PIECES;
    if (n_pieces < 2) {
        part(ctx, 0, n, own);
        return;
    }
    atomic_store_explicit(&l->part, part, memory_order_relaxed); /* relaxed: published by round */
    atomic_store_explicit(&l->ctx, ctx, memory_order_relaxed);
    atomic_store_explicit(&l->n, n, memory_order_relaxed);
    atomic_store_explicit(&l->n_done, 0, memory_order_relaxed);
    uint64_t round = atomic_load_explicit(&l->round, memory_order_relaxed); /* relaxed: only we open rounds */
    /* release, pairs with the acquire in claim(). Guards: the loop, and what we computed before. [team.round.open] */
    atomic_store_explicit(&l->round, ((round >> 32) + 1) << 32 | (uint64_t)n_pieces << 16, memory_order_release);
    struct loop loop;
    uint32_t n_own = 0;
    for (; claim(l, &loop, &round); n_own++)
        run_piece(&loop, round, own);
    atomic_fetch_add_explicit(&l->n_done, n_own, memory_order_relaxed); /* relaxed: our own writes we see anyway */
    wait_until_done(l, (uint32_t)n_pieces);
}

void ees__leader_init(struct ees__leader *leader, struct ees_engine *e, unsigned n_members) {
    leader->team = (struct ees__team){.share = share, .n_members = n_members};
    leader->engine = e;
}

void ees__leader_begin(struct ees_engine *e) {
    /* relaxed: only a hint that polling pays; the notification wakes those who sleep. */
    if (atomic_fetch_add_explicit(&e->n_leading, 1, memory_order_relaxed) == 0)
        ees__event_notify_all(&e->work);
}

void ees__leader_end(struct ees_engine *e) { atomic_fetch_sub_explicit(&e->n_leading, 1, memory_order_relaxed); }

bool ees__leader_any(struct ees_engine *e) { return atomic_load_explicit(&e->n_leading, memory_order_relaxed) > 0; }

static bool help_one(struct ees__worker *w, struct ees__leader *l) {
    struct loop loop;
    uint64_t round;
    bool helped = false;
    for (; claim(l, &loop, &round); helped = true) {
        run_piece(&loop, round, w->lane);
        /* release, pairs with the acquire in wait_until_done(). Guards: the rows of our piece. [team.done.add] */
        atomic_fetch_add_explicit(&l->n_done, 1, memory_order_release);
    }
    return helped;
}

bool ees__team_help(struct ees__worker *w) {
    struct ees_engine *e = w->engine;
    bool helped = false;
    uint64_t start_ns = ees__now_ns();
    for (unsigned i = 1; i < e->n_workers && !helped; i++)
        helped = help_one(w, &e->workers[(w->idx + i) % e->n_workers].leader);
    if (helped) {
        uint64_t length_ns = ees__now_ns() - start_ns;
        COUNT_OWN(w->team_ns, length_ns);
        COUNT_OWN(w->busy_ns, length_ns);
        if (ees__trace_is_on(&w->trace))
            ees__trace_tell(&w->trace, &(ees_trace_event){.kind = EES_TRACE_TEAM,
                                                          .worker = (uint16_t)w->idx,
                                                          .start_ns = start_ns,
                                                          .length_ns = length_ns});
    }
    return helped;
}
