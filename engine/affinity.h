/* SPDX-License-Identifier: MIT */
/* Which cores this process may use, and pinning to one of them. */
#ifndef EES_ENGINE_AFFINITY_H
#define EES_ENGINE_AFFINITY_H

#include <pthread.h>
#include <stddef.h>

/* Cores of the calling thread's affinity mask, ascending. Writes at most `max`, returns how many it wrote, at least 1. */
unsigned ees__affinity_cpus(int *cpus, unsigned max);

/* Pin a thread to one core and read its mask back. @return the core, -1 when it could not be pinned (a container may
 * forbid it, the core may have gone): a note for the statistics, not an error. */
int ees__affinity_pin(pthread_t thread, int cpu);

/* The calling thread's whole mask, to be put back after pinning. */
struct ees__affinity_mask {
    void *set; /* NULL: could not be read */
    size_t bytes;
};

struct ees__affinity_mask ees__affinity_save(void);
void ees__affinity_restore(struct ees__affinity_mask *mask); /* and free it */

#endif
