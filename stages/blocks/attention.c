/* SPDX-License-Identifier: MIT */
/* First half of a pre-LN block (spec 1.1): x += Wo concat_h(softmax(Q K^T / sqrt(D)) V) + bo, [Q|K|V] = LN1(x) Wqkv^T +
 * bqkv. One packed product makes all three; the residual is added by the last product as it stores. */
#include <math.h>

#include "common/fail.h"
#include "stages/blocks/blocks.h"
#include "stages/loader.h"

struct attention {
    struct ees__norm norm;
    struct ees__linear qkv, proj;
    float eps, scale;
};

static void close_attention(void *self) {
    struct attention *a = self;
    if (!a)
        return;
    ees__norm_close(&a->norm);
    ees__linear_close(&a->qkv);
    ees__linear_close(&a->proj);
    ees__free(a);
}

static void fill_cost(const struct ees__kernels *kernels, const struct ees__dims *d, struct ees__op_cost *cost) {
    size_t t = d->n_tokens, c = d->n_channels;
    size_t inner = ees__max_size(kernels->linear_scratch_floats(t, 3 * c, c), kernels->linear_scratch_floats(t, c, c));
    inner = ees__max_size(inner, kernels->attention_scratch_floats(t, d->n_heads, c / d->n_heads));
    cost->scratch_floats = ees__piece_floats(t * c) + ees__piece_floats(t * 3 * c) + inner;
    cost->flops = 2.0 * (4.0 * (double)t * (double)c * (double)c + 2.0 * (double)t * (double)t * (double)c);
}

static int open_attention(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                          struct ees__op_cost *cost, ees_error *err) {
    const struct ees__dims *d = loader->dims;
    size_t c = d->n_channels;
    struct attention *a = ees__calloc_aligned(1, sizeof *a);
    if (!a)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %s", prefix);
    int rc = ees__load_norm(loader, prefix, "norm1", c, &a->norm, err);
    if (rc == 0)
        rc = ees__load_linear(loader, prefix, "attn.qkv", EES_SHAPE(3 * c, c), d->qkv_bias, &a->qkv, err);
    if (rc == 0)
        rc = ees__load_linear(loader, prefix, "attn.proj", EES_SHAPE(c, c), true, &a->proj, err);
    if (rc < 0) {
        close_attention(a);
        return rc;
    }
    a->eps = (float)d->norm_eps;
    a->scale = (float)(1.0 / sqrt((double)(c / d->n_heads)));
    fill_cost(loader->kernels, d, cost);
    *self = a;
    return 0;
}

static void run_attention(const void *self, const struct ees__run *run) {
    const struct attention *a = self;
    const struct ees__dims *d = run->dims;
    const struct ees__kernels *kernels = run->kernels;
    static const struct ees__post store = {.op = EES__POST_NONE}, add = {.op = EES__POST_ADD};
    size_t t = d->n_tokens, c = d->n_channels;
    float *scratch = run->scratch;
    float *rows = ees__cut_piece(&scratch, t * c); /* the normed tokens, then what attention gives */
    float *qkv = ees__cut_piece(&scratch, t * 3 * c);
    kernels->layernorm(run->state, c, t, c, a->norm.gamma, a->norm.beta, a->eps, rows, c);
    kernels->linear(&a->qkv, rows, c, t, qkv, 3 * c, &store, scratch);
    kernels->attention(qkv, 3 * c, t, d->n_heads, c / d->n_heads, a->scale, rows, c, scratch);
    kernels->linear(&a->proj, rows, c, t, run->state, c, &add, scratch);
}

const struct ees__op ees__block_attention = {
    .name = "attn",
    .open = open_attention,
    .run = run_attention,
    .close = close_attention,
};
