/* SPDX-License-Identifier: MIT */
/* LGViT as published, `DeiTHighwayForImageClassification` with backbone ViT or DeiT and
 * `SwinHighwayForImageClassification` (Xu et al. 2023; github falcon-xu/LGViT, models/{deit,swin}_highway). Names:
 * spec 3.3; keys: 4.1; layouts: 5.2; preprocessing: last row of 2.1. */
#include <stdlib.h>
#include <string.h>

#include "stages/blocks/blocks.h"
#include "stages/family.h"
#include "stages/policies/policy.h"

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

/* A list, also as text: "[4,5,6]". `fallback`: the text when the key is absent, NULL: it must be there. `*list` is
 * owned by the caller, and no list where something else stands. */
static int parse_list(const struct ees__json *json, const char *key, const char *fallback, const char *example,
                      json_t **list, ees_error *err) {
    json_t *value = ees__json_get(json, key);
    const char *text = value ? json_string_value(value) : fallback;
    json_error_t problem = {.text = "absent"};
    *list = text ? json_loads(text, 0, &problem) : json_incref(value);
    if (*list)
        return 0;
    if (problem.text[0] == '\0') /* see ees__json_parse() */
        return EES_FAIL(err, EES_ENOMEM, "%s: out of memory", json->file);
    return EES_JSON_REFUSE(json, key, value, err, "a list, as \"%s\"", example);
}

/* Absent: after blocks 6 .. 12, which are 7 exits. */
static int read_positions(const struct ees__json *json, size_t n_exits, json_t **list, ees_error *err) {
    EES_TRY(parse_list(json, "position_exits", "[6,7,8,9,10,11,12]", "[4,5,...]", list, err));
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

/* Of a policy without thresholds the threshold is the count: a number or a list of one. */
static int read_patience(const struct ees__json *json, struct ees__config *config, ees_error *err) {
    const json_t *value = ees__json_get(json, "threshold");
    const json_t *count = json_array_size(value) == 1 ? json_array_get(value, 0) : value;
    if (!value)
        return 0;
    json_int_t n = json_integer_value(count);
    if (n < 1 || n > EES_MAX_EXITS)
        return EES_JSON_REFUSE(json, "threshold", value, err, "a count from 1 to %d with 'exit_strategy' \"%s\"",
                               EES_MAX_EXITS, config->policy.name);
    config->policy.patience = (unsigned)n;
    return 0;
}

static int read_strategy(const struct ees__json *json, struct ees__config *config, ees_error *err) {
    EES_TRY(ees__config_read_policy_name(json, "exit_strategy", "entropy", config, err));
    const struct ees__policy *policy = ees__policy_find(config->policy.name);
    bool counts = policy && policy->patience;
    if (counts && !policy->direction)
        return read_patience(json, config, err);
    if (counts)
        EES_TRY(ees__config_read_counted_thresholds(json, "threshold", config, err));
    else
        EES_TRY(ees__config_read_per_exit(json, "threshold", config, config->policy.thresholds,
                                          &config->policy.n_thresholds, err));
    /* Ours, beside LGViT's own keys: how far overload may move the thresholds. */
    return ees__config_read_per_exit(json, "degraded_threshold", config, config->policy.degraded,
                                     &config->policy.n_degraded, err);
}

static int read_config(const struct ees__source *source, const char *backbone, struct ees__config *config,
                       ees_error *err) {
    const struct ees__json *json = source->json;
    const char *is;
    bool ensemble;
    config->dims = (struct ees__dims){.image_h = 224,
                                      .image_w = 224,
                                      .patch = 16,
                                      .n_channels = 768,
                                      .n_heads = 12,
                                      .mlp_width = 3072,
                                      .n_blocks = 12};
    EES_TRY(ees__config_check_architecture(source, err));
    EES_TRY(ees__json_text(json, "backbone", "ViT", &is, err));
    if (strcmp(is, backbone) != 0)
        return EES_JSON_REFUSE(json, "backbone", ees__json_get(json, "backbone"), err, "\"%s\" with these tensors",
                               backbone);
    EES_TRY(ees__json_bool(json, "encoder_ensemble", false, &ensemble, err));
    if (ensemble)
        return EES_JSON_REFUSE(json, "encoder_ensemble", ees__json_get(json, "encoder_ensemble"), err, "false");
    EES_TRY(ees__config_read_hf(json, 1e-12, config, err));
    EES_TRY(read_exits(json, config, err));
    return read_strategy(json, config, err);
}

/* ---- Swin: counts and blocks are lists, one entry a stage ------------------------------------------------ */

/* highway_type "LGViT" of a Swin is known for one number of exits. */
enum { SWIN_STAGES = 4, SWIN_EXITS = 8 };
static const unsigned swin_counts[SWIN_STAGES] = {0, 1, 6, 1};
static const char *const swin_layout[SWIN_EXITS] = {"conv1_1",      "conv1_1",      "conv2_1",      "conv2_1",
                                                    "attention_r1", "attention_r1", "attention_r2", "attention_r2"};

static bool is_published_layout(const json_t *counts) {
    bool same = json_array_size(counts) == SWIN_STAGES;
    for (size_t s = 0; s < SWIN_STAGES; s++)
        same &= json_integer_value(json_array_get(counts, s)) == (json_int_t)swin_counts[s];
    return same;
}

/* Exits of one stage, the first block of which is `first`, from 0. */
static int add_stage_exits(const struct ees__json *json, const json_t *blocks, size_t first, size_t n_blocks,
                           const char *type, struct ees__config *config, ees_error *err) {
    const json_t *entry, *all = ees__json_get(json, "position_exits");
    size_t i;
    json_array_foreach(blocks, i, entry) {
        json_int_t block = json_integer_value(entry), last = json_integer_value(json_array_get(blocks, i - 1));
        if (block < 1 || block > (json_int_t)n_blocks || (i > 0 && block <= last))
            return EES_JSON_REFUSE(json, "position_exits", all, err, "increasing blocks from 1 to %zu in their stage",
                                   n_blocks);
        EES_TRY(ees__config_add_exit(json, "highway_type", ees__json_get(json, "highway_type"), first + (size_t)block,
                                     type ? type : swin_layout[config->n_exits], config, err));
    }
    return 0;
}

static int add_swin_exits(const struct ees__json *json, const json_t *counts, const json_t *positions,
                          struct ees__config *config, ees_error *err) {
    const char *type;
    size_t first = 0, n = config->n_stages;
    EES_TRY(ees__json_text(json, "highway_type", "linear", &type, err));
    bool mixed = strcmp(type, "LGViT") == 0;
    if (json_array_size(counts) != n)
        return EES_JSON_REFUSE(json, "num_early_exits", ees__json_get(json, "num_early_exits"), err,
                               "a list of %zu counts, one a stage", n);
    if (mixed && !is_published_layout(counts))
        return EES_JSON_REFUSE(json, "num_early_exits", ees__json_get(json, "num_early_exits"), err,
                               "[0,1,6,1] with 'highway_type' \"LGViT\"");
    for (size_t s = 0; s < n; first += config->stages[s++].n_blocks) {
        const json_t *blocks = json_array_get(positions, s);
        json_int_t count = json_integer_value(json_array_get(counts, s));
        if (json_array_size(positions) != n || !json_is_array(blocks) || (json_int_t)json_array_size(blocks) != count)
            return EES_JSON_REFUSE(json, "position_exits", ees__json_get(json, "position_exits"), err,
                                   "a list of blocks a stage, as many as 'num_early_exits' counts");
        EES_TRY(add_stage_exits(json, blocks, first, config->stages[s].n_blocks, mixed ? NULL : type, config, err));
    }
    return 0;
}

static int read_swin_exits(const struct ees__json *json, struct ees__config *config, ees_error *err) {
    json_t *counts = NULL, *positions = NULL;
    EES_TRY(parse_list(json, "num_early_exits", NULL, "[0,1,6,1]", &counts, err));
    int rc = parse_list(json, "position_exits", NULL, "[[],[2],[3,6,9,12,15,18],[1]]", &positions, err);
    if (rc == 0)
        rc = add_swin_exits(json, counts, positions, config, err);
    json_decref(counts);
    json_decref(positions);
    return rc;
}

/* What the Swin class has where "threshold" is null (spec 6); the policies' own defaults are those of ViT and DeiT. */
static void fill_swin_defaults(ees_policy_options *policy) {
    static const struct {
        const char *name;
        float threshold; /* 0: takes none */
        unsigned patience;
    } defaults[] = {
        {"confidence", .75f, 0}, {"entropy", .65f, 0}, {"patience", 0, 3}, {"patient_and_confident", .8f, 2}};
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++) {
        if (strcmp(policy->name, defaults[i].name) != 0)
            continue;
        policy->patience = policy->patience ? policy->patience : defaults[i].patience;
        if (policy->n_thresholds == 0 && defaults[i].threshold > 0.0f) {
            policy->n_thresholds = 1;
            policy->thresholds[0] = defaults[i].threshold;
        }
    }
}

static int read_swin(const struct ees__source *source, struct ees__config *config, ees_error *err) {
    EES_TRY(ees__config_check_architecture(source, err));
    EES_TRY(ees__config_read_hf_swin(source->json, config, err));
    EES_TRY(read_swin_exits(source->json, config, err));
    EES_TRY(read_strategy(source->json, config, err));
    fill_swin_defaults(&config->policy);
    return 0;
}

/* ---- families ------------------------------------------------------------------------------------------- */

static int read_vit(const struct ees__source *source, struct ees__config *config, ees_error *err) {
    return read_config(source, "ViT", config, err);
}

static int read_deit(const struct ees__source *source, struct ees__config *config, ees_error *err) {
    EES_TRY(read_config(source, "DeiT", config, err));
    config->dims.has_dist = true;
    config->dims.pool = EES__POOL_CLASS_DIST;
    return 0;
}

const struct ees__family ees__family_lgvit_vit = {
    .name = "lgvit-vit",
    .model_type = "deit",
    .architecture = "DeiTHighwayForImageClassification",
    .markers = {"embed.cls", "exit.0.head.cls.weight"},
    .naming = EES__NAMES_LGVIT,
    .prefix = "deit",
    .read_config = read_vit,
    .preproc = EES_LGVIT_PREPROC,
};

const struct ees__family ees__family_lgvit_deit = {
    .name = "lgvit-deit",
    .model_type = "deit",
    .architecture = "DeiTHighwayForImageClassification",
    .markers = {"embed.cls", "exit.0.head.cls.weight"},
    .naming = EES__NAMES_LGVIT_DISTILLED,
    .prefix = "deit",
    .read_config = read_deit,
    .preproc = EES_LGVIT_PREPROC,
};

const struct ees__family ees__family_lgvit_swin = {
    .name = "lgvit-swin",
    .model_type = "swin",
    .architecture = "SwinHighwayForImageClassification",
    .markers = {"embed.norm.weight", "exit.0.head.cls.weight"},
    .naming = EES__NAMES_LGVIT_SWIN,
    .prefix = "swin",
    .backbone = &ees__backbone_swin,
    .read_config = read_swin,
    .preproc = EES_LGVIT_PREPROC,
};
