/* SPDX-License-Identifier: MIT */
/* Where libjpeg takes the memory of one image from: a block that is kept from image to image, so that a stream of like
 * frames allocates nothing, and that has an upper limit, so that a small file cannot ask for gigabytes. */
#ifndef EES_INGEST_JPEG_MEMORY_H
#define EES_INGEST_JPEG_MEMORY_H

#include <stddef.h>
#include <stdio.h> /* jpeglib.h needs it */

#include <jpeglib.h>

struct ees__jpeg_extra;

struct ees__jpeg_memory {
    struct jpeg_memory_mgr original; /* libjpeg's own methods, for what it made before */
    unsigned char *block;            /* kept between images */
    size_t block_bytes, block_used;
    struct ees__jpeg_extra *extras;      /* what did not fit, given back after the image */
    size_t image_bytes;                  /* block and extras of this image */
    size_t max_bytes;                    /* limit of image_bytes */
    struct jvirt_barray_control *arrays; /* coefficient arrays asked for and not yet realised */
    int failure; /* why the last request failed: EES_EDAMAGED above the limit, EES_ENOMEM; 0 none */
};

/* Take over from here on for a decompressor that was just created. Sets cinfo->client_data to `memory`. Tables found in
 * a picture are gone after it: their pointers in cinfo have to be cleared before the next. */
void ees__jpeg_memory_attach(struct ees__jpeg_memory *memory, j_decompress_ptr cinfo, size_t max_bytes);

/* After jpeg_destroy(). */
void ees__jpeg_memory_fini(struct ees__jpeg_memory *memory);

#endif
