/* SPDX-License-Identifier: MIT */
/* The units of a ViT's backbone. */
#ifndef EES_STAGES_BLOCKS_BLOCKS_H
#define EES_STAGES_BLOCKS_BLOCKS_H

#include "stages/op.h"

extern const struct ees__op ees__block_embed;     /* patches -> tokens */
extern const struct ees__op ees__block_attention; /* x += Wo attn(LN1 x) + bo */
extern const struct ees__op ees__block_mlp;       /* x += W2 act(W1 LN2 x + b1) + b2, or gated */
extern const struct ees__op ees__block_final;     /* logits = classifier(LN class token), or see enum ees__pool */

/* The second half of a block on rows (n, C) alone, in place: for heads, which read few rows of their block.
 * @param scratch  ees__block_mlp_floats() */
void ees__block_mlp_rows(const void *self, const struct ees__kernels *kernels, float *rows, size_t n, float *scratch);
size_t ees__block_mlp_floats(const void *self, const struct ees__kernels *kernels, size_t n);
double ees__block_mlp_flops(const void *self, size_t n);

#endif
