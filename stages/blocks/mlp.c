/* SPDX-License-Identifier: MIT */
/* Second half of a pre-LN block (spec 1.1): x += W2 gelu(W1 LN2(x) + b1) + b2, or gated (SwiGLU, spec 1.3):
 * x += W3 (silu(a) b) + b3, [a ; b] = W12 LN2(x) + b12. A layer scale is part of the last matrix and bias. */
#include "common/fail.h"
#include "stages/blocks/blocks.h"
#include "stages/loader.h"

struct mlp {
    struct ees__norm norm;
    struct ees__linear fc1, fc2; /* gated: W12 and W3 */
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

static int open_mlp(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                    struct ees__op_cost *cost, ees_error *err) {
    const struct ees__dims *d = loader->dims;
    size_t t = d->n_tokens, c = d->n_channels, f = d->mlp_width;
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
    size_t rows = t < EES__CHUNK_ROWS ? t : EES__CHUNK_ROWS;
    cost->scratch_floats = ees__piece_floats(rows * c) + ees__piece_floats(rows * m->fc1.n) +
                           ees__max_size(loader->kernels->linear_scratch_floats(rows, m->fc1.n, c),
                                         loader->kernels->linear_scratch_floats(rows, c, f));
    cost->flops = 2.0 * (double)t * (double)c * (double)(m->fc1.n + f);
    *self = m;
    return 0;
}

/* One frame. */
struct frame {
    const struct mlp *op;
    const struct ees__run *run;
    float *state;
};

static void run_chunk(const struct mlp *m, const struct ees__kernels *kernels, size_t n, float *state, float *scratch) {
    static const struct ees__post gelu = {.op = EES__POST_GELU}, add = {.op = EES__POST_ADD},
                                  store = {.op = EES__POST_NONE};
    size_t c = m->fc2.n, width = m->fc1.n;
    float *rows = ees__cut_piece(&scratch, n * c), *hidden = ees__cut_piece(&scratch, n * width);
    kernels->layernorm(state, c, n, c, m->norm.gamma, m->norm.beta, m->eps, rows, c);
    kernels->linear(&m->fc1, rows, c, n, hidden, width, m->gated ? &store : &gelu, scratch);
    if (m->gated)
        kernels->silu_gate(hidden, width, n, m->fc2.k);
    kernels->linear(&m->fc2, hidden, width, n, state, c, &add, scratch);
}

static void run_rows(void *ctx, size_t first, size_t end, struct ees__lane *lane) {
    const struct frame *f = ctx;
    size_t chunk = ees__chunk_rows(end - first), c = f->op->fc2.n;
    for (size_t row = first; row < end; row += chunk) {
        size_t n = end - row < chunk ? end - row : chunk;
        run_chunk(f->op, f->run->kernels, n, f->state + row * c, lane->scratch);
    }
}

static void run_mlp(const void *self, const struct ees__run *run) {
    size_t t = run->dims->n_tokens;
    for (size_t i = 0; i < run->n; i++) {
        struct frame f = {.op = self, .run = run, .state = run->states[i]};
        ees__run_share(run, run_rows, &f, t, ees__row_grain(run, t));
    }
}

const struct ees__op ees__block_mlp = {
    .name = "mlp",
    .open = open_mlp,
    .run = run_mlp,
    .close = close_mlp,
};
