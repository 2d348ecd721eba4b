/* SPDX-License-Identifier: MIT */
/* What kinds of cores a mask holds, read from /sys and /proc. */
#ifndef EES_ENGINE_CORES_H
#define EES_ENGINE_CORES_H

#include "eestream/plan.h"

/* ees_cores_detect() for a mask and for file trees that may be made up.
 * @param sys, proc  what to read in place of "/sys" and "/proc", without a slash at the end
 * @param cpus       ascending, at least one; those that are offline are left out
 * @return 0; EES_ENOMEM */
int ees__cores_detect_at(const char *sys, const char *proc, const int *cpus, unsigned n_cpus, ees_cores *out,
                         ees_error *err);

/* CPUs' worth of time that the control group of this process and those above it grant; 0: no limit. (cores_quota.c) */
double ees__cores_quota(const char *sys, const char *proc);

/* First line of a file into `line`, without its end. @return false: no such file, or nothing in it */
__attribute__((format(printf, 3, 4))) int ees__read_first_line(char *line, int n, const char *format, ...);

#endif
