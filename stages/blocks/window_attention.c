/* SPDX-License-Identifier: MIT */
/* First half of a Swin block (spec 1.4): x += Wo concat_h(softmax(Q K^T / sqrt(D) + bias_h + mask) V) + bo within
 * windows of the grid, [Q|K|V] = LN1(x) Wqkv^T + bqkv. Tokens that pad the grid are zeros behind LN1, take part like
 * others, and what they get is dropped.
 *
 * Windows do not depend on each other: a part of a frame is a range of them. It brings as many windows as make a chunk
 * of rows into window order as it norms them, and adds their projection where the tokens came from. Nothing else is
 * copied. Bias and mask are tables made at load: one bias a head, one mask a kind of window. */
#include <math.h>
#include <string.h>

#include "common/fail.h"
#include "stages/blocks/blocks.h"
#include "stages/loader.h"
#include "stages/windows.h"

struct window_attention {
    struct ees__norm norm;
    struct ees__linear qkv, proj;
    struct ees__attention shape; /* of a window; its mask is chosen window by window */
    float eps;
    size_t n_windows, group; /* windows of a frame, and of a chunk of rows */
    uint32_t *token;         /* (n_windows, t): where in the frame, or EES__NO_TOKEN */
    unsigned char *kind;     /* (n_windows,) */
    float *bias;             /* (h, t, ld), see struct ees__attention */
    float *masks;            /* (EES__WINDOW_KINDS, t, ld); NULL: no window is shifted */
};

static void close_windows(void *self) {
    struct window_attention *a = self;
    if (!a)
        return;
    ees__norm_close(&a->norm);
    ees__linear_close(&a->qkv);
    ees__linear_close(&a->proj);
    ees__free(a->token);
    ees__free(a->kind);
    ees__free(a->bias);
    ees__free(a->masks);
    ees__free(a);
}

/* ---- Tables --------------------------------------------------------------------------------------------- */

static int lay_out(struct ees__loader *loader, const struct ees__windows *windows, struct window_attention *a,
                   ees_error *err) {
    size_t t = a->shape.t, n = a->n_windows;
    a->token = ees__calloc_aligned(n * t, sizeof *a->token);
    a->kind = ees__calloc_aligned(n, sizeof *a->kind);
    if (!a->token || !a->kind)
        return EES_FAIL(err, EES_ENOMEM, "no memory for the places of %zu windows", n);
    for (size_t i = 0; i < n; i++) {
        a->kind[i] = (unsigned char)ees__windows_kind(windows, i);
        for (size_t j = 0; j < t; j++)
            a->token[i * t + j] = ees__windows_token(windows, i, j);
    }
    loader->n_packed_bytes += n * t * sizeof *a->token + n * sizeof *a->kind;
    return 0;
}

static int make_masks(struct ees__loader *loader, const struct ees__windows *windows, struct window_attention *a,
                      ees_error *err) {
    size_t t = a->shape.t, ld = ees__score_ld(t), n = EES__WINDOW_KINDS * t * ld;
    if (windows->shift_h == 0 && windows->shift_w == 0)
        return 0;
    a->masks = ees__calloc_aligned(n, sizeof *a->masks);
    if (!a->masks)
        return EES_FAIL(err, EES_ENOMEM, "no memory for the masks of windows of %zu tokens", t);
    for (unsigned kind = 0; kind < EES__WINDOW_KINDS; kind++)
        for (size_t i = 0; i < t; i++)
            for (size_t j = 0; j < t; j++)
                a->masks[(kind * t + i) * ld + j] = ees__windows_mask(windows, kind, i, j);
    loader->n_packed_bytes += n * sizeof *a->masks;
    return 0;
}

/* The index buffer of a file is what we look the table up by, or the file means something else. */
static int check_index(struct ees__loader *loader, const char *prefix, const struct ees__windows *windows,
                       ees_error *err) {
    size_t t = windows->h * windows->w;
    float *index = ees__calloc_aligned(t * t, sizeof *index);
    if (!index)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %s.attn.rel_index", prefix);
    for (size_t i = 0; i < t * t; i++)
        index[i] = (float)ees__windows_relative(windows->h, windows->w, i / t, i % t);
    int rc = ees__check_buffer(loader, prefix, "attn.rel_index", index, t * t, err);
    ees__free(index);
    return rc;
}

static int load_bias(struct ees__loader *loader, const char *prefix, const struct ees__windows *windows,
                     struct window_attention *a, ees_error *err) {
    size_t t = a->shape.t, h = a->shape.h, ld = ees__score_ld(t);
    size_t n_rows = (2 * windows->h - 1) * (2 * windows->w - 1);
    float *table;
    EES_TRY(check_index(loader, prefix, windows, err));
    if (ees__stage_tensor(loader, prefix, "attn.rel_bias", EES_SHAPE(n_rows, h), &table, err) < 0)
        return ees__hint(err, "attention windows of %zu x %zu tokens fit the grid of %zu x %zu at this input",
                         windows->h, windows->w, windows->grid_h, windows->grid_w);
    a->bias = ees__calloc_aligned(h * t * ld, sizeof *a->bias);
    if (!a->bias)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %s.attn.rel_bias", prefix);
    for (size_t i = 0; i < t * t; i++) {
        const float *row = table + ees__windows_relative(windows->h, windows->w, i / t, i % t) * h;
        for (size_t head = 0; head < h; head++)
            a->bias[(head * t + i / t) * ld + i % t] = row[head];
    }
    a->shape.bias = a->bias;
    loader->n_packed_bytes += h * t * ld * sizeof *a->bias;
    return 0;
}

/* ---- Opening -------------------------------------------------------------------------------------------- */

/* A chunk: normed rows, then what attention gives; behind them [Q|K|V], then what the projection gives; one packed
 * head. */
static void fill_cost(const struct ees__kernels *kernels, const struct window_attention *a, struct ees__op_cost *cost) {
    const struct ees__attention *s = &a->shape;
    const struct ees__attention_core *core = ees__attention_core(kernels, s);
    size_t rows = a->group * s->t, c = s->h * s->d;
    size_t inner =
        ees__max_size(kernels->linear_scratch_floats(rows, 3 * c, c), kernels->linear_scratch_floats(rows, c, c));
    inner = ees__max_size(inner, core->scratch_floats(s->t, s->d));
    cost->scratch_floats = ees__piece_floats(rows * c) + ees__piece_floats(rows * 3 * c) +
                           ees__piece_floats(core->packed_floats(s->t, s->d)) + inner;
    double n_rows = (double)(a->n_windows * s->t), dc = (double)c;
    cost->flops = 2.0 * n_rows * dc * (4.0 * dc + 2.0 * (double)s->t);
}

static int load_windows(struct ees__loader *loader, const char *prefix, const struct ees__windows *windows,
                        struct window_attention *a, ees_error *err) {
    const struct ees__dims *d = loader->dims;
    size_t c = d->n_channels;
    EES_TRY(ees__load_norm(loader, prefix, "norm1", c, &a->norm, err));
    EES_TRY(ees__load_linear(loader, prefix, "attn.qkv", EES_SHAPE(3 * c, c), d->qkv_bias, &a->qkv, err));
    EES_TRY(ees__load_linear(loader, prefix, "attn.proj", EES_SHAPE(c, c), true, &a->proj, err));
    EES_TRY(load_bias(loader, prefix, windows, a, err));
    EES_TRY(make_masks(loader, windows, a, err));
    return lay_out(loader, windows, a, err);
}

static int open_windows(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                        struct ees__op_cost *cost, ees_error *err) {
    const struct ees__dims *d = loader->dims;
    const struct ees__windows windows = ees__windows_cut(d, number % 2 == 1);
    struct window_attention *a = ees__calloc_aligned(1, sizeof *a);
    if (!a)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %s", prefix);
    a->eps = (float)d->norm_eps;
    a->n_windows = windows.rows * windows.columns;
    a->shape = (struct ees__attention){.t = windows.h * windows.w, .h = d->n_heads, .d = d->n_channels / d->n_heads};
    a->shape.precision = loader->precision;
    a->shape.scale = (float)(1.0 / sqrt((double)a->shape.d));
    a->group = ees__max_size(EES__CHUNK_ROWS / a->shape.t, 1);
    int rc = load_windows(loader, prefix, &windows, a, err);
    if (rc < 0) {
        close_windows(a);
        return rc;
    }
    fill_cost(loader->kernels, a, cost);
    *self = a;
    return 0;
}

/* ---- Running -------------------------------------------------------------------------------------------- */

/* One frame. */
struct frame {
    const struct window_attention *op;
    const struct ees__run *run;
    float *state;
};

/* rows (n, C) = LN1 of the tokens, zeros for padding. Runs of neighbours are normed at once. */
static void gather(const struct frame *f, const uint32_t *token, size_t n, float *rows) {
    const struct window_attention *a = f->op;
    size_t c = a->proj.n;
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && token[i] != EES__NO_TOKEN && token[end] == token[end - 1] + 1; end++)
            ;
        if (token[i] == EES__NO_TOKEN)
            memset(rows + i * c, 0, c * sizeof *rows);
        else
            f->run->kernels->layernorm(f->state + token[i] * c, c, end - i, c, a->norm.gamma, a->norm.beta, a->eps,
                                       rows + i * c, c);
    }
}

/* The tokens += rows. */
static void scatter(const struct frame *f, const uint32_t *token, size_t n, const float *rows) {
    size_t c = f->op->proj.n;
    for (size_t i = 0; i < n; i++) {
        float *restrict x = f->state + token[i] * c;
        for (size_t j = 0; j < c && token[i] != EES__NO_TOKEN; j++)
            x[j] += rows[i * c + j];
    }
}

/* out (n * t, C) of n windows from `first` on. A head's bias stays in the cache as it meets window after window. */
static void attend(const struct frame *f, size_t first, size_t n, const float *qkv, float *out, float *packed,
                   float *scratch) {
    const struct window_attention *a = f->op;
    const struct ees__attention_core *core = ees__attention_core(f->run->kernels, &a->shape);
    struct ees__attention shape = a->shape;
    size_t t = shape.t, c = a->proj.n;
    for (size_t head = 0; head < shape.h; head++)
        for (size_t i = 0; i < n; i++) {
            unsigned kind = a->kind[first + i];
            shape.mask = kind ? a->masks + kind * t * ees__score_ld(t) : NULL;
            core->pack(&shape, qkv + i * t * 3 * c, 3 * c, head, packed);
            core->run(&shape, qkv + i * t * 3 * c, 3 * c, head, 0, t, packed, out + i * t * c, c, scratch);
        }
}

static void run_group(const struct frame *f, size_t first, size_t n, float *scratch) {
    static const struct ees__post store = {.op = EES__POST_NONE};
    const struct window_attention *a = f->op;
    const struct ees__kernels *kernels = f->run->kernels;
    size_t t = a->shape.t, c = a->proj.n;
    const uint32_t *token = a->token + first * t;
    float *rows = ees__cut_piece(&scratch, n * t * c), *qkv = ees__cut_piece(&scratch, n * t * 3 * c);
    float *packed = ees__cut_piece(&scratch, ees__attention_core(kernels, &a->shape)->packed_floats(t, a->shape.d)),
          *projected = qkv;
    gather(f, token, n * t, rows);
    kernels->linear(&a->qkv, rows, c, n * t, qkv, 3 * c, &store, scratch);
    attend(f, first, n, qkv, rows, packed, scratch);
    kernels->linear(&a->proj, rows, c, n * t, projected, c, &store, scratch);
    scatter(f, token, n * t, projected);
}

static void run_part(void *ctx, size_t first, size_t end, struct ees__lane *lane) {
    const struct frame *f = ctx;
    for (size_t group = f->op->group; first < end; first += group)
        run_group(f, first, end - first < group ? end - first : group, lane->scratch);
}

static void run_windows(const void *self, const struct ees__run *run) {
    const struct window_attention *a = self;
    size_t least = (EES__PIECE_TILES * run->kernels->tile_rows + a->shape.t - 1) / a->shape.t;
    for (size_t i = 0; i < run->n; i++) {
        struct frame f = {.op = a, .run = run, .state = run->states[i]};
        ees__run_share(run, run_part, &f, a->n_windows, ees__grain(a->n_windows, least));
    }
}

const struct ees__op ees__block_window_attention = {
    .name = "attn",
    .open = open_windows,
    .run = run_windows,
    .close = close_windows,
};
