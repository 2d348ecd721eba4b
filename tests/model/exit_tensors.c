/* SPDX-License-Identifier: MIT */
#include "exit_tensors.h"

#include <stdio.h>
#include <string.h>

enum { C = 16, K = 3, T = 7 }; /* of support.h's tiny models */
enum { FILTERS = 5, READOUT = 7, TOKEN_HIDDEN = 6, CHANNEL_HIDDEN = 20, MLP_HIDDEN = 9, BLOCK_MLP = 27 };

#define POOLED " conv_normal self_attention dummy_mlp "
#define BLOCK  " vit vit_ee "
#define LISTS  " mlp mlp_ee vit_ee mixer_ee resmlp_ee "
#define CNN    " cnn_ignore_ee cnn_add_ee cnn_project_ee "

enum kind { PAIR, NORM, BATCH_NORM, VECTOR }; /* PAIR: weight and bias */
enum only { ALWAYS, DISTILLED, PLAIN };

/* docs/heads.md, for a grid of 2 x 3 and one special token. */
static const struct {
    const char *heads, *leaf;
    enum kind kind;
    enum only only;
    unsigned rank;
    size_t shape[4];
    unsigned spelling; /* of LGViT's names */
} tensors[] = {
    {" conv_normal ", "conv", PAIR, ALWAYS, 4, {C, C, 3, 3}, 0},
    {" conv_normal ", "bn1", BATCH_NORM, ALWAYS, 1, {C}, 1},
    {" self_attention ", "attn.qkv", PAIR, ALWAYS, 2, {3 * C, C}, 1},
    {" self_attention ", "attn.proj", PAIR, ALWAYS, 2, {C, C}, 1},
    {" dummy_mlp ", "fc1", PAIR, ALWAYS, 2, {10, C}, 0},
    {" dummy_mlp ", "fc2", PAIR, ALWAYS, 2, {C, 10}, 0},
    {BLOCK, "blk.norm1", NORM, ALWAYS, 1, {C}, 0},
    {BLOCK, "blk.attn.qkv", PAIR, ALWAYS, 2, {3 * C, C}, 0},
    {BLOCK, "blk.attn.proj", PAIR, ALWAYS, 2, {C, C}, 0},
    {BLOCK, "blk.norm2", NORM, ALWAYS, 1, {C}, 0},
    {BLOCK, "blk.mlp.fc1", PAIR, ALWAYS, 2, {BLOCK_MLP, C}, 0},
    {BLOCK, "blk.mlp.fc2", PAIR, ALWAYS, 2, {C, BLOCK_MLP}, 0},
    {" linear ", "pool", PAIR, PLAIN, 2, {C, C}, 0},
    {" linear ", "norm", NORM, DISTILLED, 1, {C}, 0},
    {" vit ", "pool", PAIR, PLAIN, 2, {C, C}, 1},
    {" vit ", "norm", NORM, DISTILLED, 1, {C}, 1},
    {POOLED " linear ", "head.cls", PAIR, ALWAYS, 2, {K, C}, 0},
    {POOLED " linear ", "head.dist", PAIR, DISTILLED, 2, {K, C}, 0},
    {" vit ", "head.cls", PAIR, ALWAYS, 2, {K, C}, 1},
    {" vit ", "head.dist", PAIR, DISTILLED, 2, {K, C}, 1},
    {" mlp_ee vit_ee ", "norm", NORM, ALWAYS, 1, {C}, 0},
    {" cnn_project_ee ", "readout", PAIR, ALWAYS, 2, {READOUT, 2 * C}, 0},
    {" cnn_project_ee ", "conv", PAIR, ALWAYS, 4, {FILTERS, READOUT, 3, 3}, 0},
    {" cnn_ignore_ee cnn_add_ee ", "conv", PAIR, ALWAYS, 4, {FILTERS, C, 3, 3}, 0},
    {" mixer_ee ", "norm1", NORM, ALWAYS, 1, {C}, 0},
    {" mixer_ee ", "token.fc1", PAIR, ALWAYS, 2, {TOKEN_HIDDEN, T}, 0},
    {" mixer_ee ", "token.fc2", PAIR, ALWAYS, 2, {T, TOKEN_HIDDEN}, 0},
    {" mixer_ee ", "norm2", NORM, ALWAYS, 1, {C}, 0},
    {" resmlp_ee ", "aff1", NORM, ALWAYS, 1, {C}, 0},
    {" resmlp_ee ", "token", PAIR, ALWAYS, 2, {T, T}, 0},
    {" resmlp_ee ", "ls1", VECTOR, ALWAYS, 1, {C}, 0},
    {" resmlp_ee ", "aff2", NORM, ALWAYS, 1, {C}, 0},
    {" resmlp_ee ", "ls2", VECTOR, ALWAYS, 1, {C}, 0},
    {" mixer_ee resmlp_ee ", "channel.fc1", PAIR, ALWAYS, 2, {CHANNEL_HIDDEN, C}, 0},
    {" mixer_ee resmlp_ee ", "channel.fc2", PAIR, ALWAYS, 2, {C, CHANNEL_HIDDEN}, 0},
    {LISTS, "mlp.0", PAIR, ALWAYS, 2, {MLP_HIDDEN, C}, 0},
    {CNN, "mlp.0", PAIR, ALWAYS, 2, {MLP_HIDDEN, FILTERS}, 0},
    {LISTS CNN, "mlp.1", PAIR, ALWAYS, 2, {K, MLP_HIDDEN}, 0},
};

const char *const exit_heads[] = {
    "conv_normal", "self_attention", "dummy_mlp",  "linear",         "vit",      "mlp",       "mlp_ee",
    "vit_ee",      "cnn_ignore_ee",  "cnn_add_ee", "cnn_project_ee", "mixer_ee", "resmlp_ee", NULL};

static void add_one(struct tiny *tiny, const char *family, size_t i, const char *ending, unsigned rank) {
    static const size_t one_axis_of[4] = {0};
    char name[64];
    size_t shape[4];
    memcpy(shape, rank == tensors[i].rank ? tensors[i].shape : one_axis_of, sizeof shape);
    shape[0] = tensors[i].shape[0];
    snprintf(name, sizeof name, "exit.0.%s%s", tensors[i].leaf, ending);
    tiny_add_canonical(tiny, family, strncmp(family, "lgvit", 5) ? 0 : tensors[i].spelling, name, rank, shape);
}

static void add_tensor(struct tiny *tiny, const char *family, size_t i) {
    add_one(tiny, family, i, tensors[i].kind == VECTOR ? "" : ".weight", tensors[i].rank);
    if (tensors[i].kind != VECTOR)
        add_one(tiny, family, i, ".bias", 1);
    if (tensors[i].kind == BATCH_NORM) {
        add_one(tiny, family, i, ".running_mean", 1);
        add_one(tiny, family, i, ".running_var", 1);
    }
}

/* The classifier and what stands directly in front of it. */
static bool is_end(const char *leaf) {
    return strncmp(leaf, "head.", 5) == 0 || strcmp(leaf, "pool") == 0 || strcmp(leaf, "norm") == 0;
}

static bool has_tensor(const char *head, size_t i) {
    char word[32];
    snprintf(word, sizeof word, " %s ", head);
    return strstr(tensors[i].heads, word);
}

void exits_add(struct tiny *tiny, const char *family, const char *head, bool distilled) {
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        if (has_tensor(head, i) && tensors[i].only != (distilled ? PLAIN : DISTILLED))
            add_tensor(tiny, family, i);
}

void exits_add_module(struct tiny *tiny, const char *family, const char *head) {
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        if (has_tensor(head, i) && !is_end(tensors[i].leaf))
            add_tensor(tiny, family, i);
}

void exits_set(json_t *config, const char *head) {
    json_object_set_new(config, "early_exits",
                        json_pack("{s:[{s:i,s:s}],s:{s:s,s:f}}", "exits", "after_block", 1, "head", head, "policy",
                                  "name", "confidence", "thresholds", 0.5));
}
