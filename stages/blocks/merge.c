/* SPDX-License-Identifier: MIT */
/* Between two stages of a Swin (spec 1.4, 5): 2 x 2 tokens, a grid of odd sides padded with zeros at the bottom and at
 * the right, become one: [even row, even column ; odd, even ; even, odd ; odd, odd] -> LN over 4C -> Linear 4C -> 2C
 * without bias. The unit sees the sizes of the stage in front of it.
 *
 * The result lies where the tokens were, so their norms wait in scratch, shared by the parts, until all are read. */
#include <string.h>

#include "common/fail.h"
#include "stages/blocks/blocks.h"
#include "stages/loader.h"

static const float merge_eps = 1e-5f; /* whatever the config says of the blocks' */

struct merge {
    struct ees__norm norm;
    struct ees__linear reduce;   /* (2C, 4C) */
    size_t grid_h, grid_w, h, w; /* before and after */
};

static void close_merge(void *self) {
    struct merge *m = self;
    if (!m)
        return;
    ees__norm_close(&m->norm);
    ees__linear_close(&m->reduce);
    ees__free(m);
}

static int open_merge(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                      struct ees__op_cost *cost, ees_error *err) {
    const struct ees__dims *d = loader->dims;
    size_t c = d->n_channels;
    struct merge *m = ees__calloc_aligned(1, sizeof *m);
    if (!m)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %s", prefix);
    int rc = ees__load_norm(loader, prefix, "norm", 4 * c, &m->norm, err);
    if (rc == 0)
        rc = ees__load_linear(loader, prefix, "reduce", EES_SHAPE(2 * c, 4 * c), false, &m->reduce, err);
    if (rc < 0) {
        close_merge(m);
        return rc;
    }
    m->grid_h = d->grid_h;
    m->grid_w = d->grid_w;
    m->h = (d->grid_h + 1) / 2;
    m->w = (d->grid_w + 1) / 2;
    size_t n = m->h * m->w;
    cost->scratch_floats = ees__piece_floats(n * 4 * c) + loader->kernels->linear_scratch_floats(n, 2 * c, 4 * c);
    cost->flops = 2.0 * (double)n * 8.0 * (double)c * (double)c;
    *self = m;
    return 0;
}

/* One frame. */
struct frame {
    const struct merge *op;
    const struct ees__run *run;
    float *state, *rows; /* rows: (h * w, 4C) */
};

/* [first, end) of the merged tokens. */
static void norm_rows(void *ctx, size_t first, size_t end, struct ees__lane *lane) {
    const struct frame *f = ctx;
    const struct merge *m = f->op;
    size_t c = m->reduce.k / 4;
    float *row = f->rows + first * 4 * c;
    for (size_t i = first; i < end; i++, row += 4 * c)
        for (size_t part = 0; part < 4; part++) {
            size_t r = 2 * (i / m->w) + part % 2, column = 2 * (i % m->w) + part / 2;
            if (r < m->grid_h && column < m->grid_w)
                memcpy(row + part * c, f->state + (r * m->grid_w + column) * c, c * sizeof *row);
            else
                memset(row + part * c, 0, c * sizeof *row);
        }
    row = f->rows + first * 4 * c;
    f->run->kernels->layernorm(row, 4 * c, end - first, 4 * c, m->norm.gamma, m->norm.beta, merge_eps, row, 4 * c);
}

static void reduce_rows(void *ctx, size_t first, size_t end, struct ees__lane *lane) {
    static const struct ees__post store = {.op = EES__POST_NONE};
    const struct frame *f = ctx;
    const struct merge *m = f->op;
    size_t n = m->reduce.n, k = m->reduce.k;
    f->run->kernels->linear(&m->reduce, f->rows + first * k, k, end - first, f->state + first * n, n, &store,
                            lane->scratch + ees__piece_floats(m->h * m->w * k));
}

static void run_merge(const void *self, const struct ees__run *run) {
    const struct merge *m = self;
    size_t n = m->h * m->w, grain = ees__row_grain(run, n);
    for (size_t i = 0; i < run->n; i++) {
        struct frame f = {.op = m, .run = run, .state = run->states[i], .rows = run->lane->scratch};
        ees__run_share(run, norm_rows, &f, n, grain);
        ees__run_share(run, reduce_rows, &f, n, grain);
    }
}

const struct ees__op ees__block_merge = {
    .name = "merge",
    .open = open_merge,
    .run = run_merge,
    .close = close_merge,
};
