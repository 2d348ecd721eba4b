/* SPDX-License-Identifier: MIT */
/* When another plan would be faster: moving averages of what units cost and which frames get to them, and the planner asked
 * again with those. No threads and no clock: the governor feeds it real counters, the simulator virtual ones. */
#ifndef EES_ENGINE_REPLANNER_H
#define EES_ENGINE_REPLANNER_H

#include <stdbool.h>

#include "eestream/plan.h"

struct ees__replanner;

/* @param profile    costs as measured at first; copied
 *  @param n_of_type  workers on cores of each type
 *  @return 0; EES_ENOMEM */
int ees__replanner_open(const ees_profile *profile, const unsigned *n_of_type, struct ees__replanner **out,
                        ees_error *err);
void ees__replanner_close(struct ees__replanner *r); /* accepts NULL */

/* Workers moved to other cores: what was seen on those before says little now. */
void ees__replanner_set_cores(struct ees__replanner *r, const unsigned *n_of_type);

/* What happened in the last dt_ns: visits of each unit on cores of each type, and their time. */
void ees__replanner_add(struct ees__replanner *r, double dt_ns, double runs[][EES_MAX_UNITS],
                        double ns[][EES_MAX_UNITS]);

/* Is there a plan predicted to be faster than `now` by enough to change, with what was seen lately? By enough: more than 3 %,
 * and more than the frames seen could make it look faster by chance, in two calls in a row. The caller is expected to put
 * *out in force: what was seen of costs belonged to the plan before and is forgotten.
 *  @param fps_before  what `now` is predicted to do
 *  @return false: stay; *out is untouched */
bool ees__replanner_propose(struct ees__replanner *r, const ees_plan *now, ees_plan *out, double *fps_before);

#endif
