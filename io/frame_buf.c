/* SPDX-License-Identifier: MIT */
/* Frame memory that grows to the largest frame seen and is then reused. */
#include "io/frame_buf.h"

#include <string.h>

#include "common/mem.h"

struct ees__frame_buf *ees__frame_buf_acquire(struct ees__pool *pool) {
    struct ees__frame_buf *buf = ees__pool_acquire(pool);
    if (buf) {
        buf->n = 0;
        buf->error.code = 0;
    }
    return buf;
}

void ees__frame_buf_fini(void *item) {
    struct ees__frame_buf *buf = item;
    ees__free(buf->data);
}

int ees__frame_buf_reserve(struct ees__frame_buf *buf, size_t n) {
    if (n <= buf->capacity)
        return 0;
    size_t capacity;
    if (!ees__add(n, n / 4 + 4096, &capacity))
        return EES_ENOMEM;
    uint8_t *data = ees__calloc_aligned(capacity, 1);
    if (!data)
        return EES_ENOMEM;
    if (buf->n)
        memcpy(data, buf->data, buf->n);
    ees__free(buf->data);
    buf->data = data;
    buf->capacity = capacity;
    return 0;
}

int ees__frame_buf_append(struct ees__frame_buf *buf, const void *data, size_t n) {
    size_t total;
    if (!ees__add(buf->n, n, &total) || ees__frame_buf_reserve(buf, total) < 0)
        return EES_ENOMEM;
    memcpy(buf->data + buf->n, data, n);
    buf->n = total;
    return 0;
}

void ees__frame_buf_hand_out(struct ees__frame_buf *buf, enum ees_frame_kind kind, ees_frame *out) {
    out->kind = kind;
    out->data[0] = buf->data;
    out->bytes = buf->n;
    out->error = buf->error.code ? &buf->error : NULL;
    out->release = ees__pool_release;
    out->opaque = buf;
}
