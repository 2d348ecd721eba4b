/* SPDX-License-Identifier: MIT */
/* Affinity masks of any width: the kernel refuses a mask narrower than the machine with EINVAL, so it is widened. */
#define _GNU_SOURCE
#include "engine/affinity.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>

enum { MAX_CPUS = 1 << 16 };

static struct ees__affinity_mask read_mask(pthread_t thread) {
    for (int width = 1024; width <= MAX_CPUS; width *= 4) {
        struct ees__affinity_mask mask = {.set = CPU_ALLOC(width), .bytes = CPU_ALLOC_SIZE(width)};
        if (!mask.set)
            break;
        int rc = pthread_getaffinity_np(thread, mask.bytes, mask.set);
        if (rc == 0)
            return mask;
        CPU_FREE(mask.set);
        if (rc != EINVAL)
            break;
    }
    return (struct ees__affinity_mask){0};
}

/* Cores in a mask, ascending, at most `max`. Frees the mask. */
static unsigned list_cpus(struct ees__affinity_mask mask, int *cpus, unsigned max) {
    unsigned n = 0;
    for (size_t cpu = 0; mask.set && cpu < mask.bytes * 8 && n < max; cpu++)
        if (CPU_ISSET_S(cpu, mask.bytes, (cpu_set_t *)mask.set))
            cpus[n++] = (int)cpu;
    if (mask.set)
        CPU_FREE(mask.set);
    return n;
}

unsigned ees__affinity_cpus(int *cpus, unsigned max) {
    unsigned n = list_cpus(read_mask(pthread_self()), cpus, max);
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
    bool set_it = pthread_setaffinity_np(thread, bytes, set) == 0;
    CPU_FREE(set);
    int now[2];
    return set_it && list_cpus(read_mask(thread), now, 2) == 1 && now[0] == cpu ? cpu : -1;
}

struct ees__affinity_mask ees__affinity_save(void) {
    return read_mask(pthread_self());
}

void ees__affinity_restore(struct ees__affinity_mask *mask) {
    if (mask->set) {
        pthread_setaffinity_np(pthread_self(), mask->bytes, mask->set);
        CPU_FREE(mask->set);
    }
    mask->set = NULL;
}
