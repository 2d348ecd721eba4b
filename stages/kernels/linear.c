/* SPDX-License-Identifier: MIT */
/* Packed weights in the precision they are used in, and what products of any precision share. */
#include <math.h>
#include <string.h>

#include "common/fail.h"
#include "common/mem.h"
#include "stages/kernels/levels.h"

static const char *const precision_names[EES__N_PRECISIONS] = {"fp32", "bf16", "int8"};

const char *ees__precision_name(enum ees__precision precision) { return precision_names[precision]; }

int ees__precision_find(const char *name, enum ees__precision *out) {
    for (int i = 0; i < EES__N_PRECISIONS; i++)
        if (strcmp(precision_names[i], name) == 0) {
            *out = (enum ees__precision)i;
            return 0;
        }
    return -1;
}

void ees__linear_run(const struct ees__linear *l, const float *x, size_t ldx, size_t m, float *y, size_t ldy,
                     const struct ees__post *post, float *scratch) {
    l->product->run(l, x, ldx, m, y, ldy, post, scratch);
}

/* Narrowed rows of at most two bytes an element; SIZE_MAX when the size overflows. */
size_t ees__linear_scratch_floats(size_t m, size_t n, size_t k) {
    size_t rows = m < EES__ROW_CHUNK ? m : EES__ROW_CHUNK, elements;
    if (k > SIZE_MAX / 2 || !ees__mul(rows, ees__narrow_ld(k), &elements))
        return SIZE_MAX;
    return EES__ROW_CHUNK * sizeof(struct ees__narrow_row) / sizeof(float) + elements / 2 + 1;
}

double ees__peak_of_run(ees__product_run *run, size_t n) {
    enum { M = 64, N = 256, K = 256 };
    static float x[M * K], packed[N * K], per_output[N]; /* zeros, never written */
    static int32_t sums[N];
    float y[M * N], scratch[K];
    const struct ees__post none = {.op = EES__POST_NONE};
    const struct ees__linear l = {
        .n = N, .k = K, .packed = packed, .bias = per_output, .scale = per_output, .sums = sums};
    for (size_t round = 0; round < n; round++)
        run(&l, x, K, M, y, N, &none, scratch);
    return 2.0 * M * N * K * (double)n;
}

float ees__quantise_row(const float *w, size_t n, int8_t *q) {
    float largest = 0.0f;
    for (size_t i = 0; i < n; i++)
        largest = fmaxf(largest, fabsf(w[i]));
    if (largest < EES__LEAST_RANGE) {
        memset(q, 0, n);
        return 0.0f;
    }
    float scale = largest / 127.0f;
    for (size_t i = 0; i < n; i++) {
        float rounded = rintf(w[i] / scale);
        q[i] = (int8_t)fminf(fmaxf(rounded, -127.0f), 127.0f); /* a NaN, where allowed, becomes -127 */
    }
    return scale;
}

uint16_t ees__round_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (isnan(x))
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void quantise_rows(const float *w, const struct ees__linear *l, int8_t *q) {
    for (size_t j = 0; j < l->n; j++, w += l->k, q += l->k) {
        l->scale[j] = ees__quantise_row(w, l->k, q);
        for (size_t p = 0; p < l->k; p++)
            l->sums[j] += q[p];
    }
}

/* Elements as the product packs them, in new memory; NULL: none left. */
static void *narrow_weights(enum ees__precision precision, const float *w, const struct ees__linear *l) {
    size_t n = l->n * l->k;
    if (precision == EES__S8) {
        int8_t *q = ees__calloc_aligned(n, sizeof *q);
        if (q)
            quantise_rows(w, l, q);
        return q;
    }
    uint16_t *halves = ees__calloc_aligned(n, sizeof *halves);
    for (size_t i = 0; halves && i < n; i++)
        halves[i] = ees__round_bf16(w[i]);
    return halves;
}

static int pack(enum ees__precision precision, const float *w, struct ees__linear *l) {
    if (precision == EES__F32) {
        l->product->pack(w, l->n, l->k, l->packed);
        return 0;
    }
    void *narrow = narrow_weights(precision, w, l);
    if (!narrow)
        return EES_ENOMEM;
    l->product->pack(narrow, l->n, l->k, l->packed);
    ees__free(narrow);
    return 0;
}

int ees__linear_open_as(const struct ees__kernels *kernels, enum ees__precision precision, const float *w,
                        const float *bias, size_t n, size_t k, struct ees__linear *out, ees_error *err) {
    size_t padded, elements;
    if (!kernels->products[precision])
        precision = EES__F32;
    *out = (struct ees__linear){.n = n, .k = k, .product = kernels->products[precision]};
    if (!ees__add(n, EES__MAX_TILE_COLUMNS, &padded) || !ees__mul(padded, k, &elements) ||
        elements > SIZE_MAX / sizeof(float))
        return EES_FAIL(err, EES_ENOMEM, "weights of %zu x %zu: too large", n, k);
    padded = ees__round_up(n, EES__MAX_TILE_COLUMNS);
    out->packed = ees__calloc_aligned(out->product->packed_bytes(n, k), 1);
    out->bias = ees__calloc_aligned(padded, sizeof *out->bias);
    if (precision == EES__S8) {
        out->scale = ees__calloc_aligned(padded, sizeof *out->scale);
        out->sums = ees__calloc_aligned(padded, sizeof *out->sums);
    }
    if (!out->packed || !out->bias || (precision == EES__S8 && (!out->scale || !out->sums)) ||
        pack(precision, w, out) < 0) {
        ees__linear_close(out);
        return EES_FAIL(err, EES_ENOMEM, "weights of %zu x %zu: out of memory", n, k);
    }
    if (bias)
        memcpy(out->bias, bias, n * sizeof(float));
    return 0;
}

int ees__linear_open(const struct ees__kernels *kernels, const float *w, const float *bias, size_t n, size_t k,
                     struct ees__linear *out, ees_error *err) {
    return ees__linear_open_as(kernels, EES__F32, w, bias, n, k, out, err);
}

void ees__linear_close(struct ees__linear *l) {
    ees__free(l->packed);
    ees__free(l->bias);
    ees__free(l->scale);
    ees__free(l->sums);
    *l = (struct ees__linear){0};
}

_Static_assert((int)EES__PART_COLUMNS == (int)EES__MAX_TILE_COLUMNS, "parts are whole panels");

struct ees__linear ees__linear_part(const struct ees__linear *l, size_t first, size_t n) {
    struct ees__linear part = *l;
    part.n = n - first;
    part.packed = (char *)l->packed + l->product->packed_bytes(first, l->k);
    part.bias += first;
    part.scale = l->scale ? l->scale + first : NULL;
    part.sums = l->sums ? l->sums + first : NULL;
    return part;
}

size_t ees__linear_bytes(const struct ees__linear *l) {
    size_t padded = ees__round_up(l->n, EES__MAX_TILE_COLUMNS);
    return l->product->packed_bytes(l->n, l->k) + padded * sizeof(float) * (l->scale ? 3 : 1);
}
