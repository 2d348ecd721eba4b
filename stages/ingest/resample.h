/* SPDX-License-Identifier: MIT */
/* Rows of a picture in, a normalised patch matrix out: Pillow's two-pass resize to the bit, computed row by row and
 * only where the crop looks.
 *
 *      row (R,G,B,x) -> horizontal pass -> window of short rows -> vertical pass -> table -> patches
 *
 * begin, then all rows from rows.first_in to rows.end_in - 1 in ascending order; patches is complete after it. */
#ifndef EES_INGEST_RESAMPLE_H
#define EES_INGEST_RESAMPLE_H

#include "stages/ingest/resample_kernels.h"

struct ees__resample {
    unsigned height, width, patch; /* of the model's input; the last row and column of patches may be covered in part */
    const struct ees__resample_kernels *kernels;
    struct ees__axis rows, columns;
    float table[3][256]; /* normalised value of each level, R, G, B */
    struct ees__window window;
    size_t window_capacity;
    uint8_t *out_row; /* as long as a row of the window */
    unsigned n_done;  /* output rows stored */
    float *patches;
};

/* @return 0; EES_ENOMEM */
int ees__resample_init(struct ees__resample *r, const struct ees__preproc *preproc, unsigned height, unsigned width,
                       unsigned patch, ees_error *err);
void ees__resample_fini(struct ees__resample *r);

/* Start a picture. `rows` and `columns` say how it maps to the model's input. @return 0; EES_ENOMEM */
int ees__resample_begin(struct ees__resample *r, const struct ees__axis_shape *rows,
                        const struct ees__axis_shape *columns, float *patches, ees_error *err);

/* Input rows y to y + n - 1, n <= EES__ROWS_AT_ONCE, `stride` bytes apart: of each, pixels columns.first_in to end_in -
 * 1 are read, and EES__ROW_SLACK_BYTES behind them. */
void ees__resample_rows(struct ees__resample *r, unsigned y, unsigned n, const uint8_t *rows, size_t stride);

/* Patches in a row. */
static inline size_t ees__patch_columns(const struct ees__resample *r) { return (r->width + r->patch - 1) / r->patch; }

/* Store row y of the model's input: (width) pixels, normalised. For the resampler itself and rows that need none. */
void ees__patches_store_row(const struct ees__resample *r, unsigned y, const uint8_t *row, float *patches);

#endif
