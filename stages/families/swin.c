/* SPDX-License-Identifier: MIT */
/* Swin as Hugging Face (`SwinForImageClassification`), timm (`SwinTransformer`; older releases and Microsoft's own
 * files count merges otherwise) and torchvision (`SwinTransformer`) write it down (spec 1.4, 3.2, 4.3). Hugging Face's
 * config says all; of the others sizes are measured on the tensors, and the constructor's arguments add the rest. */
#include <string.h>

#include "stages/blocks/blocks.h"
#include "stages/families/timm.h"

static int read_hf(const struct ees__source *source, struct ees__config *config, ees_error *err) {
    EES_TRY(ees__config_check_architecture(source, err));
    EES_TRY(ees__config_read_hf_swin(source->json, config, err));
    return ees__config_read_early_exits(source->json, config, err);
}

/* ---- timm ----------------------------------------------------------------------------------------------- */

static const struct ees__swin_keys timm_keys = {
    .image_size = "img_size",
    .patch_size = "patch_size",
    .n_colours = "in_chans",
    .n_channels = "embed_dim",
    .depths = "depths",
    .n_heads = "num_heads",
    .window = "window_size",
    .mlp_ratio = "mlp_ratio",
};

/* Variants that are not computed here. */
static int check_timm(const struct ees__json *json, const struct ees__json *args, ees_error *err) {
    const char *pool;
    bool always;
    EES_TRY(ees__json_text(json, "global_pool", "avg", &pool, err));
    if (strcmp(pool, "avg") != 0)
        return EES_JSON_REFUSE(json, "global_pool", ees__json_get(json, "global_pool"), err, "\"avg\"");
    EES_TRY(ees__json_bool(args, "always_partition", false, &always, err));
    if (always)
        return EES_JSON_REFUSE(args, "always_partition", ees__json_get(args, "always_partition"), err, "false");
    if (ees__json_get(args, "head_dim"))
        return EES_JSON_REFUSE(args, "head_dim", ees__json_get(args, "head_dim"), err, "null");
    return 0;
}

static int read_timm_as(const struct ees__source *source, enum ees__window_fit fit, struct ees__config *config,
                        ees_error *err) {
    const struct ees__json args = ees__timm_child(source->json, "model_args");
    const struct ees__json pretrained = ees__timm_child(source->json, "pretrained_cfg");
    struct ees__dims *d = &config->dims;
    EES_TRY(check_timm(source->json, &args, err));
    EES_TRY(ees__config_measure_swin(source, config, err));
    d->window.fit = fit;
    d->window.rolls_first = true;
    d->image_h = d->image_w = 224;
    EES_TRY(ees__timm_read_input_size(&pretrained, d, err));
    EES_TRY(ees__config_read_swin(&args, &timm_keys, config, err));
    EES_TRY(ees__json_size(source->json, "num_classes", 1, EES__MAX_CLASSES, d->n_classes, &d->n_classes, err));
    EES_TRY(ees__json_size(&args, "num_classes", 1, EES__MAX_CLASSES, d->n_classes, &d->n_classes, err));
    EES_TRY(ees__timm_read_rule(source->json, &config->preproc_rule, err));
    return ees__config_read_early_exits(source->json, config, err);
}

static int read_timm(const struct ees__source *source, struct ees__config *config, ees_error *err) {
    return read_timm_as(source, EES__FIT_EACH_SIDE, config, err);
}

static int read_timm_old(const struct ees__source *source, struct ees__config *config, ees_error *err) {
    return read_timm_as(source, EES__FIT_SHORTER_SIDE, config, err);
}

/* ---- torchvision ---------------------------------------------------------------------------------------- */

/* Weights of Swin-T, -S and -B were made with pictures of 232, 246 and 238 pixels. */
static double torchvision_share(const struct ees__config *config) {
    if (config->dims.n_channels >= 128)
        return 224.0 / 238.0;
    return 224.0 / (config->dims.n_blocks > 12 ? 246.0 : 232.0);
}

static int read_torchvision(const struct ees__source *source, struct ees__config *config, ees_error *err) {
    struct ees__dims *d = &config->dims;
    json_t *object = ees__json_get(source->json, "args");
    if (object && !json_is_object(object))
        return EES_JSON_REFUSE(source->json, "args", object, err, "an object");
    const struct ees__json args = ees__json_child(source->json, "args", object);
    EES_TRY(ees__config_measure_swin(source, config, err));
    d->window.fit = EES__FIT_PAD;
    EES_TRY(ees__config_read_swin(&args, &ees__swin_keys, config, err));
    if (d->image_h == 0)
        d->image_h = d->image_w = d->patch > 224 ? d->patch : 224 / d->patch * d->patch;
    EES_TRY(ees__json_size(&args, "num_classes", 1, EES__MAX_CLASSES, d->n_classes, &d->n_classes, err));
    EES_TRY(ees__json_real(source->json, "layer_norm_eps", 0.0, 1.0, 1e-5, &d->norm_eps, err));
    config->preproc_rule.crop_share = torchvision_share(config);
    return ees__config_read_early_exits(source->json, config, err);
}

/* ---- families ------------------------------------------------------------------------------------------- */

const struct ees__family ees__family_hf_swin = {
    .name = "hf-swin",
    .model_type = "swin",
    .architecture = "SwinForImageClassification",
    .markers = {"embed.norm.weight"},
    .naming = EES__NAMES_SWIN,
    .prefix = "swin",
    .backbone = &ees__backbone_swin,
    .read_config = read_hf,
    .preproc = {.crop_share = 1.0, .filter = EES__FILTER_BICUBIC, .mean = EES_IMAGENET_MEAN, .std = EES_IMAGENET_STD},
};

#define CENTRE_CUT(share)                                                                                              \
    {                                                                                                                  \
        .crop_share = (share), .keep_aspect = true, .half_even = true, .filter = EES__FILTER_BICUBIC,                  \
        .mean = EES_IMAGENET_MEAN, .std = EES_IMAGENET_STD                                                             \
    }

const struct ees__family ees__family_timm_swin = {
    .name = "timm-swin",
    .markers = {"blk.0.attn.rel_bias"},
    .naming = EES__NAMES_TIMM_SWIN,
    .backbone = &ees__backbone_swin,
    .read_config = read_timm,
    .preproc = CENTRE_CUT(0.9),
};

/* Told by the merge behind stage 0, which newer files have in front of stage 1. */
const struct ees__family ees__family_timm_swin_old = {
    .name = "timm-swin-old",
    .markers = {"blk.0.attn.rel_bias", "merge.0.norm.weight"},
    .naming = EES__NAMES_TIMM_SWIN_OLD,
    .backbone = &ees__backbone_swin,
    .read_config = read_timm_old,
    .preproc = CENTRE_CUT(0.9),
};

const struct ees__family ees__family_torchvision_swin = {
    .name = "torchvision-swin",
    .markers = {"blk.0.attn.rel_bias"},
    .naming = EES__NAMES_TORCHVISION_SWIN,
    .backbone = &ees__backbone_swin,
    .read_config = read_torchvision,
    .preproc = CENTRE_CUT(224.0 / 232.0),
};
