/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "tests/engine/perturb.h"

#include <sched.h>
#include <time.h>

static _Thread_local uint64_t random_state = 1;

void perturb_seed(uint64_t seed, unsigned thread) {
    random_state = (seed * 2654435761u + thread + 1) * 0x9e3779b97f4a7c15u | 1;
}

uint32_t perturb_random(void) { /* xorshift64* */
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (uint32_t)(random_state * 0x2545f4914f6cdd1du >> 32);
}

/* Mostly nothing; a short or a long moment; now and then the core is lost, for a turn or for long. */
void perturb(void) {
    uint32_t r = perturb_random();
    if (r % 8 == 0)
        for (volatile uint32_t i = r >> 16 & 63; i > 0; i--)
            ;
    if (r % 256 == 1)
        sched_yield();
    if (r % 16384 == 2)
        nanosleep(&(struct timespec){.tv_nsec = (long)(r >> 16)}, NULL);
}
