/* SPDX-License-Identifier: MIT */
/* Operations bound by memory rather than by arithmetic: LayerNorm, depthwise convolution, gates, column means. */
#ifndef EES_STAGES_KERNELS_SIMD_ROWS_H
#define EES_STAGES_KERNELS_SIMD_ROWS_H

/* Independent partial sums, enough to hide the latency of an addition. */
enum { CHAINS = 4 };

INLINE float chains_sum(const vf *chain) { return lanes_sum((chain[0] + chain[1]) + (chain[2] + chain[3])); }

/* Sum of x - shift, or of its square. */
INLINE float row_sum(const float *x, size_t c, float shift, const bool squared) {
    vf chain[CHAINS] = {{0}};
    size_t i = 0;
    for (; i + CHAINS * VL <= c; i += CHAINS * VL) {
        UNROLLED
        for (int j = 0; j < CHAINS; j++) {
            vf v = load(x + i + j * VL) - shift;
            chain[j] += squared ? v * v : v;
        }
    }
    for (; i + VL <= c; i += VL) {
        vf v = load(x + i) - shift;
        chain[0] += squared ? v * v : v;
    }
    float sum = chains_sum(chain);
    for (; i < c; i++)
        sum += squared ? (x[i] - shift) * (x[i] - shift) : x[i] - shift;
    return sum;
}

static void layernorm_row(const float *x, size_t c, const float *gamma, const float *beta, float eps, float *y) {
    float mean = row_sum(x, c, 0.0f, false) / (float)c;
    float variance = row_sum(x, c, mean, true) / (float)c;
    float inverse = 1.0f / __builtin_sqrtf(variance + eps);
    size_t i = 0;
    for (; i + VL <= c; i += VL)
        store(y + i, (load(x + i) - mean) * inverse * load(gamma + i) + load(beta + i));
    for (; i < c; i++)
        y[i] = (x[i] - mean) * inverse * gamma[i] + beta[i];
}

static void layernorm(const float *x, size_t ldx, size_t rows, size_t c, const float *gamma, const float *beta,
                      float eps, float *y, size_t ldy) {
    for (size_t i = 0; i < rows; i++)
        layernorm_row(x + i * ldx, c, gamma, beta, eps, y + i * ldy);
}

/* The taps of one pixel that lie on the grid: pixel and weight rows of c floats, in tap order. */
struct taps {
    const float *x[9], *weight[9];
    int n;
};

static void find_taps(const float *x, size_t h, size_t w, size_t c, size_t row, size_t column, const float *weight,
                      struct taps *out) {
    out->n = 0;
    for (size_t tap = 0; tap < 9; tap++) {
        size_t r = row + tap / 3, s = column + tap % 3; /* one more than the neighbour's place */
        if (r < 1 || r > h || s < 1 || s > w)
            continue;
        out->x[out->n] = x + ((r - 1) * w + s - 1) * c;
        out->weight[out->n] = weight + tap * c;
        out->n++;
    }
}

INLINE vf convolve(const struct taps *taps, const int n_taps, size_t i, vf sum) {
    for (int tap = 0; tap < n_taps; tap++)
        sum += load(taps->x[tap] + i) * load(taps->weight[tap] + i);
    return sum;
}

INLINE void convolve_pixel(const struct taps *taps, const int n_taps, size_t c, const float *bias, float *y) {
    size_t i = 0;
    for (; i + VL <= c; i += VL)
        store(y + i, gelu(convolve(taps, n_taps, i, load(bias + i))));
    if (i == c)
        return;
    vf sum = load_part(bias + i, c - i);
    for (int tap = 0; tap < n_taps; tap++)
        sum += load_part(taps->x[tap] + i, c - i) * load_part(taps->weight[tap] + i, c - i);
    store_part(y + i, gelu(sum), c - i);
}

static void depthwise3x3_gelu(const float *x, size_t h, size_t w, size_t c, size_t first, size_t end,
                              const float *weight, const float *bias, float *y) {
    for (size_t row = first; row < end; row++)
        for (size_t column = 0; column < w; column++) {
            struct taps taps;
            find_taps(x, h, w, c, row, column, weight, &taps);
            if (taps.n == 9)
                convolve_pixel(&taps, 9, c, bias, y + (row * w + column) * c);
            else
                convolve_pixel(&taps, taps.n, c, bias, y + (row * w + column) * c);
        }
}

static void silu_gate(float *x, size_t ldx, size_t rows, size_t c) {
    for (size_t r = 0; r < rows; r++, x += ldx) {
        size_t i = 0;
        for (; i + VL <= c; i += VL)
            store(x + i, silu(load(x + i)) * load(x + c + i));
        if (i < c)
            store_part(x + i, silu(load_part(x + i, c - i)) * load_part(x + c + i, c - i), c - i);
    }
}

static void column_mean(const float *x, size_t ldx, size_t rows, size_t c, float *y) {
    size_t j = 0;
    for (; j + VL <= c; j += VL) {
        vf sum = {0};
        for (size_t i = 0; i < rows; i++)
            sum += load(x + i * ldx + j);
        store(y + j, sum / (float)rows);
    }
    for (; j < c; j++) {
        float sum = 0;
        for (size_t i = 0; i < rows; i++)
            sum += x[i * ldx + j];
        y[j] = sum / (float)rows;
    }
}

static void read_floats(const float *x, size_t n) {
    for (size_t i = 0; i < n; i += EES__READ_FLOATS) {
        UNROLLED
        for (size_t j = 0; j < EES__READ_FLOATS; j += VL) {
            vf v = load(x + i + j);
            USED(v);
        }
    }
}

#endif
