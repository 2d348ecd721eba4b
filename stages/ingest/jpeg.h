/* SPDX-License-Identifier: MIT */
/* One JPEG at a time, row by row, with the settings Pillow decodes with. One decoder a worker; begin, start, read until
 * all rows came, finish. After any failure the decoder is ready for the next picture. */
#ifndef EES_INGEST_JPEG_H
#define EES_INGEST_JPEG_H

#include <stddef.h>
#include <stdint.h>

#include "eestream/error.h"

enum {
    EES__JPEG_SCALE_ONE = 8,   /* sizes are eighths of the full one */
    EES__JPEG_MAX_SCANS = 500, /* what libturbojpeg's TJFLAG_LIMITSCANS and NVIDIA DALI allow */
    EES__JPEG_MAX_ROWS = 4,    /* a call reads at most: those of two rows of chroma */
    /* Bytes that rows had better begin behind an aligned address: libjpeg-turbo writes aligned rows past the cache, and
     * the resize reads them at once. It costs a sixth of the whole otherwise. */
    EES__JPEG_ROW_SKEW = 4,
};

struct ees__jpeg;

/* @param max_pixels  a header that claims more is refused before anything is allocated
 *  @return NULL: out of memory */
struct ees__jpeg *ees__jpeg_open(uint64_t max_pixels);
void ees__jpeg_close(struct ees__jpeg *jpeg); /* accepts NULL */

/* Read the header of a picture, which must stay in place until finish.
 * @return 0; EES_EDAMAGED; EES_ENOMEM */
int ees__jpeg_begin(struct ees__jpeg *jpeg, const void *data, size_t bytes, unsigned *width, unsigned *height,
                    ees_error *err);

/* Start decoding at `scale` eighths (8: full size); width and height become those of the rows. */
int ees__jpeg_start(struct ees__jpeg *jpeg, unsigned scale, unsigned *width, unsigned *height, ees_error *err);

/* Before the first row: pixels outside [first, end) of each row are not needed. The rows then begin at pixel *start <=
 * first, and the pixels asked for are what they would have been. Nothing happens (*start 0) when it would not pay. */
int ees__jpeg_crop(struct ees__jpeg *jpeg, unsigned first, unsigned end, unsigned *start, ees_error *err);

/* Next rows, from top to bottom, 4 bytes a pixel: R, G, B and one of no meaning.
 * @param rows  `n` rows, at most EES__JPEG_MAX_ROWS, `stride` bytes apart
 * @return rows written: n, or fewer when these were the last; EES_EDAMAGED; EES_ENOMEM */
int ees__jpeg_read(struct ees__jpeg *jpeg, uint8_t *rows, unsigned n, size_t stride, ees_error *err);

/* After the last row: read to the end of the picture. `n_warnings` counts what libjpeg recovered from. */
int ees__jpeg_finish(struct ees__jpeg *jpeg, unsigned *n_warnings, ees_error *err);

#endif
