/* SPDX-License-Identifier: MIT */
/* Second half of a pre-LN block (spec 1.1): x += W2 act(W1 LN2(x) + b1) + b2, act a gelu, relu or silu, or gated
 * (SwiGLU, spec 1.3): x += W3 (silu(a) b) + b3, [a ; b] = W12 LN2(x) + b12. A layer scale is part of the last matrix
 * and bias. */
#include "common/fail.h"
#include "stages/blocks/blocks.h"
#include "stages/loader.h"

struct mlp {
    struct ees__norm norm;
    struct ees__linear fc1, fc2; /* gated: W12 and W3 */
    struct ees__post post;       /* of fc1 */
    bool gated;
    float eps;
};

static void close_mlp(void *self) {
    struct mlp *m = self;
    if (!m)
        return;
    ees__norm_close(&m->norm);
    ees__linear_close(&m->fc1);
    ees__linear_close(&m->fc2);
    ees__free(m);
}

static int load_linears(struct ees__loader *loader, const char *prefix, struct mlp *m, ees_error *err) {
    const struct ees__dims *d = loader->dims;
    size_t c = d->n_channels, f = d->mlp_width;
    const char *first = d->swiglu ? "mlp.w12" : "mlp.fc1", *last = d->swiglu ? "mlp.w3" : "mlp.fc2";
    EES_TRY(ees__load_linear(loader, prefix, first, EES_SHAPE(d->swiglu ? 2 * f : f, c), true, &m->fc1, err));
    return ees__load_scaled_linear(loader, prefix, last, d->layer_scale ? "ls2" : NULL, EES_SHAPE(c, f), true, &m->fc2,
                                   err);
}

/* From one hidden row to the next: a cache line more than it has, so that rows of 4096 bytes do not fall into the same
 * sets. */
static size_t hidden_ld(const struct mlp *m) { return m->fc1.n + EES_CACHE_LINE / sizeof(float); }

size_t ees__block_mlp_floats(const void *self, const struct ees__kernels *kernels, size_t n) {
    const struct mlp *m = self;
    size_t c = m->fc2.n, width = m->fc1.n;
    return ees__piece_floats(n * c) + ees__piece_floats(n * hidden_ld(m)) +
           ees__max_size(kernels->linear_scratch_floats(n, width, c), kernels->linear_scratch_floats(n, c, m->fc2.k));
}

double ees__block_mlp_flops(const void *self, size_t n) {
    const struct mlp *m = self;
    return 2.0 * (double)n * (double)m->fc2.n * (double)(m->fc1.n + m->fc2.k);
}

static int open_mlp(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                    struct ees__op_cost *cost, ees_error *err) {
    const struct ees__dims *d = loader->dims;
    size_t t = d->n_tokens, c = d->n_channels;
    struct mlp *m = ees__calloc_aligned(1, sizeof *m);
    if (!m)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %s", prefix);
    int rc = ees__load_norm(loader, prefix, "norm2", c, &m->norm, err);
    if (rc == 0)
        rc = load_linears(loader, prefix, m, err);
    if (rc < 0) {
        close_mlp(m);
        return rc;
    }
    m->eps = (float)d->norm_eps;
    m->gated = d->swiglu;
    m->post.op = m->gated ? EES__POST_NONE : d->activation;
    cost->scratch_floats = ees__block_mlp_floats(m, loader->kernels, t < EES__CHUNK_ROWS ? t : EES__CHUNK_ROWS);
    cost->flops = ees__block_mlp_flops(m, loader->n_rows);
    *self = m;
    return 0;
}

void ees__block_mlp_rows(const void *self, const struct ees__kernels *kernels, float *rows, size_t n, float *scratch) {
    static const struct ees__post add = {.op = EES__POST_ADD};
    const struct mlp *m = self;
    size_t c = m->fc2.n, ld = hidden_ld(m);
    float *normed = ees__cut_piece(&scratch, n * c), *hidden = ees__cut_piece(&scratch, n * ld);
    kernels->layernorm(rows, c, n, c, m->norm.gamma, m->norm.beta, m->eps, normed, c);
    kernels->linear(&m->fc1, normed, c, n, hidden, ld, &m->post, scratch);
    if (m->gated)
        kernels->silu_gate(hidden, ld, n, m->fc2.k);
    kernels->linear(&m->fc2, hidden, ld, n, rows, c, &add, scratch);
}

/* One frame. */
struct frame {
    const struct mlp *op;
    const struct ees__run *run;
    float *state;
};

static void run_rows(void *ctx, size_t first, size_t end, struct ees__lane *lane) {
    const struct frame *f = ctx;
    size_t chunk = ees__chunk_rows(end - first), c = f->op->fc2.n;
    for (size_t row = first; row < end; row += chunk) {
        size_t n = end - row < chunk ? end - row : chunk;
        ees__block_mlp_rows(f->op, f->run->kernels, f->state + row * c, n, lane->scratch);
    }
}

static void run_mlp(const void *self, const struct ees__run *run) {
    size_t n = run->n_rows;
    for (size_t i = 0; i < run->n; i++) {
        struct frame f = {.op = self, .run = run, .state = run->states[i]};
        ees__run_share(run, run_rows, &f, n, ees__row_grain(run, n));
    }
}

const struct ees__op ees__block_mlp = {
    .name = "mlp",
    .open = open_mlp,
    .run = run_mlp,
    .close = close_mlp,
};
