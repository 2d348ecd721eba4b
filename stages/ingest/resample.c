/* SPDX-License-Identifier: MIT */
/* The streaming resize: which row goes where and when; the arithmetic is behind resample_kernels.h, the weights come
 * from resize_axis.c. Built without fused multiply-add, so that the normalised values are the processors' own. */
#include "stages/ingest/resample.h"

#include "common/fail.h"
#include "common/mem.h"

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
    const size_t p = r->patch, plane = p * p, n_columns = ees__patch_columns(r);
    float *out = patches + (y / p) * n_columns * 3 * plane + (y % p) * p;
    for (size_t x = 0; x < r->width; x += p, out += 3 * plane) {
        const size_t n = r->width - x < p ? r->width - x : p;
        for (size_t c = 0; c < 3; c++) {
            __builtin_prefetch(out + (6 + c) * plane, 1); /* two patches on: a matrix fills most of a private cache */
            for (size_t s = 0; s < n; s++)
                out[c * plane + s] = r->table[c][row[(x + s) * EES__PX_BYTES + c]];
        }
    }
}

/* ---- Streaming ----------------------------------------------------------------------------------------- */

int ees__resample_init(struct ees__resample *r, const struct ees__preproc *preproc, unsigned height, unsigned width,
                       unsigned patch, ees_error *err) {
    *r = (struct ees__resample){.height = height, .width = width, .patch = patch, .kernels = ees__resample_level(0)};
    fill_table(preproc, r->table);
    r->window.row_bytes = ees__round_up((size_t)width * EES__PX_BYTES, EES__STRIP_BYTES);
    r->out_row = ees__calloc_aligned(1, r->window.row_bytes);
    return r->out_row ? 0 : EES_FAIL(err, EES_ENOMEM, "no memory for a row of %u pixels", width);
}

void ees__resample_fini(struct ees__resample *r) {
    ees__axis_fini(&r->rows);
    ees__axis_fini(&r->columns);
    ees__free(r->window.data);
    ees__free(r->out_row);
}

/* An output row that was not ready before new rows came reads at most max_count rows that end with one of them. */
static int reserve_window(struct ees__resample *r, ees_error *err) {
    struct ees__window *window = &r->window;
    size_t bytes;
    window->n_rows = r->rows.max_count + EES__ROWS_AT_ONCE - 1;
    if (!ees__mul(window->n_rows, window->row_bytes, &bytes))
        return EES_FAIL(err, EES_ENOMEM, "resize window of %u rows is too large", window->n_rows);
    if (bytes <= r->window_capacity)
        return 0;
    ees__free(window->data);
    window->data = ees__calloc_aligned(1, bytes);
    r->window_capacity = window->data ? bytes : 0;
    return window->data ? 0 : EES_FAIL(err, EES_ENOMEM, "no memory for a resize window of %u rows", window->n_rows);
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

static uint8_t *get_window_row(const struct ees__resample *r, unsigned y) {
    return r->window.data + (y % r->window.n_rows) * r->window.row_bytes;
}

void ees__resample_rows(struct ees__resample *r, unsigned y, unsigned n, const uint8_t *rows, size_t stride) {
    const uint8_t *in[EES__ROWS_AT_ONCE];
    uint8_t *out[EES__ROWS_AT_ONCE];
    for (unsigned k = 0; k < EES__ROWS_AT_ONCE; k++) {
        unsigned at = k < n ? k : n - 1; /* fewer rows: the last one again, to the same place */
        in[k] = rows + at * stride;
        out[k] = get_window_row(r, y + at);
    }
    r->kernels->columns(&r->columns, in, out);
    for (; r->n_done < r->height && is_ready(r, r->n_done, y + n - 1); r->n_done++) {
        r->kernels->rows(&r->rows, &r->window, r->n_done, r->out_row);
        ees__patches_store_row(r, r->n_done, r->out_row, r->patches);
    }
}
