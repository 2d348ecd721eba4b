/* SPDX-License-Identifier: MIT */
/* An op is what a unit computes: the embedding, one half of a block, an exit head, the final classifier. One const
 * struct an op, in one file; blocks and the embedding rewrite the frame's tokens, heads read them and write logits.
 *
 * Ops do not know file formats: they ask a loader for tensors by canonical name (spec 3.1, 3.3) and keep packed
 * weights. They do not allocate while running: their working memory is a worker's scratch.
 *
 * A run is a batch of frames, and may be shared by a team. Products of a whole frame's tokens take the frames one after
 * the other: some fifty rows use the weights often enough, and activations of more frames than one leave the private
 * cache (joined, products of 49 to 197 rows took 1 to 4 % more time, see docs/architecture.md). What has few rows
 * (classifiers, pooled vectors, a small head's tokens) is one product for the batch. A row of a product has the same
 * bits whatever stands beside it, so both ways give the bits of a frame alone. */
#ifndef EES_STAGES_OP_H
#define EES_STAGES_OP_H

#include <stdbool.h>
#include <stddef.h>

#include "common/mem.h"
#include "eestream/error.h"
#include "stages/kernels/kernels.h"
#include "stages/stage.h"

struct ees__loader;

/* What a classifier reads (spec 1.1 to 1.4, 5.1). LN is the last LayerNorm, in front of the final one. */
enum ees__pool {
    EES__POOL_CLASS,      /* LN(class token) */
    EES__POOL_CLASS_DIST, /* the mean of two classifiers, of LN(class token) and of LN(distillation token) */
    EES__POOL_CLASS_MEAN, /* [LN(class token) ; mean of LN(patches)] */
    EES__POOL_NORM_MEAN,  /* mean of LN(patches) */
    EES__POOL_MEAN_NORM,  /* LN(mean of patches), the LN named "fc_norm" */
};

/* How a position table of another grid is resampled: stages/resample_table.h. */
enum ees__table_filter {
    EES__TABLE_CUBIC,           /* to the new size; Keys' cubic, a -0.75, 4 taps */
    EES__TABLE_CUBIC_SCALED,    /* the same by the factor (new + 0.1) / old */
    EES__TABLE_CUBIC_ANTIALIAS, /* a -0.5, wider when the table shrinks */
    EES__TABLE_CUBIC_CORNERS,   /* a -0.75, the corners of both grids coincide */
};

/* How a framework fits a window to a grid that is no larger (spec 1.4). */
enum ees__window_fit {
    EES__FIT_SHORTER_SIDE, /* the grid's shorter side decides on both, a smaller one is refused (Hugging Face) */
    EES__FIT_EACH_SIDE,    /* each side by itself, and only that is not shifted (timm) */
    EES__FIT_PAD,          /* the grid is padded to a whole window and not shifted along that side (torchvision) */
};

/* Where attention windows lie on the grid of a Swin stage (spec 1.4), all in tokens. */
struct ees__window {
    size_t h, w;             /* of a window; 0: attention is global */
    size_t shift_h, shift_w; /* of every second block, beginning with the second */
    bool rolls_first;        /* the grid is shifted before it is padded to whole windows (timm), not after */
    enum ees__window_fit fit;
};

/* A model's sizes as one unit sees them, checked and bounded by stages/sizes.c so that no product of two or three of
 * them overflows. A ViT has the same ones all the way; in a Swin grid, tokens, channels, attention heads and MLP are
 * those of the unit's stage. */
struct ees__dims {
    size_t image_h, image_w, patch;
    bool pads_rim; /* what fills no patch is filled up with zeros (Hugging Face's Swin), not left out */
    size_t grid_h, grid_w; /* of patches, or of what patches were merged to */
    bool bare;             /* no class token: a Swin, and ViTs that take the mean of the patches */
    bool has_dist;         /* the second token is the distillation token */
    size_t n_registers;    /* tokens between those and the patches, without a position */
    size_t n_special;      /* tokens in front of the patches: the class token, where there is one, and the two above */
    size_t n_patches, n_tokens;
    size_t n_channels, n_heads, mlp_width;
    size_t n_blocks, n_classes; /* of the whole model */
    struct ees__window window;
    bool absolute_pos; /* a Swin with a position table, too */
    bool pre_norm;     /* LN of the embedded tokens, and patches without a bias (CLIP) */
    bool qkv_bias;
    bool qk_norm;                 /* LN of each head's queries and keys */
    bool layer_scale;             /* a factor a channel on what each half of a block adds */
    enum ees__post_op activation; /* of MLPs: EES__POST_GELU or one of its kind */
    bool swiglu;                  /* the MLP is gated: W3 (silu(a) b), [a;b] = W12 x, mlp_width wide */
    double norm_eps;
    enum ees__pool pool;
    bool pooler; /* a linear layer and tanh in front of the final classifier (torchvision's representation_size) */
    /* The position table as it is stored: a grid behind as many rows of special tokens. */
    size_t table_h, table_w, table_special;
    enum ees__table_filter table_filter;
};

/* Two classifiers, of the class and of the distillation token, answer with their mean (DeiT; spec 1.2, 5.1). */
static inline bool ees__is_distilled(const struct ees__dims *d) { return d->pool == EES__POOL_CLASS_DIST; }

/* What an exit head reads beside its module's output (spec 5.1). */
static inline enum ees__pool ees__head_pool(const struct ees__dims *d) {
    if (d->bare)
        return EES__POOL_NORM_MEAN;
    return ees__is_distilled(d) ? EES__POOL_CLASS_DIST : EES__POOL_CLASS;
}

/* What one worker owns. */
struct ees__lane {
    struct ees__ingest *ingest;
    float *scratch; /* for the hungriest unit at max_batch frames, cache line aligned */
    unsigned max_batch;
    float **states, **logits; /* (max_batch,): of the items at hand */
    float *gates;             /* the same */
};

/* One run of an op on n frames. */
struct ees__run {
    const struct ees__kernels *kernels;
    const struct ees__dims *dims; /* the unit's */
    size_t n_rows; /* of a block half's result: the first so many tokens are all that anybody reads */
    size_t n;
    float *const *states; /* n: the embedding reads patches (N, 3*P*P) here; tokens (T, C) from then on */
    float *const *logits; /* n of (K,): written by heads */
    const struct ees__policy_weights *learned; /* of an early exit in a model with a gate, */
    float *gates;                              /* (n,): and what it says; else NULL */
    struct ees__lane *lane;
    struct ees__team *team; /* NULL: alone. With a team n is 1 */
};

struct ees__op_cost {
    size_t scratch_floats; /* for one frame, */
    size_t item_floats;    /* and for each more in a batch */
    double flops;          /* 2 per multiply-accumulate of products, attention and convolutions, as executed */
};

/* The tokens a head can read. */
enum ees__head_tokens {
    EES__HEAD_CLASS,     /* class token and patches */
    EES__HEAD_BARE_GRID, /* patches without a class token */
    EES__HEAD_ANY,
};

struct ees__op {
    const char *name;
    bool numbered;                /* heads: the name in a config ends in one digit 1-9, handed to open() as `number` */
    enum ees__head_tokens tokens; /* heads */

    /* Load weights named `prefix`.* ("blk.3", "exit.0"). `number`: of a numbered head, or of a block in its stage, from
     * 0.
     * @return 0; EES_EMODEL tensor missing, of another shape or not finite; EES_ENOMEM. Nothing is left behind */
    int (*open)(struct ees__loader *loader, const char *prefix, unsigned number, void **self, struct ees__op_cost *cost,
                ees_error *err);
    void (*run)(const void *self, const struct ees__run *run);
    void (*close)(void *self); /* accepts NULL */
};

/* ---- Teams ---------------------------------------------------------------------------------------------- */

/* Run `part` over [0, n): at once when alone, in pieces of `grain` by a team. A part's own memory is in the lane it is
 * given; memory that parts share is in the run's lane. A team's helper works in its own lane at the same offsets, so
 * what is shared comes first in an op's scratch and what a part has to itself behind it. */
static inline void ees__run_share(const struct ees__run *run, ees__part_fn *part, void *ctx, size_t n, size_t grain) {
    if (run->team)
        run->team->share(run->team, part, ctx, n, grain, run->lane);
    else
        part(ctx, 0, n, run->lane);
}

/* Pieces of equal size, none smaller than `least`. */
static inline size_t ees__grain(size_t n, size_t least) {
    size_t n_pieces = n / least ? n / least : 1;
    return (n + n_pieces - 1) / n_pieces;
}

/* Rows of a product that are worth a piece. Each piece reads all weights, so pieces of 4 tiles are 1 to 2 % faster a
 * row in frames of 197 tokens; 2 let four to eight workers help there, and two in frames of 65. */
enum { EES__PIECE_TILES = 2 };

static inline size_t ees__row_grain(const struct ees__run *run, size_t n_rows) {
    size_t grain = ees__grain(n_rows, EES__PIECE_TILES * run->kernels->tile_rows);
    unsigned n_members = run->team ? run->team->n_members : 1;
    size_t n_pieces = (n_rows + grain - 1) / grain, n_even = ees__round_up(n_pieces, n_members);
    return n_pieces > 1 ? (n_rows + n_even - 1) / n_even : grain; /* as many for each member */
}

/* Rows that go through several products one after the other do so in chunks of at most so many: their activations
 * stay in the private cache. */
enum { EES__CHUNK_ROWS = 256 };

/* Chunks of equal size. */
static inline size_t ees__chunk_rows(size_t n_rows) {
    size_t n_chunks = (n_rows + EES__CHUNK_ROWS - 1) / EES__CHUNK_ROWS;
    return n_chunks ? (n_rows + n_chunks - 1) / n_chunks : 0;
}

/* ---- Scratch -------------------------------------------------------------------------------------------- */

/* Scratch is cut into pieces that each start on a cache line. */
static inline size_t ees__piece_floats(size_t n) { return ees__round_up(n, EES_CACHE_LINE / sizeof(float)); }

static inline float *ees__cut_piece(float **scratch, size_t n) {
    float *piece = *scratch;
    *scratch += ees__piece_floats(n);
    return piece;
}

static inline size_t ees__max_size(size_t a, size_t b) { return a > b ? a : b; }

/* ---- What ops have in common ---------------------------------------------------------------------------- */

/* logits of each frame = classifier (rows (n, C)). The rows are the exit's pooled vectors: the model's gate, if it has one,
 * reads them too.
 * @param scratch  ees__classify_floats(n, classifier's) */
void ees__classify(const struct ees__linear *classifier, const struct ees__run *run, const float *rows, float *scratch);
size_t ees__classify_floats(const struct ees__kernels *kernels, size_t n, size_t n_classes, size_t c);

/* pooled (run->n, pool->n) = tanh(pool (rows (run->n, pool->k))). */
void ees__run_pooler(const struct ees__linear *pool, const struct ees__run *run, const float *rows, float *pooled,
                     float *scratch);

#endif
