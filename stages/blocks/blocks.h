/* SPDX-License-Identifier: MIT */
/* The units of a ViT's backbone. */
#ifndef EES_STAGES_BLOCKS_BLOCKS_H
#define EES_STAGES_BLOCKS_BLOCKS_H

#include "stages/op.h"

extern const struct ees__op ees__block_embed;     /* patches -> tokens */
extern const struct ees__op ees__block_attention; /* x += Wo attn(LN1 x) + bo */
extern const struct ees__op ees__block_mlp;       /* x += W2 gelu(W1 LN2 x + b1) + b2, or gated */
extern const struct ees__op ees__block_final;     /* logits = classifier(LN class token), or see enum ees__pool */

#endif
