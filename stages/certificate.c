/* SPDX-License-Identifier: MIT */
#include "stages/certificate.h"

#include <stdio.h>
#include <string.h>

#include "common/fail.h"
#include "stages/config.h"
#include "stages/json.h"

/* A list of `n` whole numbers from 0 on. */
static int read_list(const struct ees__json *json, const char *key, unsigned n, uint64_t *out, ees_error *err) {
    const json_t *list = ees__json_get(json, key);
    if (json_array_size(list) != n)
        return EES_JSON_REFUSE(json, key, list, err, "%u whole numbers", n);
    for (unsigned i = 0; i < n; i++) {
        const json_t *x = json_array_get(list, i);
        if (!json_is_integer(x) || json_integer_value(x) < 0)
            return EES_JSON_REFUSE(json, key, x, err, "whole numbers from 0 on");
        out[i] = (uint64_t)json_integer_value(x);
    }
    return 0;
}

static int check_format(const struct ees__json *json, ees_error *err) {
    static const char format[] = "eestream-certificate";
    const char *text;
    size_t version;
    EES_TRY(ees__json_text(json, "format", "", &text, err));
    if (strcmp(text, format) != 0)
        return EES_JSON_REFUSE(json, "format", ees__json_get(json, "format"), err, "\"%s\"", format);
    return ees__json_size(json, "version", 1, 1, 0, &version, err);
}

static int check_hash(const struct ees__json *json, const ees_model *model, ees_error *err) {
    char own[EES_HASH_TEXT];
    const char *text;
    EES_TRY(ees__json_text(json, "hash", "", &text, err));
    EES_TRY(ees_model_hash(model, own, err));
    return strcmp(text, own) == 0 ? 0
                                  : EES_JSON_REFUSE(json, "hash", ees__json_get(json, "hash"), err,
                                                    "the model.safetensors of hash %s", own);
}

/* Rounded otherwise, the same weights are another model. */
static int check_precision(const struct ees__json *json, const ees_model *model, ees_error *err) {
    const char *text;
    EES_TRY(ees__json_text(json, "precision", "", &text, err));
    return strcmp(text, model->info.precision) == 0
               ? 0
               : EES_JSON_REFUSE(json, "precision", ees__json_get(json, "precision"), err,
                                 "\"%s\", which the model runs in", model->info.precision);
}

/* Numbers that must be the model's: exits after these blocks, classes, input. */
static int check_shape(const struct ees__json *json, const ees_model *model, ees_error *err) {
    const ees_model_info *info = &model->info;
    uint64_t blocks[EES_MAX_EXITS], input[2];
    size_t n_classes;
    EES_TRY(read_list(json, "exits", info->n_exits, blocks, err));
    for (unsigned e = 0; e < info->n_exits; e++)
        if (blocks[e] != info->exits[e].after_block)
            return EES_JSON_REFUSE(json, "exits", json_array_get(ees__json_get(json, "exits"), e), err,
                                   "block %u for exit %u", info->exits[e].after_block, e);
    EES_TRY(ees__json_size(json, "classes", info->n_classes, info->n_classes, 0, &n_classes, err));
    EES_TRY(read_list(json, "input", 2, input, err));
    if (input[0] != info->image_width_px || input[1] != info->image_height_px)
        return EES_JSON_REFUSE(json, "input", ees__json_get(json, "input"), err, "[%u, %u]", info->image_width_px,
                               info->image_height_px);
    return 0;
}

static int child_of(const struct ees__json *json, const char *key, struct ees__json *out, ees_error *err) {
    json_t *object = ees__json_get(json, key);
    if (!json_is_object(object))
        return EES_JSON_REFUSE(json, key, object, err, "an object");
    *out = ees__json_child(json, key, object);
    return 0;
}

static int check_model(const struct ees__json *json, const ees_model *model, ees_error *err) {
    struct ees__json child;
    EES_TRY(child_of(json, "model", &child, err));
    int rc = check_hash(&child, model, err);
    if (rc == 0)
        rc = check_precision(&child, model, err);
    if (rc == 0)
        rc = check_shape(&child, model, err);
    if (rc == EES_EMODEL)
        ees__hint(err, "it was made for another model: calibrate again, or go without by --certificate none");
    return rc;
}

/* The config's degraded thresholds, where they are of this policy, yield to the new ones. */
static int read_policy(const struct ees__json *json, ees_model *model, ees_error *err) {
    struct ees__config config = {.n_exits = model->info.n_exits};
    struct ees__json child;
    ees_policy_options resolved;
    ees_error why = {0};
    EES_TRY(child_of(json, "policy", &child, err));
    EES_TRY(ees__config_read_policy(&child, &config, err));
    if (ees_policy_resolve(model, &config.policy, &resolved, &why) < 0)
        return EES_FAIL(err, EES_EMODEL, "%s: 'policy': %s", json->file, why.message);
    model->policy = resolved;
    return 0;
}

static int apply(ees_model *model, const struct ees__json *json, ees_error *err) {
    ees_certificate *c = &model->certificate;
    EES_TRY(check_format(json, err));
    EES_TRY(check_model(json, model, err));
    EES_TRY(read_list(json, "exit_frames", model->info.n_exits + 1, c->exit_frames, err));
    EES_TRY(read_policy(json, model, err));
    snprintf(model->certificate_file, sizeof model->certificate_file, "%s", json->file);
    c->file = model->certificate_file;
    c->policy = model->policy;
    return 0;
}

int ees__certificate_apply(ees_model *model, const char *path, ees_error *err) {
    struct ees__json json;
    EES_TRY(ees__json_load(path, &json, err));
    int rc = apply(model, &json, err);
    ees__json_close(&json);
    return rc;
}

const ees_certificate *ees_model_get_certificate(const ees_model *model) {
    return model->certificate.file ? &model->certificate : NULL;
}
