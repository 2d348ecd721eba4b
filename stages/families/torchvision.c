/* SPDX-License-Identifier: MIT */
/* torchvision's `VisionTransformer` (spec 3.1). torchvision writes no config: config.json holds the constructor's
 * arguments under "args", and what it leaves out is measured on the tensors. Preprocessing is that of ViT-B/16's first
 * weights (spec 2.1). */
#include "stages/family.h"

static const struct ees__vit_keys keys = {
    .image_size = "image_size",
    .patch_size = "patch_size",
    .n_colours = "num_channels",
    .n_channels = "hidden_dim",
    .n_heads = "num_heads",
    .mlp_width = "mlp_dim",
    .n_blocks = "num_layers",
};

static int read_config(const struct ees__source *source, struct ees__config *config, ees_error *err) {
    struct ees__dims *d = &config->dims;
    json_t *object = ees__json_get(source->json, "args");
    if (object && !json_is_object(object))
        return EES_JSON_REFUSE(source->json, "args", object, err, "an object");
    struct ees__json args = ees__json_child(source->json, "args", object);
    EES_TRY(ees__config_measure(source, config, err));
    EES_TRY(ees__config_read_sizes(&args, &keys, config, err));
    EES_TRY(ees__json_size(&args, "num_classes", 1, EES__MAX_CLASSES, d->n_classes, &d->n_classes, err));
    EES_TRY(ees__json_real(source->json, "layer_norm_eps", 0.0, 1.0, 1e-6, &d->norm_eps, err));
    d->table_filter = EES__TABLE_CUBIC_CORNERS;
    return ees__config_read_early_exits(source->json, config, err);
}

const struct ees__family ees__family_torchvision_vit = {
    .name = "torchvision-vit",
    .markers = {"blk.0.attn.qkv.weight"},
    .naming = EES__NAMES_TORCHVISION,
    .read_config = read_config,
    .preproc = {.crop_share = 0.875,
                .keep_aspect = true,
                .half_even = true,
                .filter = EES__FILTER_BILINEAR,
                .mean = EES_IMAGENET_MEAN,
                .std = EES_IMAGENET_STD},
};
