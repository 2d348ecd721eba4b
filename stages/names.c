/* SPDX-License-Identifier: MIT */
/* The table of names. A canonical name is a row; a model of any framework is asked for its tensors by that name alone.
 *
 *   @        the family's prefix ("vit", "deit", ...)
 *   #        the index, the same on both sides
 *   ^        the 0-based block in front of exit #
 *   {s} {b}  the stage of block, merge or exit #, and what number it has in there; {2s+1} is computed
 *   {a,b,c}  three tensors, stacked
 *   a|b      several spellings; the one the file has is taken
 *   *        any text, in second and later spellings (DINOv2 may store blocks in chunks: blocks.CHUNK.BLOCK)
 *   ~        the ending (weight, bias, running_mean, running_var) without its dot; else it follows with one
 *
 * Shapes: C channels, F MLP width, H attention heads, M side of a window, K classes, P patch side, R registers, T rows
 * of the position table. Linear layers are (out, in), packed qkv is rows [Q; K; V]. */
#include "stages/names.h"

#include <ctype.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/config.h"

enum {
    HF = EES__NAMES_HF,
    HF_TWO = EES__NAMES_HF_DISTILLED,
    DINOV2 = EES__NAMES_HF_DINOV2,
    LGVIT = EES__NAMES_LGVIT,
    LGVIT_TWO = EES__NAMES_LGVIT_DISTILLED,
    TIMM = EES__NAMES_TIMM,
    TORCHVISION = EES__NAMES_TORCHVISION,
    EEVIT = EES__NAMES_EEVIT,
    SWIN = EES__NAMES_SWIN,
    LGVIT_SWIN = EES__NAMES_LGVIT_SWIN,
    TIMM_SWIN = EES__NAMES_TIMM_SWIN,
    TIMM_OLD = EES__NAMES_TIMM_SWIN_OLD,
    TV_SWIN = EES__NAMES_TORCHVISION_SWIN,
};

/* Where a naming has no name of its own it uses this one's. */
static const unsigned char base_of[EES__N_NAMINGS] = {
    [HF] = HF,           [HF_TWO] = HF,      [DINOV2] = HF,          [LGVIT] = HF,
    [LGVIT_TWO] = LGVIT, [TIMM] = TIMM,      [EEVIT] = EEVIT,        [TORCHVISION] = TORCHVISION,
    [SWIN] = HF,         [TIMM_SWIN] = TIMM, [TIMM_OLD] = TIMM_SWIN, [TV_SWIN] = TV_SWIN,
    [LGVIT_SWIN] = SWIN,
};

struct row {
    const char *canonical;
    const char *name[EES__N_NAMINGS];
};

#define TORCHVISION_LAYER "encoder.layers.encoder_layer_#."
#define EEVIT_HEAD        "transformer.layers.^.highway.highway_head."
#define LGVIT_EXIT        "@.encoder.highway.#."
#define LGVIT_HEAD        LGVIT_EXIT "mlp."
#define LGVIT_LAYER       LGVIT_EXIT "layer."
#define SWIN_BLOCK        "@.encoder.layers.{s}.blocks.{b}."
#define LGVIT_SWIN_EXIT   "@.encoder.layers.{s}.highway.{b}."
#define LGVIT_SWIN_HEAD   LGVIT_SWIN_EXIT "mlp."
#define LGVIT_SWIN_LAYER  LGVIT_SWIN_EXIT "layer."
#define TIMM_SWIN_BLOCK   "layers.{s}.blocks.{b}."
#define TV_SWIN_BLOCK     "features.{2s+1}.{b}."

/* clang-format off */
static const struct row table[] = {
    /* (C,3,P,P), (C) */
    {"embed.patch", {
        [HF] = "@.embeddings.patch_embeddings.projection", [TIMM] = "patch_embed.proj",
        [TORCHVISION] = "conv_proj", [EEVIT] = "patch_embedding.projection",
        [TV_SWIN] = "features.0.0"}},
    /* (1,1,C) */
    {"embed.cls", {
        [HF] = "@.embeddings.cls_token", [TIMM] = "cls_token",
        [TORCHVISION] = "class_token", [EEVIT] = "patch_embedding.cls_token"}},
    {"embed.dist", {[HF] = "@.embeddings.distillation_token", [TIMM] = "dist_token"}},
    /* (1,R,C) */
    {"embed.reg", {[HF] = "@.embeddings.register_tokens", [TIMM] = "reg_token|register_tokens"}},
    /* (1,T,C) */
    {"embed.pos", {
        [HF] = "@.embeddings.position_embeddings", [TIMM] = "pos_embed",
        [TORCHVISION] = "encoder.pos_embedding", [EEVIT] = "patch_embedding.pos_embedding",
        [TIMM_SWIN] = "absolute_pos_embed"}},
    /* (C): Swin, and of all tokens where a ViT has it */
    {"embed.norm", {
        [TIMM] = "norm_pre", [SWIN] = "@.embeddings.norm", [TIMM_SWIN] = "patch_embed.norm", [TV_SWIN] = "features.0.2"}},
    /* unused; tells DINOv2 as published from timm's copies */
    {"embed.mask", {[HF] = "@.embeddings.mask_token", [TIMM] = "mask_token"}},

    /* (C) */
    {"blk.#.norm1", {
        [HF] = "@.encoder.layer.#.layernorm_before", [DINOV2] = "@.encoder.layer.#.norm1",
        [TIMM] = "blocks.#.norm1|blocks.*.#.norm1",
        [TORCHVISION] = TORCHVISION_LAYER "ln_1", [EEVIT] = "transformer.layers.#.norm_1",
        [SWIN] = SWIN_BLOCK "layernorm_before", [TIMM_SWIN] = TIMM_SWIN_BLOCK "norm1",
        [TV_SWIN] = TV_SWIN_BLOCK "norm1"}},
    /* (3C,C), (3C) */
    {"blk.#.attn.qkv", {
        [HF] = "@.encoder.layer.#.attention.attention.{query,key,value}",
        [TIMM] = "blocks.#.attn.qkv|blocks.*.#.attn.qkv",
        [TORCHVISION] = TORCHVISION_LAYER "self_attention.in_proj_~", [EEVIT] = "transformer.layers.#.W_QKV",
        [SWIN] = SWIN_BLOCK "attention.self.{query,key,value}", [TIMM_SWIN] = TIMM_SWIN_BLOCK "attn.qkv",
        [TV_SWIN] = TV_SWIN_BLOCK "attn.qkv"}},
    /* (D): of each head's queries and keys */
    {"blk.#.attn.q_norm", {[TIMM] = "blocks.#.attn.q_norm"}},
    {"blk.#.attn.k_norm", {[TIMM] = "blocks.#.attn.k_norm"}},
    /* (C,C), (C) */
    {"blk.#.attn.proj", {
        [HF] = "@.encoder.layer.#.attention.output.dense", [TIMM] = "blocks.#.attn.proj|blocks.*.#.attn.proj",
        [TORCHVISION] = TORCHVISION_LAYER "self_attention.out_proj",
        [EEVIT] = "transformer.layers.#.attention_output.0",
        [SWIN] = SWIN_BLOCK "attention.output.dense", [TIMM_SWIN] = TIMM_SWIN_BLOCK "attn.proj",
        [TV_SWIN] = TV_SWIN_BLOCK "attn.proj"}},
    /* ((2M-1)^2,H) and, redundant, (M^2,M^2) or flat: Swin */
    {"blk.#.attn.rel_bias", {
        [SWIN] = SWIN_BLOCK "attention.self.relative_position_bias_table",
        [TIMM_SWIN] = TIMM_SWIN_BLOCK "attn.relative_position_bias_table",
        [TV_SWIN] = TV_SWIN_BLOCK "attn.relative_position_bias_table"}},
    {"blk.#.attn.rel_index", {
        [SWIN] = SWIN_BLOCK "attention.self.relative_position_index",
        [TIMM_SWIN] = TIMM_SWIN_BLOCK "attn.relative_position_index",
        [TV_SWIN] = TV_SWIN_BLOCK "attn.relative_position_index"}},
    /* (C): layer scale */
    {"blk.#.ls1", {
        [DINOV2] = "@.encoder.layer.#.layer_scale1.lambda1", [TIMM] = "blocks.#.ls1.gamma|blocks.*.#.ls1.gamma"}},
    {"blk.#.norm2", {
        [HF] = "@.encoder.layer.#.layernorm_after", [DINOV2] = "@.encoder.layer.#.norm2",
        [TIMM] = "blocks.#.norm2|blocks.*.#.norm2",
        [TORCHVISION] = TORCHVISION_LAYER "ln_2", [EEVIT] = "transformer.layers.#.mlps.norm_2",
        [SWIN] = SWIN_BLOCK "layernorm_after", [TIMM_SWIN] = TIMM_SWIN_BLOCK "norm2",
        [TV_SWIN] = TV_SWIN_BLOCK "norm2"}},
    /* (F,C), (F) */
    {"blk.#.mlp.fc1", {
        [HF] = "@.encoder.layer.#.intermediate.dense", [DINOV2] = "@.encoder.layer.#.mlp.fc1",
        [TIMM] = "blocks.#.mlp.fc1|blocks.*.#.mlp.fc1",
        [TORCHVISION] = TORCHVISION_LAYER "mlp.0|" TORCHVISION_LAYER "mlp.linear_1",
        [EEVIT] = "transformer.layers.#.mlps.mlp_intermediate.0",
        [SWIN] = SWIN_BLOCK "intermediate.dense", [TIMM_SWIN] = TIMM_SWIN_BLOCK "mlp.fc1",
        [TV_SWIN] = TV_SWIN_BLOCK "mlp.0"}},
    /* (C,F), (C) */
    {"blk.#.mlp.fc2", {
        [HF] = "@.encoder.layer.#.output.dense", [DINOV2] = "@.encoder.layer.#.mlp.fc2",
        [TIMM] = "blocks.#.mlp.fc2|blocks.*.#.mlp.fc2",
        [TORCHVISION] = TORCHVISION_LAYER "mlp.3|" TORCHVISION_LAYER "mlp.linear_2",
        [EEVIT] = "transformer.layers.#.mlps.mlp_output.0",
        [SWIN] = SWIN_BLOCK "output.dense", [TIMM_SWIN] = TIMM_SWIN_BLOCK "mlp.fc2",
        [TV_SWIN] = TV_SWIN_BLOCK "mlp.3"}},
    /* (2F,C), (2F) and (C,F), (C): SwiGLU */
    {"blk.#.mlp.w12", {
        [DINOV2] = "@.encoder.layer.#.mlp.weights_in",
        [TIMM] = "blocks.#.mlp.w12|blocks.*.#.mlp.w12|blocks.#.mlp.fc1"}},
    {"blk.#.mlp.w3", {
        [DINOV2] = "@.encoder.layer.#.mlp.weights_out",
        [TIMM] = "blocks.#.mlp.w3|blocks.*.#.mlp.w3|blocks.#.mlp.fc2"}},
    {"blk.#.ls2", {
        [DINOV2] = "@.encoder.layer.#.layer_scale2.lambda1", [TIMM] = "blocks.#.ls2.gamma|blocks.*.#.ls2.gamma"}},

    /* behind stage #: (4C) and (2C,4C) without bias */
    {"merge.#.norm", {
        [SWIN] = "@.encoder.layers.{s}.downsample.norm", [TIMM_SWIN] = "layers.{s+1}.downsample.norm",
        [TIMM_OLD] = "layers.{s}.downsample.norm", [TV_SWIN] = "features.{2s+2}.norm"}},
    {"merge.#.reduce", {
        [SWIN] = "@.encoder.layers.{s}.downsample.reduction", [TIMM_SWIN] = "layers.{s+1}.downsample.reduction",
        [TIMM_OLD] = "layers.{s}.downsample.reduction", [TV_SWIN] = "features.{2s+2}.reduction"}},

    /* (C): of the class token, or of the mean of the patches where that is made first */
    {"norm", {
        [HF] = "@.layernorm", [TIMM] = "norm|fc_norm", [TORCHVISION] = "encoder.ln",
        [EEVIT] = "transformer.norm_post_layers",
        [TV_SWIN] = "norm"}},
    {"fc_norm", {[TIMM] = "fc_norm"}},
    /* any width from C: with tanh in front of the classifier */
    {"pool", {[TORCHVISION] = "heads.pre_logits"}},
    /* (K,C), (K) */
    {"head.cls", {
        [HF] = "classifier", [HF_TWO] = "cls_classifier", [LGVIT_TWO] = "cls_classifier", [TIMM] = "head",
        [TORCHVISION] = "heads.head", [EEVIT] = "last_exit",
        [TIMM_SWIN] = "head.fc|head", [TV_SWIN] = "head"}},
    {"head.dist", {[HF] = "distillation_classifier", [TIMM] = "head_dist"}},

    /* Heads as LGViT and EEVIT name them; shapes, and the tensors only canonical names are known of: docs/heads.md.
     * conv1_1 and conv2_1: (C,C,1,1), (C,1,3,3), BatchNorms (C) */
    {"exit.#.conv1", {[LGVIT] = LGVIT_HEAD "conv1.0", [EEVIT] = EEVIT_HEAD "conv1.0",
        [LGVIT_SWIN] = LGVIT_SWIN_HEAD "conv1.0"}},
    {"exit.#.bn1", {[LGVIT] = LGVIT_HEAD "conv1.2|" LGVIT_HEAD "conv.2", [EEVIT] = EEVIT_HEAD "conv1.2",
        [LGVIT_SWIN] = LGVIT_SWIN_HEAD "conv1.2|" LGVIT_SWIN_HEAD "conv.2"}},
    {"exit.#.dw", {[LGVIT] = LGVIT_HEAD "proj", [EEVIT] = EEVIT_HEAD "proj",
        [LGVIT_SWIN] = LGVIT_SWIN_HEAD "proj"}},
    {"exit.#.bn2", {[LGVIT] = LGVIT_HEAD "proj_bn", [EEVIT] = EEVIT_HEAD "proj_bn",
        [LGVIT_SWIN] = LGVIT_SWIN_HEAD "proj_bn"}},
    {"exit.#.conv2", {[LGVIT] = LGVIT_HEAD "conv2.0", [EEVIT] = EEVIT_HEAD "conv2.0",
        [LGVIT_SWIN] = LGVIT_SWIN_HEAD "conv2.0"}},
    {"exit.#.bn3", {[LGVIT] = LGVIT_HEAD "conv2.1", [EEVIT] = EEVIT_HEAD "conv2.1",
        [LGVIT_SWIN] = LGVIT_SWIN_HEAD "conv2.1"}},
    /* conv_normal: (C,C,3,3) */
    {"exit.#.conv", {[LGVIT] = LGVIT_HEAD "conv.0", [LGVIT_SWIN] = LGVIT_SWIN_HEAD "conv.0"}},
    /* attention_r: (3C,C) without bias, (C,C), (C); self_attention: with the bias that the backbone has */
    {"exit.#.attn.qkv", {
        [LGVIT] = LGVIT_HEAD "qkv|" LGVIT_HEAD "attention.{query,key,value}", [EEVIT] = EEVIT_HEAD "qkv",
        [LGVIT_SWIN] = LGVIT_SWIN_HEAD "qkv|" LGVIT_SWIN_HEAD "attention.{query,key,value}"}},
    {"exit.#.attn.proj", {[LGVIT] = LGVIT_HEAD "proj|" LGVIT_HEAD "output.dense", [EEVIT] = EEVIT_HEAD "proj",
        [LGVIT_SWIN] = LGVIT_SWIN_HEAD "proj|" LGVIT_SWIN_HEAD "output.dense"}},
    /* dummy_mlp: (10,C), (C,10) */
    {"exit.#.fc1", {[EEVIT] = EEVIT_HEAD "layer1"}},
    {"exit.#.fc2", {[EEVIT] = EEVIT_HEAD "layer2"}},
    /* vit: a block, then the tensors of linear */
    {"exit.#.blk.norm1", {[LGVIT] = LGVIT_LAYER "layernorm_before",
        [LGVIT_SWIN] = LGVIT_SWIN_LAYER "layernorm_before"}},
    {"exit.#.blk.attn.qkv", {[LGVIT] = LGVIT_LAYER "attention.attention.{query,key,value}",
        [LGVIT_SWIN] = LGVIT_SWIN_LAYER "attention.attention.{query,key,value}"}},
    {"exit.#.blk.attn.proj", {[LGVIT] = LGVIT_LAYER "attention.output.dense",
        [LGVIT_SWIN] = LGVIT_SWIN_LAYER "attention.output.dense"}},
    {"exit.#.blk.norm2", {[LGVIT] = LGVIT_LAYER "layernorm_after",
        [LGVIT_SWIN] = LGVIT_SWIN_LAYER "layernorm_after"}},
    {"exit.#.blk.mlp.fc1", {[LGVIT] = LGVIT_LAYER "intermediate.dense",
        [LGVIT_SWIN] = LGVIT_SWIN_LAYER "intermediate.dense"}},
    {"exit.#.blk.mlp.fc2", {[LGVIT] = LGVIT_LAYER "output.dense",
        [LGVIT_SWIN] = LGVIT_SWIN_LAYER "output.dense"}},
    /* linear: (C,C), (C); of a distilled model and on a Swin (C), which there all heads have */
    {"exit.#.pool", {[LGVIT] = LGVIT_EXIT "pooler.dense|" LGVIT_EXIT "classifier.pooler.dense"}},
    {"exit.#.norm", {[LGVIT] = LGVIT_EXIT "layernorm|" LGVIT_EXIT "classifier.layernorm",
        [LGVIT_SWIN] = LGVIT_SWIN_EXIT "classifier.layernorm|" LGVIT_SWIN_EXIT "layernorm"}},
    /* (K,C), (K) of LGViT's and EEVIT's heads; the second spelling is vit's */
    {"exit.#.head.cls", {
        [LGVIT] = LGVIT_EXIT "classifier|" LGVIT_EXIT "classifier.classifier",
        [LGVIT_TWO] = LGVIT_EXIT "cls_classifier|" LGVIT_EXIT "classifier.cls_classifier",
        [EEVIT] = "transformer.layers.^.highway.classifier.classifier",
        [LGVIT_SWIN] = LGVIT_SWIN_EXIT "classifier.classifier|" LGVIT_SWIN_EXIT "classifier"}},
    {"exit.#.head.dist", {
        [LGVIT] = LGVIT_EXIT "distillation_classifier|" LGVIT_EXIT "classifier.distillation_classifier"}},
    {0},
};
/* clang-format on */

/* fnmatch(3) patterns. Poolers, mask tokens and the second final norm of LGViT's Swin belong to training; transformers'
 * own classes do not read them. A shift mask follows from the grid. */
static const char *const unused[] = {"@.pooler.dense.*",
                                     "@.embeddings.mask_token",
                                     "mask_token",
                                     "*.num_batches_tracked",
                                     "layers.*.blocks.*.attn_mask",
                                     "layernorm.*",
                                     NULL};

/* "blk.3.attn.qkv" -> "blk.#.attn.qkv" and "3". A canonical name holds one index at most. */
static void split_index(const char *base, size_t n, char *generic, char *index) {
    size_t n_generic = 0, n_index = 0;
    for (size_t i = 0; i < n; i++) {
        bool starts = i > 0 && base[i - 1] == '.' && isdigit((unsigned char)base[i]);
        if (!starts) {
            generic[n_generic++] = base[i];
            continue;
        }
        while (i < n && isdigit((unsigned char)base[i]))
            index[n_index++] = base[i++];
        generic[n_generic++] = '#';
        i--;
    }
    generic[n_generic] = index[n_index] = '\0';
}

/* Length of the name without ".weight" and its like. */
static size_t base_length(const char *name) {
    static const char *const suffixes[] = {".weight", ".bias", ".running_mean", ".running_var"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        size_t n_suffix = strlen(suffixes[i]);
        if (n > n_suffix && strcmp(name + n - n_suffix, suffixes[i]) == 0)
            return n - n_suffix;
    }
    return n;
}

/* The row's pattern in this naming, NULL: none. */
static const char *find_pattern(const struct ees__names *names, const char *generic) {
    for (const struct row *row = table; row->canonical; row++) {
        if (strcmp(row->canonical, generic) != 0)
            continue;
        for (unsigned naming = names->naming;; naming = base_of[naming])
            if (row->name[naming] || naming == base_of[naming])
                return row->name[naming];
    }
    return NULL;
}

/* A name under construction. */
struct text {
    char *out;
    size_t n;
    bool too_long;
};

static void put(struct text *t, const char *piece, size_t n) {
    t->too_long |= t->n + n >= EES__MAX_TENSOR_NAME;
    if (t->too_long)
        return;
    memcpy(t->out + t->n, piece, n);
    t->out[t->n += n] = '\0';
}

static void put_text(struct text *t, const char *piece) { put(t, piece, strlen(piece)); }

static void put_number(struct text *t, unsigned number) {
    char digits[12];
    snprintf(digits, sizeof digits, "%u", number);
    put_text(t, digits);
}

/* What index # of a canonical name stands for. */
struct place {
    unsigned block;           /* the 0-based block, of an exit the one in front of it */
    unsigned stage, in_stage; /* what {s} and {b} are */
    bool any_stage;           /* the layout is not known */
};

static unsigned find_stage(const struct ees__layout *layout, unsigned block, unsigned *first) {
    unsigned stage = 0;
    *first = 0;
    for (; layout && stage + 1 < layout->n_stages && block >= *first + layout->stages[stage].n_blocks; stage++)
        *first += (unsigned)layout->stages[stage].n_blocks;
    return stage;
}

static void find_exit(const struct ees__layout *layout, unsigned exit_idx, struct place *out) {
    unsigned first;
    out->any_stage = !layout || exit_idx >= layout->n_exits;
    out->in_stage = exit_idx;
    if (out->any_stage)
        return;
    out->block = layout->exits[exit_idx].after_block - 1;
    out->stage = find_stage(layout, out->block, &first);
    out->in_stage = 0;
    for (unsigned i = 0; i < exit_idx; i++)
        out->in_stage += layout->exits[i].after_block > first;
}

static struct place find_place(const struct ees__names *names, const char *generic, const char *index) {
    unsigned number = 0, first;
    struct place place = {0};
    sscanf(index, "%u", &number);
    if (strncmp(generic, "exit.", 5) == 0) {
        find_exit(names->layout, number, &place);
    } else if (strncmp(generic, "merge.", 6) == 0) {
        place.stage = number;
    } else {
        place.stage = find_stage(names->layout, number, &first);
        place.in_stage = number - first;
    }
    return place;
}

/* What stands in for {s}, {b}, {2s+1}. @return false: `p` opens no such thing */
static bool put_place(struct text *t, const struct place *place, const char *p) {
    unsigned factor = 1, term = 0;
    char *end = (char *)p + 1;
    if (isdigit((unsigned char)*end))
        factor = (unsigned)strtoul(end, &end, 10);
    char letter = *end++;
    if (*end == '+')
        term = (unsigned)strtoul(end + 1, &end, 10);
    if ((letter != 's' && letter != 'b') || *end != '}')
        return false;
    if (letter == 's' && place->any_stage)
        put_text(t, "*");
    else
        put_number(t, factor * (letter == 's' ? place->stage : place->in_stage) + term);
    return true;
}

/* The k-th text between braces; NULL: there is none. */
static const char *find_choice(const char *open, unsigned k, size_t *n) {
    for (const char *start = open + 1;; k--) {
        *n = strcspn(start, ",}");
        if (k == 0)
            return start;
        if (start[*n] == '}')
            return NULL;
        start += *n + 1;
    }
}

/* @return false: the pattern has no part k, or the name is too long */
static bool expand_part(const struct ees__names *names, const char *pattern, size_t n, unsigned k, const char *index,
                        const struct place *place, const char *suffix, char out[EES__MAX_TENSOR_NAME]) {
    struct text t = {.out = out};
    bool joined = false, has_choice = false;
    for (const char *p = pattern; p < pattern + n; p++) {
        const char *choice;
        size_t n_choice;
        switch (*p) {
        case '@':
            put_text(&t, names->prefix);
            break;
        case '#':
            put_text(&t, index);
            break;
        case '^':
            put_number(&t, place->block);
            break;
        case '~':
            put_text(&t, *suffix ? suffix + 1 : "");
            joined = true;
            break;
        case '{':
            if (!put_place(&t, place, p)) {
                if (!(choice = find_choice(p, k, &n_choice)))
                    return false;
                put(&t, choice, n_choice);
                has_choice = true;
            }
            p = strchr(p, '}');
            break;
        default:
            put(&t, p, 1);
        }
    }
    if (!joined)
        put_text(&t, suffix);
    return !t.too_long && (k == 0 || has_choice);
}

unsigned ees__names_expand(const struct ees__names *names, const char *canonical, unsigned alternative,
                           char parts[EES__MAX_PARTS][EES__MAX_TENSOR_NAME]) {
    char generic[EES__MAX_TENSOR_NAME], index[EES__MAX_TENSOR_NAME];
    size_t n_base = base_length(canonical);
    if (n_base >= EES__MAX_TENSOR_NAME)
        return 0;
    split_index(canonical, n_base, generic, index);
    const char *pattern = find_pattern(names, generic);
    if (!pattern)
        return alternative == 0 && snprintf(parts[0], EES__MAX_TENSOR_NAME, "%s", canonical) < EES__MAX_TENSOR_NAME;
    for (; alternative > 0; alternative--) {
        pattern += strcspn(pattern, "|");
        if (*pattern++ == '\0')
            return 0;
    }
    const struct place place = find_place(names, generic, index);
    unsigned n = 0;
    while (n < EES__MAX_PARTS &&
           expand_part(names, pattern, strcspn(pattern, "|"), n, index, &place, canonical + n_base, parts[n]))
        n++;
    return n;
}

/* Replace a name with '*' by the file's. */
static bool is_there(const ees_tensors *tensors, char name[EES__MAX_TENSOR_NAME]) {
    if (!strchr(name, '*'))
        return ees_tensors_find(tensors, name);
    for (size_t i = 0; i < ees_tensors_count(tensors); i++) {
        const char *candidate = ees_tensors_at(tensors, i)->name;
        if (strlen(candidate) < EES__MAX_TENSOR_NAME && fnmatch(name, candidate, 0) == 0) {
            memcpy(name, candidate, strlen(candidate) + 1);
            return true;
        }
    }
    return false;
}

unsigned ees__names_locate(const struct ees__names *names, const ees_tensors *tensors, const char *canonical,
                           char parts[EES__MAX_PARTS][EES__MAX_TENSOR_NAME], bool *found) {
    *found = true;
    for (unsigned alternative = 0;; alternative++) {
        unsigned n = ees__names_expand(names, canonical, alternative, parts);
        if (n == 0)
            break;
        if (!is_there(tensors, parts[0]))
            continue;
        for (unsigned i = 1; i < n; i++)
            is_there(tensors, parts[i]);
        return n;
    }
    *found = false;
    return ees__names_expand(names, canonical, 0, parts);
}

bool ees__names_unused(const struct ees__names *names, const char *tensor) {
    for (const char *const *pattern = unused; *pattern; pattern++) {
        char name[EES__MAX_TENSOR_NAME];
        const struct place place = {0};
        if (expand_part(names, *pattern, strlen(*pattern), 0, "", &place, "", name) && fnmatch(name, tensor, 0) == 0)
            return true;
    }
    return false;
}
