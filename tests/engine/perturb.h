/* SPDX-License-Identifier: MIT */
/* What the stress tests do in the places marked by EES_PERTURB(): include before the engine's headers. */
#ifndef EES_TESTS_PERTURB_H
#define EES_TESTS_PERTURB_H

#include <stdint.h>

#define EES_PERTURB() perturb()

/* Of the calling thread. Same seed and thread: the same sequence, though not the same interleaving. */
void perturb_seed(uint64_t seed, unsigned thread);

uint32_t perturb_random(void);
void perturb(void);

#endif
