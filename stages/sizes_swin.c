/* SPDX-License-Identifier: MIT */
/* Sizes of a Swin (spec 1.4): from config.json or from the shapes of the tensors, then the grid, channels and windows
 * of each stage for an input. Bounds as in stages/sizes.c. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "stages/blocks/blocks.h"
#include "stages/family.h"

/* ---- From config.json ----------------------------------------------------------------------------------- */

const struct ees__swin_keys ees__swin_keys = {
    .image_size = "image_size",
    .patch_size = "patch_size",
    .n_colours = "num_channels",
    .n_channels = "embed_dim",
    .depths = "depths",
    .n_heads = "num_heads",
    .window = "window_size",
    .mlp_ratio = "mlp_ratio",
};

/* A list of one number a stage. The first list that is there tells how many stages there are. */
static int read_list(const struct ees__json *json, const char *key, size_t high, struct ees__config *config,
                     size_t out[EES__MAX_STAGES], unsigned *n_stages, ees_error *err) {
    const json_t *list = ees__json_get(json, key);
    size_t n = json_array_size(list);
    if (!list)
        return 0;
    if (!json_is_array(list) || n < 1 || n > EES__MAX_STAGES)
        return EES_JSON_REFUSE(json, key, list, err, "a list of 1 to %d numbers, one a stage", EES__MAX_STAGES);
    if (*n_stages && *n_stages != n)
        return EES_JSON_REFUSE(json, key, list, err, "%u numbers, one a stage", *n_stages);
    *n_stages = (unsigned)n;
    for (size_t s = 0; s < n; s++) {
        json_int_t value = json_integer_value(json_array_get(list, s));
        if (value < 1 || value > (json_int_t)high)
            return EES_JSON_REFUSE(json, key, list, err, "numbers from 1 to %zu", high);
        out[s] = (size_t)value;
    }
    config->n_stages = *n_stages;
    return 0;
}

static int read_stages(const struct ees__json *json, const struct ees__swin_keys *keys, struct ees__config *config,
                       ees_error *err) {
    size_t depths[EES__MAX_STAGES], heads[EES__MAX_STAGES];
    unsigned n_listed = 0;
    for (unsigned s = 0; s < EES__MAX_STAGES; s++) {
        depths[s] = config->stages[s].n_blocks;
        heads[s] = config->stages[s].n_heads;
    }
    EES_TRY(read_list(json, keys->depths, EES__MAX_BLOCKS, config, depths, &n_listed, err));
    n_listed = config->n_stages;
    EES_TRY(read_list(json, keys->n_heads, EES__MAX_CHANNELS, config, heads, &n_listed, err));
    config->dims.n_blocks = 0;
    for (unsigned s = 0; s < config->n_stages; s++) {
        config->stages[s].n_blocks = depths[s];
        config->stages[s].n_heads = heads[s];
        config->dims.n_blocks += depths[s];
    }
    if (config->dims.n_blocks > EES__MAX_BLOCKS)
        return EES_JSON_REFUSE(json, keys->depths, ees__json_get(json, keys->depths), err, "at most %d blocks, not %zu",
                               EES__MAX_BLOCKS, config->dims.n_blocks);
    return 0;
}

static int read_widths(const struct ees__json *json, const struct ees__swin_keys *keys, struct ees__config *config,
                       ees_error *err) {
    double ratio;
    EES_TRY(ees__json_real(json, keys->mlp_ratio, 0.01, 16.0, 0.0, &ratio, err));
    for (unsigned s = 0; s < config->n_stages && ratio > 0.0; s++) {
        size_t width = (size_t)((double)(config->dims.n_channels << s) * ratio);
        if (width < 1 || width > EES__MAX_MLP_WIDTH)
            return EES_JSON_REFUSE(json, keys->mlp_ratio, ees__json_get(json, keys->mlp_ratio), err,
                                   "a width from 1 to %d in stage %u, not %zu", EES__MAX_MLP_WIDTH, s, width);
        config->stages[s].mlp_width = width;
    }
    return 0;
}

static int check_channels(const struct ees__json *json, const struct ees__swin_keys *keys,
                          const struct ees__config *config, ees_error *err) {
    const json_t *channels = ees__json_get(json, keys->n_channels);
    size_t widest = config->dims.n_channels << (config->n_stages - 1);
    if (widest > EES__MAX_CHANNELS)
        return EES_JSON_REFUSE(json, keys->n_channels, channels, err, "at most %d in the last stage, not %zu",
                               EES__MAX_CHANNELS, widest);
    for (unsigned s = 0; s < config->n_stages; s++)
        if ((config->dims.n_channels << s) % config->stages[s].n_heads)
            return EES_JSON_REFUSE(json, keys->n_heads, ees__json_get(json, keys->n_heads), err,
                                   "divisors of the channels, %zu in stage %u", config->dims.n_channels << s, s);
    return 0;
}

int ees__config_read_swin(const struct ees__json *json, const struct ees__swin_keys *keys, struct ees__config *config,
                          ees_error *err) {
    struct ees__dims *d = &config->dims;
    size_t n_colours, patch_h = d->patch, patch_w = d->patch;
    EES_TRY(ees__config_read_sides(json, keys->image_size, EES__MAX_IMAGE, &d->image_h, &d->image_w, err));
    EES_TRY(ees__config_read_sides(json, keys->patch_size, EES__MAX_IMAGE, &patch_h, &patch_w, err));
    if (patch_h != patch_w)
        return EES_JSON_REFUSE(json, keys->patch_size, ees__json_get(json, keys->patch_size), err, "a square");
    d->patch = patch_h;
    EES_TRY(ees__json_size(json, keys->n_colours, 3, 3, 3, &n_colours, err));
    EES_TRY(ees__json_size(json, keys->n_channels, 1, EES__MAX_CHANNELS, d->n_channels, &d->n_channels, err));
    EES_TRY(read_stages(json, keys, config, err));
    EES_TRY(check_channels(json, keys, config, err));
    EES_TRY(ees__config_read_sides(json, keys->window, EES__MAX_WINDOW, &d->window.h, &d->window.w, err));
    if (d->window.h == 0)
        return EES_JSON_REFUSE(json, keys->window, NULL, err, "one side or [height, width] in tokens");
    return read_widths(json, keys, config, err);
}

int ees__config_read_hf_swin(const struct ees__json *json, struct ees__config *config, ees_error *err) {
    struct ees__dims *d = &config->dims;
    *d = (struct ees__dims){.image_h = 224, .image_w = 224, .patch = 4, .n_channels = 96};
    d->bare = true;
    d->pool = EES__POOL_NORM_MEAN;
    d->pads_rim = true;
    d->window = (struct ees__window){.h = 7, .w = 7, .fit = EES__FIT_SHORTER_SIDE};
    config->n_stages = 4;
    for (unsigned s = 0; s < 4; s++)
        config->stages[s] = (struct ees__stage){.n_blocks = s == 2 ? 6 : 2, .n_heads = (size_t)3 << s};
    EES_TRY(ees__config_read_activation(json, "hidden_act", config, err));
    EES_TRY(ees__json_bool(json, "qkv_bias", true, &d->qkv_bias, err));
    EES_TRY(ees__json_real(json, "layer_norm_eps", 0.0, 1.0, 1e-5, &d->norm_eps, err));
    EES_TRY(ees__json_bool(json, "use_absolute_embeddings", false, &d->absolute_pos, err));
    EES_TRY(ees__config_read_swin(json, &ees__swin_keys, config, err));
    for (unsigned s = 0; s < config->n_stages; s++)
        if (config->stages[s].mlp_width == 0)
            config->stages[s].mlp_width = 4 * (d->n_channels << s);
    return ees__config_read_labels(json, config, err);
}

/* ---- From tensors --------------------------------------------------------------------------------------- */

/* Blocks of one stage after the other, until there are none. */
static void count_blocks(const struct ees__source *source, struct ees__config *config) {
    struct ees__layout layout = {.n_stages = 1, .stages = config->stages};
    struct ees__source laid_out = *source;
    struct ees__dims *d = &config->dims;
    laid_out.layout = &layout;
    for (; layout.n_stages <= EES__MAX_STAGES; layout.n_stages++) {
        size_t *n = &config->stages[layout.n_stages - 1].n_blocks, first = d->n_blocks;
        while (d->n_blocks < EES__MAX_BLOCKS && ees__config_has_block(&laid_out, d->n_blocks))
            d->n_blocks++;
        *n = d->n_blocks - first;
        if (*n == 0)
            break;
    }
    config->n_stages = layout.n_stages - 1;
}

static int measure_stage(const struct ees__source *source, size_t block, struct ees__stage *stage, ees_error *err) {
    char name[40];
    snprintf(name, sizeof name, "blk.%zu.attn.rel_bias", block);
    EES_TRY(ees__config_measure_axis(source, name, 2, 1, EES__MAX_CHANNELS, &stage->n_heads, err));
    snprintf(name, sizeof name, "blk.%zu.mlp.fc2.weight", block);
    return ees__config_measure_axis(source, name, 2, 1, EES__MAX_MLP_WIDTH, &stage->mlp_width, err);
}

/* A square one, of the first block's table: (2M-1)^2 rows. */
static int measure_window(const struct ees__source *source, struct ees__window *window, ees_error *err) {
    enum { MAX_ROWS = (2 * EES__MAX_WINDOW - 1) * (2 * EES__MAX_WINDOW - 1) };
    size_t rows;
    EES_TRY(ees__config_measure_axis(source, "blk.0.attn.rel_bias", 2, 0, MAX_ROWS, &rows, err));
    size_t side = (size_t)lround(sqrt((double)rows));
    if (side * side == rows && side % 2 == 1)
        window->h = window->w = (side + 1) / 2;
    return 0;
}

int ees__config_measure_swin(const struct ees__source *source, struct ees__config *config, ees_error *err) {
    struct ees__dims *d = &config->dims;
    /* On the first block, so that there is one. */
    EES_TRY(ees__config_measure_axis(source, "blk.0.attn.qkv.weight", 2, 1, EES__MAX_CHANNELS, &d->n_channels, err));
    EES_TRY(ees__config_measure_axis(source, "embed.patch.weight", 4, 3, EES__MAX_IMAGE, &d->patch, err));
    EES_TRY(ees__config_measure_axis(source, "head.cls.weight", 2, 0, EES__MAX_CLASSES, &d->n_classes, err));
    EES_TRY(measure_window(source, &d->window, err));
    count_blocks(source, config);
    const struct ees__layout layout = {.n_stages = config->n_stages, .stages = config->stages};
    struct ees__source laid_out = *source;
    laid_out.layout = &layout;
    for (size_t s = 0, block = 0; s < config->n_stages; block += config->stages[s++].n_blocks)
        EES_TRY(measure_stage(&laid_out, block, &config->stages[s], err));
    d->activation = EES__POST_GELU;
    d->qkv_bias = ees__source_find(source, "blk.0.attn.qkv.bias");
    d->absolute_pos = ees__source_find(source, "embed.pos");
    d->bare = true;
    d->pool = EES__POOL_NORM_MEAN;
    d->norm_eps = 1e-5;
    return 0;
}

/* ---- Stages --------------------------------------------------------------------------------------------- */

static size_t shorter_side(const struct ees__dims *d) { return d->grid_h < d->grid_w ? d->grid_h : d->grid_w; }

/* One side of the windows, and its shift. `side` of the grid decides on both. */
static void fit_side(enum ees__window_fit fit, size_t side, size_t *window, size_t *shift) {
    *shift = side <= *window ? 0 : *window / 2;
    if (fit == EES__FIT_EACH_SIDE && side < *window)
        *window = side;
}

/* The windows of a stage whose grid is in d. */
static void fit_window(struct ees__dims *d) {
    struct ees__window *window = &d->window;
    bool shorter = window->fit == EES__FIT_SHORTER_SIDE;
    fit_side(window->fit, shorter ? shorter_side(d) : d->grid_h, &window->h, &window->shift_h);
    fit_side(window->fit, shorter ? shorter_side(d) : d->grid_w, &window->w, &window->shift_w);
}

/* Windows cut to the shorter side would need another table of relative positions than the model has. */
static int check_window(const struct ees__json *json, bool asked, const struct ees__dims *d, unsigned stage,
                        ees_error *err) {
    size_t shorter = shorter_side(d);
    if (d->window.fit != EES__FIT_SHORTER_SIDE || (shorter >= d->window.h && shorter >= d->window.w))
        return 0;
    if (asked)
        return EES_FAIL(err, EES_EINVAL,
                        "an input of %zu x %zu pixels makes a grid of %zu x %zu tokens in stage %u, expected at least "
                        "the window, %zu",
                        d->image_h, d->image_w, d->grid_h, d->grid_w, stage, d->window.h);
    return EES_JSON_REFUSE(json, "window_size", ees__json_get(json, "window_size"), err,
                           "at most %zu: the grid of stage %u is %zu x %zu tokens", shorter, stage, d->grid_h,
                           d->grid_w);
}

/* A merge pads a grid of odd sides. */
static int cut_swin(const struct ees__json *json, bool asked, struct ees__config *config, ees_error *err) {
    size_t h = config->dims.grid_h, w = config->dims.grid_w;
    for (unsigned s = 0; s < config->n_stages; s++, h = (h + 1) / 2, w = (w + 1) / 2) {
        struct ees__dims *d = &config->stage_dims[s];
        *d = config->dims;
        d->grid_h = h;
        d->grid_w = w;
        d->n_patches = d->n_tokens = h * w;
        d->n_channels = config->dims.n_channels << s;
        d->n_heads = config->stages[s].n_heads;
        d->mlp_width = config->stages[s].mlp_width;
        EES_TRY(check_window(json, asked, d, s, err));
        fit_window(d);
    }
    return 0;
}

const struct ees__backbone ees__backbone_swin = {
    .embed = &ees__block_swin_embed,
    .attention = &ees__block_window_attention,
    .mlp = &ees__block_mlp,
    .merge = &ees__block_merge,
    .cut = cut_swin,
};
