/* SPDX-License-Identifier: MIT */
/* Motion JPEG as cameras and AVI files carry it may leave out the Huffman tables, which are then the standard ones. */
#ifndef EES_IO_JPEG_TABLES_H
#define EES_IO_JPEG_TABLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/frame_buf.h"

enum { EES__JPEG_TABLES_BYTES = 420 };

/* Put the tables in front of the first scan of the JPEG in `buf` when it is baseline and has none.
 * @return 0 or EES_ENOMEM */
int ees__jpeg_complete(struct ees__frame_buf *buf);

/* Offset at which the JPEG lacks its tables; 0 when it lacks none. */
size_t ees__jpeg_tables_gap(const uint8_t *data, size_t n);

/* Write EES__JPEG_TABLES_BYTES: one DHT segment with the four tables. */
void ees__jpeg_write_tables(uint8_t *dst);

#endif
