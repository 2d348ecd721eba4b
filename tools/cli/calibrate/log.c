/* SPDX-License-Identifier: MIT */
/* A log in memory, and what follows from it. log_file.c writes and reads it. */
#define _GNU_SOURCE
#include "tools/cli/calibrate/log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli/fail.h"
#include "tools/cli/text.h"

static void name_heads(struct log *l, const ees_model_info *info) {
    struct text t = text_in(l->heads, sizeof l->heads);
    for (unsigned e = 0; e < info->n_exits; e++)
        text_add(&t, "%s,", info->exits[e].head);
    text_add(&t, "final");
}

int log_init(struct log *l, const ees_model *model, ees_error *err) {
    const ees_model_info *info = ees_model_get_info(model);
    *l = (struct log){.n_exits = info->n_exits,
                      .n_classes = info->n_classes,
                      .n_blocks = info->n_blocks,
                      .n_units = info->n_units,
                      .n_cores = 1};
    if (info->n_exits == 0)
        return CLI_FAIL(err, EES_EINVAL, "model %s has no early exits: there is nothing to calibrate", info->name);
    for (unsigned u = 0; u < info->n_units; u++) {
        const ees_unit_info *unit = ees_model_get_unit(model, u);
        l->unit_exit[u] = unit->exit_idx;
        l->unit_block[u] = (int32_t)unit->block;
    }
    snprintf(l->model_name, sizeof l->model_name, "%s", info->name);
    snprintf(l->kernels, sizeof l->kernels, "%s", info->kernels);
    snprintf(l->precision, sizeof l->precision, "%s", info->precision);
    snprintf(l->input, sizeof l->input, "%ux%u", info->image_width_px, info->image_height_px);
    name_heads(l, info);
    return ees_model_hash(model, l->model_hash, err);
}

int log_reserve(struct log *l, ees_error *err) {
    size_t row = ((size_t)l->n_exits + 1) * l->n_classes;
    if (l->n < l->room)
        return 0;
    size_t room = l->room ? 2 * l->room : 256;
    float *logits = realloc(l->logits, room * row * sizeof *logits);
    l->logits = logits ? logits : l->logits;
    float *gates = logits ? realloc(l->gates, room * l->n_exits * sizeof *gates) : NULL;
    l->gates = gates ? gates : l->gates;
    int32_t *labels = gates ? realloc(l->labels, room * sizeof *labels) : NULL;
    l->labels = labels ? labels : l->labels;
    int32_t *inputs = labels ? realloc(l->inputs, room * sizeof *inputs) : NULL;
    l->inputs = inputs ? inputs : l->inputs;
    int64_t *frames = inputs ? realloc(l->frames, room * sizeof *frames) : NULL;
    l->frames = frames ? frames : l->frames;
    if (!frames)
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for the logits of %zu frames", room);
    l->room = room;
    return 0;
}

/* Units come in order: an exit's cost is the sum so far. */
void log_sum_costs(struct log *l) {
    double sum = 0, full = 0;
    for (unsigned u = 0; u < l->n_units; u++) {
        int e = l->unit_exit[u];
        sum += (double)l->unit_ns[u];
        full += e >= 0 && e < (int)l->n_exits ? 0 : (double)l->unit_ns[u];
        if (e >= 0) {
            l->exit_ns[e] = sum;
            l->exit_block[e] = (unsigned)l->unit_block[u];
        }
    }
    l->exit_block[l->n_exits] = l->n_blocks;
    l->full_ns = full;
}

bool log_has_gates(const struct log *l) {
    bool any = false;
    for (size_t i = 0; i < l->n * l->n_exits; i++)
        any |= !isnan(l->gates[i]);
    return any;
}

void log_head(const struct log *l, unsigned exit_idx, char *out, size_t n) {
    const char *at = l->heads;
    for (unsigned e = 0; e < exit_idx && strchr(at, ','); e++)
        at = strchr(at, ',') + 1;
    snprintf(out, n, "%.*s", (int)strcspn(at, ","), at);
}

int log_check_model(const struct log *l, const char *path, const ees_model *model, ees_error *err) {
    const ees_model_info *info = ees_model_get_info(model);
    char hash[EES_HASH_TEXT], input[32];
    CLI_TRY(ees_model_hash(model, hash, err));
    if (strcmp(hash, l->model_hash) != 0) {
        CLI_FAIL(err, EES_EINVAL, "%s: model_hash is %s (model %s), the weights of %s have %s", path, l->model_hash,
                 l->model_name, info->name, hash);
        return cli_hint(err, "the log is of another model: record again");
    }
    if (strcmp(info->precision, l->precision) != 0)
        return CLI_FAIL(err, EES_EINVAL, "%s: precision is %s, the model runs in %s", path, l->precision,
                        info->precision);
    snprintf(input, sizeof input, "%ux%u", info->image_width_px, info->image_height_px);
    if (strcmp(input, l->input) != 0)
        return CLI_FAIL(err, EES_EINVAL, "%s: input is %s, the model's is %s", path, l->input, input);
    if (l->n_exits != info->n_exits || l->n_classes != info->n_classes || l->n_units != info->n_units)
        return CLI_FAIL(err, EES_EINVAL, "%s: %u exits, %u classes, %u units; the model has %u, %u and %u", path,
                        l->n_exits, l->n_classes, l->n_units, info->n_exits, info->n_classes, info->n_units);
    return 0;
}

void log_fini(struct log *l) {
    free(l->logits);
    free(l->gates);
    free(l->labels);
    free(l->inputs);
    free(l->frames);
    *l = (struct log){0};
}
