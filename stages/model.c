/* SPDX-License-Identifier: MIT */
/* Building a model from its config and weights, and what it tells about itself. */
#include "stages/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fail.h"
#include "stages/blocks/blocks.h"
#include "stages/family.h"
#include "stages/weights.h"

static const uint64_t default_max_pixels = 40000000;

void ees_model_options_default(ees_model_options *options) {
    *options = (ees_model_options){.max_pixels = default_max_pixels};
}

int ees__model_check_options(const ees_model_options *given, ees_model_options *out, ees_error *err) {
    ees_model_options_default(out);
    if (!given)
        return 0;
    uint64_t default_pixels = out->max_pixels;
    *out = *given;
    if (out->max_pixels == 0)
        out->max_pixels = default_pixels;
    if (out->decode != EES_DECODE_EXACT && out->decode != EES_DECODE_FAST)
        return EES_FAIL(err, EES_EINVAL, "decode mode %d is unknown", (int)out->decode);
    enum ees__precision precision;
    if (out->precision && ees__precision_find(out->precision, &precision) < 0)
        return EES_FAIL(err, EES_EINVAL, "precision \"%s\": unknown (fp32, bf16, int8)", out->precision);
    unsigned h = out->image_height_px, w = out->image_width_px;
    if ((h == 0) != (w == 0) || h > EES__MAX_IMAGE || w > EES__MAX_IMAGE)
        return EES_FAIL(err, EES_EINVAL, "an input of %u x %u pixels is asked for, expected sides up to %d, or 0 x 0",
                        h, w, EES__MAX_IMAGE);
    return 0;
}

/* The state holds patches first, tokens of all stages later. */
static size_t count_state_bytes(const struct ees__config *config) {
    const struct ees__dims *d = &config->dims;
    size_t n_floats = d->n_patches * 3 * d->patch * d->patch;
    for (unsigned s = 0; s < config->n_stages; s++)
        n_floats = ees__max_size(n_floats, config->stage_dims[s].n_tokens * config->stage_dims[s].n_channels);
    return n_floats * sizeof(float);
}

static void fill_stages(struct ees_model *model, const struct ees__config *config) {
    memcpy(model->stages, config->stages, sizeof model->stages);
    memcpy(model->stage_dims, config->stage_dims, sizeof model->stage_dims);
    model->layout = (struct ees__layout){
        .n_stages = config->n_stages, .stages = model->stages, .n_exits = config->n_exits, .exits = model->exits};
    model->info.n_stages = config->n_stages;
    for (unsigned s = 0; s < config->n_stages; s++) {
        const struct ees__dims *d = &model->stage_dims[s];
        model->info.stages[s] = (ees_stage_info){
            .n_blocks = (unsigned)config->stages[s].n_blocks,
            .grid_height = (unsigned)d->grid_h,
            .grid_width = (unsigned)d->grid_w,
            .n_tokens = (unsigned)d->n_tokens,
            .n_channels = (unsigned)d->n_channels,
            .n_heads = (unsigned)d->n_heads,
            .mlp_width = (unsigned)d->mlp_width,
            .window_height = (unsigned)d->window.h,
            .window_width = (unsigned)d->window.w,
            .shift_height = (unsigned)d->window.shift_h,
            .shift_width = (unsigned)d->window.shift_w,
            .rolls_first = d->window.rolls_first,
        };
    }
}

static void fill_info(struct ees_model *model, const struct ees__config *config) {
    const struct ees__dims *d = &config->dims;
    model->info = (ees_model_info){
        .name = model->name,
        .family = config->family->name,
        .kernels = model->kernels->name,
        .precision = model->quantisation.name,
        .image_height_px = (unsigned)d->image_h,
        .image_width_px = (unsigned)d->image_w,
        .patch_px = (unsigned)d->patch,
        .n_tokens = (unsigned)d->n_tokens,
        .n_channels = (unsigned)d->n_channels,
        .n_heads = (unsigned)config->stages[0].n_heads,
        .mlp_width = (unsigned)config->stages[0].mlp_width,
        .n_blocks = (unsigned)d->n_blocks,
        .n_classes = (unsigned)d->n_classes,
        .norm_eps = d->norm_eps,
        .n_exits = config->n_exits,
        .state_bytes = count_state_bytes(config),
    };
    for (unsigned i = 0; i < config->n_exits; i++) {
        model->exits[i] = config->exits[i];
        model->info.exits[i] =
            (ees_exit_info){.after_block = model->exits[i].after_block, .head = model->exits[i].name};
    }
    fill_stages(model, config);
}

/* How the classifier and the position table are stored, by name: for whoever writes the model in another format. */
static void name_layout(struct ees_model *model, const struct ees__dims *d) {
    static const char *const pools[] = {
        [EES__POOL_CLASS] = "class",           [EES__POOL_CLASS_DIST] = "class_dist",
        [EES__POOL_CLASS_MEAN] = "class_mean", [EES__POOL_NORM_MEAN] = "norm_mean",
        [EES__POOL_MEAN_NORM] = "mean_norm",
    };
    static const char *const filters[] = {
        [EES__TABLE_CUBIC] = "cubic",
        [EES__TABLE_CUBIC_SCALED] = "cubic_scaled",
        [EES__TABLE_CUBIC_ANTIALIAS] = "cubic_antialias",
        [EES__TABLE_CUBIC_CORNERS] = "cubic_corners",
    };
    static const char *const activations[] = {
        [EES__POST_GELU] = "gelu",
        [EES__POST_GELU_TANH] = "gelu_tanh",
        [EES__POST_RELU] = "relu",
        [EES__POST_SILU] = "silu",
    };
    model->info.pool = pools[d->pool];
    model->info.activation = activations[d->activation];
    model->info.table_height = (unsigned)d->table_h;
    model->info.table_width = (unsigned)d->table_w;
    model->info.table_filter = filters[d->table_filter];
}

static int fill_policy(struct ees_model *model, const struct ees__config *config, ees_error *err) {
    ees_policy_options filled;
    ees_error why = {0};
    model->policy = config->policy;
    if (!model->policy.name)
        model->policy.name = config->n_exits ? "confidence" : "none";
    if (ees_policy_resolve(model, NULL, &filled, &why) == 0)
        return 0;
    return EES_FAIL(err, EES_EMODEL, "config.json of %s: %s", model->name, why.message);
}

/* Takes the config's labels over, and makes up what it leaves out. */
static int fill_labels(struct ees_model *model, struct ees__config *config, ees_error *err) {
    size_t n = config->dims.n_classes;
    model->labels = config->labels ? config->labels : calloc(n, sizeof *model->labels);
    config->labels = NULL;
    for (size_t i = 0; model->labels && i < n; i++) {
        char text[32];
        snprintf(text, sizeof text, "class_%zu", i);
        if (!model->labels[i] && !(model->labels[i] = strdup(text)))
            return EES_FAIL(err, EES_ENOMEM, "no memory for %zu labels", n);
    }
    return model->labels ? 0 : EES_FAIL(err, EES_ENOMEM, "no memory for %zu labels", n);
}

static int build(struct ees_model *model, struct ees__config *config, struct ees__weights *weights, ees_error *err) {
    name_layout(model, &config->dims);
    EES_TRY(fill_labels(model, config, err));
    EES_TRY(ees__chain_open(model, config, weights, err));
    EES_TRY(fill_policy(model, config, err));
    return weights->check_rest ? weights->check_rest(weights, err) : 0;
}

/* What the caller asks for, else what the processor makes where the family goes by it, else the training's. */
static int choose_input(const struct ees__source *source, const struct ees__processor *processor,
                        const ees_model_options *options, struct ees__config *config, ees_error *err) {
    const struct ees__dims *d = &config->dims;
    size_t h = options->image_height_px, w = options->image_width_px, side = config->preproc_rule.default_side_px;
    if (h)
        return ees__config_set_input(source->json, h, w, true, config, err);
    if (side && ees__processor_input(processor, &h, &w))
        return ees__config_set_input(source->json, h, w, false, config, err);
    bool smaller = side >= d->patch && (d->image_h > side || d->image_w > side);
    side -= side % d->patch;
    return ees__config_set_input(source->json, smaller ? side : d->image_h, smaller ? side : d->image_w, false, config,
                                 err);
}

static int read_config(const struct ees__source *source, const struct ees__json *preproc,
                       const ees_model_options *options, struct ees__config *config, ees_error *err) {
    struct ees__processor processor;
    config->preproc_rule = config->family->preproc;
    config->backbone = config->family->backbone ? config->family->backbone : &ees__backbone_vit;
    EES_TRY(config->family->read_config(source, config, err));
    EES_TRY(ees__config_find_table(source, config, err));
    EES_TRY(ees__config_read_quantisation(source->json, config, err));
    EES_TRY(ees__processor_read(preproc, &config->preproc_rule, &processor, err));
    EES_TRY(choose_input(source, &processor, options, config, err));
    return ees__preproc_fill(preproc, &processor, options->image_height_px != 0, config, err);
}

/* What the caller asks for, else the config's, as far as the kernels have it. */
static void choose_precision(const struct ees__kernels *kernels, const char *asked, struct ees__quantisation *q) {
    enum ees__precision precision = q->precision;
    if (asked)
        ees__precision_find(asked, &precision); /* checked before */
    if (!kernels->products[precision])
        precision = EES__F32;
    if (precision != q->precision || asked)
        q->name = ees__precision_name(precision);
    q->precision = precision;
}

int ees__model_build(const char *name, const struct ees__source *source, const struct ees__json *preproc,
                     struct ees__weights *weights, const ees_model_options *options, ees_model **out, ees_error *err) {
    struct ees__config config = {.family = source->family};
    struct ees_model *model = NULL;
    ees_error local = {0};
    err = err ? err : &local;
    const struct ees__kernels *kernels = ees__kernels_get(options->kernels, err);
    int rc = kernels ? read_config(source, preproc, options, &config, err) : err->code;
    if (rc == 0 && !(model = ees__calloc_aligned(1, sizeof *model)))
        rc = EES_FAIL(err, EES_ENOMEM, "no memory for model %s", name);
    if (rc == 0) {
        snprintf(model->name, sizeof model->name, "%s", name);
        model->dims = config.dims;
        model->kernels = kernels;
        model->options = *options;
        model->options.kernels = kernels->name;
        model->options.certificate = NULL; /* the caller's */
        choose_precision(kernels, options->precision, &config.quantisation);
        model->quantisation = config.quantisation;
        model->options.precision = config.quantisation.name;
        model->preproc = config.preproc;
        fill_info(model, &config);
        weights->layout = &model->layout;
        rc = build(model, &config, weights, err);
    }
    ees__config_fini(&config);
    if (rc < 0) {
        ees_model_close(model);
        return rc;
    }
    *out = model;
    return 0;
}

const ees_model_info *ees_model_get_info(const ees_model *model) { return &model->info; }

const ees_unit_info *ees_model_get_unit(const ees_model *model, unsigned unit) {
    return unit < model->info.n_units ? &model->units[unit].info : NULL;
}

const char *ees_model_get_label(const ees_model *model, unsigned class_idx) {
    return class_idx < model->info.n_classes ? model->labels[class_idx] : NULL;
}

int ees_model_find_label(const ees_model *model, const char *label) {
    for (unsigned i = 0; i < model->info.n_classes; i++)
        if (strcmp(model->labels[i], label) == 0)
            return (int)i;
    return -1;
}

void ees_model_close(ees_model *model) {
    if (!model)
        return;
    ees__chain_close(model);
    for (unsigned i = 0; model->labels && i < model->info.n_classes; i++)
        free(model->labels[i]);
    free(model->labels);
    free(model->weights_file);
    free(model->large);
    ees__free(model);
}
