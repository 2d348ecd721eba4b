/* SPDX-License-Identifier: MIT */
/* timm's `VisionTransformer` and `VisionTransformerDistilled`, and DINOv2 as published (facebookresearch/dinov2), whose
 * names timm kept (spec 3.1). Their configs say little: sizes are measured on the tensors, "model_args" and
 * "pretrained_cfg" of config.json add the rest. */
#include <string.h>

#include "common/fail.h"
#include "stages/families/timm.h"

static const struct ees__vit_keys arg_keys = {
    .image_size = "img_size",
    .patch_size = "patch_size",
    .n_colours = "in_chans",
    .n_channels = "embed_dim",
    .n_heads = "num_heads",
    .n_blocks = "depth",
};

struct ees__json ees__timm_child(const struct ees__json *json, const char *key) {
    json_t *object = ees__json_get(json, key);
    return ees__json_child(json, key, json_is_object(object) ? object : NULL);
}

/* The models whose number of attention heads their width does not tell (timm, vision_transformer.py). */
static void correct_heads(const char *architecture, struct ees__dims *d) {
    static const struct {
        const char *start;
        size_t channels; /* of a head */
    } exceptions[] = {{"vit_base_patch16_gap_", 48}, {"vit_giantopt_", 96}, {"test_vit", 32}};
    for (size_t i = 0; i < sizeof exceptions / sizeof *exceptions; i++)
        if (strncmp(architecture, exceptions[i].start, strlen(exceptions[i].start)) == 0)
            d->n_heads = d->n_channels / exceptions[i].channels;
}

/* Variants that tensors do not tell: another activation, norms behind attention and MLP. */
static int read_activation(const struct ees__json *json, const struct ees__json *args, const char *architecture,
                           struct ees__config *config, ees_error *err) {
    if (strstr(architecture, "quickgelu") || strstr(architecture, "siglip"))
        return EES_JSON_REFUSE(json, "architecture", ees__json_get(json, "architecture"), err,
                               "a model without quick gelu and attention pooling");
    if (strstr(architecture, "_rpn_"))
        return EES_JSON_REFUSE(json, "architecture", ees__json_get(json, "architecture"), err,
                               "a model with norms in front of attention and MLP");
    return ees__config_read_activation(args, "act_layer", config, err);
}

int ees__timm_read_input_size(const struct ees__json *pretrained, struct ees__dims *d, ees_error *err) {
    const json_t *list = ees__json_get(pretrained, "input_size");
    json_int_t h = json_integer_value(json_array_get(list, 1)), w = json_integer_value(json_array_get(list, 2));
    if (!list)
        return 0;
    if (json_array_size(list) != 3 || h < 1 || h > EES__MAX_IMAGE || w < 1 || w > EES__MAX_IMAGE)
        return EES_JSON_REFUSE(pretrained, "input_size", list, err, "[3, height, width], sides from 1 to %d",
                               EES__MAX_IMAGE);
    d->image_h = (size_t)h;
    d->image_w = (size_t)w;
    return 0;
}

static int read_sizes(const struct ees__source *source, struct ees__config *config, ees_error *err) {
    struct ees__json args = ees__timm_child(source->json, "model_args"),
                     pretrained = ees__timm_child(source->json, "pretrained_cfg");
    const char *architecture;
    EES_TRY(ees__json_text(source->json, "architecture", "", &architecture, err));
    EES_TRY(ees__config_measure(source, config, err));
    EES_TRY(read_activation(source->json, &args, architecture, config, err));
    correct_heads(architecture, &config->dims);
    EES_TRY(ees__timm_read_input_size(&pretrained, &config->dims, err));
    EES_TRY(ees__config_read_sizes(&args, &arg_keys, config, err));
    double eps = strstr(architecture, "_clip_") ? 1e-5 : 1e-6;
    EES_TRY(ees__json_real(source->json, "layer_norm_eps", 0.0, 1.0, eps, &config->dims.norm_eps, err));
    size_t *n_classes = &config->dims.n_classes;
    EES_TRY(ees__json_size(source->json, "num_classes", 1, EES__MAX_CLASSES, *n_classes, n_classes, err));
    return ees__json_size(&args, "num_classes", 1, EES__MAX_CLASSES, *n_classes, n_classes, err);
}

/* A mean needs no class token, and is of the patches alone. */
static int read_pool(const struct ees__source *source, struct ees__dims *d, ees_error *err) {
    struct ees__json args = ees__timm_child(source->json, "model_args");
    const char *pool;
    bool with_special;
    EES_TRY(ees__json_text(source->json, "global_pool", "token", &pool, err));
    EES_TRY(ees__json_bool(&args, "pool_include_prefix", false, &with_special, err));
    bool mean = strcmp(pool, "avg") == 0 && !d->has_dist;
    if (mean && with_special)
        return EES_JSON_REFUSE(&args, "pool_include_prefix", ees__json_get(&args, "pool_include_prefix"), err, "false");
    d->bare = mean && !ees__source_find(source, "embed.cls");
    d->pool = EES__POOL_CLASS;
    if (d->has_dist)
        d->pool = EES__POOL_CLASS_DIST;
    else if (mean)
        d->pool = ees__source_find(source, "fc_norm.weight") ? EES__POOL_MEAN_NORM : EES__POOL_NORM_MEAN;
    else if (strcmp(pool, "token") != 0)
        return EES_JSON_REFUSE(source->json, "global_pool", ees__json_get(source->json, "global_pool"), err,
                               "\"token\" or \"avg\"");
    return 0;
}

static int read_filter(const struct ees__json *json, struct ees__preproc_rule *rule, ees_error *err) {
    const char *name, *mode;
    EES_TRY(ees__json_text(json, "interpolation", "bicubic", &name, err));
    bool bicubic = strcmp(name, "bicubic") == 0;
    if (!bicubic && strcmp(name, "bilinear") != 0)
        return EES_JSON_REFUSE(json, "interpolation", ees__json_get(json, "interpolation"), err,
                               "\"bicubic\" or \"bilinear\"");
    rule->filter = bicubic ? EES__FILTER_BICUBIC : EES__FILTER_BILINEAR;
    EES_TRY(ees__json_text(json, "crop_mode", "center", &mode, err));
    rule->keep_aspect = strcmp(mode, "center") == 0;
    if (!rule->keep_aspect && strcmp(mode, "squash") != 0)
        return EES_JSON_REFUSE(json, "crop_mode", ees__json_get(json, "crop_mode"), err, "\"center\" or \"squash\"");
    return 0;
}

int ees__timm_read_rule(const struct ees__json *json, struct ees__preproc_rule *rule, ees_error *err) {
    struct ees__json pretrained = ees__timm_child(json, "pretrained_cfg");
    EES_TRY(ees__json_real(&pretrained, "crop_pct", 0.1, 1.0, rule->crop_share, &rule->crop_share, err));
    EES_TRY(read_filter(&pretrained, rule, err));
    EES_TRY(ees__json_rgb(&pretrained, "mean", -1e6, rule->mean, err));
    return ees__json_rgb(&pretrained, "std", 1e-6, rule->std, err);
}

static int read_timm(const struct ees__source *source, struct ees__config *config, ees_error *err) {
    EES_TRY(read_sizes(source, config, err));
    EES_TRY(read_pool(source, &config->dims, err));
    EES_TRY(ees__timm_read_rule(source->json, &config->preproc_rule, err));
    config->dims.table_filter = EES__TABLE_CUBIC_ANTIALIAS;
    return ees__config_read_early_exits(source->json, config, err);
}

/* The official linear heads read the class token, or [class ; mean of patches] (spec 1.3). */
static int read_dinov2(const struct ees__source *source, struct ees__config *config, ees_error *err) {
    struct ees__dims *d = &config->dims;
    EES_TRY(read_sizes(source, config, err));
    const ees_tensor_info *head = ees__source_find(source, "head.cls.weight");
    bool with_mean = head && head->rank == 2 && head->shape[1] == 2 * d->n_channels;
    if (head && head->rank == 2 && head->shape[1] == 5 * d->n_channels)
        return EES_FAIL(
            err, EES_EMODEL,
            "model.safetensors: tensor '%s' is (%zu,%zu), DINOv2's head of 4 layers, expected one of 1 layer, "
            "(%zu,%zu)",
            head->name, head->shape[0], head->shape[1], head->shape[0], 2 * d->n_channels);
    d->pool = with_mean ? EES__POOL_CLASS_MEAN : EES__POOL_CLASS;
    d->table_filter = d->n_registers ? EES__TABLE_CUBIC_ANTIALIAS : EES__TABLE_CUBIC_SCALED;
    return ees__config_read_early_exits(source->json, config, err);
}

const struct ees__family ees__family_timm = {
    .name = "timm-vit",
    .markers = {"blk.0.attn.qkv.weight"},
    .naming = EES__NAMES_TIMM,
    .read_config = read_timm,
    .preproc = {.crop_share = 0.9,
                .keep_aspect = true,
                .half_even = true,
                .filter = EES__FILTER_BICUBIC,
                .mean = {0.5, 0.5, 0.5},
                .std = {0.5, 0.5, 0.5}},
};

/* Told from timm's by the mask token, which timm drops. */
const struct ees__family ees__family_dinov2 = {
    .name = "dinov2",
    .model_type = "dinov2",
    .markers = {"blk.0.attn.qkv.weight", "embed.mask"},
    .naming = EES__NAMES_TIMM,
    .read_config = read_dinov2,
    .preproc = {.crop_share = 0.875,
                .keep_aspect = true,
                .half_even = true,
                .filter = EES__FILTER_BICUBIC,
                .mean = EES_IMAGENET_MEAN,
                .std = EES_IMAGENET_STD,
                .default_side_px = 224},
};
