/* SPDX-License-Identifier: MIT */
/* The operations a unit is made of: one table a level (scalar, blas, avx2, avx512, neon, ...), signatures declared
 * once.
 *
 * All matrices but packed weights are float32, row-major, a leading dimension (floats from row to row) named ld*. `m`
 * rows of tokens are independent: row i of a result depends on row i of the input alone, and is the same to the last
 * bit whatever m is and whichever rows stand beside it. No function allocates, locks or keeps state; all are safe from
 * any thread.
 *
 * The scalar level is the readable definition and the twin every other level is checked against. */
#ifndef EES_STAGES_KERNELS_H
#define EES_STAGES_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "eestream/error.h"

/* What a product multiplies. Rows of x are float32 in memory and narrowed by the product itself.
 *
 * int8: W_jp = scale_j q_jp with q in [-127, 127] and one scale an output; x_ip = scale_i (u_ip - zero_i) with u in
 * [0, 255], scale and zero of the row at hand, its range widened to hold 0. The sum of (u - zero) q is exact in int32,
 * the rest is one float32 fused multiply-add, so every level gives the same bits up to the post operation. A row with a
 * NaN or an infinity gives NaNs; values below 2^-100 of a row that has no larger ones count as 0.
 *
 * bf16: x and W are rounded to nearest even, products are summed in float32.
 *
 * gelu of either is off by at most EES__NARROW_GELU, or a quarter of that times itself where it is larger than 4. */
#define EES__NARROW_GELU 0x1.3p-13f
enum ees__precision { EES__F32, EES__BF16, EES__S8, EES__N_PRECISIONS };

/* "fp32", "bf16", "int8". */
const char *ees__precision_name(enum ees__precision precision);
/* @return 0, or -1: no precision has that name */
int ees__precision_find(const char *name, enum ees__precision *out);

struct ees__product;

/* y = x W^T + bias, W packed for one level. Filled by ees__linear_open(). */
struct ees__linear {
    size_t n, k; /* W is (n, k) */
    const struct ees__product *product;
    void *packed;  /* the product's own layout */
    float *bias;   /* (n,), this and the next two zero-padded to a whole register tile */
    float *scale;  /* (n,) int8: of the rows of W */
    int32_t *sums; /* (n,) int8: of the rows of q */
};

/* What happens to each element z of a product before it is stored. */
enum ees__post_op {
    EES__POST_NONE,        /* y = z */
    EES__POST_GELU,        /* y = gelu(z), erf form */
    EES__POST_GELU_AFFINE, /* y = gelu(z) * scale[n] + shift[n]: BatchNorm after a gelu */
    EES__POST_ADD,         /* y = y + z: residual */
    EES__POST_GELU_TANH,   /* y = x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), x = z */
    EES__POST_RELU,        /* y = max(z, 0), a NaN stays one */
    EES__POST_SILU,        /* y = z / (1 + exp(-z)) */
    EES__POST_ADD_GELU,    /* y = gelu(y + z): the last of several products that make a sum */
    EES__N_POST_OPS,
};

/* y is read, too. */
static inline bool ees__post_adds(enum ees__post_op op) { return op == EES__POST_ADD || op == EES__POST_ADD_GELU; }

struct ees__post {
    enum ees__post_op op;
    const float *scale, *shift; /* (n,), EES__POST_GELU_AFFINE only */
};

/* Multi-head self-attention: t tokens, h heads of d channels. `bias` and `mask` are added to the scores in this order;
 * their rows are ees__score_ld(t) apart and as long in memory, aligned to a cache line. What lies behind the t-th
 * element of a row must be finite. */
struct ees__attention {
    size_t t, h, d;
    float scale;                   /* of the scores */
    const float *bias;             /* (h, t, ld) or NULL */
    const float *mask;             /* (t, ld), of every head, or NULL */
    enum ees__precision precision; /* what a level may round what it multiplies to, where that is faster */
};

/* Self-attention core of one head. qkv is (t, 3*h*d): columns [Q | K | V], each head-major; out (t, h*d) =
 * softmax(Q K^T * scale + bias + mask) V, heads concatenated. The t x t scores are never stored whole.
 *
 * pack() brings K and V of `head` into the core's own layout, run() computes rows [first, end) of the head's columns of
 * `out` from them. Rows do not depend on each other, so parts of a head may be computed by several threads from one
 * packing. Both kinds of memory are aligned to a cache line; sizes that overflow are SIZE_MAX. */
struct ees__attention_core {
    size_t (*packed_floats)(size_t t, size_t d);
    size_t (*scratch_floats)(size_t t, size_t d);
    void (*pack)(const struct ees__attention *a, const float *qkv, size_t ldqkv, size_t head, float *packed);
    void (*run)(const struct ees__attention *a, const float *qkv, size_t ldqkv, size_t head, size_t first, size_t end,
                const float *packed, float *out, size_t ldout, float *scratch);
};

/* Products of one precision at one level. */
struct ees__product {
    size_t (*packed_bytes)(size_t n, size_t k);
    /* `w`: (n, k) of float, of uint16_t (the upper halves of floats, bf16), or of int8_t q */
    void (*pack)(const void *w, size_t n, size_t k, void *packed);
    /* See ees__kernels.linear. */
    void (*run)(const struct ees__linear *l, const float *x, size_t ldx, size_t m, float *y, size_t ldy,
                const struct ees__post *post, float *scratch);
    /* `n` rounds of nothing but multiply-adds, as run() does them. @return operations done, 2 a multiply-add */
    double (*peak)(size_t n);
};

static inline size_t ees__score_ld(size_t t) { return (t + 15) / 16 * 16; }

struct ees__kernels {
    const char *name; /* "avx512" */
    size_t tile_rows; /* rows a product computes at once: a part of fewer is slower a row */

    const struct ees__product *products[EES__N_PRECISIONS]; /* bf16 may be NULL: float32 instead */

    /* y (m, n) = post(x (m, k) W^T + bias). x and y do not overlap. `scratch`: linear_scratch_floats(m, n, k), aligned
     * to a cache line, enough for any precision. */
    size_t (*linear_scratch_floats)(size_t m, size_t n, size_t k);
    void (*linear)(const struct ees__linear *l, const float *x, size_t ldx, size_t m, float *y, size_t ldy,
                   const struct ees__post *post, float *scratch);

    /* y[r] = (x[r] - mean) / sqrt(var + eps) * gamma + beta over the last axis, biased variance (spec 0, "LN"). */
    void (*layernorm)(const float *x, size_t ldx, size_t rows, size_t c, const float *gamma, const float *beta,
                      float eps, float *y, size_t ldy);

    const struct ees__attention_core *attention[EES__N_PRECISIONS]; /* float32's where rounding is not faster */

    /* Depthwise 3x3, stride 1, zero padding 1, then gelu, on a grid (h, w, c): y = gelu(conv(x) + bias), rows
     * [first, end) of the grid. `weight` is (9, c), tap-major. x and y do not overlap. */
    void (*depthwise3x3_gelu)(const float *x, size_t h, size_t w, size_t c, size_t first, size_t end,
                              const float *weight, const float *bias, float *y);

    /* x[r, j] = silu(x[r, j]) x[r, c + j], j < c: the gate of SwiGLU (spec 1.3), silu(a) = a / (1 + exp(-a)). In place;
     * rows are 2c long, their second halves are left as they are. */
    void (*silu_gate)(float *x, size_t ldx, size_t rows, size_t c);

    /* y[j] = mean over rows of x[:, j]. */
    void (*column_mean)(const float *x, size_t ldx, size_t rows, size_t c, float *y);

    /* Bring n floats into registers and forget them: how fast memory is read. n: a multiple of EES__READ_FLOATS. */
    void (*read)(const float *x, size_t n);
};

enum { EES__READ_FLOATS = 256 };

static inline const struct ees__attention_core *ees__attention_core(const struct ees__kernels *kernels,
                                                                    const struct ees__attention *a) {
    return kernels->attention[a->precision];
}

/* The best level this CPU has (NULL or "auto"), or the one named; NULL with a report when the CPU or the build lacks it
 * (EES_EUNSUPPORTED) or nobody knows the name (EES_EINVAL). */
const struct ees__kernels *ees__kernels_get(const char *name, ees_error *err);

/* Levels this machine can run, best first; *n is set. For tests and `--version`. */
const struct ees__kernels *const *ees__kernels_list(size_t *n);

/* Pack (n, k) weights and a bias (NULL: zeros) for a level, rounded to a precision it has. int8 takes max |W_j| / 127
 * for the scale of row j: weights that are such multiples already keep their q.
 * @return 0; EES_ENOMEM */
int ees__linear_open_as(const struct ees__kernels *kernels, enum ees__precision precision, const float *w,
                        const float *bias, size_t n, size_t k, struct ees__linear *out, ees_error *err);
int ees__linear_open(const struct ees__kernels *kernels, const float *w, const float *bias, size_t n, size_t k,
                     struct ees__linear *out, ees_error *err); /* float32 */
void ees__linear_close(struct ees__linear *l);                 /* accepts a zeroed one */
size_t ees__linear_bytes(const struct ees__linear *l);

/* Rows [first, n) of W alone, in the memory of `l`: not to be closed. `first` is a multiple of EES__PART_COLUMNS. */
enum { EES__PART_COLUMNS = 64 };
struct ees__linear ees__linear_part(const struct ees__linear *l, size_t first, size_t n);

/* q of a row of n weights for int8, and its scale. Values below 2^-100 everywhere: scale 0, q 0. */
float ees__quantise_row(const float *w, size_t n, int8_t *q);

/* The upper half of a float, rounded to nearest even; NaN stays NaN. */
uint16_t ees__round_bf16(float x);

#endif
