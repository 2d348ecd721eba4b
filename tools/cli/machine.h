/* SPDX-License-Identifier: MIT */
/* What a measurement must name: processor, cores allowed, load. */
#ifndef EES_CLI_MACHINE_H
#define EES_CLI_MACHINE_H

#include <stddef.h>

/* Cores in this process's affinity mask, at least 1. */
unsigned allowed_cores(void);
unsigned online_cores(void);

/* "Intel(R) Xeon(R) ...", the device tree's model on boards, "unknown" elsewhere. */
void cpu_model(char *out, size_t n);

/* Runnable tasks of the whole machine over the last minute; negative: unknown. */
double load_average(void);

/* Frequency governor of the first core; "" when the system does not say. */
void cpu_governor(char *out, size_t n);

#endif
