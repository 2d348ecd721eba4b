/* SPDX-License-Identifier: MIT */
/* The two inner loops of the resize, one table a CPU level. Integer arithmetic: all levels give the same bytes, and
 * resample_portable.c is the readable definition. */
#ifndef EES_INGEST_RESAMPLE_KERNELS_H
#define EES_INGEST_RESAMPLE_KERNELS_H

#include "stages/ingest/resize_axis.h"

enum {
    EES__PX_BYTES = 4,         /* R, G, B and one of no meaning: one pixel is one vector of 4 sums */
    EES__ROW_SLACK_BYTES = 64, /* readable bytes behind a row of pixels: weights come in steps of EES__TAPS */
    EES__STRIP_BYTES = 64,     /* rows of the window are a multiple of it */
    EES__ROWS_AT_ONCE = 4,     /* rows that share a weight once it is loaded */
};

/* Horizontally resized rows, a ring: input row y lives at slot y % n_rows. */
struct ees__window {
    uint8_t *data;
    size_t row_bytes;
    unsigned n_rows;
};

struct ees__resample_kernels {
    const char *name;
    /* Horizontal pass: axis->shape.n pixels of each out[k] from the pixels of row[k]. Rows may repeat. */
    void (*columns)(const struct ees__axis *axis, const uint8_t *const row[EES__ROWS_AT_ONCE],
                    uint8_t *const out[EES__ROWS_AT_ONCE]);
    /* Vertical pass: output row i, window->row_bytes long, from the rows of the window. */
    void (*rows)(const struct ees__axis *axis, const struct ees__window *window, unsigned i, uint8_t *out);
};

extern const struct ees__resample_kernels ees__resample_portable;
#if defined(__x86_64__)
extern const struct ees__resample_kernels ees__resample_avx512vnni, ees__resample_avx2;
#elif defined(__aarch64__)
extern const struct ees__resample_kernels ees__resample_neon;
#endif

/* Level `idx` of those this CPU has, best first; NULL behind the last, which is the portable one. */
const struct ees__resample_kernels *ees__resample_level(unsigned idx);

#endif
