/* SPDX-License-Identifier: MIT */
/* Building the chain of units. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/fail.h"
#include "stages/blocks/blocks.h"
#include "stages/family.h"
#include "stages/learned.h"
#include "stages/loader.h"
#include "stages/model.h"

struct chain {
    struct ees_model *model;
    struct ees__loader loader;
    unsigned block; /* 1-based block being built, 0 before the first */
    size_t n_pooled[EES_MAX_EXITS];
};

static bool is_wider(const struct ees__quantisation *q, const char *unit) {
    for (unsigned i = 0; i < q->n_wider; i++)
        if (strcmp(q->wider[i], unit) == 0)
            return true;
    return false;
}

/* Of a unit's large products. */
static enum ees__precision find_precision(const struct ees_model *model, const char *unit) {
    return is_wider(&model->quantisation, unit) ? EES__F32 : model->quantisation.precision;
}

/* Tokens of a stage. */
static size_t token_bytes(const struct ees__dims *d) { return d->n_tokens * d->n_channels * sizeof(float); }

/* What a unit leaves behind. Merges are told apart by their caller. */
static size_t output_bytes(const struct ees__dims *d, const struct ees__op *op, int exit_idx) {
    if (!op)
        return d->n_patches * 3 * d->patch * d->patch * sizeof(float);
    return exit_idx >= 0 ? d->n_classes * sizeof(float) : token_bytes(d);
}

/* `prefix`: of the op's tensors. The rest names the unit. */
__attribute__((format(printf, 7, 8))) static int append(struct chain *chain, const struct ees__op *op,
                                                        const char *prefix, unsigned number, int exit_idx,
                                                        ees_error *err, const char *name, ...) {
    ees_model_info *info = &chain->model->info;
    struct ees__unit *unit = &chain->model->units[info->n_units];
    struct ees__op_cost cost = {0};
    size_t bytes_before = chain->loader.n_packed_bytes;
    va_list args;
    va_start(args, name);
    vsnprintf(unit->name, sizeof unit->name, name, args);
    va_end(args);
    chain->loader.unit = info->n_units;
    chain->loader.precision = find_precision(chain->model, unit->name);
    if (op)
        EES_TRY(op->open(&chain->loader, prefix, number, &unit->self, &cost, err));
    unit->op = op;
    unit->dims = chain->loader.dims;
    unit->n_rows = chain->loader.n_rows;
    unit->info = (ees_unit_info){
        .name = unit->name,
        .block = chain->block,
        .exit_idx = exit_idx,
        .flops = cost.flops,
        .weights_bytes = chain->loader.n_packed_bytes - bytes_before,
        .output_bytes = output_bytes(unit->dims, op, exit_idx),
        .precision = ees__precision_name(op ? chain->loader.precision : EES__F32),
    };
    info->n_units++;
    info->scratch_bytes = ees__max_size(info->scratch_bytes, cost.scratch_floats * sizeof(float));
    chain->model->batch_item_bytes = ees__max_size(chain->model->batch_item_bytes, cost.item_floats * sizeof(float));
    return 0;
}

/* Tokens of a block's result that anybody reads: of the last block often only those the final classifier does. */
static size_t count_read_rows(const struct ees__config *config, const struct ees__dims *d, unsigned block) {
    bool has_exits = config->n_exits && config->exits[config->n_exits - 1].after_block == block;
    if (block < config->dims.n_blocks || has_exits)
        return d->n_tokens;
    return d->pool == EES__POOL_CLASS ? 1 : d->pool == EES__POOL_CLASS_DIST ? 2 : d->n_tokens;
}

/* `in_stage`: from 0. */
static int append_block(struct chain *chain, const struct ees__config *config, unsigned in_stage, ees_error *err) {
    const struct ees__backbone *backbone = config->backbone;
    char prefix[24];
    chain->loader.n_rows = count_read_rows(config, chain->loader.dims, chain->block);
    snprintf(prefix, sizeof prefix, "blk.%u", chain->block - 1);
    EES_TRY(append(chain, backbone->attention, prefix, in_stage, -1, err, "block%u.attn", chain->block));
    EES_TRY(append(chain, backbone->mlp, prefix, in_stage, -1, err, "block%u.mlp", chain->block));
    chain->loader.n_rows = chain->loader.dims->n_tokens;
    return 0;
}

static int append_exit(struct chain *chain, unsigned idx, const struct ees__exit *exit, ees_error *err) {
    char prefix[24];
    snprintf(prefix, sizeof prefix, "exit.%u", idx);
    chain->loader.n_pooled = 0;
    EES_TRY(append(chain, exit->head, prefix, exit->number, (int)idx, err, "exit%u.%s", idx, exit->name));
    chain->n_pooled[idx] = chain->loader.n_pooled;
    return 0;
}

/* The exits behind the block at hand, beginning with *next. */
static int append_exits(struct chain *chain, const struct ees__config *config, unsigned *next, ees_error *err) {
    for (; *next < config->n_exits && config->exits[*next].after_block == chain->block; ++*next)
        EES_TRY(append_exit(chain, *next, &config->exits[*next], err));
    return 0;
}

/* A merge sees the sizes of the stage in front of it, and belongs to the block behind it. */
static int append_merge(struct chain *chain, const struct ees__backbone *backbone, unsigned stage, ees_error *err) {
    char prefix[24];
    snprintf(prefix, sizeof prefix, "merge.%u", stage);
    EES_TRY(append(chain, backbone->merge, prefix, 0, -1, err, "merge%u", stage + 1));
    chain->model->units[chain->model->info.n_units - 1].info.output_bytes =
        token_bytes(&chain->model->stage_dims[stage + 1]);
    return 0;
}

static int append_stage(struct chain *chain, const struct ees__config *config, unsigned stage, unsigned *next_exit,
                        ees_error *err) {
    for (unsigned i = 0; i < config->stages[stage].n_blocks; i++, chain->block++) {
        EES_TRY(append_block(chain, config, i, err));
        EES_TRY(append_exits(chain, config, next_exit, err));
    }
    return stage + 1 < config->n_stages ? append_merge(chain, config->backbone, stage, err) : 0;
}

static int append_all(struct chain *chain, const struct ees__config *config, ees_error *err) {
    unsigned next_exit = 0;
    EES_TRY(append(chain, NULL, "", 0, -1, err, "ingest"));
    EES_TRY(append(chain, config->backbone->embed, "embed", 0, -1, err, "embed"));
    chain->block = 1;
    for (unsigned s = 0; s < config->n_stages; s++) {
        chain->loader.dims = &chain->model->stage_dims[s];
        chain->loader.n_rows = chain->loader.dims->n_tokens;
        EES_TRY(append_stage(chain, config, s, &next_exit, err));
    }
    chain->block = (unsigned)config->dims.n_blocks;
    return append(chain, &ees__block_final, "", 0, (int)config->n_exits, err, "final");
}

/* Each unit the config keeps wider must be one. */
static int check_wider(const struct ees_model *model, ees_error *err) {
    for (unsigned i = 0; i < model->quantisation.n_wider; i++) {
        const char *wider = model->quantisation.wider[i];
        unsigned unit = 0;
        while (unit < model->info.n_units && strcmp(model->units[unit].name, wider))
            unit++;
        if (unit == model->info.n_units)
            return EES_FAIL(err, EES_EMODEL, "config.json of %s: 'quantisation.wider' names %s, no unit of this model",
                            model->name, wider);
    }
    return 0;
}

int ees__chain_open(struct ees_model *model, const struct ees__config *config, struct ees__weights *weights,
                    ees_error *err) {
    struct chain chain = {
        .model = model,
        .loader = {.weights = weights,
                   .kernels = model->kernels,
                   .dims = &model->stage_dims[0],
                   .n_rows = model->stage_dims[0].n_tokens},
    };
    int rc = append_all(&chain, config, err);
    if (rc == 0)
        rc = ees__learned_open(&chain.loader, config->n_exits, chain.n_pooled, &model->learned, err);
    if (rc == 0)
        rc = check_wider(model, err);
    model->large = chain.loader.large;
    model->n_large = chain.loader.n_large;
    chain.loader.large = NULL;
    ees__loader_fini(&chain.loader);
    model->info.n_params = chain.loader.n_params;
    model->info.weights_bytes = chain.loader.n_packed_bytes;
    return rc;
}

void ees__chain_close(struct ees_model *model) {
    for (unsigned i = 0; i < model->info.n_units; i++)
        if (model->units[i].op)
            model->units[i].op->close(model->units[i].self);
    ees__learned_close(&model->learned);
}
