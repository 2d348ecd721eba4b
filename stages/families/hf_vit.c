/* SPDX-License-Identifier: MIT */
/* Hugging Face `ViTForImageClassification`. Names: spec 3.1; keys: 4.3; preprocessing: 2.1. Exits may be added to such
 * a folder by the "early_exits" object (4.4) and head tensors under their canonical names. */
#include "stages/family.h"

static const struct ees__name_rule names[] = {
    {"embed.patch", {"vit.embeddings.patch_embeddings.projection"}},
    {"embed.cls", {"vit.embeddings.cls_token"}},
    {"embed.pos", {"vit.embeddings.position_embeddings"}},
    {"blk.#.norm1", {"vit.encoder.layer.#.layernorm_before"}},
    {"blk.#.attn.qkv",
     {"vit.encoder.layer.#.attention.attention.query", "vit.encoder.layer.#.attention.attention.key",
      "vit.encoder.layer.#.attention.attention.value"}},
    {"blk.#.attn.proj", {"vit.encoder.layer.#.attention.output.dense"}},
    {"blk.#.norm2", {"vit.encoder.layer.#.layernorm_after"}},
    {"blk.#.mlp.fc1", {"vit.encoder.layer.#.intermediate.dense"}},
    {"blk.#.mlp.fc2", {"vit.encoder.layer.#.output.dense"}},
    {"norm", {"vit.layernorm"}},
    {"head.cls", {"classifier"}},
    {0},
};

static const char *const unused[] = {"vit.pooler.dense.*", "exit.*.num_batches_tracked", NULL};

static int read_config(const struct ees__json *json, struct ees__config *config, ees_error *err) {
    EES_TRY(ees__config_check_architecture(json, "ViTForImageClassification", err));
    EES_TRY(ees__config_read_vit(json, config, err));
    return ees__config_read_early_exits(json, config, err);
}

static int read_preproc(const struct ees__json *json, struct ees__config *config, ees_error *err) {
    if (json)
        return ees__preproc_read(json, &config->dims, false, &config->preproc, err);
    config->preproc = (struct ees__preproc){
        .resize_h = (unsigned)config->dims.image_h,
        .resize_w = (unsigned)config->dims.image_w,
        .filter = EES__FILTER_BILINEAR,
        .rescale = 1.0 / 255.0,
        .mean = {0.5, 0.5, 0.5},
        .std = {0.5, 0.5, 0.5},
    };
    return 0;
}

const struct ees__family ees__family_hf_vit = {
    .name = "hf-vit",
    .model_type = "vit",
    .marker = "vit.embeddings.cls_token",
    .names = names,
    .unused = unused,
    .read_config = read_config,
    .read_preproc = read_preproc,
};
