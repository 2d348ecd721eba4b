/* SPDX-License-Identifier: MIT */
/* Affinity masks of any width: the kernel refuses a mask narrower than the machine with EINVAL, so it is widened. */
#define _GNU_SOURCE
#include "engine/affinity.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>

enum { MAX_CPUS = 1 << 16 };

unsigned ees__affinity_cpus(int *cpus, unsigned max) {
    unsigned n = 0;
    for (int width = 1024; width <= MAX_CPUS && n == 0; width *= 4) {
        cpu_set_t *set = CPU_ALLOC(width);
        if (!set)
            break;
        size_t bytes = CPU_ALLOC_SIZE(width);
        CPU_ZERO_S(bytes, set);
        bool got = sched_getaffinity(0, bytes, set) == 0;
        for (int cpu = 0; got && cpu < width && n < max; cpu++)
            if (CPU_ISSET_S((size_t)cpu, bytes, set))
                cpus[n++] = cpu;
        CPU_FREE(set);
        if (!got && errno != EINVAL)
            break;
    }
    if (n == 0 && max > 0)
        cpus[n++] = 0;
    return n;
}

int ees__affinity_pin(int cpu) {
    if (cpu < 0)
        return -1;
    cpu_set_t *set = CPU_ALLOC(cpu + 1);
    if (!set)
        return -1;
    size_t bytes = CPU_ALLOC_SIZE(cpu + 1);
    CPU_ZERO_S(bytes, set);
    CPU_SET_S((size_t)cpu, bytes, set);
    int pinned = -1;
    if (pthread_setaffinity_np(pthread_self(), bytes, set) == 0) {
        int now[2];
        if (ees__affinity_cpus(now, 2) == 1 && now[0] == cpu)
            pinned = cpu;
    }
    CPU_FREE(set);
    return pinned;
}
