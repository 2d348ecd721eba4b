/* SPDX-License-Identifier: MIT */
/* LGViT's global aggregation heads, attention_r1 .. attention_r9 (spec 5.4; github falcon-xu/LGViT,
 * models/deit_highway/highway.py): every r-th row and column of the patch grid (the published code subsamples, it does
 * not average), packed qkv without bias, 8 attention heads whatever the backbone has, softmax(Q K^T D^-0.5) V,
 * projection; no LN, no residual. `self_attention` is the same on all patches, with the backbone's number of attention
 * heads and its qkv bias. The projection is left to the tail, which may run it once, on a mean. */
#include "stages/heads/gah.h"

#include <math.h>
#include <string.h>

#include "common/fail.h"
#include "stages/attend.h"
#include "stages/heads/pooled.h"

enum { LGVIT_HEADS = 8 };

/* Frames whose kept rows are fewer than this together make one product: 25 rows of ViT-B take 12 % less time in a
 * product of 100 than alone, 49 rows gain nothing. */
enum { JOINED_ROWS = 100 };

struct gah {
    struct ees__linear qkv;
    struct ees__tail tail;       /* its last layer is the projection */
    struct ees__attention shape; /* of a frame's kept rows */
    size_t ratio, n_joined;
};

static void close_gah(void *self) {
    struct gah *g = self;
    if (!g)
        return;
    ees__linear_close(&g->qkv);
    ees__tail_close(&g->tail);
    ees__free(g);
}

static size_t count_kept(size_t side, size_t ratio) { return (side - 1) / ratio + 1; }

static size_t rows_floats(const struct gah *g, size_t n_frames) {
    size_t n = n_frames * g->shape.t, c = g->tail.last.n;
    return ees__piece_floats(n * c) + ees__piece_floats(n * 3 * c);
}

static void fill_cost(const struct ees__loader *loader, const struct gah *g, struct ees__op_cost *cost) {
    const struct ees__kernels *kernels = loader->kernels;
    size_t n = g->shape.t, c = g->tail.last.n;
    size_t inner = ees__max_size(kernels->linear_scratch_floats(n, 3 * c, c),
                                 ees__attention_core(kernels, &g->shape)->scratch_floats(n, g->shape.d));
    double dn = (double)n, dc = (double)c;
    cost->item_floats = g->n_joined > 1 ? rows_floats(g, 1) : 0;
    cost->scratch_floats = rows_floats(g, 1) + ees__attend_packed_floats(kernels, &g->shape);
    cost->flops = 2.0 * (3.0 * dn * dc * dc + 2.0 * dn * dn * dc);
    ees__tail_cost(loader, &g->tail, n, inner, cost);
}

int ees__gah_open(struct ees__loader *loader, const char *prefix, unsigned ratio, size_t n_heads, bool has_bias,
                  void **self, struct ees__op_cost *cost, ees_error *err) {
    const struct ees__dims *d = loader->dims;
    size_t c = d->n_channels;
    if (c % n_heads)
        return EES_FAIL(err, EES_EMODEL,
                        "config.json: 'hidden_size' is %zu, expected a multiple of %zu (%s attention_r%u)", c, n_heads,
                        prefix, ratio);
    struct gah *g = ees__calloc_aligned(1, sizeof *g);
    if (!g)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %s", prefix);
    int rc = ees__load_linear(loader, prefix, "attn.qkv", EES_SHAPE(3 * c, c), has_bias, &g->qkv, err);
    if (rc == 0)
        rc = ees__load_linear(loader, prefix, "attn.proj", EES_SHAPE(c, c), true, &g->tail.last, err);
    if (rc == 0)
        rc = ees__tail_open(loader, prefix, &g->tail, err);
    if (rc < 0) {
        close_gah(g);
        return rc;
    }
    g->ratio = ratio;
    g->shape = (struct ees__attention){.h = n_heads, .d = c / n_heads};
    g->shape.t = count_kept(d->grid_h, ratio) * count_kept(d->grid_w, ratio);
    g->shape.scale = (float)(1.0 / sqrt((double)g->shape.d));
    g->n_joined = ees__max_size(JOINED_ROWS / g->shape.t, 1);
    fill_cost(loader, g, cost);
    *self = g;
    return 0;
}

static int open_attention_r(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                            struct ees__op_cost *cost, ees_error *err) {
    return ees__gah_open(loader, prefix, number, LGVIT_HEADS, false, self, cost, err);
}

static int open_self_attention(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                               struct ees__op_cost *cost, ees_error *err) {
    const struct ees__dims *d = loader->dims;
    return ees__gah_open(loader, prefix, 1, d->n_heads, d->qkv_bias, self, cost, err);
}

/* Frames whose rows are multiplied together. All memory but the parts' scratch is shared. */
struct group {
    const struct gah *op;
    const struct ees__run *run;
    float *const *states;
    float *rows; /* (n_frames * n, C): the kept patches, then what attention gives */
    float *qkv;  /* (n_frames * n, 3C) */
    float *scratch;
    struct ees__attend attend; /* of the frame at hand */
    float *attended;           /* its rows */
};

/* A part's own scratch lies where the leader's does. */
static float *own_scratch(const struct group *g, const struct ees__lane *lane) {
    return lane->scratch + (g->scratch - g->run->lane->scratch);
}

/* Rows and columns 0, r, 2r, ... of the grid: kept row `row` of a frame. */
static const float *find_kept(const struct group *g, const float *state, size_t row) {
    const struct ees__dims *d = g->run->dims;
    size_t side = count_kept(d->grid_w, g->op->ratio);
    size_t patch = row / side * g->op->ratio * d->grid_w + row % side * g->op->ratio;
    return state + (d->n_special + patch) * d->n_channels;
}

static void project_in(void *ctx, size_t first, size_t end, struct ees__lane *lane) {
    static const struct ees__post store = {.op = EES__POST_NONE};
    const struct group *g = ctx;
    size_t n = g->op->shape.t, c = g->op->tail.last.n;
    for (size_t row = first; row < end; row++)
        memcpy(g->rows + row * c, find_kept(g, g->states[row / n], row % n), c * sizeof(float));
    g->run->kernels->linear(&g->op->qkv, g->rows + first * c, c, end - first, g->qkv + first * 3 * c, 3 * c, &store,
                            own_scratch(g, lane));
}

static void attend(void *ctx, size_t first, size_t end, struct ees__lane *lane) {
    const struct group *g = ctx;
    ees__attend_rows(&g->attend, first, end, g->attended, own_scratch(g, lane));
}

/* Frames [first, first + n_frames) of the run, as far as what attention gives. */
static void run_group(struct group *g, size_t first, size_t n_frames, struct ees__tail_run *tail) {
    size_t n = g->op->shape.t, c = g->op->tail.last.n;
    g->states = g->run->states + first;
    ees__run_share(g->run, project_in, g, n_frames * n, ees__row_grain(g->run, n_frames * n));
    for (size_t i = 0; i < n_frames; i++) {
        g->attended = g->rows + i * n * c;
        g->attend.qkv = g->qkv + i * n * 3 * c;
        ees__attend_begin(&g->attend, g->run);
        ees__run_share(g->run, attend, g, n, ees__row_grain(g->run, n));
        ees__tail_take(tail, first + i, g->attended, NULL, n);
    }
}

static void run_gah(const void *self, const struct ees__run *run) {
    const struct gah *g = self;
    size_t n = g->shape.t, c = g->tail.last.n, n_joined = g->n_joined < run->n ? g->n_joined : run->n;
    float *scratch = run->lane->scratch;
    struct group group = {.op = g, .run = run, .attend = {.kernels = run->kernels, .shape = g->shape}};
    group.rows = ees__cut_piece(&scratch, n_joined * n * c);
    group.qkv = ees__cut_piece(&scratch, n_joined * n * 3 * c);
    group.attend.packed = ees__cut_piece(&scratch, ees__attend_packed_floats(run->kernels, &g->shape));
    struct ees__tail_run tail = ees__tail_begin(&g->tail, run, n, &scratch);
    group.scratch = scratch;
    for (size_t i = 0; i < run->n; i += n_joined)
        run_group(&group, i, run->n - i < n_joined ? run->n - i : n_joined, &tail);
    ees__tail_end(&tail);
}

const struct ees__op ees__head_attention_r = {
    .name = "attention_r",
    .tokens = EES__HEAD_ANY,
    .numbered = true,
    .open = open_attention_r,
    .run = run_gah,
    .close = close_gah,
};

const struct ees__op ees__head_self_attention = {
    .name = "self_attention",
    .tokens = EES__HEAD_ANY,
    .open = open_self_attention,
    .run = run_gah,
    .close = close_gah,
};
