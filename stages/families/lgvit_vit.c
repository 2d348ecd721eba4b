/* SPDX-License-Identifier: MIT */
/* LGViT as published, `DeiTHighwayForImageClassification` with backbone ViT (Xu et al. 2023; github falcon-xu/LGViT,
 * models/deit_highway). Names: spec 3.3; keys: 4.1; layouts: 5.2; preprocessing: last row of 2.1. */
#include <stdlib.h>
#include <string.h>

#include "stages/family.h"

static const struct ees__name_rule names[] = {
    {"embed.patch", {"deit.embeddings.patch_embeddings.projection"}},
    {"embed.cls", {"deit.embeddings.cls_token"}},
    {"embed.pos", {"deit.embeddings.position_embeddings"}},
    {"blk.#.norm1", {"deit.encoder.layer.#.layernorm_before"}},
    {"blk.#.attn.qkv",
     {"deit.encoder.layer.#.attention.attention.query", "deit.encoder.layer.#.attention.attention.key",
      "deit.encoder.layer.#.attention.attention.value"}},
    {"blk.#.attn.proj", {"deit.encoder.layer.#.attention.output.dense"}},
    {"blk.#.norm2", {"deit.encoder.layer.#.layernorm_after"}},
    {"blk.#.mlp.fc1", {"deit.encoder.layer.#.intermediate.dense"}},
    {"blk.#.mlp.fc2", {"deit.encoder.layer.#.output.dense"}},
    {"norm", {"deit.layernorm"}},
    {"head.cls", {"classifier"}},
    {"exit.#.conv1", {"deit.encoder.highway.#.mlp.conv1.0"}},
    {"exit.#.bn1", {"deit.encoder.highway.#.mlp.conv1.2"}},
    {"exit.#.dw", {"deit.encoder.highway.#.mlp.proj"}},
    {"exit.#.bn2", {"deit.encoder.highway.#.mlp.proj_bn"}},
    {"exit.#.conv2", {"deit.encoder.highway.#.mlp.conv2.0"}},
    {"exit.#.bn3", {"deit.encoder.highway.#.mlp.conv2.1"}},
    {"exit.#.attn.qkv", {"deit.encoder.highway.#.mlp.qkv"}},
    {"exit.#.attn.proj", {"deit.encoder.highway.#.mlp.proj"}},
    {"exit.#.head.cls", {"deit.encoder.highway.#.classifier"}},
    {0},
};

static const char *const unused[] = {"deit.pooler.dense.*", "deit.encoder.highway.*.num_batches_tracked", NULL};

/* highway_type "LGViT": which head where, by number of exits. */
static const char *const *find_layout(size_t n_exits) {
    static const char *const two[] = {"conv1_1", "attention_r2"};
    static const char *const four[] = {"conv1_1", "conv2_1", "attention_r2", "attention_r3"};
    static const char *const six[] = {"conv1_1",      "conv2_1",      "attention_r2",
                                      "attention_r2", "attention_r3", "attention_r3"};
    static const char *const eight[] = {"conv1_1",      "conv1_1",      "conv2_1",      "conv2_1",
                                        "attention_r2", "attention_r2", "attention_r3", "attention_r3"};
    switch (n_exits) {
    case 2:
        return two;
    case 4:
        return four;
    case 6:
        return six;
    case 8:
        return eight;
    default:
        return NULL;
    }
}

/* "[4,5,6]" as text or as a list; absent: after blocks 6 .. 12, which are 7 exits. `*list` is owned by the caller. */
static int parse_positions(const struct ees__json *json, json_t **list, ees_error *err) {
    json_t *value = ees__json_get(json, "position_exits");
    const char *text = value ? json_string_value(value) : "[6,7,8,9,10,11,12]";
    json_error_t problem;
    *list = text ? json_loads(text, 0, &problem) : json_incref(value);
    if (*list)
        return 0;
    if (problem.text[0] == '\0') /* see ees__json_parse() */
        return EES_FAIL(err, EES_ENOMEM, "%s: out of memory", json->file);
    return EES_JSON_REFUSE(json, "position_exits", value, err, "a list of blocks, as \"[4,5,...]\"");
}

static int read_positions(const struct ees__json *json, size_t n_exits, json_t **list, ees_error *err) {
    EES_TRY(parse_positions(json, list, err));
    bool good = json_array_size(*list) == n_exits; /* 0 for what is no list */
    for (size_t i = 0; good && i < n_exits; i++)
        good = json_integer_value(json_array_get(*list, i)) >= 1;
    if (good)
        return 0;
    json_decref(*list);
    return EES_JSON_REFUSE(json, "position_exits", ees__json_get(json, "position_exits"), err,
                           "a list of %zu blocks ('num_early_exits'), as \"[4,5,...]\"", n_exits);
}

static int read_exits(const struct ees__json *json, struct ees__config *config, ees_error *err) {
    size_t n_exits;
    const char *type;
    EES_TRY(ees__json_size(json, "num_early_exits", 1, EES_MAX_EXITS, 4, &n_exits, err));
    EES_TRY(ees__json_text(json, "highway_type", "linear", &type, err));
    bool mixed = strcmp(type, "LGViT") == 0;
    const char *const *layout = mixed ? find_layout(n_exits) : NULL;
    if (mixed && !layout)
        return EES_JSON_REFUSE(json, "num_early_exits", ees__json_get(json, "num_early_exits"), err,
                               "8, 6, 4 or 2 with 'highway_type' \"LGViT\"");
    json_t *positions = NULL;
    EES_TRY(read_positions(json, n_exits, &positions, err));
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n_exits; i++) {
        size_t block = (size_t)json_integer_value(json_array_get(positions, i));
        bool in_order = block <= config->dims.n_blocks && (i == 0 || block > config->exits[i - 1].after_block);
        const char *key = in_order ? "highway_type" : "position_exits";
        rc = ees__config_add_exit(json, key, ees__json_get(json, key), block, layout ? layout[i] : type, config, err);
    }
    json_decref(positions);
    return rc;
}

/* For "patience" the threshold is the count: a number or a list of one. */
static int read_patience(const struct ees__json *json, struct ees__config *config, ees_error *err) {
    const json_t *value = ees__json_get(json, "threshold");
    const json_t *count = json_array_size(value) == 1 ? json_array_get(value, 0) : value;
    if (!value)
        return 0;
    json_int_t n = json_integer_value(count);
    if (n < 1 || n > EES_MAX_EXITS)
        return EES_JSON_REFUSE(json, "threshold", value, err, "a count from 1 to %d with 'exit_strategy' \"patience\"",
                               EES_MAX_EXITS);
    config->policy.patience = (unsigned)n;
    return 0;
}

static int read_strategy(const struct ees__json *json, struct ees__config *config, ees_error *err) {
    EES_TRY(ees__config_read_policy_name(json, "exit_strategy", "entropy", config, err));
    const char *name = config->policy.name;
    if (strcmp(name, "patience") == 0)
        return read_patience(json, config, err);
    if (strcmp(name, "patient_and_confident") == 0)
        EES_TRY(ees__config_read_counted_thresholds(json, "threshold", config, err));
    else
        EES_TRY(ees__config_read_per_exit(json, "threshold", config, config->policy.thresholds,
                                          &config->policy.n_thresholds, err));
    /* Ours, beside LGViT's own keys: how far overload may move the thresholds. */
    return ees__config_read_per_exit(json, "degraded_threshold", config, config->policy.degraded,
                                     &config->policy.n_degraded, err);
}

static int read_config(const struct ees__json *json, struct ees__config *config, ees_error *err) {
    const char *backbone;
    bool ensemble;
    EES_TRY(ees__config_check_architecture(json, "DeiTHighwayForImageClassification", err));
    EES_TRY(ees__json_text(json, "backbone", "ViT", &backbone, err));
    if (strcmp(backbone, "ViT") != 0)
        return EES_JSON_REFUSE(json, "backbone", ees__json_get(json, "backbone"), err, "\"ViT\"");
    EES_TRY(ees__json_bool(json, "encoder_ensemble", false, &ensemble, err));
    if (ensemble)
        return EES_JSON_REFUSE(json, "encoder_ensemble", ees__json_get(json, "encoder_ensemble"), err, "false");
    EES_TRY(ees__config_read_vit(json, config, err));
    EES_TRY(read_exits(json, config, err));
    return read_strategy(json, config, err);
}

/* LGViT's scripts take a processor of another model and override its size by shortest_edge, so a file that does not
 * say shortest_edge is not what the checkpoint was trained with. */
static int read_preproc(const struct ees__json *json, struct ees__config *config, ees_error *err) {
    const struct ees__dims *d = &config->dims;
    const json_t *size = json ? ees__json_get(json, "size") : NULL;
    if (json_object_get(size, "shortest_edge"))
        return ees__preproc_read(json, d, true, &config->preproc, err);
    size_t shorter = ees__max_size(d->image_h, d->image_w);
    config->preproc = (struct ees__preproc){
        .resize_h = (unsigned)shorter,
        .filter = EES__FILTER_BILINEAR,
        .crop = true,
        .crop_round_half_even = true,
        .rescale = 1.0 / 255.0,
    };
    memcpy(config->preproc.mean, ees__imagenet_mean, sizeof ees__imagenet_mean);
    memcpy(config->preproc.std, ees__imagenet_std, sizeof ees__imagenet_std);
    return 0;
}

const struct ees__family ees__family_lgvit_vit = {
    .name = "lgvit-vit",
    .model_type = "deit",
    .marker = "deit.encoder.highway.0.classifier.weight",
    .names = names,
    .unused = unused,
    .read_config = read_config,
    .read_preproc = read_preproc,
};
