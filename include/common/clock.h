/* SPDX-License-Identifier: MIT */
/* Time in nanoseconds. */
#ifndef EES_COMMON_CLOCK_H
#define EES_COMMON_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t ees__clock_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t ees__now_ns(void) { return ees__clock_ns(CLOCK_MONOTONIC); }

#endif
