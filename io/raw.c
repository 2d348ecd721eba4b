/* SPDX-License-Identifier: MIT */
/* Packed frames without any header, as `ffmpeg -pix_fmt rgb24 -f rawvideo` writes them: "rgb24:WIDTHxHEIGHT". */
#include <stdio.h>
#include <string.h>

#include "common/fail.h"
#include "io/frame_buf.h"
#include "io/source.h"

enum { MAX_SIDE = 65535 };

struct raw {
    size_t frame_bytes;
};

static enum ees__match match(const struct ees__probe *probe) {
    bool readable = probe->place == EES__PLACE_FILE || probe->place == EES__PLACE_STREAM;
    return probe->raw && readable ? EES__MATCH_TOLD : EES__MATCH_NONE;
}

static int parse_format(const char *format, uint32_t *width, uint32_t *height, ees_error *err) {
    unsigned w, h;
    int n = 0;
    bool parsed = sscanf(format, "rgb24:%5ux%5u%n", &w, &h, &n) == 2 && format[n] == '\0';
    if (!parsed || w == 0 || h == 0 || w > MAX_SIDE || h > MAX_SIDE)
        return EES_FAIL(err, EES_EINVAL, "raw format '%.60s' is not rgb24:WIDTHxHEIGHT with sides of 1 to %d", format,
                        MAX_SIDE);
    *width = w;
    *height = h;
    return 0;
}

static int open_raw(ees_source *s, ees_error *err) {
    struct raw *raw = s->state;
    EES_TRY(parse_format(s->options.raw, &s->info.width_px, &s->info.height_px, err));
    raw->frame_bytes = (size_t)3 * s->info.width_px * s->info.height_px;
    int64_t size = ees__reader_size(s->reader);
    s->info.n_frames = size < 0 ? -1 : (int64_t)((uint64_t)size / raw->frame_bytes);
    s->info.fps = s->options.raw_fps;
    return 0;
}

static int read_frame(ees_source *s, struct ees__frame_buf *buf, ees_error *err) {
    const struct raw *raw = s->state;
    uint64_t begin = ees__reader_position(s->reader);
    if (ees__frame_buf_reserve(buf, raw->frame_bytes) < 0)
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory for a frame of %zu bytes", s->name, raw->frame_bytes);
    EES_TRY(ees__reader_read(s->reader, buf->data, raw->frame_bytes, &buf->n, err));
    if (buf->n == raw->frame_bytes)
        return 0;
    if (buf->n == 0)
        return EES_EOF;
    return EES_FAIL(err, EES_ESOURCE, "%s: input ends at byte %llu, inside the frame of %zu bytes at byte %llu",
                    s->name, (unsigned long long)(begin + buf->n), raw->frame_bytes, (unsigned long long)begin);
}

static int next_raw(ees_source *s, ees_frame *out, ees_error *err) {
    struct ees__frame_buf *buf = ees__frame_buf_acquire(s->pool);
    if (!buf)
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory for a frame", s->name);
    int rc = read_frame(s, buf, err);
    if (rc < 0) {
        ees__pool_release(buf);
        return rc;
    }
    ees__frame_buf_hand_out(buf, EES_FRAME_RGB24, out);
    out->width_px = s->info.width_px;
    out->height_px = s->info.height_px;
    out->stride[0] = (size_t)3 * s->info.width_px;
    out->pts_ns = ees__frame_time_at_fps(s->n_frames, s->options.raw_fps);
    return 0;
}

const struct ees__source_kind ees__source_raw = {
    .name = "raw",
    .state_bytes = sizeof(struct raw),
    .item_bytes = sizeof(struct ees__frame_buf),
    .fini_item = ees__frame_buf_fini,
    .match = match,
    .open = open_raw,
    .next = next_raw,
};
