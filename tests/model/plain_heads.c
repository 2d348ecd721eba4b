/* SPDX-License-Identifier: MIT */
/* See plain_heads.h. Matrices are row-major; every function returns new memory, freed together at the end of a head. */
#include "plain_heads.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

static const struct plain_model *m; /* at hand */
static size_t T, C, N, K;
static const double *x;       /* (T, C) */
static const double *patches; /* (N, C) */

static double *blocks[256];
static size_t n_blocks;

static double *make(size_t n) {
    assert_true(n_blocks < sizeof blocks / sizeof *blocks);
    double *block = calloc(n, sizeof *block);
    assert_non_null(block);
    return blocks[n_blocks++] = block;
}

static const float *tensor(const char *leaf, const char *ending, size_t n) {
    char name[96];
    snprintf(name, sizeof name, "%s%s", leaf, ending);
    return m->tensor(name, n);
}

/* ---- parts --------------------------------------------------------------------------------------------- */

static double gelu(double a) { return a * 0.5 * erfc(-a * M_SQRT1_2); }
static double relu(double a) { return a > 0 ? a : 0; }
static double silu(double a) { return a / (1 + exp(-a)); }
static double gelu_tanh(double a) { return 0.5 * a * (1 + tanh(sqrt(2 / M_PI) * (a + 0.044715 * a * a * a))); }

static double *apply(double (*f)(double), const double *a, size_t n) {
    double *y = make(n);
    for (size_t i = 0; i < n; i++)
        y[i] = f(a[i]);
    return y;
}

static double *add(const double *a, const double *b, size_t n) {
    double *y = make(n);
    for (size_t i = 0; i < n; i++)
        y[i] = a[i] + b[i];
    return y;
}

static double *transpose(const double *a, size_t rows, size_t columns) {
    double *y = make(rows * columns);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            y[j * rows + i] = a[i * columns + j];
    return y;
}

/* y (rows, n) = a (rows, k) W^T + b */
static double *linear(const double *a, size_t rows, size_t k, const char *leaf, size_t n, bool has_bias) {
    const float *w = tensor(leaf, ".weight", n * k), *b = has_bias ? tensor(leaf, ".bias", n) : NULL;
    double *y = make(rows * n);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = b ? (double)b[j] : 0;
            for (size_t p = 0; p < k; p++)
                sum += a[i * k + p] * (double)w[j * k + p];
            y[i * n + j] = sum;
        }
    return y;
}

static double *layer_norm(const double *a, size_t rows, const char *leaf, double eps) {
    const float *gamma = tensor(leaf, ".weight", C), *beta = tensor(leaf, ".bias", C);
    double *y = make(rows * C);
    for (size_t i = 0; i < rows; i++) {
        double mean = 0, variance = 0;
        for (size_t j = 0; j < C; j++)
            mean += a[i * C + j] / (double)C;
        for (size_t j = 0; j < C; j++)
            variance += (a[i * C + j] - mean) * (a[i * C + j] - mean) / (double)C;
        for (size_t j = 0; j < C; j++)
            y[i * C + j] = (a[i * C + j] - mean) / sqrt(variance + eps) * (double)gamma[j] + (double)beta[j];
    }
    return y;
}

static double *batch_norm(const double *a, size_t rows, const char *leaf) {
    const float *gamma = tensor(leaf, ".weight", C), *beta = tensor(leaf, ".bias", C);
    const float *mean = tensor(leaf, ".running_mean", C), *variance = tensor(leaf, ".running_var", C);
    double *y = make(rows * C);
    for (size_t i = 0; i < rows * C; i++) {
        size_t j = i % C;
        y[i] = (a[i] - (double)mean[j]) / sqrt((double)variance[j] + 1e-5) * (double)gamma[j] + (double)beta[j];
    }
    return y;
}

/* Zero padding 1 on the grid of patches; `depth` inputs an output: k, or 1 where it is depthwise. */
static double *convolve(const double *a, size_t k, const char *leaf, size_t n, size_t depth) {
    long h = (long)m->dims->grid_h, w = (long)m->dims->grid_w;
    const float *weight = tensor(leaf, ".weight", n * depth * 9), *bias = tensor(leaf, ".bias", n);
    double *y = make(N * n);
    for (long r = 0; r < h; r++)
        for (long s = 0; s < w; s++)
            for (size_t j = 0; j < n; j++) {
                double sum = (double)bias[j];
                for (size_t p = 0; p < depth; p++)
                    for (long tap = 0; tap < 9; tap++) {
                        long row = r + tap / 3 - 1, column = s + tap % 3 - 1;
                        size_t channel = depth == 1 ? j : p;
                        if (row >= 0 && row < h && column >= 0 && column < w)
                            sum += a[(size_t)(row * w + column) * k + channel] *
                                   (double)weight[(j * depth + p) * 9 + (size_t)tap];
                    }
                y[(size_t)(r * w + s) * n + j] = sum;
            }
    return y;
}

/* softmax(Q K^T / sqrt(D)) V of qkv (rows, 3C) */
static double *attend(const double *qkv, size_t rows, size_t n_heads) {
    size_t d = C / n_heads;
    double *y = make(rows * C), *weights = make(rows);
    for (size_t head = 0; head < n_heads; head++)
        for (size_t i = 0; i < rows; i++) {
            const double *q = qkv + i * 3 * C + head * d;
            double sum = 0;
            for (size_t j = 0; j < rows; j++) {
                double score = 0;
                for (size_t p = 0; p < d; p++)
                    score += q[p] * qkv[j * 3 * C + C + head * d + p];
                sum += weights[j] = exp(score / sqrt((double)d));
            }
            for (size_t j = 0; j < rows; j++)
                for (size_t p = 0; p < d; p++)
                    y[i * C + head * d + p] += weights[j] / sum * qkv[j * 3 * C + 2 * C + head * d + p];
        }
    return y;
}

static double *mean_of(const double *a, size_t rows) {
    double *y = make(C);
    for (size_t i = 0; i < rows * C; i++)
        y[i % C] += a[i] / (double)rows;
    return y;
}

/* The backbone's activation. */
static double *activate(const double *a, size_t n) {
    switch (m->dims->activation) {
    case EES__POST_GELU_TANH:
        return apply(gelu_tanh, a, n);
    case EES__POST_RELU:
        return apply(relu, a, n);
    case EES__POST_SILU:
        return apply(silu, a, n);
    default:
        return apply(gelu, a, n);
    }
}

/* On a Swin a block of DeiT's defaults, and 8 attention heads. */
static double *run_block(void) {
    bool swin = m->dims->window.h > 0;
    size_t f = m->widths->block_mlp, n_heads = swin ? 8 : m->dims->n_heads;
    double eps = swin ? 1e-12 : m->dims->norm_eps;
    const double *qkv =
        linear(layer_norm(x, T, "blk.norm1", eps), T, C, "blk.attn.qkv", 3 * C, swin || m->dims->qkv_bias);
    const double *u = add(x, linear(attend(qkv, T, n_heads), T, C, "blk.attn.proj", C, true), T * C);
    const double *inner = linear(layer_norm(u, T, "blk.norm2", eps), T, C, "blk.mlp.fc1", f, true);
    const double *hidden = swin ? apply(gelu, inner, T * f) : activate(inner, T * f);
    return add(u, linear(hidden, T, f, "blk.mlp.fc2", C, true), T * C);
}

/* ---- ends ---------------------------------------------------------------------------------------------- */

/* head.cls of `cls`, or the mean of that and head.dist of `dist`. */
static double *classify(const double *cls, const double *dist) {
    double *logits = linear(cls, 1, C, "head.cls", K, true);
    if (!ees__is_distilled(m->dims))
        return logits;
    const double *other = linear(dist, 1, C, "head.dist", K, true);
    for (size_t k = 0; k < K; k++)
        logits[k] = (logits[k] + other[k]) / 2;
    return logits;
}

static double *pool(const double *y, size_t rows) {
    if (m->dims->bare)
        return classify(mean_of(layer_norm(y, rows, "norm", m->dims->norm_eps), rows), NULL);
    const double *mean = mean_of(y, rows);
    return classify(add(mean, x, C), add(mean, x + C, C));
}

static double *end_linear(const double *tokens) {
    if (m->dims->bare)
        return pool(tokens + m->dims->n_special * C, N);
    if (!ees__is_distilled(m->dims))
        return classify(apply(tanh, linear(tokens, 1, C, "pool", C, true), C), NULL);
    const double *z = layer_norm(tokens, 2, "norm", m->dims->norm_eps);
    return classify(z, z + C);
}

static double *end_mlp(double *row, size_t k) {
    for (size_t i = 0; i < m->widths->n_mlp; i++) {
        bool last = i == m->widths->n_mlp - 1;
        size_t n = last ? K : m->widths->mlp[i];
        char leaf[32];
        snprintf(leaf, sizeof leaf, "mlp.%zu", i);
        row = linear(row, 1, k, leaf, n, true);
        if (!last)
            row = apply(gelu, row, n);
        k = n;
    }
    return row;
}

/* ---- heads --------------------------------------------------------------------------------------------- */

static double *conv1_1(void) {
    const double *a = batch_norm(apply(gelu, linear(patches, N, C, "conv1", C, true), N * C), N, "bn1");
    const double *d = batch_norm(apply(gelu, convolve(a, C, "dw", C, 1), N * C), N, "bn2");
    return pool(add(batch_norm(linear(d, N, C, "conv2", C, true), N, "bn3"), patches, N * C), N);
}

static double *conv2_1(void) {
    const double *a = batch_norm(apply(gelu, linear(patches, N, C, "conv1", C, true), N * C), N, "bn1");
    return pool(add(batch_norm(linear(a, N, C, "conv2", C, true), N, "bn3"), patches, N * C), N);
}

static double *conv_normal(void) {
    return pool(batch_norm(apply(gelu, convolve(patches, C, "conv", C, C), N * C), N, "bn1"), N);
}

static double *attention_r2(void) {
    size_t n = 0, w = m->dims->grid_w;
    double *kept = make(N * C);
    for (size_t r = 0; r < m->dims->grid_h; r += 2)
        for (size_t s = 0; s < w; s += 2)
            memcpy(kept + n++ * C, patches + (r * w + s) * C, C * sizeof *kept);
    const double *qkv = linear(kept, n, C, "attn.qkv", 3 * C, false);
    return pool(linear(attend(qkv, n, 8), n, C, "attn.proj", C, true), n);
}

static double *self_attention(void) {
    const double *qkv = linear(patches, N, C, "attn.qkv", 3 * C, m->dims->qkv_bias);
    return pool(linear(attend(qkv, N, m->dims->n_heads), N, C, "attn.proj", C, true), N);
}

static double *dummy_mlp(void) {
    size_t n = m->widths->dummy_hidden;
    const double *hidden = apply(relu, linear(patches, N, C, "fc1", n, true), N * n);
    return pool(linear(hidden, N, n, "fc2", C, true), N);
}

static double *head_linear(void) { return end_linear(x); }
static double *vit(void) { return end_linear(run_block()); }
static double *mlp(void) { return end_mlp(add(x, make(C), C), C); }
static double *mlp_ee(void) { return end_mlp(layer_norm(x, T, "norm", m->dims->norm_eps), C); }
static double *vit_ee(void) { return end_mlp(layer_norm(run_block(), T, "norm", m->dims->norm_eps), C); }

static double elu(double a) { return a > 0 ? a : exp(a) - 1; }

/* Of a grid (N, k). */
static double *end_cnn(const double *grid, size_t k) {
    size_t w = m->dims->grid_w, h2 = m->dims->grid_h / 2, w2 = w / 2, n = m->widths->filters;
    const double *maps = apply(elu, convolve(grid, k, "conv", n, k), N * n);
    double *flat = make(n * h2 * w2);
    for (size_t i = 0; i < n; i++)
        for (size_t r = 0; r < h2; r++)
            for (size_t s = 0; s < w2; s++) {
                double largest = -INFINITY;
                for (size_t p = 0; p < 4; p++)
                    largest = fmax(largest, maps[((2 * r + p / 2) * w + 2 * s + p % 2) * n + i]);
                flat[(i * h2 + r) * w2 + s] = largest;
            }
    return end_mlp(flat, n * h2 * w2);
}

static double *cnn_ignore_ee(void) { return end_cnn(patches, C); }

static double *cnn_add_ee(void) {
    double *grid = make(N * C);
    for (size_t i = 0; i < N * C; i++)
        grid[i] = patches[i] + x[i % C];
    return end_cnn(grid, C);
}

static double *cnn_project_ee(void) {
    size_t n = m->widths->readout;
    double *both = make(N * 2 * C);
    for (size_t i = 0; i < N; i++) {
        memcpy(both + i * 2 * C, patches + i * C, C * sizeof *both);
        memcpy(both + i * 2 * C + C, x, C * sizeof *both);
    }
    return end_cnn(apply(gelu, linear(both, N, 2 * C, "readout", n, true), N * n), n);
}

static double *mixer_ee(void) {
    size_t w = m->widths->token_hidden, f = m->widths->channel_hidden;
    const double *turned = transpose(layer_norm(x, T, "norm1", 1e-6), T, C);
    const double *mixed =
        linear(apply(gelu, linear(turned, C, T, "token.fc1", w, true), C * w), C, w, "token.fc2", T, true);
    const double *u = add(x, transpose(mixed, C, T), T * C);
    const double *hidden = apply(gelu, linear(layer_norm(u, T, "norm2", 1e-6), T, C, "channel.fc1", f, true), T * f);
    return end_mlp(mean_of(add(u, linear(hidden, T, f, "channel.fc2", C, true), T * C), T), C);
}

static double *scale(const double *a, const float *factor, const float *offset) {
    double *y = make(T * C);
    for (size_t i = 0; i < T * C; i++)
        y[i] = a[i] * (double)factor[i % C] + (offset ? (double)offset[i % C] : 0);
    return y;
}

static double *affine(const double *a, const char *leaf) {
    return scale(a, tensor(leaf, ".weight", C), tensor(leaf, ".bias", C));
}

static double *resmlp_ee(void) {
    size_t f = m->widths->channel_hidden;
    const double *mixed = linear(transpose(affine(x, "aff1"), T, C), C, T, "token", T, true);
    const double *u = add(x, scale(transpose(mixed, C, T), tensor("ls1", "", C), NULL), T * C);
    const double *hidden = apply(gelu, linear(affine(u, "aff2"), T, C, "channel.fc1", f, true), T * f);
    const double *y = add(u, scale(linear(hidden, T, f, "channel.fc2", C, true), tensor("ls2", "", C), NULL), T * C);
    return end_mlp(mean_of(y, T), C);
}

static const struct {
    const char *name;
    double *(*run)(void);
} heads[] = {
    {"conv1_1", conv1_1},
    {"conv2_1", conv2_1},
    {"conv_normal", conv_normal},
    {"attention_r2", attention_r2},
    {"self_attention", self_attention},
    {"dummy_mlp", dummy_mlp},
    {"linear", head_linear},
    {"vit", vit},
    {"mlp", mlp},
    {"mlp_ee", mlp_ee},
    {"vit_ee", vit_ee},
    {"cnn_ignore_ee", cnn_ignore_ee},
    {"cnn_add_ee", cnn_add_ee},
    {"cnn_project_ee", cnn_project_ee},
    {"mixer_ee", mixer_ee},
    {"resmlp_ee", resmlp_ee},
};

void plain_head(const struct plain_model *model, const char *head, const float *tokens, double *logits) {
    double *(*run)(void) = NULL;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        if (strcmp(heads[i].name, head) == 0)
            run = heads[i].run;
    if (!run)
        fail_msg("no plain form of head '%s'", head);
    m = model;
    T = m->dims->n_tokens;
    C = m->dims->n_channels;
    N = m->dims->n_patches;
    K = m->dims->n_classes;
    double *wide = make(T * C);
    for (size_t i = 0; i < T * C; i++)
        wide[i] = (double)tokens[i];
    x = wide;
    patches = x + m->dims->n_special * C;
    memcpy(logits, run(), K * sizeof *logits);
    while (n_blocks > 0)
        free(blocks[--n_blocks]);
}
