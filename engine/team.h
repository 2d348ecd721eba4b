/* SPDX-License-Identifier: MIT */
/* Teams (EES_HINT_LATENCY): a worker that runs a unit shares its loops with workers that have nothing to do.
 *
 * Every worker can lead. To share a loop it writes what the loop is, opens a round, works on pieces like everybody, and
 * goes on when all pieces are done. `round` is one word: number of the round (32 bits), pieces it has (16), pieces
 * claimed (16). A helper reads round, then what the loop is, and claims a piece by compare-and-swap of round.
 *
 *   field   written by        store              read by   load      guards
 *   round   leader (opens)    release            helper    acquire   part, ctx, n, and all the leader computed before
 *   round   anybody (claims)  CAS, relaxed       -         -         nothing: each piece goes to one thread by atomicity
 *   n_done  helpers           RMW, release       leader    acquire   what the helpers computed
 *
 * part, ctx and n are relaxed atomics because a late helper may read them while the leader prepares its next round. It
 * cannot use what it read: all pieces of the round it saw are claimed by then, each claim is the one successor of the
 * value it replaced, and so the late helper's own compare-and-swap fails. */
#ifndef EES_ENGINE_TEAM_H
#define EES_ENGINE_TEAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/mem.h"
#include "stages/stage.h"

struct ees_engine;
struct ees__worker;

struct ees__leader {
    struct ees__team team; /* what ops see; first, so that both have one address */
    struct ees_engine *engine;
    _Alignas(EES_CACHE_LINE) _Atomic uint64_t round;
    _Atomic(ees__part_fn *) part;
    _Atomic(void *) ctx;
    _Atomic size_t n;
    _Alignas(EES_CACHE_LINE) _Atomic uint32_t n_done;
};

/* @param n_members  workers, of which each may share its loops */
void ees__leader_init(struct ees__leader *leader, struct ees_engine *e, unsigned n_members);

/* Around a visit: others may be called to help. */
void ees__leader_begin(struct ees_engine *e);
void ees__leader_end(struct ees_engine *e);

/* Is any worker inside a visit, so that pieces may turn up any moment? */
bool ees__leader_any(struct ees_engine *e);

/* Work on pieces that other workers share. @return false: there were none */
bool ees__team_help(struct ees__worker *w);

#endif
