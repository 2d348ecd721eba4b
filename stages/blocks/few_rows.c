/* SPDX-License-Identifier: MIT */
#include "stages/blocks/few_rows.h"

#include <math.h>
#include <string.h>

#include "common/fail.h"
#include "stages/blocks/blocks.h"

void ees__few_rows_close(struct ees__few_rows *b) {
    for (size_t h = 0; h < b->n_heads; h++) {
        if (b->keys)
            ees__linear_close(&b->keys[h]);
        if (b->values)
            ees__linear_close(&b->values[h]);
    }
    ees__free(b->keys);
    ees__free(b->values);
    ees__norm_close(&b->norm);
    ees__linear_close(&b->query);
    ees__linear_close(&b->proj);
    ees__block_mlp.close(b->mlp);
    *b = (struct ees__few_rows){0};
}

/* A head's Wk (D, C) as (C, D). */
static int pack_key(struct ees__loader *loader, const float *w, size_t c, size_t d, float *transposed,
                    struct ees__linear *out, ees_error *err) {
    for (size_t i = 0; i < c; i++)
        for (size_t j = 0; j < d; j++)
            transposed[i * d + j] = w[j * c + i];
    return ees__pack_linear(loader, transposed, NULL, c, d, out, err);
}

/* w (3C, C) is in staging memory; bias (3C,) or NULL. */
static int pack_qkv(struct ees__loader *loader, const char *prefix, const float *w, const float *bias,
                    struct ees__few_rows *b, ees_error *err) {
    size_t c = loader->dims->n_channels, d = c / b->n_heads;
    float *transposed = ees__calloc_aligned(c * d, sizeof *transposed);
    int rc = transposed ? ees__pack_linear(loader, w, bias, c, c, &b->query, err)
                        : EES_FAIL(err, EES_ENOMEM, "no memory for %s", prefix);
    for (size_t h = 0; rc == 0 && h < b->n_heads; h++) {
        rc = pack_key(loader, w + (c + h * d) * c, c, d, transposed, &b->keys[h], err);
        if (rc == 0)
            rc = ees__pack_linear(loader, w + (2 * c + h * d) * c, bias ? bias + 2 * c + h * d : NULL, d, c,
                                  &b->values[h], err);
    }
    ees__free(transposed);
    return rc;
}

static int load_attention(struct ees__loader *loader, const char *prefix, struct ees__few_rows *b, ees_error *err) {
    size_t c = loader->dims->n_channels;
    float *w, *bias = NULL;
    b->keys = ees__calloc_aligned(b->n_heads, sizeof *b->keys);
    b->values = ees__calloc_aligned(b->n_heads, sizeof *b->values);
    if (!b->keys || !b->values)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %s", prefix);
    EES_TRY(ees__load_norm(loader, prefix, "norm1", c, &b->norm, err));
    if (loader->dims->qkv_bias)
        EES_TRY(ees__load_tensor(loader, prefix, "attn.qkv.bias", EES_SHAPE(3 * c), &bias, err));
    int rc = ees__stage_tensor(loader, prefix, "attn.qkv.weight", EES_SHAPE(3 * c, c), &w, err);
    if (rc == 0)
        rc = pack_qkv(loader, prefix, w, bias, b, err);
    ees__free(bias);
    return rc == 0 ? ees__load_linear(loader, prefix, "attn.proj", EES_SHAPE(c, c), true, &b->proj, err) : rc;
}

/* The backbone's other half, as plain as spec 1.1 has it and as wide as the tensors say. */
static int open_mlp(struct ees__loader *loader, const char *prefix, void **mlp, ees_error *err) {
    const struct ees__dims *backbone = loader->dims;
    struct ees__dims dims = *backbone;
    struct ees__op_cost cost;
    dims.layer_scale = dims.swiglu = false;
    EES_TRY(ees__load_size(loader, prefix, "mlp.fc1.weight", 0, backbone->mlp_width, &dims.mlp_width, err));
    loader->dims = &dims;
    int rc = ees__block_mlp.open(loader, prefix, 0, mlp, &cost, err);
    loader->dims = backbone;
    return rc;
}

int ees__few_rows_open(struct ees__loader *loader, const char *prefix, size_t n_rows, struct ees__few_rows *out,
                       ees_error *err) {
    const struct ees__dims *d = loader->dims;
    size_t c = d->n_channels;
    *out = (struct ees__few_rows){.n_rows = n_rows, .n_heads = d->n_heads, .eps = (float)d->norm_eps};
    out->shape = (struct ees__attention){.t = d->n_tokens, .h = 1, .d = c};
    out->shape.scale = (float)(1.0 / sqrt((double)(c / d->n_heads)));
    int rc = load_attention(loader, prefix, out, err);
    if (rc == 0)
        rc = open_mlp(loader, prefix, &out->mlp, err);
    if (rc < 0)
        ees__few_rows_close(out);
    return rc;
}

/* Rows of [queries | y | y], what attention reads. */
static size_t core_rows(const struct ees__few_rows *b) { return ees__max_size(b->shape.t, b->n_rows * b->n_heads); }

size_t ees__few_rows_floats(const struct ees__few_rows *b, const struct ees__kernels *kernels, size_t *item) {
    size_t c = b->shape.d, n = b->n_rows, rows = ees__piece_floats(n * c);
    size_t linear = kernels->linear_scratch_floats(n, c, c);
    for (size_t h = 0; h < b->n_heads; h++) {
        linear = ees__max_size(linear, kernels->linear_scratch_floats(n, c, b->keys[h].k));
        linear = ees__max_size(linear, kernels->linear_scratch_floats(n, b->values[h].n, c));
    }
    *item =
        rows + ees__piece_floats(n * b->n_heads * c) + ees__max_size(linear, ees__block_mlp_floats(b->mlp, kernels, n));
    return *item + ees__piece_floats(core_rows(b) * 3 * c) +
           ees__piece_floats(ees__attention_core(kernels, &b->shape)->packed_floats(b->shape.t, c)) +
           ees__attention_core(kernels, &b->shape)->scratch_floats(b->shape.t, c);
}

double ees__few_rows_flops(const struct ees__few_rows *b) {
    double n = (double)b->n_rows, c = (double)b->shape.d, h = (double)b->n_heads, t = (double)b->shape.t;
    return 2.0 * (4.0 * n * c * c + 2.0 * n * h * t * c) + ees__block_mlp_flops(b->mlp, b->n_rows);
}

/* Attention of one frame's transformed queries (n_rows * H, C), overwritten by the mixed y. */
static void mix_tokens(const struct ees__few_rows *b, const struct ees__run *run, const float *state, float *queries,
                       float *scratch) {
    const struct ees__kernels *kernels = run->kernels;
    const struct ees__attention_core *attention = ees__attention_core(kernels, &b->shape);
    size_t t = b->shape.t, c = b->shape.d, n = b->n_rows * b->n_heads;
    float *core = ees__cut_piece(&scratch, core_rows(b) * 3 * c);
    float *packed = ees__cut_piece(&scratch, attention->packed_floats(t, c));
    kernels->layernorm(state, c, t, c, b->norm.gamma, b->norm.beta, b->eps, core + c, 3 * c);
    for (size_t j = 0; j < t; j++)
        memcpy(core + (3 * j + 2) * c, core + (3 * j + 1) * c, c * sizeof *core);
    for (size_t i = 0; i < n; i++)
        memcpy(core + 3 * i * c, queries + i * c, c * sizeof *core);
    attention->pack(&b->shape, core, 3 * c, 0, packed);
    attention->run(&b->shape, core, 3 * c, 0, 0, n, packed, queries, c, scratch);
}

void ees__few_rows_run(const struct ees__few_rows *b, const struct ees__run *run, float *rows, float *scratch) {
    static const struct ees__post store = {.op = EES__POST_NONE}, add = {.op = EES__POST_ADD};
    const struct ees__kernels *kernels = run->kernels;
    size_t c = b->shape.d, d = c / b->n_heads, n = run->n * b->n_rows, wide = b->n_heads * c;
    float *heads = ees__cut_piece(&scratch, n * c), *queries = ees__cut_piece(&scratch, n * wide);
    for (size_t i = 0; i < run->n; i++)
        memcpy(rows + i * b->n_rows * c, run->states[i], b->n_rows * c * sizeof *rows);
    /* LN1 of these rows, until its place is wanted for transformed queries. */
    kernels->layernorm(rows, c, n, c, b->norm.gamma, b->norm.beta, b->eps, queries, c);
    kernels->linear(&b->query, queries, c, n, heads, c, &store, scratch);
    for (size_t h = 0; h < b->n_heads; h++)
        kernels->linear(&b->keys[h], heads + h * d, c, n, queries + h * c, wide, &store, scratch);
    for (size_t i = 0; i < run->n; i++)
        mix_tokens(b, run, run->states[i], queries + i * b->n_rows * wide, scratch);
    for (size_t h = 0; h < b->n_heads; h++)
        kernels->linear(&b->values[h], queries + h * c, wide, n, heads + h * d, c, &store, scratch);
    kernels->linear(&b->proj, heads, c, n, rows, c, &add, scratch);
    ees__block_mlp_rows(b->mlp, kernels, rows, n, scratch);
}
