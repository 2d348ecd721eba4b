/* SPDX-License-Identifier: MIT */
/* What a model has learned for its policies: struct ees__policy_weights in stages/stage.h. */
#ifndef EES_STAGES_LEARNED_H
#define EES_STAGES_LEARNED_H

#include "stages/loader.h"

/* Read the tensors the file has, each pair whole or not at all:
 *
 *   gate.weight (1, n_pooled), gate.bias (1)              of all exits' pooled vectors
 *   ensemble.weight (E+1, E+1), ensemble.bias (E+1, K)    row k: at exit k, the final classifier last
 *
 * @param n_pooled  of each of n_exits pooled vectors; 0: the head has none
 * @return 0; EES_EMODEL; EES_ENOMEM. What was read stays for ees__learned_close() */
int ees__learned_open(struct ees__loader *loader, unsigned n_exits, const size_t *n_pooled,
                      struct ees__policy_weights *out, ees_error *err);
void ees__learned_close(struct ees__policy_weights *learned); /* accepts a zeroed one */

/* sigmoid(w h + b) for a pooled vector h (n_gate,). */
float ees__gate_compute(const struct ees__policy_weights *learned, const float *pooled);

#endif
