/* SPDX-License-Identifier: MIT */
/* A model's chain of units on the calling thread, outside an engine and past every exit: what measuring units takes. */
#ifndef EES_ENGINE_CHAIN_RUN_H
#define EES_ENGINE_CHAIN_RUN_H

#include <stdbool.h>

#include "eestream/plan.h"
#include "eestream/source.h"
#include "stages/stage.h"

/* Frames of a micro-batch that is tried. What there is to gain, reading weights once for several frames, is mostly won
 * with four; more would only make the first of them wait (docs/measurements.md). */
enum { EES__CHAIN_BATCH = 4 };

enum { EES__CHAIN_MIN_RUNS = 3, EES__CHAIN_MAX_RUNS = 200 }; /* the first warms up and does not count */

struct ees__chain_run {
    const ees_model *model;
    struct ees__policy_setup policy; /* every frame goes to the end, past every head */
    uint8_t to_the_end;              /* policy points to it: the struct stays where it was opened */
    struct ees__lane *lane;
    void *memory;
    struct ees__item items[EES__CHAIN_BATCH];
    ees_source *source; /* of `frame`, when it is synthetic; else NULL */
    ees_frame frame;
    ees_error *err;
};

/* @param frame  what goes in again and again, borrowed; NULL: a synthetic 640x480 JPEG
 * @param err    may be NULL; kept for the runs
 * @return 0; EES_ENOMEM */
int ees__chain_run_open(struct ees__chain_run *c, const ees_model *model, const ees_frame *frame, ees_error *err);
void ees__chain_run_close(struct ees__chain_run *c); /* accepts one that failed to open */

/* Run a unit on the first n frames together. @return 0; EES_EDAMAGED */
int ees__chain_run_unit(struct ees__chain_run *c, unsigned unit, unsigned n, uint64_t *ns);

/* A frame's share of each unit when n frames run through all of them in turn, again and again for `enough_ns`.
 * @param share_ns  of every unit */
int ees__chain_run_all(struct ees__chain_run *c, unsigned n, uint64_t enough_ns, double *share_ns);

/* Is another run due, when `n_runs` took `spent_ns`? */
static inline bool ees__chain_goes_on(unsigned n_runs, uint64_t spent_ns, uint64_t enough_ns) {
    return n_runs < EES__CHAIN_MIN_RUNS || (spent_ns < enough_ns && n_runs < EES__CHAIN_MAX_RUNS);
}

#endif
