/* SPDX-License-Identifier: MIT */
/* The branches of Multi-Exit ViT that mix tokens by a learned matrix (spec 5.6), on all T tokens x:
 *
 *   mixer_ee   u = x + (token.fc2 gelu(token.fc1 LN1(x)^T))^T     y = u + channel.fc2 gelu(channel.fc1 LN2(u))
 *   resmlp_ee  u = x + ls1 (token aff1(x)^T)^T                    y = u + ls2 channel.fc2 gelu(channel.fc1 aff2(u))
 *
 * with aff(x) = weight x + bias a channel, then the mean of y over tokens and an MLP. Of the last product only the mean
 * is used, so it runs once, on a mean; ls2 is part of its weights, aff2 part of channel.fc1's. Token mixing works on
 * rows of channels, a transposed copy. */
#include "common/fail.h"
#include "stages/heads/mlp_list.h"

static const float mixer_eps = 1e-6f;

struct mixing {
    size_t t;
    struct ees__norm norm1, norm2; /* mixer_ee: LN1 and LN2; resmlp_ee: aff1 alone */
    struct ees__linear token_fc1;  /* resmlp_ee: empty */
    struct ees__linear token_fc2;  /* resmlp_ee: `token` */
    float *scale;                  /* (C,): ls1; NULL for mixer_ee */
    struct ees__linear fc1, fc2;   /* of the channels */
    struct ees__mlp_list mlp;
};

static void close_mixing(void *self) {
    struct mixing *m = self;
    if (!m)
        return;
    ees__norm_close(&m->norm1);
    ees__norm_close(&m->norm2);
    ees__linear_close(&m->token_fc1);
    ees__linear_close(&m->token_fc2);
    ees__free(m->scale);
    ees__linear_close(&m->fc1);
    ees__linear_close(&m->fc2);
    ees__mlp_list_close(&m->mlp);
    ees__free(m);
}

/* ---- loading ------------------------------------------------------------------------------------------- */

/* channel.fc1 behind aff2: W diag(weight), b + W bias. */
static int load_behind_affine(struct ees__loader *loader, const char *prefix, size_t width, size_t c,
                              struct ees__linear *out, ees_error *err) {
    struct ees__norm affine = {0};
    float *w, *bias = NULL;
    int rc = ees__load_norm(loader, prefix, "aff2", c, &affine, err);
    if (rc == 0)
        rc = ees__load_tensor(loader, prefix, "channel.fc1.bias", EES_SHAPE(width), &bias, err);
    if (rc == 0)
        rc = ees__stage_tensor(loader, prefix, "channel.fc1.weight", EES_SHAPE(width, c), &w, err);
    for (size_t i = 0; rc == 0 && i < width; i++) {
        double sum = bias[i];
        for (size_t j = 0; j < c; j++) {
            sum += (double)w[i * c + j] * affine.beta[j];
            w[i * c + j] *= affine.gamma[j];
        }
        bias[i] = (float)sum;
    }
    if (rc == 0)
        rc = ees__pack_linear(loader, w, bias, width, c, out, err);
    ees__norm_close(&affine);
    ees__free(bias);
    return rc;
}

static int load_mixer(struct ees__loader *loader, const char *prefix, size_t width, struct mixing *m, ees_error *err) {
    size_t t = m->t, c = loader->dims->n_channels, n_hidden;
    EES_TRY(ees__check_input(loader, prefix, "token.fc1.weight", 1, t, "tokens", err));
    EES_TRY(ees__load_size(loader, prefix, "token.fc1.weight", 0, (c + 1) / 2, &n_hidden, err));
    EES_TRY(ees__load_norm(loader, prefix, "norm1", c, &m->norm1, err));
    EES_TRY(ees__load_linear(loader, prefix, "token.fc1", EES_SHAPE(n_hidden, t), true, &m->token_fc1, err));
    EES_TRY(ees__load_linear(loader, prefix, "token.fc2", EES_SHAPE(t, n_hidden), true, &m->token_fc2, err));
    EES_TRY(ees__load_norm(loader, prefix, "norm2", c, &m->norm2, err));
    EES_TRY(ees__load_linear(loader, prefix, "channel.fc1", EES_SHAPE(width, c), true, &m->fc1, err));
    return ees__load_linear(loader, prefix, "channel.fc2", EES_SHAPE(c, width), true, &m->fc2, err);
}

static int load_resmlp(struct ees__loader *loader, const char *prefix, size_t width, struct mixing *m, ees_error *err) {
    size_t t = m->t, c = loader->dims->n_channels;
    EES_TRY(ees__check_input(loader, prefix, "token.weight", 1, t, "tokens", err));
    EES_TRY(ees__load_norm(loader, prefix, "aff1", c, &m->norm1, err));
    EES_TRY(ees__load_linear(loader, prefix, "token", EES_SHAPE(t, t), true, &m->token_fc2, err));
    EES_TRY(ees__load_tensor(loader, prefix, "ls1", EES_SHAPE(c), &m->scale, err));
    EES_TRY(load_behind_affine(loader, prefix, width, c, &m->fc1, err));
    return ees__load_scaled_linear(loader, prefix, "channel.fc2", "ls2", EES_SHAPE(c, width), true, &m->fc2, err);
}

/* Shared by the parts: LN1(x) of mixer_ee, u, and channel.fc1's outputs. */
static size_t shared_floats(const struct mixing *m) {
    size_t c = m->fc1.k;
    return ees__piece_floats(m->scale ? 0 : m->t * c) + ees__piece_floats(m->t * c) +
           ees__piece_floats(m->t * m->fc1.n);
}

static void fill_cost(const struct ees__loader *loader, const struct mixing *m, struct ees__op_cost *cost) {
    const struct ees__kernels *kernels = loader->kernels;
    size_t t = m->t, c = m->fc1.k, f = m->fc1.n, w = m->token_fc1.n;
    size_t by_tokens =
        2 * ees__piece_floats(c * t) + ees__piece_floats(c * w) +
        ees__max_size(kernels->linear_scratch_floats(c, w, t), kernels->linear_scratch_floats(c, t, m->token_fc2.k));
    size_t by_channels = ees__piece_floats(t * c) + kernels->linear_scratch_floats(t, f, c);
    size_t end = ees__max_size(kernels->linear_scratch_floats(1, c, f), ees__mlp_list_floats(&m->mlp, kernels, 1));
    size_t rows = ees__piece_floats(f) + ees__piece_floats(c);
    cost->item_floats = rows + end;
    cost->scratch_floats = shared_floats(m) + rows + ees__max_size(ees__max_size(by_tokens, by_channels), end);
    double mixed = (double)(m->token_fc1.n * m->token_fc1.k + m->token_fc2.n * m->token_fc2.k);
    cost->flops = 2.0 * (double)c * (mixed + (double)(t + 1) * (double)f) + ees__mlp_list_flops(&m->mlp);
}

static int open_head(struct ees__loader *loader, const char *prefix,
                     int (*load)(struct ees__loader *loader, const char *prefix, size_t width, struct mixing *m,
                                 ees_error *err),
                     void **self, struct ees__op_cost *cost, ees_error *err) {
    size_t c = loader->dims->n_channels, width;
    struct mixing *m = ees__calloc_aligned(1, sizeof *m);
    if (!m)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %s", prefix);
    m->t = loader->dims->n_tokens;
    int rc = ees__load_size(loader, prefix, "channel.fc1.weight", 0, 4 * c, &width, err);
    if (rc == 0)
        rc = load(loader, prefix, width, m, err);
    if (rc == 0)
        rc = ees__mlp_list_open(loader, prefix, c, &m->mlp, err);
    if (rc < 0) {
        close_mixing(m);
        return rc;
    }
    loader->n_packed_bytes += (m->scale ? c : 0) * sizeof(float);
    fill_cost(loader, m, cost);
    *self = m;
    return 0;
}

static int open_mixer(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                      struct ees__op_cost *cost, ees_error *err) {
    return open_head(loader, prefix, load_mixer, self, cost, err);
}

static int open_resmlp(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                       struct ees__op_cost *cost, ees_error *err) {
    return open_head(loader, prefix, load_resmlp, self, cost, err);
}

/* ---- running ------------------------------------------------------------------------------------------- */

/* One frame. All memory but `scratch`, which is a part's own, is shared. */
struct frame {
    const struct mixing *op;
    const struct ees__run *run;
    const float *x; /* (T, C) */
    float *normed;  /* (T, C) of mixer_ee */
    float *u;       /* (T, C) */
    float *hidden;  /* (T, F) */
    float *scratch;
};

static float *own_scratch(const struct frame *f, const struct ees__lane *lane) {
    return lane->scratch + (f->scratch - f->run->lane->scratch);
}

static void norm_rows(void *ctx, size_t first, size_t end, struct ees__lane *lane) {
    const struct frame *f = ctx;
    const struct ees__norm *norm = &f->op->norm1;
    size_t c = f->op->fc1.k;
    f->run->kernels->layernorm(f->x + first * c, c, end - first, c, norm->gamma, norm->beta, mixer_eps,
                               f->normed + first * c, c);
}

/* Channels [first, end) of what the token mixing reads, as rows (n, T). */
static void transpose(const struct frame *f, size_t first, size_t end, float *rows) {
    const struct mixing *m = f->op;
    size_t t = m->t, c = m->fc1.k;
    for (size_t j = 0; j < t; j++)
        for (size_t i = first; i < end; i++)
            rows[(i - first) * t + j] =
                m->scale ? m->norm1.gamma[i] * f->x[j * c + i] + m->norm1.beta[i] : f->normed[j * c + i];
}

static void mix_tokens(void *ctx, size_t first, size_t end, struct ees__lane *lane) {
    static const struct ees__post gelu = {.op = EES__POST_GELU}, store = {.op = EES__POST_NONE};
    const struct frame *f = ctx;
    const struct mixing *m = f->op;
    size_t t = m->t, c = m->fc1.k, n = end - first, w = m->token_fc1.n;
    float *scratch = own_scratch(f, lane);
    float *rows = ees__cut_piece(&scratch, n * t), *mixed = ees__cut_piece(&scratch, n * t);
    float *hidden = ees__cut_piece(&scratch, n * w);
    transpose(f, first, end, rows);
    if (w > 0)
        f->run->kernels->linear(&m->token_fc1, rows, t, n, hidden, w, &gelu, scratch);
    f->run->kernels->linear(&m->token_fc2, w > 0 ? hidden : rows, m->token_fc2.k, n, mixed, t, &store, scratch);
    for (size_t j = 0; j < t; j++)
        for (size_t i = first; i < end; i++)
            f->u[j * c + i] = f->x[j * c + i] + (m->scale ? m->scale[i] : 1.0f) * mixed[(i - first) * t + j];
}

static void mix_channels(void *ctx, size_t first, size_t end, struct ees__lane *lane) {
    static const struct ees__post gelu = {.op = EES__POST_GELU};
    const struct frame *f = ctx;
    const struct mixing *m = f->op;
    size_t c = m->fc1.k, n = end - first, width = m->fc1.n;
    float *scratch = own_scratch(f, lane), *rows = f->u + first * c;
    if (!m->scale) {
        float *normed = ees__cut_piece(&scratch, n * c);
        f->run->kernels->layernorm(rows, c, n, c, m->norm2.gamma, m->norm2.beta, mixer_eps, normed, c);
        rows = normed;
    }
    f->run->kernels->linear(&m->fc1, rows, c, n, f->hidden + first * width, width, &gelu, scratch);
}

static void run_mixing(const void *self, const struct ees__run *run) {
    static const struct ees__post add = {.op = EES__POST_ADD};
    const struct mixing *m = self;
    const struct ees__kernels *kernels = run->kernels;
    size_t t = m->t, c = m->fc1.k, width = m->fc1.n;
    float *scratch = run->lane->scratch;
    struct frame f = {.op = m, .run = run};
    f.normed = ees__cut_piece(&scratch, m->scale ? 0 : t * c);
    f.u = ees__cut_piece(&scratch, t * c);
    f.hidden = ees__cut_piece(&scratch, t * width);
    float *means = ees__cut_piece(&scratch, run->n * width), *pooled = ees__cut_piece(&scratch, run->n * c);
    f.scratch = scratch;
    for (size_t i = 0; i < run->n; i++) {
        f.x = run->states[i];
        if (!m->scale)
            ees__run_share(run, norm_rows, &f, t, ees__row_grain(run, t));
        ees__run_share(run, mix_tokens, &f, c, ees__row_grain(run, c));
        ees__run_share(run, mix_channels, &f, t, ees__row_grain(run, t));
        kernels->column_mean(f.hidden, width, t, width, means + i * width);
        kernels->column_mean(f.u, c, t, c, pooled + i * c);
    }
    kernels->linear(&m->fc2, means, width, run->n, pooled, c, &add, scratch);
    ees__mlp_list_run(&m->mlp, run, pooled, scratch);
}

const struct ees__op ees__head_mixer_ee = {
    .name = "mixer_ee",
    .open = open_mixer,
    .run = run_mixing,
    .close = close_mixing,
};

const struct ees__op ees__head_resmlp_ee = {
    .name = "resmlp_ee",
    .open = open_resmlp,
    .run = run_mixing,
    .close = close_mixing,
};
