/* SPDX-License-Identifier: MIT */
/* Sizes from config.json or from the shapes of the tensors, a ViT's and what is the same in a Swin. Bounds here are
 * what keeps the rest of the loader free of overflow checks: the largest product, tokens x MLP width x 4, stays below
 * 2^40. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "eestream/plan.h"
#include "stages/blocks/blocks.h"
#include "stages/family.h"

_Static_assert(sizeof(size_t) == 8, "sizes of models are computed in 64 bits");

enum { MAX_TOKENS = 1 << 16 };
/* ingest and embed, two halves a block, merges, every exit, final. */
_Static_assert(2 + 2 * EES__MAX_BLOCKS + EES__MAX_STAGES - 1 + EES_MAX_EXITS + 1 <= EES_MAX_UNITS,
               "a chain fits the planner");

const struct ees__vit_keys ees__hf_keys = {
    .image_size = "image_size",
    .patch_size = "patch_size",
    .n_colours = "num_channels",
    .n_channels = "hidden_size",
    .n_heads = "num_attention_heads",
    .mlp_width = "intermediate_size",
    .n_blocks = "num_hidden_layers",
};

/* ---- From config.json ----------------------------------------------------------------------------------- */

int ees__config_read_sides(const struct ees__json *json, const char *key, size_t high, size_t *h, size_t *w,
                           ees_error *err) {
    const json_t *value = ees__json_get(json, key);
    if (!value)
        return 0;
    if (!json_is_array(value)) {
        EES_TRY(ees__json_size(json, key, 1, high, 0, h, err));
        *w = *h;
        return 0;
    }
    json_int_t height = json_integer_value(json_array_get(value, 0));
    json_int_t width = json_integer_value(json_array_get(value, 1));
    if (json_array_size(value) != 2 || height < 1 || height > (json_int_t)high || width < 1 || width > (json_int_t)high)
        return EES_JSON_REFUSE(json, key, value, err, "one side or [height, width], each from 1 to %zu", high);
    *h = (size_t)height;
    *w = (size_t)width;
    return 0;
}

/* One side, or the same twice. */
static int read_patch(const struct ees__json *json, const char *key, struct ees__dims *d, ees_error *err) {
    const json_t *value = ees__json_get(json, key);
    if (!json_is_array(value))
        return ees__json_size(json, key, 1, EES__MAX_IMAGE, d->patch, &d->patch, err);
    json_int_t h = json_integer_value(json_array_get(value, 0)), w = json_integer_value(json_array_get(value, 1));
    if (json_array_size(value) != 2 || h != w || h < 1 || h > EES__MAX_IMAGE)
        return EES_JSON_REFUSE(json, key, value, err, "one side or the same twice, from 1 to %d", EES__MAX_IMAGE);
    d->patch = (size_t)h;
    return 0;
}

/* A key the framework may not have; *size is the default and the result. */
static int read_size(const struct ees__json *json, const char *key, size_t high, size_t *size, ees_error *err) {
    return key ? ees__json_size(json, key, 1, high, *size, size, err) : 0;
}

int ees__config_read_sizes(const struct ees__json *json, const struct ees__vit_keys *keys, struct ees__config *config,
                           ees_error *err) {
    struct ees__dims *d = &config->dims;
    size_t n_colours;
    EES_TRY(ees__config_read_sides(json, keys->image_size, EES__MAX_IMAGE, &d->image_h, &d->image_w, err));
    EES_TRY(read_patch(json, keys->patch_size, d, err));
    EES_TRY(ees__json_size(json, keys->n_colours, 3, 3, 3, &n_colours, err));
    EES_TRY(read_size(json, keys->n_channels, EES__MAX_CHANNELS, &d->n_channels, err));
    EES_TRY(read_size(json, keys->n_heads, EES__MAX_CHANNELS, &d->n_heads, err));
    if (d->n_heads == 0)
        return EES_JSON_REFUSE(json, keys->n_heads, NULL, err, "a divisor of the %zu channels", d->n_channels);
    if (d->n_channels % d->n_heads)
        return EES_JSON_REFUSE(json, keys->n_channels, ees__json_get(json, keys->n_channels), err,
                               "a multiple of '%s' (%zu)", keys->n_heads, d->n_heads);
    EES_TRY(read_size(json, keys->mlp_width, EES__MAX_MLP_WIDTH, &d->mlp_width, err));
    return read_size(json, keys->n_blocks, EES__MAX_BLOCKS, &d->n_blocks, err);
}

int ees__config_read_activation(const struct ees__json *json, const char *key, struct ees__config *config,
                                ees_error *err) {
    static const struct {
        const char *name;
        enum ees__post_op activation;
    } known[] = {
        {"gelu", EES__POST_GELU},
        {"gelu_new", EES__POST_GELU_TANH},
        {"gelu_pytorch_tanh", EES__POST_GELU_TANH},
        {"gelu_fast", EES__POST_GELU_TANH},
        {"gelu_tanh", EES__POST_GELU_TANH},
        {"relu", EES__POST_RELU},
        {"silu", EES__POST_SILU},
        {"swish", EES__POST_SILU},
    };
    const char *name;
    EES_TRY(ees__json_text(json, key, "gelu", &name, err));
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i].name) == 0) {
            config->dims.activation = known[i].activation;
            return 0;
        }
    return EES_JSON_REFUSE(
        json, key, ees__json_get(json, key), err,
        "\"gelu\", a tanh form of it (\"gelu_new\", \"gelu_pytorch_tanh\", \"gelu_fast\", \"gelu_tanh\"), "
        "\"relu\" or \"silu\"");
}

/* transformers resampled position tables by the factor (new + 0.1) / old until 4.44 and to the new size from 4.45 on
 * (its pull request 33226). A config without a version is taken for a new one (spec 1.5). */
static int read_table_filter(const struct ees__json *json, struct ees__config *config, ees_error *err) {
    const char *version;
    unsigned major, minor;
    EES_TRY(ees__json_text(json, "transformers_version", "", &version, err));
    bool old = sscanf(version, "%u.%u", &major, &minor) == 2 && (major < 4 || (major == 4 && minor < 45));
    config->dims.table_filter = old ? EES__TABLE_CUBIC_SCALED : EES__TABLE_CUBIC;
    return 0;
}

int ees__config_read_hf(const struct ees__json *json, double eps, struct ees__config *config, ees_error *err) {
    EES_TRY(ees__config_read_sizes(json, &ees__hf_keys, config, err));
    EES_TRY(ees__json_bool(json, "qkv_bias", true, &config->dims.qkv_bias, err));
    EES_TRY(ees__json_real(json, "layer_norm_eps", 0.0, 1.0, eps, &config->dims.norm_eps, err));
    EES_TRY(ees__config_read_activation(json, "hidden_act", config, err));
    EES_TRY(read_table_filter(json, config, err));
    return ees__config_read_labels(json, config, err);
}

/* ---- From tensors --------------------------------------------------------------------------------------- */

int ees__config_measure_axis(const struct ees__source *source, const char *canonical, unsigned rank, unsigned axis,
                             size_t high, size_t *out, ees_error *err) {
    const ees_tensor_info *info = ees__source_find(source, canonical);
    char parts[EES__MAX_PARTS][EES__MAX_TENSOR_NAME];
    const struct ees__names names = ees__family_names(source->family, source->layout);
    if (!info) {
        ees__names_expand(&names, canonical, 0, parts);
        return EES_FAIL(err, EES_EMODEL, "model.safetensors: tensor '%s' is missing", parts[0]);
    }
    if (info->rank != rank)
        return EES_FAIL(err, EES_EMODEL, "model.safetensors: tensor '%s' has %u axes, expected %u", info->name,
                        info->rank, rank);
    if (info->shape[axis] < 1 || info->shape[axis] > high)
        return EES_FAIL(err, EES_EMODEL, "model.safetensors: tensor '%s' has %zu for axis %u, expected 1 to %zu",
                        info->name, info->shape[axis], axis, high);
    *out = info->shape[axis];
    return 0;
}

bool ees__config_has_block(const struct ees__source *source, size_t block) {
    static const char *const leaves[] = {"norm1.weight", "attn.qkv.weight", "mlp.fc2.weight"};
    char name[40];
    for (size_t i = 0; i < sizeof leaves / sizeof *leaves; i++) {
        snprintf(name, sizeof name, "blk.%zu.%s", block, leaves[i]);
        if (ees__source_find(source, name))
            return true;
    }
    return false;
}

/* Heads have 64 channels, but for the widths that only huge models have: ViT-H, g, G and so400m have 16 heads. */
static size_t guess_heads(size_t n_channels) {
    static const size_t huge[] = {1152, 1280, 1408, 1664};
    for (size_t i = 0; i < sizeof huge / sizeof *huge; i++)
        if (n_channels == huge[i])
            return 16;
    return n_channels % 64 == 0 ? n_channels / 64 : 0;
}

int ees__config_measure(const struct ees__source *source, struct ees__config *config, ees_error *err) {
    struct ees__dims *d = &config->dims;
    EES_TRY(ees__config_measure_axis(source, "embed.patch.weight", 4, 0, EES__MAX_CHANNELS, &d->n_channels, err));
    EES_TRY(ees__config_measure_axis(source, "embed.patch.weight", 4, 3, EES__MAX_IMAGE, &d->patch, err));
    EES_TRY(ees__config_measure_axis(source, "head.cls.weight", 2, 0, EES__MAX_CLASSES, &d->n_classes, err));
    d->swiglu = !ees__source_find(source, "blk.0.mlp.fc2.weight");
    EES_TRY(ees__config_measure_axis(source, d->swiglu ? "blk.0.mlp.w3.weight" : "blk.0.mlp.fc2.weight", 2, 1,
                                     EES__MAX_MLP_WIDTH, &d->mlp_width, err));
    const ees_tensor_info *wide = ees__source_find(source, "blk.0.mlp.w12.weight");
    d->swiglu |= wide && wide->rank == 2 && wide->shape[0] == 2 * d->mlp_width; /* timm calls both kinds fc1, fc2 */
    if (ees__source_find(source, "embed.reg"))
        EES_TRY(ees__config_measure_axis(source, "embed.reg", 3, 1, MAX_TOKENS, &d->n_registers, err));
    while (d->n_blocks < EES__MAX_BLOCKS && ees__config_has_block(source, d->n_blocks))
        d->n_blocks++;
    d->activation = EES__POST_GELU;
    d->has_dist = ees__source_find(source, "embed.dist");
    d->layer_scale = ees__source_find(source, "blk.0.ls1");
    d->pre_norm = ees__source_find(source, "embed.norm.weight");
    d->qkv_bias = ees__source_find(source, "blk.0.attn.qkv.bias");
    d->qk_norm = ees__source_find(source, "blk.0.attn.q_norm.weight");
    d->pooler = ees__source_find(source, "pool.weight");
    d->n_heads = guess_heads(d->n_channels);
    return 0;
}

/* ---- Grids ---------------------------------------------------------------------------------------------- */

static bool fits(struct ees__dims *d, size_t h, size_t w, size_t special, size_t n_rows) {
    if (h == 0 || w == 0 || special + h * w != n_rows)
        return false;
    d->table_h = h;
    d->table_w = w;
    d->table_special = special;
    return true;
}

static bool fits_square(struct ees__dims *d, size_t special, size_t n_rows) {
    size_t side = n_rows > special ? (size_t)lround(sqrt((double)(n_rows - special))) : 0;
    return fits(d, side, side, special, n_rows);
}

/* A table of n_rows is of the config's grid or of a square one, behind rows of special tokens. timm may keep none for
 * them, or rows for registers, too; Hugging Face's DINOv2 takes every table for a square. */
static bool find_grid(struct ees__dims *d, enum ees__naming naming, size_t n_rows) {
    const size_t specials[] = {d->n_special - d->n_registers, 0, d->n_special};
    size_t n = naming == EES__NAMES_TIMM ? 3 : 1, h = d->image_h / d->patch, w = d->image_w / d->patch;
    if (naming == EES__NAMES_HF_DINOV2 && fits_square(d, specials[0], n_rows))
        return true;
    for (size_t i = 0; i < n; i++)
        if (fits(d, h, w, specials[i], n_rows))
            return true;
    for (size_t i = 0; i < n; i++)
        if (fits_square(d, specials[i], n_rows))
            return true;
    return false;
}

int ees__config_find_table(const struct ees__source *source, struct ees__config *config, ees_error *err) {
    struct ees__dims *d = &config->dims;
    const ees_tensor_info *info = ees__source_find(source, "embed.pos");
    size_t special = !d->bare + d->has_dist, n_rows = info && info->rank == 3 ? info->shape[1] : 0;
    d->n_special = special + d->n_registers;
    if (n_rows > MAX_TOKENS)
        n_rows = 0;
    if (!find_grid(d, source->family->naming, n_rows)) {
        if (d->image_h == 0)
            return EES_FAIL(
                err, EES_EMODEL,
                "model.safetensors: the position table has %zu rows, expected %zu and a square, or an image "
                "size in config.json",
                n_rows, special);
        d->table_h = d->image_h / d->patch; /* reading the table tells what is wrong */
        d->table_w = d->image_w / d->patch;
        d->table_special = special;
    }
    if (d->image_h == 0) {
        d->image_h = d->table_h * d->patch;
        d->image_w = d->table_w * d->patch;
    }
    return 0;
}

int ees__config_set_input(const struct ees__json *json, size_t h, size_t w, bool asked, struct ees__config *config,
                          ees_error *err) {
    struct ees__dims *d = &config->dims;
    bool holds_a_patch = h >= d->patch && w >= d->patch;
    if (!holds_a_patch && asked)
        return EES_FAIL(err, EES_EINVAL,
                        "an input of %zu x %zu pixels is asked for, expected at least one patch, %zu x %zu", h, w,
                        d->patch, d->patch);
    if (!holds_a_patch)
        return EES_JSON_REFUSE(json, "patch_size", ees__json_get(json, "patch_size"), err,
                               "at most 'image_size' (%zu x %zu)", h, w);
    d->image_h = h;
    d->image_w = w;
    size_t added = d->pads_rim ? d->patch - 1 : 0;
    d->grid_h = (h + added) / d->patch;
    d->grid_w = (w + added) / d->patch;
    d->n_patches = d->grid_h * d->grid_w;
    d->n_tokens = d->n_special + d->n_patches;
    if (d->n_tokens > MAX_TOKENS && asked)
        return EES_FAIL(err, EES_EINVAL, "an input of %zu x %zu pixels makes %zu tokens, expected at most %d", h, w,
                        d->n_tokens, MAX_TOKENS);
    if (d->n_tokens > MAX_TOKENS)
        return EES_JSON_REFUSE(json, "image_size", ees__json_get(json, "image_size"), err,
                               "at most %d tokens, these are %zu", MAX_TOKENS, d->n_tokens);
    return config->backbone->cut(json, asked, config, err);
}

/* One stage. */
static int cut_vit(const struct ees__json *json, bool asked, struct ees__config *config, ees_error *err) {
    const struct ees__dims *d = &config->dims;
    config->n_stages = 1;
    config->stages[0] = (struct ees__stage){d->n_blocks, d->n_heads, d->mlp_width};
    config->stage_dims[0] = *d;
    return 0;
}

const struct ees__backbone ees__backbone_vit = {
    .embed = &ees__block_embed,
    .attention = &ees__block_attention,
    .mlp = &ees__block_mlp,
    .cut = cut_vit,
};
