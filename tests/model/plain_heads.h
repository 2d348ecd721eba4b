/* SPDX-License-Identifier: MIT */
/* Every exit head written down as docs/heads.md defines it, in double precision, without a shortcut: what the engine's
 * heads are compared with. */
#ifndef EES_TESTS_MODEL_PLAIN_HEADS_H
#define EES_TESTS_MODEL_PLAIN_HEADS_H

#include "stages/op.h"

/* Widths that only tensors tell. */
struct plain_widths {
    size_t filters, readout, token_hidden, channel_hidden, dummy_hidden, block_mlp;
    size_t n_mlp, mlp[4]; /* layers of the MLP, and the outputs of all but the last */
};

struct plain_model {
    const struct ees__dims *dims;
    const struct plain_widths *widths;
    /* A tensor of the head by its canonical name ("mlp.0.weight"), which must have n elements. */
    const float *(*tensor)(const char *leaf, size_t n);
};

/* logits (K,) of a head on tokens (T, C); fails the test for a head it does not know. */
void plain_head(const struct plain_model *model, const char *head, const float *tokens, double *logits);

#endif
