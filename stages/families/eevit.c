/* SPDX-License-Identifier: MIT */
/* EEVIT (github ionymikler/early_exit_vit): LGViT's arithmetic with LayerNorm's default eps (spec 5.7, 3.4). Its YAML
 * file is read as JSON of the same structure (4.2). Exits are counted by their 0-based block there, from 0 here. */
#include <stdio.h>
#include <string.h>

#include "stages/family.h"

static const struct ees__vit_keys keys = {
    .image_size = "image_size",
    .patch_size = "patch_size",
    .n_colours = "channels_num",
    .n_channels = "embed_depth",
    .n_heads = "num_attn_heads",
    .mlp_width = "mlp_dim",
    .n_blocks = "num_layers_transformer",
};

static int read_object(const struct ees__json *parent, const char *key, struct ees__json *out, ees_error *err) {
    json_t *object = ees__json_get(parent, key);
    if (!json_is_object(object))
        return EES_JSON_REFUSE(parent, key, object, err, "an object");
    *out = ees__json_child(parent, key, object);
    return 0;
}

/* A key that has one meaning here. */
static int check_text(const struct ees__json *json, const char *key, const char *expected, ees_error *err) {
    const char *text;
    EES_TRY(ees__json_text(json, key, expected, &text, err));
    if (strcmp(text, expected) != 0)
        return EES_JSON_REFUSE(json, key, ees__json_get(json, key), err, "\"%s\"", expected);
    return 0;
}

static int check_size(const struct ees__json *json, const char *key, size_t expected, ees_error *err) {
    size_t size;
    EES_TRY(ees__json_size(json, key, 1, EES__MAX_CLASSES, expected, &size, err));
    if (size != expected)
        return EES_JSON_REFUSE(json, key, ees__json_get(json, key), err, "%zu", expected);
    return 0;
}

/* [position, type] or [position, "attention", {"sr_ratio": n}]. */
static int add_exit(const struct ees__json *early, const json_t *entry, struct ees__config *config, ees_error *err) {
    const json_t *position = json_array_get(entry, 0);
    const char *type = json_string_value(json_array_get(entry, 1));
    json_int_t ratio = json_integer_value(json_object_get(json_array_get(entry, 2), "sr_ratio"));
    char head[24];
    if (!json_is_integer(position) || json_integer_value(position) < 0 || !type)
        return EES_JSON_REFUSE(early, "exits", entry, err, "[3, \"conv1_1\"] or [7, \"attention\", {\"sr_ratio\": 2}]");
    if (strcmp(type, "attention") == 0)
        snprintf(head, sizeof head, "attention_r%d", ratio >= 0 && ratio <= 99 ? (int)ratio : 0);
    else
        snprintf(head, sizeof head, "%s", type);
    return ees__config_add_exit(early, "exits", entry, (size_t)json_integer_value(position) + 1, head, config, err);
}

static int read_exits(const struct ees__json *model, struct ees__config *config, ees_error *err) {
    struct ees__json early;
    bool enabled;
    EES_TRY(read_object(model, "early_exit_config", &early, err));
    EES_TRY(ees__json_bool(&early, "enabled", true, &enabled, err));
    if (!enabled)
        return 0;
    EES_TRY(check_text(&early, "exit_strategy", "confidence", err));
    EES_TRY(check_size(&early, "num_attn_heads", 8, err)); /* of the heads, not of the backbone */
    EES_TRY(check_size(&early, "embed_depth", config->dims.n_channels, err));
    EES_TRY(check_size(&early, "num_classes", config->dims.n_classes, err));
    const json_t *list = ees__json_get(&early, "exits"), *entry;
    size_t i;
    if (json_array_size(list) == 0)
        return EES_JSON_REFUSE(&early, "exits", list, err, "a list of exits");
    json_array_foreach(list, i, entry) EES_TRY(add_exit(&early, entry, config, err));
    config->policy.name = "confidence";
    return ees__config_read_per_exit(&early, "confidence_threshold", config, config->policy.thresholds,
                                     &config->policy.n_thresholds, err);
}

static int read_config(const struct ees__source *source, struct ees__config *config, ees_error *err) {
    struct ees__dims *d = &config->dims;
    struct ees__json model;
    EES_TRY(read_object(source->json, "model", &model, err));
    EES_TRY(ees__config_measure(source, config, err));
    EES_TRY(ees__config_read_sizes(&model, &keys, config, err));
    EES_TRY(ees__json_size(&model, "num_classes", 1, EES__MAX_CLASSES, d->n_classes, &d->n_classes, err));
    EES_TRY(check_text(&model, "pool", "cls", err));
    EES_TRY(check_size(&model, "dim_head", d->n_channels / d->n_heads, err));
    EES_TRY(ees__json_real(source->json, "layer_norm_eps", 0.0, 1.0, 1e-5, &d->norm_eps, err));
    return read_exits(&model, config, err);
}

const struct ees__family ees__family_eevit = {
    .name = "eevit",
    .markers = {"blk.0.attn.qkv.weight"},
    .naming = EES__NAMES_EEVIT,
    .read_config = read_config,
    .preproc = EES_LGVIT_PREPROC,
};
