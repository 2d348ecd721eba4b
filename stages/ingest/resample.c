/* SPDX-License-Identifier: MIT */
/* The streaming resize. Sums are int32 with 22-bit weights, each pass rounds and clips to 8 bits (spec 2.2): integers
 * throughout, so every CPU level gives the same result.
 *
 * The inner loops are written once with the compiler's vector types and built twice on x86, for SSE2 and for AVX2. On
 * other machines the compiler maps the same vectors to what there is. */
#include "stages/ingest/resample.h"

#include <string.h>

#include "common/cpu.h"
#include "common/fail.h"
#include "common/mem.h"

typedef int32_t i32x4 __attribute__((vector_size(16)));
typedef int32_t i32x8 __attribute__((vector_size(32)));
typedef uint8_t u8x4 __attribute__((vector_size(4)));
typedef uint8_t u8x8 __attribute__((vector_size(8)));

enum {
    ROUND = 1 << (EES__WEIGHT_BITS - 1),
    STRIP_BYTES = 32, /* bytes of a row one step of the vertical pass covers */
};

#define INLINE static inline __attribute__((always_inline))

/* ---- Inner loops --------------------------------------------------------------------------------------- */

/* Vectors go by pointer: passing them by value would depend on the instruction set of the caller. */
INLINE void clip_store8(const i32x8 *sum, uint8_t *out) {
    i32x8 v = *sum >> EES__WEIGHT_BITS;
    v &= ~(v >> 31);
    v |= (255 - v) >> 31; /* above 255: all ones, cut to 255 below */
    u8x8 bytes = __builtin_convertvector(v, u8x8);
    memcpy(out, &bytes, sizeof bytes);
}

INLINE void clip_store4(const i32x4 *sum, uint8_t *out) {
    i32x4 v = *sum >> EES__WEIGHT_BITS;
    v &= ~(v >> 31);
    v |= (255 - v) >> 31;
    u8x4 bytes = __builtin_convertvector(v, u8x4);
    memcpy(out, &bytes, sizeof bytes);
}

/* Horizontal pass of one row: two taps of a pixel's four channels in one vector. */
INLINE void resize_columns(const struct ees__axis *axis, const uint8_t *row, uint8_t *out) {
    for (unsigned i = 0; i < axis->shape.n; i++) {
        const uint8_t *px = row + (size_t)axis->first[i] * EES__PX_BYTES;
        const int32_t *weights = axis->weights + (size_t)i * axis->stride;
        i32x8 sum = {ROUND, ROUND, ROUND, ROUND};
        for (unsigned t = 0; t < axis->count[i]; t += 2) {
            u8x8 pair;
            memcpy(&pair, px + t * EES__PX_BYTES, sizeof pair);
            i32x4 w0 = {weights[t], weights[t], weights[t], weights[t]};
            i32x4 w1 = {weights[t + 1], weights[t + 1], weights[t + 1], weights[t + 1]};
            i32x8 w = __builtin_shufflevector(w0, w1, 0, 1, 2, 3, 4, 5, 6, 7);
            sum += __builtin_convertvector(pair, i32x8) * w;
        }
        i32x4 total =
            __builtin_shufflevector(sum, sum, 0, 1, 2, 3) + __builtin_shufflevector(sum, sum, 4, 5, 6, 7);
        clip_store4(&total, out + (size_t)i * EES__PX_BYTES);
    }
}

/* Vertical pass: output row i from the rows of the window. */
INLINE void resize_rows(const struct ees__resample *r, unsigned i, uint8_t *out) {
    const int32_t *weights = r->rows.weights + (size_t)i * r->rows.stride;
    unsigned count = r->rows.count[i], slot0 = count ? r->rows.first[i] % r->window_rows : 0;
    for (size_t x = 0; x < r->row_bytes; x += STRIP_BYTES) {
        i32x8 sum[STRIP_BYTES / 8];
        for (int j = 0; j < STRIP_BYTES / 8; j++)
            sum[j] = (i32x8){ROUND, ROUND, ROUND, ROUND, ROUND, ROUND, ROUND, ROUND};
        for (unsigned t = 0, slot = slot0; t < count; t++, slot = slot + 1 == r->window_rows ? 0 : slot + 1) {
            const uint8_t *row = r->window + slot * r->row_bytes + x;
            for (int j = 0; j < STRIP_BYTES / 8; j++) {
                u8x8 px;
                memcpy(&px, row + j * 8, sizeof px);
                sum[j] += __builtin_convertvector(px, i32x8) * weights[t];
            }
        }
        for (int j = 0; j < STRIP_BYTES / 8; j++)
            clip_store8(&sum[j], out + x + j * 8);
    }
}

struct ees__resample_kernels {
    void (*columns)(const struct ees__axis *axis, const uint8_t *row, uint8_t *out);
    void (*rows)(const struct ees__resample *r, unsigned i, uint8_t *out);
};

static void columns_base(const struct ees__axis *axis, const uint8_t *row, uint8_t *out) {
    resize_columns(axis, row, out);
}
static void rows_base(const struct ees__resample *r, unsigned i, uint8_t *out) { resize_rows(r, i, out); }
static const struct ees__resample_kernels kernels_base = {columns_base, rows_base};

#if defined(__x86_64__)
#define AVX2 __attribute__((target("avx2")))
AVX2 static void columns_avx2(const struct ees__axis *axis, const uint8_t *row, uint8_t *out) {
    resize_columns(axis, row, out);
}
AVX2 static void rows_avx2(const struct ees__resample *r, unsigned i, uint8_t *out) { resize_rows(r, i, out); }
static const struct ees__resample_kernels kernels_avx2 = {columns_avx2, rows_avx2};
#endif

static const struct ees__resample_kernels *pick_kernels(void) {
#if defined(__x86_64__)
    if (ees__cpu_flags() & EES__CPU_AVX2)
        return &kernels_avx2;
#endif
    return &kernels_base;
}

/* ---- Normalisation ------------------------------------------------------------------------------------- */

/* float32 steps of the processors: numpy's rescale rounds u8 * scale once from double, which for 1/255 equals the
 * float32 division of torchvision's ToTensor for all 256 levels; then minus mean, then divided by std. */
static void fill_table(const struct ees__preproc *preproc, float table[3][256]) {
    for (int c = 0; c < 3; c++) {
        float mean = (float)preproc->mean[c], std = (float)preproc->std[c];
        for (int level = 0; level < 256; level++) {
            float x = (float)(level * preproc->rescale);
            x -= mean;
            table[c][level] = x / std;
        }
    }
}

void ees__patches_store_row(const struct ees__resample *r, unsigned y, const uint8_t *row, float *patches) {
    const size_t p = r->patch, plane = p * p, n_columns = r->width / p;
    float *out = patches + (y / p) * n_columns * 3 * plane + (y % p) * p;
    for (size_t column = 0; column < n_columns; column++, out += 3 * plane)
        for (size_t s = 0; s < p; s++, row += EES__PX_BYTES) {
            out[s] = r->table[0][row[0]];
            out[plane + s] = r->table[1][row[1]];
            out[2 * plane + s] = r->table[2][row[2]];
        }
}

/* ---- Streaming ----------------------------------------------------------------------------------------- */

int ees__resample_init(struct ees__resample *r, const struct ees__preproc *preproc, unsigned height, unsigned width,
                       unsigned patch, ees_error *err) {
    *r = (struct ees__resample){.height = height, .width = width, .patch = patch, .kernels = pick_kernels()};
    fill_table(preproc, r->table);
    r->row_bytes = ees__round_up((size_t)width * EES__PX_BYTES, STRIP_BYTES);
    r->out_row = ees__calloc_aligned(1, r->row_bytes);
    return r->out_row ? 0 : EES_FAIL(err, EES_ENOMEM, "no memory for a row of %u pixels", width);
}

void ees__resample_fini(struct ees__resample *r) {
    ees__axis_fini(&r->rows);
    ees__axis_fini(&r->columns);
    ees__free(r->window);
    ees__free(r->out_row);
}

static int reserve_window(struct ees__resample *r, ees_error *err) {
    size_t bytes;
    if (!ees__mul(r->rows.max_count, r->row_bytes, &bytes))
        return EES_FAIL(err, EES_ENOMEM, "resize window of %u rows is too large", r->rows.max_count);
    if (bytes > r->window_capacity) {
        ees__free(r->window);
        r->window = ees__calloc_aligned(1, bytes);
        r->window_capacity = r->window ? bytes : 0;
        if (!r->window)
            return EES_FAIL(err, EES_ENOMEM, "no memory for a resize window of %u rows", r->rows.max_count);
    }
    r->window_rows = r->rows.max_count;
    return 0;
}

int ees__resample_begin(struct ees__resample *r, const struct ees__axis_shape *rows,
                        const struct ees__axis_shape *columns, float *patches, ees_error *err) {
    EES_TRY(ees__axis_set(&r->rows, rows, err));
    EES_TRY(ees__axis_set(&r->columns, columns, err));
    EES_TRY(reserve_window(r, err));
    r->n_done = 0;
    r->patches = patches;
    return 0;
}

/* Is everything output row i is made of in the window, when rows up to y have come? */
static bool is_ready(const struct ees__resample *r, unsigned i, unsigned y) {
    return r->rows.count[i] == 0 || r->rows.first[i] + r->rows.count[i] - 1 <= y;
}

void ees__resample_row(struct ees__resample *r, unsigned y, const uint8_t *row) {
    /* A later output row needs at most max_count rows ending at one that has not come yet, so the slot is free. */
    r->kernels->columns(&r->columns, row, r->window + (y % r->window_rows) * r->row_bytes);
    for (; r->n_done < r->height && is_ready(r, r->n_done, y); r->n_done++) {
        r->kernels->rows(r, r->n_done, r->out_row);
        ees__patches_store_row(r, r->n_done, r->out_row, r->patches);
    }
}
