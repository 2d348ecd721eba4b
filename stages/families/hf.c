/* SPDX-License-Identifier: MIT */
/* Hugging Face: `ViTForImageClassification`, `DeiTForImageClassification[WithTeacher]`,
 * `Dinov2[WithRegisters]ForImageClassification` (spec 1.1 to 1.3; keys and their class defaults 4.3). Exits may be
 * added to such a folder by the "early_exits" object (4.4) and head tensors under their canonical names. */
#include "stages/family.h"

static int read_vit(const struct ees__source *source, struct ees__config *config, ees_error *err) {
    config->dims = (struct ees__dims){.image_h = 224,
                                      .image_w = 224,
                                      .patch = 16,
                                      .n_channels = 768,
                                      .n_heads = 12,
                                      .mlp_width = 3072,
                                      .n_blocks = 12};
    EES_TRY(ees__config_check_architecture(source, err));
    EES_TRY(ees__config_read_hf(source->json, 1e-12, config, err));
    return ees__config_read_early_exits(source->json, config, err);
}

/* The distillation token is there whether or not it is classified. */
static int read_deit(const struct ees__source *source, struct ees__config *config, ees_error *err) {
    EES_TRY(read_vit(source, config, err));
    config->dims.has_dist = true;
    return 0;
}

static int read_deit_distilled(const struct ees__source *source, struct ees__config *config, ees_error *err) {
    EES_TRY(read_deit(source, config, err));
    config->dims.pool = EES__POOL_CLASS_DIST;
    return 0;
}

/* Width of the MLP: hidden_size times mlp_ratio; a gated one has two thirds of that, rounded up to a multiple of 8
 * (spec 1.3). */
static int read_mlp(const struct ees__json *json, struct ees__dims *d, ees_error *err) {
    double ratio;
    EES_TRY(ees__json_real(json, "mlp_ratio", 0.01, 16.0, 4.0, &ratio, err));
    EES_TRY(ees__json_bool(json, "use_swiglu_ffn", false, &d->swiglu, err));
    d->mlp_width = (size_t)((double)d->n_channels * ratio);
    if (d->swiglu)
        d->mlp_width = ((size_t)((double)d->mlp_width * 2.0 / 3.0) + 7) / 8 * 8;
    if (d->mlp_width < 1 || d->mlp_width > EES__MAX_MLP_WIDTH)
        return EES_JSON_REFUSE(json, "mlp_ratio", ees__json_get(json, "mlp_ratio"), err,
                               "a width from 1 to %d, not %zu", EES__MAX_MLP_WIDTH, d->mlp_width);
    return 0;
}

/* The training's image follows the position table: image_size lies where it was left at its default. */
static int read_dinov2(const struct ees__source *source, struct ees__config *config, ees_error *err) {
    struct ees__dims *d = &config->dims;
    *d = (struct ees__dims){.patch = 14, .n_channels = 768, .n_heads = 12, .n_blocks = 12, .mlp_width = 1};
    EES_TRY(ees__config_check_architecture(source, err));
    EES_TRY(ees__config_read_hf(source->json, 1e-6, config, err));
    EES_TRY(read_mlp(source->json, d, err));
    d->layer_scale = true;
    d->pool = EES__POOL_CLASS_MEAN;
    return ees__config_read_early_exits(source->json, config, err);
}

static int read_dinov2_with_registers(const struct ees__source *source, struct ees__config *config, ees_error *err) {
    EES_TRY(read_dinov2(source, config, err));
    config->dims.table_filter = EES__TABLE_CUBIC_ANTIALIAS;
    return ees__json_size(source->json, "num_register_tokens", 0, 64, 4, &config->dims.n_registers, err);
}

const struct ees__family ees__family_hf_vit = {
    .name = "hf-vit",
    .model_type = "vit",
    .architecture = "ViTForImageClassification",
    .markers = {"embed.cls"},
    .naming = EES__NAMES_HF,
    .prefix = "vit",
    .read_config = read_vit,
    .preproc = {.crop_share = 1.0, .filter = EES__FILTER_BILINEAR, .mean = {0.5, 0.5, 0.5}, .std = {0.5, 0.5, 0.5}},
};

#define DEIT_PREPROC                                                                                                   \
    { .crop_share = 0.875, .filter = EES__FILTER_BICUBIC, .mean = EES_IMAGENET_MEAN, .std = EES_IMAGENET_STD }

const struct ees__family ees__family_hf_deit = {
    .name = "hf-deit",
    .model_type = "deit",
    .architecture = "DeiTForImageClassification",
    .markers = {"embed.cls"},
    .naming = EES__NAMES_HF,
    .prefix = "deit",
    .read_config = read_deit,
    .preproc = DEIT_PREPROC,
};

const struct ees__family ees__family_hf_deit_distilled = {
    .name = "hf-deit-distilled",
    .model_type = "deit",
    .architecture = "DeiTForImageClassificationWithTeacher",
    .markers = {"embed.cls", "head.cls.weight"},
    .naming = EES__NAMES_HF_DISTILLED,
    .prefix = "deit",
    .read_config = read_deit_distilled,
    .preproc = DEIT_PREPROC,
};

#define DINOV2_PREPROC                                                                                                 \
    {                                                                                                                  \
        .crop_share = 0.875, .keep_aspect = true, .filter = EES__FILTER_BICUBIC, .mean = EES_IMAGENET_MEAN,            \
        .std = EES_IMAGENET_STD, .default_side_px = 224                                                                \
    }

const struct ees__family ees__family_hf_dinov2 = {
    .name = "hf-dinov2",
    .model_type = "dinov2",
    .architecture = "Dinov2ForImageClassification",
    .markers = {"embed.cls"},
    .naming = EES__NAMES_HF_DINOV2,
    .prefix = "dinov2",
    .read_config = read_dinov2,
    .preproc = DINOV2_PREPROC,
};

const struct ees__family ees__family_hf_dinov2_with_registers = {
    .name = "hf-dinov2-with-registers",
    .model_type = "dinov2_with_registers",
    .architecture = "Dinov2WithRegistersForImageClassification",
    .markers = {"embed.cls"},
    .naming = EES__NAMES_HF_DINOV2,
    .prefix = "dinov2_with_registers",
    .read_config = read_dinov2_with_registers,
    .preproc = DINOV2_PREPROC,
};
