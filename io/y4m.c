/* SPDX-License-Identifier: MIT */
/* YUV4MPEG2: a text line with the format, then a line "FRAME" and the planes for each picture. Source of the format:
 * the mjpegtools yuv4mpeg(5) manual page; 8-bit planar forms only. XCOLORRANGE is FFmpeg's extension. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fail.h"
#include "io/frame_buf.h"
#include "io/source.h"

#define MAGIC "YUV4MPEG2"
enum { MAX_LINE = 512, MAX_SIDE = 65535 };

struct format {
    uint32_t width, height;
    uint32_t rate, scale; /* frames a second; 0: not said */
    uint8_t n_planes, shift_x, shift_y, full_range;
};

struct y4m {
    struct format format;
    size_t plane_bytes[3], stride[3], frame_bytes;
};

static enum ees__match match(const struct ees__probe *probe) {
    static const char *const extensions[] = {".y4m", NULL};
    if (probe->n_head > strlen(MAGIC) && memcmp(probe->head, MAGIC " ", strlen(MAGIC " ")) == 0)
        return EES__MATCH_CONTENT;
    return ees__has_extension(probe->uri, extensions) ? EES__MATCH_NAME : EES__MATCH_NONE;
}

/* A line without its newline. @return 0; EES_EOF at the end of input; EES_ESOURCE */
static int read_line(ees_source *s, char line[MAX_LINE], ees_error *err) {
    uint64_t begin = ees__reader_position(s->reader);
    for (size_t n = 0; n < MAX_LINE; n++) {
        size_t got;
        EES_TRY(ees__reader_read(s->reader, line + n, 1, &got, err));
        if (got == 0 && n == 0)
            return EES_EOF;
        if (got == 0)
            return EES_FAIL(err, EES_ESOURCE, "%s: input ends at byte %llu, inside a header line", s->name,
                            (unsigned long long)(begin + n));
        if (line[n] == '\n') {
            line[n] = '\0';
            return 0;
        }
    }
    return EES_FAIL(err, EES_ESOURCE, "%s: header line at byte %llu is longer than %d bytes", s->name,
                    (unsigned long long)begin, MAX_LINE);
}

/* ---- the header ---- */

static int parse_chroma(const char *name, struct format *f) {
    static const struct {
        const char *name;
        uint8_t n_planes, shift_x, shift_y;
    } forms[] = {
        {"420", 3, 1, 1}, {"420jpeg", 3, 1, 1}, {"420mpeg2", 3, 1, 1}, {"420paldv", 3, 1, 1},
        {"422", 3, 1, 0}, {"444", 3, 0, 0},     {"411", 3, 2, 0},      {"mono", 1, 0, 0},
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
        if (strcmp(name, forms[i].name) == 0) {
            f->n_planes = forms[i].n_planes;
            f->shift_x = forms[i].shift_x;
            f->shift_y = forms[i].shift_y;
            return 0;
        }
    return -1;
}

/* One parameter: a letter and its value. @return 0, or -1 when the value is bad */
static int parse_parameter(const char *text, struct format *f) {
    char *end;
    unsigned long side;
    switch (text[0]) {
    case 'W':
    case 'H':
        side = strtoul(text + 1, &end, 10);
        if (end == text + 1 || *end || side == 0 || side > MAX_SIDE)
            return -1;
        *(text[0] == 'W' ? &f->width : &f->height) = (uint32_t)side;
        return 0;
    case 'F':
        return sscanf(text + 1, "%9u:%9u", &f->rate, &f->scale) == 2 ? 0 : -1;
    case 'C':
        return parse_chroma(text + 1, f);
    case 'X':
        if (strcmp(text, "XCOLORRANGE=FULL") == 0)
            f->full_range = 1;
        return 0;
    default: /* I interlacing, A aspect: not used */
        return 0;
    }
}

static int parse_header(ees_source *s, char *line, struct format *f, ees_error *err) {
    char *rest = NULL;
    const char *word = strtok_r(line, " ", &rest);
    if (!word || strcmp(word, MAGIC) != 0)
        return EES_FAIL(err, EES_ESOURCE, "%s: does not begin with " MAGIC, s->name);
    *f = (struct format){.n_planes = 3, .shift_x = 1, .shift_y = 1};
    while ((word = strtok_r(NULL, " ", &rest)) != NULL) {
        if (parse_parameter(word, f) == 0)
            continue;
        EES_FAIL(err, word[0] == 'C' ? EES_EUNSUPPORTED : EES_ESOURCE, "%s: Y4M parameter '%.40s' is not read", s->name,
                 word);
        ees__hint(err, "sides of 1 to %d; C420, C422, C444, C411 and Cmono with 8 bits", MAX_SIDE);
        return word[0] == 'C' ? EES_EUNSUPPORTED : EES_ESOURCE;
    }
    if (f->width == 0 || f->height == 0)
        return EES_FAIL(err, EES_ESOURCE, "%s: Y4M header does not say width and height", s->name);
    return 0;
}

/* Sides are at most 65535, so three planes fit in 64 bits. */
static void lay_out_planes(struct y4m *y) {
    const struct format *f = &y->format;
    for (int i = 0; i < f->n_planes; i++) {
        unsigned sx = i ? f->shift_x : 0, sy = i ? f->shift_y : 0;
        y->stride[i] = (f->width + (1u << sx) - 1) >> sx;
        y->plane_bytes[i] = y->stride[i] * (size_t)((f->height + (1u << sy) - 1) >> sy);
        y->frame_bytes += y->plane_bytes[i];
    }
}

static int open_y4m(ees_source *s, ees_error *err) {
    struct y4m *y = s->state;
    char line[MAX_LINE];
    EES_TRY(read_line(s, line, err));
    EES_TRY(parse_header(s, line, &y->format, err));
    lay_out_planes(y);
    s->info.width_px = y->format.width;
    s->info.height_px = y->format.height;
    if (y->format.rate && y->format.scale)
        s->info.fps = (double)y->format.rate / y->format.scale;
    return 0;
}

/* ---- frames ---- */

static int read_frame(ees_source *s, struct ees__frame_buf *buf, ees_error *err) {
    const struct y4m *y = s->state;
    char line[MAX_LINE];
    uint64_t begin = ees__reader_position(s->reader);
    EES_TRY(read_line(s, line, err));
    if (strncmp(line, "FRAME", 5) != 0 || (line[5] != '\0' && line[5] != ' '))
        return EES_FAIL(err, EES_ESOURCE, "%s: no FRAME at byte %llu", s->name, (unsigned long long)begin);
    if (ees__frame_buf_reserve(buf, y->frame_bytes) < 0)
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory for a frame of %zu bytes", s->name, y->frame_bytes);
    EES_TRY(ees__reader_read(s->reader, buf->data, y->frame_bytes, &buf->n, err));
    if (buf->n == y->frame_bytes)
        return 0;
    return EES_FAIL(err, EES_ESOURCE, "%s: input ends at byte %llu, inside the frame at byte %llu", s->name,
                    (unsigned long long)ees__reader_position(s->reader), (unsigned long long)begin);
}

static void describe(const struct y4m *y, const struct ees__frame_buf *buf, ees_frame *out) {
    const uint8_t *plane = buf->data;
    out->width_px = y->format.width;
    out->height_px = y->format.height;
    for (int i = 0; i < y->format.n_planes; i++) {
        out->data[i] = plane;
        out->stride[i] = y->stride[i];
        plane += y->plane_bytes[i];
    }
    out->chroma_shift_x = y->format.shift_x;
    out->chroma_shift_y = y->format.shift_y;
    out->yuv_matrix = EES_YUV_BT601;
    out->yuv_full_range = y->format.full_range;
}

static int next_y4m(ees_source *s, ees_frame *out, ees_error *err) {
    const struct y4m *y = s->state;
    struct ees__frame_buf *buf = ees__frame_buf_acquire(s->pool);
    if (!buf)
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory for a frame", s->name);
    int rc = read_frame(s, buf, err);
    if (rc < 0) {
        ees__pool_release(buf);
        return rc;
    }
    ees__frame_buf_hand_out(buf, EES_FRAME_YUV, out);
    describe(y, buf, out);
    out->pts_ns = y->format.rate && y->format.scale ? ees__frame_time_ns(s->n_frames, y->format.scale, y->format.rate)
                                                    : ees__frame_time_at_fps(s->n_frames, s->options.raw_fps);
    return 0;
}

const struct ees__source_kind ees__source_y4m = {
    .name = "y4m",
    .state_bytes = sizeof(struct y4m),
    .item_bytes = sizeof(struct ees__frame_buf),
    .fini_item = ees__frame_buf_fini,
    .match = match,
    .open = open_y4m,
    .next = next_y4m,
};
