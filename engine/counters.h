/* SPDX-License-Identifier: MIT */
/* The processor's own counters of the calling thread, through perf_event_open(). */
#ifndef EES_ENGINE_COUNTERS_H
#define EES_ENGINE_COUNTERS_H

#include "eestream/roofline.h"

struct ees__counters {
    int fd[EES_N_COUNTERS]; /* -1: there is no such counter */
};

/* Opens what there is, of the calling thread in user mode. @return 0; EES_EUNSUPPORTED when nothing can be counted,
 * with the reason in *why. Close it either way */
int ees__counters_open(struct ees__counters *c, ees_error *why);
void ees__counters_close(struct ees__counters *c);

/* What was counted since they were opened; NaN where there is no counter. Scaled up for the time in which another had
 * its place. */
void ees__counters_read(const struct ees__counters *c, double counts[EES_N_COUNTERS]);

#endif
