/* SPDX-License-Identifier: MIT */
/* An op is what a unit computes: the embedding, one half of a block, an exit head, the final classifier. One const
 * struct an op, in one file; blocks and the embedding rewrite the frame's tokens, heads read them and write logits.
 *
 * Ops do not know file formats: they ask a loader for tensors by canonical name (spec 3.1, 3.3) and keep packed
 * weights. They do not allocate while running: their working memory is a worker's scratch. */
#ifndef EES_STAGES_OP_H
#define EES_STAGES_OP_H

#include <stdbool.h>
#include <stddef.h>

#include "common/mem.h"
#include "eestream/error.h"
#include "stages/kernels/kernels.h"

struct ees__loader;

/* Sizes of a ViT, checked and bounded by stages/config.c so that no product of two or three of them overflows. */
struct ees__dims {
    size_t image_h, image_w, patch;
    size_t grid_h, grid_w;
    size_t n_special; /* tokens in front of the patches: 1, the class token */
    size_t n_patches, n_tokens;
    size_t n_channels, n_heads, mlp_width, n_blocks, n_classes;
    bool qkv_bias;
    double norm_eps;
};

/* One run of an op on one frame. */
struct ees__run {
    const struct ees__kernels *kernels;
    const struct ees__dims *dims;
    float *state;   /* the embedding reads patches (N, 3*P*P) here; tokens (T, C) from then on */
    float *logits;  /* (K,): written by heads */
    float *scratch; /* the op's scratch_floats, cache line aligned */
};

struct ees__op_cost {
    size_t scratch_floats;
    double flops; /* 2 per multiply-accumulate of products, attention and convolutions, as executed */
};

struct ees__op {
    const char *name;
    bool numbered; /* heads: the name in a config ends in one digit 1-9, handed to open() as `number` */

    /* Load weights named `prefix`.* ("blk.3", "exit.0").
     * @return 0; EES_EMODEL tensor missing, of another shape or not finite; EES_ENOMEM. Nothing is left behind */
    int (*open)(struct ees__loader *loader, const char *prefix, unsigned number, void **self, struct ees__op_cost *cost,
                ees_error *err);
    void (*run)(const void *self, const struct ees__run *run);
    void (*close)(void *self); /* accepts NULL */
};

/* Scratch is cut into pieces that each start on a cache line. */
static inline size_t ees__piece_floats(size_t n) { return ees__round_up(n, EES_CACHE_LINE / sizeof(float)); }

static inline float *ees__cut_piece(float **scratch, size_t n) {
    float *piece = *scratch;
    *scratch += ees__piece_floats(n);
    return piece;
}

static inline size_t ees__max_size(size_t a, size_t b) { return a > b ? a : b; }

#endif
