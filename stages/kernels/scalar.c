/* SPDX-License-Identifier: MIT */
/* The scalar level: the readable definition of every operation, and the twin the SIMD levels are checked against. Sums
 * are accumulated in double and rounded once, so that the twin is the more exact of the two. Never fast. */
#include <math.h>
#include <string.h>

#include "stages/kernels/levels.h"

/* x/2 (1 + erf(x/sqrt 2)) = x Phi(x) (spec 0). In the lower tail 1 + erf cancels; erfc does not. */
float ees__gelu_scalar(float x) {
    if (x == -INFINITY)
        return -0.0f;
    return (float)(0.5 * x * erfc(-(double)x * M_SQRT1_2));
}

/* x / (1 + exp(-z)) = x sigmoid(z), in double; where the exponential overflows, the limit 0. */
static double gate(double x, double z) { return z < -700 ? -0.0 : x / (1.0 + exp(-z)); }

/* (1 + tanh u) / 2 = sigmoid(2 u), which does not cancel in the lower tail (spec 0) */
static float gelu_tanh(float x) {
    const double two_sqrt_2_pi = 1.5957691216057307117597842397375;
    double wide = x;
    return (float)gate(wide, two_sqrt_2_pi * (wide + 0.044715 * wide * wide * wide));
}

static float apply_post(float z, float y, size_t j, const struct ees__post *post) {
    switch (post->op) {
    case EES__POST_GELU:
        return ees__gelu_scalar(z);
    case EES__POST_GELU_TANH:
        return gelu_tanh(z);
    case EES__POST_RELU:
        return z < 0.0f ? 0.0f : z;
    case EES__POST_SILU:
        return (float)gate(z, z);
    case EES__POST_ADD_GELU:
        return ees__gelu_scalar(y + z);
    case EES__POST_GELU_AFFINE:
        return ees__gelu_scalar(z) * post->scale[j] + post->shift[j];
    case EES__POST_ADD:
        return y + z;
    case EES__POST_NONE:
    case EES__N_POST_OPS:
        break;
    }
    return z;
}

static size_t f32_packed_bytes(size_t n, size_t k) { return n * k * sizeof(float); }

static void f32_pack(const void *w, size_t n, size_t k, void *packed) { memcpy(packed, w, n * k * sizeof(float)); }

/* z_ij = sum_p x_ip w_jp + bias_j */
static void f32_run(const struct ees__linear *l, const float *x, size_t ldx, size_t m, float *y, size_t ldy,
                    const struct ees__post *post, float *scratch) {
    const float *w = l->packed;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < l->n; j++) {
            double z = l->bias[j];
            for (size_t p = 0; p < l->k; p++)
                z += (double)x[i * ldx + p] * w[j * l->k + p];
            y[i * ldy + j] = apply_post((float)z, y[i * ldy + j], j, post);
        }
}

static double f32_peak(size_t n) { return ees__peak_of_run(f32_run, n); }

static const struct ees__product f32_product = {
    .packed_bytes = f32_packed_bytes, .pack = f32_pack, .run = f32_run, .peak = f32_peak};

static size_t s8_packed_bytes(size_t n, size_t k) { return n * k; }

static void s8_pack(const void *w, size_t n, size_t k, void *packed) { memcpy(packed, w, n * k); }

/* low = min(0, x), high = max(0, x); a row with a NaN or an infinity has the scale NaN */
static struct ees__narrow_row find_row(const float *x, size_t k, float *inverse) {
    float low = 0.0f, high = 0.0f, poison = 0.0f;
    for (size_t p = 0; p < k; p++) {
        low = fminf(low, x[p]);
        high = fmaxf(high, x[p]);
        poison += x[p] * 0.0f;
    }
    struct ees__narrow_row row = ees__narrow_range(low, high, inverse);
    row.scale += poison;
    return row;
}

/* z_ij = scale_i scale_j sum_p (u_ip - zero_i) q_jp + bias_j, u = x / scale + zero to the nearest (see kernels.h) */
static void s8_run(const struct ees__linear *l, const float *x, size_t ldx, size_t m, float *y, size_t ldy,
                   const struct ees__post *post, float *scratch) {
    const int8_t *q = l->packed;
    uint8_t *u = (uint8_t *)scratch;
    for (size_t i = 0; i < m; i++, x += ldx, y += ldy) {
        float inverse;
        const struct ees__narrow_row row = find_row(x, l->k, &inverse);
        for (size_t p = 0; p < l->k; p++) {
            float rounded = fmaf(x[p], inverse, EES__ROUNDER + (float)row.zero) - EES__ROUNDER;
            u[p] = (uint8_t)fminf(fmaxf(rounded, 0.0f), 255.0f); /* of a NaN any; others need no clamp */
        }
        for (size_t j = 0; j < l->n; j++) {
            int32_t sum = 0;
            for (size_t p = 0; p < l->k; p++)
                sum += (u[p] - row.zero) * q[j * l->k + p];
            y[j] = apply_post(fmaf((float)sum, row.scale * l->scale[j], l->bias[j]), y[j], j, post);
        }
    }
}

static double s8_peak(size_t n) { return ees__peak_of_run(s8_run, n); }

const struct ees__product ees__s8_scalar = {
    .packed_bytes = s8_packed_bytes, .pack = s8_pack, .run = s8_run, .peak = s8_peak};

static size_t bf16_packed_bytes(size_t n, size_t k) { return n * k * sizeof(uint16_t); }

static void bf16_pack(const void *w, size_t n, size_t k, void *packed) { memcpy(packed, w, bf16_packed_bytes(n, k)); }

static float widen_bf16(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* z_ij = sum_p bf16(x_ip) bf16(w_jp) + bias_j */
static void bf16_run(const struct ees__linear *l, const float *x, size_t ldx, size_t m, float *y, size_t ldy,
                     const struct ees__post *post, float *scratch) {
    const uint16_t *w = l->packed;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < l->n; j++) {
            double z = l->bias[j];
            for (size_t p = 0; p < l->k; p++)
                z += (double)widen_bf16(ees__round_bf16(x[i * ldx + p])) * widen_bf16(w[j * l->k + p]);
            y[i * ldy + j] = apply_post((float)z, y[i * ldy + j], j, post);
        }
}

static double bf16_peak(size_t n) { return ees__peak_of_run(bf16_run, n); }

const struct ees__product ees__bf16_scalar = {
    .packed_bytes = bf16_packed_bytes, .pack = bf16_pack, .run = bf16_run, .peak = bf16_peak};

/* mu = mean x, var = mean (x - mu)^2, y = (x - mu) / sqrt(var + eps) gamma + beta (spec 0, "LN") */
void ees__layernorm_scalar(const float *x, size_t ldx, size_t rows, size_t c, const float *gamma, const float *beta,
                           float eps, float *y, size_t ldy) {
    for (size_t i = 0; i < rows; i++, x += ldx, y += ldy) {
        double mean = 0, variance = 0;
        for (size_t j = 0; j < c; j++)
            mean += x[j];
        mean /= (double)c;
        for (size_t j = 0; j < c; j++)
            variance += (x[j] - mean) * (x[j] - mean);
        variance /= (double)c;
        for (size_t j = 0; j < c; j++)
            y[j] = (float)((x[j] - mean) / sqrt(variance + eps) * gamma[j] + beta[j]);
    }
}

/* softmax_j = exp(s_j - max s) / sum exp(s - max s); a NaN makes the whole row NaN */
void ees__softmax_scalar(float *row, size_t n) {
    float max = -INFINITY;
    for (size_t j = 0; j < n; j++)
        max = fmaxf(max, row[j]);
    double sum = 0;
    for (size_t j = 0; j < n; j++) {
        row[j] = expf(row[j] - max);
        sum += row[j];
    }
    for (size_t j = 0; j < n; j++)
        row[j] = (float)(row[j] / sum);
}

/* Levels that read K and V where they are. */
size_t ees__attention_packed_none(size_t t, size_t d) { return 0; }

void ees__attention_pack_none(const struct ees__attention *a, const float *qkv, size_t ldqkv, size_t head,
                              float *packed) {}

static size_t attention_scratch_floats(size_t t, size_t d) { return t; }

/* What stands beside the scores of query i. */
void ees__add_bias_scalar(const struct ees__attention *a, size_t head, size_t i, float *scores) {
    const size_t ld = ees__score_ld(a->t);
    for (size_t j = 0; j < a->t && a->bias; j++)
        scores[j] += a->bias[(head * a->t + i) * ld + j];
    for (size_t j = 0; j < a->t && a->mask; j++)
        scores[j] += a->mask[i * ld + j];
}

/* per query i: s_j = q_i . k_j scale + bias_ij + mask_ij, out_i = sum_j softmax(s)_j v_j (spec 1.1, 1.4) */
static void attention(const struct ees__attention *a, const float *qkv, size_t ldqkv, size_t head, size_t first,
                      size_t end, const float *packed, float *out, size_t ldout, float *scratch) {
    const size_t t = a->t, d = a->d;
    const float *q = qkv + head * d, *k = q + a->h * d, *v = k + a->h * d;
    for (size_t i = first; i < end; i++) {
        for (size_t j = 0; j < t; j++) {
            double s = 0;
            for (size_t p = 0; p < d; p++)
                s += (double)q[i * ldqkv + p] * k[j * ldqkv + p];
            scratch[j] = (float)(s * a->scale);
        }
        ees__add_bias_scalar(a, head, i, scratch);
        ees__softmax_scalar(scratch, t);
        for (size_t p = 0; p < d; p++) {
            double sum = 0;
            for (size_t j = 0; j < t; j++)
                sum += (double)scratch[j] * v[j * ldqkv + p];
            out[i * ldout + head * d + p] = (float)sum;
        }
    }
}

/* The neighbourhood of pixel (row, column), channel j; taps outside the grid are zero. */
static double convolve3x3(const float *x, size_t h, size_t w, size_t c, const float *weight, size_t row, size_t column,
                          size_t j) {
    double sum = 0;
    for (size_t tap = 0; tap < 9; tap++) {
        size_t r = row + tap / 3, s = column + tap % 3; /* one more than the neighbour's place */
        if (r >= 1 && r <= h && s >= 1 && s <= w)
            sum += (double)x[((r - 1) * w + s - 1) * c + j] * weight[tap * c + j];
    }
    return sum;
}

void ees__depthwise3x3_gelu_scalar(const float *x, size_t h, size_t w, size_t c, size_t first, size_t end,
                                   const float *weight, const float *bias, float *y) {
    y += first * w * c;
    for (size_t row = first; row < end; row++)
        for (size_t column = 0; column < w; column++)
            for (size_t j = 0; j < c; j++)
                *y++ = ees__gelu_scalar((float)(convolve3x3(x, h, w, c, weight, row, column, j) + bias[j]));
}

/* silu(a) b with silu(a) = a / (1 + exp(-a)) (spec 1.3) */
void ees__silu_gate_scalar(float *x, size_t ldx, size_t rows, size_t c) {
    for (size_t i = 0; i < rows; i++, x += ldx)
        for (size_t j = 0; j < c; j++)
            x[j] = (float)(gate(x[j], x[j]) * x[c + j]);
}

void ees__column_mean_scalar(const float *x, size_t ldx, size_t rows, size_t c, float *y) {
    for (size_t j = 0; j < c; j++) {
        double sum = 0;
        for (size_t i = 0; i < rows; i++)
            sum += x[i * ldx + j];
        y[j] = (float)(sum / (double)rows);
    }
}

void ees__read_scalar(const float *x, size_t n) {
    for (size_t i = 0; i < n; i += EES__READ_FLOATS) {
        uint64_t pairs[EES__READ_FLOATS / 2];
        memcpy(pairs, x + i, sizeof pairs);
        for (size_t j = 0; j < EES__READ_FLOATS / 2; j++)
            __asm__ volatile("" ::"r"(pairs[j]));
    }
}

void ees__post_scalar(float *y, size_t ldy, size_t m, size_t n, const struct ees__post *post) {
    if (post->op == EES__POST_NONE || post->op == EES__POST_ADD)
        return;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++)
            y[i * ldy + j] = apply_post(y[i * ldy + j], 0, j, post);
}

static const struct ees__attention_core f32_attention = {
    .packed_floats = ees__attention_packed_none,
    .scratch_floats = attention_scratch_floats,
    .pack = ees__attention_pack_none,
    .run = attention,
};

const struct ees__kernels ees__kernels_scalar = {
    .name = "scalar",
    .tile_rows = 1,
    .products = {[EES__F32] = &f32_product},
    .linear_scratch_floats = ees__linear_scratch_floats,
    .linear = ees__linear_run,
    .layernorm = ees__layernorm_scalar,
    .attention = {[EES__F32] = &f32_attention},
    .depthwise3x3_gelu = ees__depthwise3x3_gelu_scalar,
    .silu_gate = ees__silu_gate_scalar,
    .column_mean = ees__column_mean_scalar,
    .read = ees__read_scalar,
};
