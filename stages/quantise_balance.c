/* SPDX-License-Identifier: MIT */
/* Ranges of what LayerNorms hand to products, and factors that balance them with the weights. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fail.h"
#include "stages/quantise.h"

/* A LayerNorm and the one product that reads it: half of a block. */
struct pair {
    unsigned unit;
    size_t weight, bias; /* positions in the file */
    size_t matrix[EES__MAX_PARTS];
    unsigned n_parts;
    const struct ees__dims *dims;         /* of the unit; C and T below are its */
    float *gamma, *beta, *range, *factor; /* (C,) each, one allocation */
};

struct balance {
    struct ees__rewriter *r;
    const ees_model *model;
    struct pair *pairs;
    size_t n_pairs;
    float *rows, *memory; /* LN of a frame's tokens; what pairs point into */
};

/* The half of block `block` whose unit reads matrix `linear`. */
static bool find_pair(const struct balance *b, size_t block, const char *norm, const char *linear, struct pair *out) {
    char name[64];
    size_t at[EES__MAX_PARTS];
    snprintf(name, sizeof name, "blk.%zu.%s.weight", block, linear);
    const struct ees__large_matrix *matrix = NULL;
    for (size_t i = 0; i < b->model->n_large && !matrix; i++)
        if (strcmp(b->model->large[i].name, name) == 0)
            matrix = &b->model->large[i];
    if (!matrix || !(out->n_parts = ees__rewriter_find(b->r, name, out->matrix)))
        return false;
    out->unit = matrix->unit;
    snprintf(name, sizeof name, "blk.%zu.%s.weight", block, norm);
    if (ees__rewriter_find(b->r, name, at) != 1)
        return false;
    out->weight = at[0];
    snprintf(name, sizeof name, "blk.%zu.%s.bias", block, norm);
    if (ees__rewriter_find(b->r, name, at) != 1)
        return false;
    out->bias = at[0];
    out->dims = b->model->units[out->unit].dims;
    return ees_tensors_at(b->r->tensors, out->weight)->n_elements == out->dims->n_channels;
}

/* Room of all pairs' vectors, and of the largest of their tokens. */
static int reserve(struct balance *b, ees_error *err) {
    size_t n_channels = 0, n_rows = 0;
    for (size_t i = 0; i < b->n_pairs; i++) {
        const struct ees__dims *d = b->pairs[i].dims;
        n_channels += d->n_channels;
        n_rows = ees__max_size(n_rows, d->n_tokens * d->n_channels);
    }
    b->memory = ees__calloc_aligned(4 * n_channels + 1, sizeof(float));
    b->rows = ees__calloc_aligned(n_rows + 1, sizeof(float));
    return b->memory && b->rows ? 0 : EES_FAIL(err, EES_ENOMEM, "no memory to calibrate");
}

static int read_norms(struct balance *b, ees_error *err) {
    EES_TRY(reserve(b, err));
    float *memory = b->memory;
    for (size_t i = 0; i < b->n_pairs; i++) {
        struct pair *p = &b->pairs[i];
        size_t c = p->dims->n_channels;
        p->gamma = memory;
        p->beta = p->gamma + c;
        p->range = p->beta + c;
        p->factor = p->range + c;
        memory = p->factor + c;
        EES_TRY(ees_tensors_read_f32(b->r->tensors, ees_tensors_at(b->r->tensors, p->weight), p->gamma, err));
        EES_TRY(ees_tensors_read_f32(b->r->tensors, ees_tensors_at(b->r->tensors, p->bias), p->beta, err));
    }
    return 0;
}

/* Tokens behind a unit are what the next half of a block norms, of the sizes that half sees. */
static int see_tokens(void *opaque, const ees_tap *tap) {
    struct balance *b = opaque;
    unsigned next = tap->unit + 1;
    while (next < b->model->info.n_units && b->model->units[next].info.exit_idx >= 0)
        next++;
    for (size_t i = 0; tap->kind == EES_TAP_TOKENS && i < b->n_pairs; i++) {
        struct pair *p = &b->pairs[i];
        const struct ees__dims *d = p->dims;
        if (p->unit != next)
            continue;
        b->model->kernels->layernorm(tap->data, d->n_channels, d->n_tokens, d->n_channels, p->gamma, p->beta,
                                     (float)d->norm_eps, b->rows, d->n_channels);
        for (size_t j = 0; j < d->n_tokens * d->n_channels; j++)
            p->range[j % d->n_channels] = fmaxf(p->range[j % d->n_channels], fabsf(b->rows[j]));
    }
    return 0;
}

/* range holds LN's largest values, factor the largest weights of each column; then the factors. */
static int fill_factors(struct balance *b, struct pair *p, ees_error *err) {
    size_t c = p->dims->n_channels;
    struct ees__buffer matrix = {0};
    for (unsigned part = 0; part < p->n_parts; part++) {
        const ees_tensor_info *info = ees_tensors_at(b->r->tensors, p->matrix[part]);
        int rc = ees__buffer_reserve(&matrix, info->n_elements, info->name, err);
        if (rc == 0)
            rc = ees_tensors_read_f32(b->r->tensors, info, matrix.data, err);
        if (rc < 0) {
            ees__free(matrix.data);
            return rc;
        }
        for (size_t j = 0; j < info->n_elements; j++)
            p->factor[j % c] = fmaxf(p->factor[j % c], fabsf(matrix.data[j]));
    }
    ees__free(matrix.data);
    for (size_t j = 0; j < c; j++) {
        float ratio = p->range[j] / p->factor[j];
        p->factor[j] = ratio > 1e-6f && ratio < 1e6f ? sqrtf(ratio) : 1.0f;
    }
    b->r->plan[p->weight].divide = b->r->plan[p->bias].divide = p->factor;
    for (unsigned part = 0; part < p->n_parts; part++)
        b->r->plan[p->matrix[part]].multiply = p->factor;
    return 0;
}

static int balance(struct balance *b, const ees_frame *frames, size_t n, ees_error *err) {
    static const char *const halves[][2] = {{"norm1", "attn.qkv"}, {"norm2", "mlp.fc1"}, {"norm2", "mlp.w12"}};
    enum { N_HALVES = sizeof halves / sizeof *halves };
    size_t n_blocks = b->model->dims.n_blocks;
    b->pairs = calloc(n_blocks * N_HALVES + 1, sizeof *b->pairs);
    if (!b->pairs)
        return EES_FAIL(err, EES_ENOMEM, "no memory to calibrate");
    for (size_t i = 0; i < n_blocks * N_HALVES; i++)
        b->n_pairs +=
            find_pair(b, i / N_HALVES, halves[i % N_HALVES][0], halves[i % N_HALVES][1], &b->pairs[b->n_pairs]);
    EES_TRY(read_norms(b, err));
    for (size_t i = 0; i < n; i++)
        EES_TRY(ees_model_trace(b->model, &frames[i], see_tokens, b, err));
    for (size_t i = 0; i < b->n_pairs; i++)
        EES_TRY(fill_factors(b, &b->pairs[i], err));
    return 0;
}

int ees__balance(struct ees__rewriter *r, const ees_model *model, const ees_frame *frames, size_t n, float **factors,
                 ees_error *err) {
    struct balance b = {.r = r, .model = model};
    int rc = balance(&b, frames, n, err);
    *factors = b.memory;
    ees__free(b.rows);
    free(b.pairs);
    return rc;
}
