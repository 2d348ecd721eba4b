/* SPDX-License-Identifier: MIT */
/* Affinity masks of any width: the kernel refuses a mask narrower than the machine with EINVAL, so it is widened. */
#define _GNU_SOURCE
#include "engine/affinity.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>

enum { MAX_CPUS = 1 << 16 };

/* Cores of a thread's mask, ascending, at most `max`; 0: it cannot be read. */
static unsigned read_mask(pthread_t thread, int *cpus, unsigned max) {
    unsigned n = 0;
    for (int width = 1024; width <= MAX_CPUS && n == 0; width *= 4) {
        cpu_set_t *set = CPU_ALLOC(width);
        if (!set)
            break;
        size_t bytes = CPU_ALLOC_SIZE(width);
        CPU_ZERO_S(bytes, set);
        int rc = pthread_getaffinity_np(thread, bytes, set);
        for (int cpu = 0; rc == 0 && cpu < width && n < max; cpu++)
            if (CPU_ISSET_S((size_t)cpu, bytes, set))
                cpus[n++] = cpu;
        CPU_FREE(set);
        if (rc != 0 && rc != EINVAL)
            break;
    }
    return n;
}

unsigned ees__affinity_cpus(int *cpus, unsigned max) {
    unsigned n = read_mask(pthread_self(), cpus, max);
    if (n == 0 && max > 0)
        cpus[n++] = 0;
    return n;
}

int ees__affinity_pin(pthread_t thread, int cpu) {
    if (cpu < 0)
        return -1;
    cpu_set_t *set = CPU_ALLOC(cpu + 1);
    if (!set)
        return -1;
    size_t bytes = CPU_ALLOC_SIZE(cpu + 1);
    CPU_ZERO_S(bytes, set);
    CPU_SET_S((size_t)cpu, bytes, set);
    int now[2];
    bool pinned = pthread_setaffinity_np(thread, bytes, set) == 0 && read_mask(thread, now, 2) == 1 && now[0] == cpu;
    CPU_FREE(set);
    return pinned ? cpu : -1;
}
