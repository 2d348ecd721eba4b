/* SPDX-License-Identifier: MIT */
/* The units of backbones. */
#ifndef EES_STAGES_BLOCKS_BLOCKS_H
#define EES_STAGES_BLOCKS_BLOCKS_H

#include "stages/op.h"

struct ees__config;
struct ees__json;

/* What the chain of a backbone is made of, and how it lies on an input. */
struct ees__backbone {
    const struct ees__op *embed, *attention, *mlp;
    const struct ees__op *merge; /* between stages; NULL: there is one stage */
    /* Fill config->stage_dims for the grid in config->dims. See ees__config_set_input() */
    int (*cut)(const struct ees__json *json, bool asked, struct ees__config *config, ees_error *err);
};

extern const struct ees__backbone ees__backbone_vit, ees__backbone_swin;

extern const struct ees__op ees__block_embed;            /* patches -> tokens */
extern const struct ees__op ees__block_attention;        /* x += Wo attn(LN1 x) + bo */
extern const struct ees__op ees__block_mlp;              /* x += W2 act(W1 LN2 x + b1) + b2, or gated */
extern const struct ees__op ees__block_swin_embed;       /* patches -> LN(tokens) */
extern const struct ees__op ees__block_window_attention; /* the same within windows of the grid */
extern const struct ees__op ees__block_merge;            /* 2 x 2 tokens -> one of twice the channels */
extern const struct ees__op ees__block_final; /* logits = classifier(LN class token), or see enum ees__pool */

/* The second half of a block on rows (n, C) alone, in place: for heads, which read few rows of their block.
 * @param scratch  ees__block_mlp_floats() */
void ees__block_mlp_rows(const void *self, const struct ees__kernels *kernels, float *rows, size_t n, float *scratch);
size_t ees__block_mlp_floats(const void *self, const struct ees__kernels *kernels, size_t n);
double ees__block_mlp_flops(const void *self, size_t n);

#endif
