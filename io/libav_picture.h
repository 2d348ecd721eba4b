/* SPDX-License-Identifier: MIT */
/* Pool items of the libav module: a decoded picture or a packet that a frame refers to until it is released. */
#ifndef EES_IO_LIBAV_PICTURE_H
#define EES_IO_LIBAV_PICTURE_H

#include <libavcodec/avcodec.h>
#include <libswscale/swscale.h>

#include "eestream/frame.h"
#include "io/pool.h"

struct ees__picture {
    struct ees__pool_item item;
    AVFrame *frame;   /* never NULL once acquired; may be empty */
    AVPacket *packet; /* the same */
    uint8_t *rgb;
    size_t rgb_capacity;
    ees_error error; /* code 0: sound */
};

/* An empty picture from a pool of struct ees__picture. @return NULL: out of memory */
struct ees__picture *ees__picture_acquire(struct ees__pool *pool);

/* ees_frame.release. Any thread: libav counts its references atomically. */
void ees__picture_release(void *picture);

/* ees__source_kind.fini_item */
void ees__picture_fini(void *picture);

/* Fill in size, planes and colours of p->frame: 8-bit planar YUV as it is, anything else converted to RGB into the
 * picture's own memory. A format that cannot be converted sets p->error.
 * @param cache  conversion context, kept from frame to frame; free with sws_freeContext()
 * @param name   of the source, for messages
 * @return 0 or EES_ENOMEM */
int ees__picture_describe(struct ees__picture *p, struct SwsContext **cache, const char *name, ees_frame *out,
                          ees_error *err);

/* Give the JPEG in p->packet its Huffman tables if it has none, by copying it. @return 0 or EES_ENOMEM */
int ees__picture_complete_jpeg(struct ees__picture *p);

#endif
