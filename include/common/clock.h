/* SPDX-License-Identifier: MIT */
/* Monotonic time in nanoseconds. */
#ifndef EES_COMMON_CLOCK_H
#define EES_COMMON_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t ees__now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#endif
