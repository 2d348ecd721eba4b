/* SPDX-License-Identifier: MIT */
#ifndef EES_CLI_CLOCK_H
#define EES_CLI_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Nanoseconds on the clock that the engine's traces use. */
static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#endif
