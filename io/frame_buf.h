/* SPDX-License-Identifier: MIT */
/* The pool item of the sources that read bytes: one frame's memory and, when it is damaged, the report. */
#ifndef EES_IO_FRAME_BUF_H
#define EES_IO_FRAME_BUF_H

#include "eestream/frame.h"
#include "io/pool.h"

struct ees__frame_buf {
    struct ees__pool_item item;
    uint8_t *data;
    size_t n, capacity;
    ees_error error; /* code 0: the frame is sound as far as the source can tell */
};

/* An empty buffer from a pool of struct ees__frame_buf. @return NULL: out of memory */
struct ees__frame_buf *ees__frame_buf_acquire(struct ees__pool *pool);

/* ees__source_kind.fini_item */
void ees__frame_buf_fini(void *buf);

/* Room for `n` bytes in all; keeps the first buf->n. @return 0 or EES_ENOMEM */
int ees__frame_buf_reserve(struct ees__frame_buf *buf, size_t n);

/* @return 0 or EES_ENOMEM */
int ees__frame_buf_append(struct ees__frame_buf *buf, const void *data, size_t n);

/* Hand the buffer out: sets data, bytes, error, release, opaque and the kind. The frame owns the buffer from now on. */
void ees__frame_buf_hand_out(struct ees__frame_buf *buf, enum ees_frame_kind kind, ees_frame *out);

#endif
