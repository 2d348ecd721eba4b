/* SPDX-License-Identifier: MIT */
/* splitmix64 (Steele, Lea and Flood 2014): seeded numbers that are the same on every machine. */
#ifndef EES_COMMON_RANDOM_H
#define EES_COMMON_RANDOM_H

#include <stdint.h>

#define EES_RANDOM_STEP UINT64_C(0x9e3779b97f4a7c15) /* a generator's state grows by it from number to number */

/* The number that belongs to a state: a bijection. */
static inline uint64_t ees__mix64(uint64_t x) {
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

#endif
