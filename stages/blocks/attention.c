/* SPDX-License-Identifier: MIT */
/* First half of a pre-LN block (spec 1.1): x += Wo concat_h(softmax(Q K^T / sqrt(D)) V) + bo, [Q|K|V] = LN1(x) Wqkv^T +
 * bqkv. One packed product makes all three; the residual is added by the last product as it stores. A layer scale (spec
 * 1.3) is part of Wo and bo. Some models norm each head's queries and keys (timm's qk_norm).
 *
 * Of the last block often the class token alone is read: then only its query is made, and only its row goes on.
 *
 * A frame's tokens are cut twice: into rows of LN1 and [Q|K|V], and when these are complete into query rows, each of
 * which goes through attention, projection and residual. */
#include <math.h>

#include "common/fail.h"
#include "stages/attend.h"
#include "stages/blocks/blocks.h"
#include "stages/loader.h"

struct attention {
    struct ees__norm norm;
    struct ees__norm q_norm, k_norm; /* (D); zeroed: none */
    struct ees__linear qkv, proj;
    struct ees__linear queries, rest; /* parts of qkv: the first columns, none of K or V, and those behind them */
    struct ees__attention shape;
    float eps;
};

static void close_attention(void *self) {
    struct attention *a = self;
    if (!a)
        return;
    ees__norm_close(&a->norm);
    ees__norm_close(&a->q_norm);
    ees__norm_close(&a->k_norm);
    ees__linear_close(&a->qkv);
    ees__linear_close(&a->proj);
    ees__free(a);
}

/* What parts share: [Q|K|V] and its packed heads. */
static size_t shared_floats(const struct ees__kernels *kernels, const struct ees__attention *shape) {
    return ees__piece_floats(shape->t * 3 * shape->h * shape->d) + ees__attend_packed_floats(kernels, shape);
}

static void fill_cost(const struct ees__kernels *kernels, const struct ees__attention *shape, size_t n_rows,
                      struct ees__op_cost *cost) {
    size_t t = shape->t, c = shape->h * shape->d;
    size_t inner = ees__max_size(kernels->linear_scratch_floats(t, 3 * c, c), kernels->linear_scratch_floats(t, c, c));
    inner = ees__max_size(inner, ees__attention_core(kernels, shape)->scratch_floats(t, shape->d));
    cost->scratch_floats = shared_floats(kernels, shape) + ees__piece_floats(t * c) + inner;
    double dt = (double)t, dc = (double)c, rows = (double)n_rows;
    cost->flops = 2.0 * (2.0 * (dt + rows) * dc * dc + 2.0 * rows * dt * dc);
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
    if (rc == 0 && d->qk_norm)
        rc = ees__load_norm(loader, prefix, "attn.q_norm", c / d->n_heads, &a->q_norm, err);
    if (rc == 0 && d->qk_norm)
        rc = ees__load_norm(loader, prefix, "attn.k_norm", c / d->n_heads, &a->k_norm, err);
    if (rc == 0)
        rc = ees__load_scaled_linear(loader, prefix, "attn.proj", d->layer_scale ? "ls1" : NULL, EES_SHAPE(c, c), true,
                                     &a->proj, err);
    if (rc < 0) {
        close_attention(a);
        return rc;
    }
    a->eps = (float)d->norm_eps;
    a->shape = (struct ees__attention){.t = d->n_tokens, .h = d->n_heads, .d = c / d->n_heads};
    a->shape.precision = loader->precision;
    a->shape.scale = (float)(1.0 / sqrt((double)a->shape.d));
    size_t n_queries = c / EES__PART_COLUMNS * EES__PART_COLUMNS;
    a->queries = ees__linear_part(&a->qkv, 0, n_queries);
    a->rest = ees__linear_part(&a->qkv, n_queries, 3 * c);
    fill_cost(loader->kernels, &a->shape, loader->n_rows, cost);
    *self = a;
    return 0;
}

/* One frame. Parts have memory for all rows and use those of their range. */
struct frame {
    const struct attention *op;
    const struct ees__run *run;
    float *state, *qkv;
    struct ees__attend attend;
};

static float *own_scratch(const struct frame *f, const struct ees__lane *lane) {
    return lane->scratch + shared_floats(f->run->kernels, &f->op->shape);
}

/* LN of each head's part of n rows; `columns` are its first in the rows of [Q|K|V]. */
static void norm_heads(const struct frame *f, const struct ees__norm *norm, float *columns, size_t n) {
    const struct attention *a = f->op;
    size_t d = a->shape.d, ld = 3 * a->proj.n;
    for (size_t head = 0; norm->gamma && head < a->shape.h; head++)
        f->run->kernels->layernorm(columns + head * d, ld, n, d, norm->gamma, norm->beta, a->eps, columns + head * d,
                                   ld);
}

/* [Q|K|V] of rows, the first n_queries of which need a query. */
static void multiply_qkv(const struct attention *a, const struct ees__kernels *kernels, const float *rows, size_t n,
                         size_t n_queries, float *qkv, float *scratch) {
    static const struct ees__post store = {.op = EES__POST_NONE};
    size_t c = a->proj.n;
    if (n_queries == n) {
        kernels->linear(&a->qkv, rows, c, n, qkv, 3 * c, &store, scratch);
        return;
    }
    kernels->linear(&a->queries, rows, c, n_queries, qkv, 3 * c, &store, scratch);
    kernels->linear(&a->rest, rows, c, n, qkv + a->queries.n, 3 * c, &store, scratch);
}

static void project_in(void *ctx, size_t first, size_t end, struct ees__lane *lane) {
    const struct frame *f = ctx;
    const struct attention *a = f->op;
    const struct ees__kernels *kernels = f->run->kernels;
    size_t c = a->proj.n, n = end - first, n_queries = f->run->n_rows > first ? f->run->n_rows - first : 0;
    float *scratch = own_scratch(f, lane), *rows = ees__cut_piece(&scratch, a->shape.t * c);
    kernels->layernorm(f->state + first * c, c, n, c, a->norm.gamma, a->norm.beta, a->eps, rows, c);
    float *qkv = f->qkv + first * 3 * c;
    if (n_queries > n)
        n_queries = n;
    multiply_qkv(a, kernels, rows, n, n_queries, qkv, scratch);
    norm_heads(f, &a->q_norm, qkv, n_queries);
    norm_heads(f, &a->k_norm, qkv + c, n);
}

static void attend(void *ctx, size_t first, size_t end, struct ees__lane *lane) {
    static const struct ees__post add = {.op = EES__POST_ADD};
    const struct frame *f = ctx;
    const struct attention *a = f->op;
    size_t c = a->proj.n;
    float *scratch = own_scratch(f, lane), *rows = ees__cut_piece(&scratch, a->shape.t * c);
    ees__attend_rows(&f->attend, first, end, rows, scratch);
    f->run->kernels->linear(&a->proj, rows + first * c, c, end - first, f->state + first * c, c, &add, scratch);
}

static void run_attention(const void *self, const struct ees__run *run) {
    const struct attention *a = self;
    size_t t = a->shape.t, grain = ees__row_grain(run, t);
    float *scratch = run->lane->scratch;
    float *qkv = ees__cut_piece(&scratch, t * 3 * a->proj.n);
    for (size_t i = 0; i < run->n; i++) {
        struct frame f = {
            .op = a,
            .run = run,
            .state = run->states[i],
            .qkv = qkv,
            .attend = {.kernels = run->kernels, .shape = a->shape, .qkv = qkv, .packed = scratch},
        };
        ees__run_share(run, project_in, &f, t, grain);
        ees__attend_begin(&f.attend, run);
        ees__run_share(run, attend, &f, run->n_rows, ees__row_grain(run, run->n_rows));
    }
}

const struct ees__op ees__block_attention = {
    .name = "attn",
    .open = open_attention,
    .run = run_attention,
    .close = close_attention,
};
