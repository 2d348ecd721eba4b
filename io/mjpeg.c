/* SPDX-License-Identifier: MIT */
/* JPEGs one after the other, from a file or a pipe: finds where each begins and ends without decoding it.
 *
 * Marker segments are passed by their length, so a thumbnail inside an APPn segment is not taken for a frame; in
 * entropy-coded data every FF is followed by 00, by a restart marker or by the next real marker. A frame ends with
 * EOI, or, when that is missing, where the next SOI stands. Anything between frames (multipart headers, padding) is
 * passed over and counted. The machine is fed byte ranges of any size and keeps its state across them. */
#include <string.h>

#include "common/fail.h"
#include "io/frame_buf.h"
#include "io/jpeg_tables.h"
#include "io/source.h"

enum { RST0 = 0xd0, RST7 = 0xd7, SOI = 0xd8, EOI = 0xd9, TEM = 0x01 };

enum state {
    HUNT,        /* between frames */
    HUNT_FF,     /* FF seen */
    HUNT_SOI,    /* FF D8 seen; another FF makes it a frame */
    BODY,        /* inside a frame, up to the next FF */
    MARKER,      /* FF seen inside a frame */
    SOI_IN_BODY, /* FF D8 seen inside a frame; another FF means that the next frame has begun */
    LENGTH_HIGH, /* first byte of a segment's length */
    LENGTH_LOW,
    SEGMENT, /* inside a marker segment */
};

struct mjpeg {
    enum state state;
    struct ees__frame_buf *buf; /* frame being collected */
    uint64_t frame_begin;       /* byte offset of its SOI */
    uint64_t frame_bytes;       /* its length so far, stored or not */
    bool too_big;               /* it went beyond the limit: no longer stored */
    size_t segment_left;
    uint64_t n_garbage; /* bytes between frames */
    bool next_begun;    /* FF D8 FF of the next frame is consumed already */
};

static enum ees__match match(const struct ees__probe *probe) {
    static const char *const extensions[] = {".mjpeg", ".mjpg", NULL};
    if (probe->n_head >= 3 && memcmp(probe->head, "\xff\xd8\xff", 3) == 0)
        return EES__MATCH_CONTENT;
    return ees__has_extension(probe->uri, extensions) ? EES__MATCH_NAME : EES__MATCH_NONE;
}

static int open_mjpeg(ees_source *s, ees_error *err) {
    s->info.fps = s->options.raw_fps;
    return 0;
}

static void close_mjpeg(ees_source *s) {
    struct mjpeg *m = s->state;
    if (m->buf)
        ees__pool_release(m->buf);
}

/* Store bytes of the frame; beyond the limit they are only counted. */
static int store(ees_source *s, const void *data, size_t n) {
    struct mjpeg *m = s->state;
    m->frame_bytes += n;
    m->too_big |= m->frame_bytes > s->options.max_frame_bytes;
    if (m->too_big)
        return 0;
    return ees__frame_buf_append(m->buf, data, n);
}

/* FF D8 FF has been seen, ending before byte `end`. */
static int begin_frame(ees_source *s, uint64_t end) {
    struct mjpeg *m = s->state;
    m->frame_begin = end - 3;
    m->frame_bytes = 0;
    m->too_big = false;
    m->state = MARKER;
    return store(s, "\xff\xd8\xff", 3);
}

/* One byte between frames. */
static int hunt(ees_source *s, uint8_t byte, uint64_t at) {
    struct mjpeg *m = s->state;
    if (m->state == HUNT_SOI && byte == 0xff) {
        m->n_garbage -= 2; /* FF D8 were counted */
        return begin_frame(s, at + 1);
    }
    m->n_garbage++;
    if (byte == 0xff)
        m->state = HUNT_FF;
    else
        m->state = m->state == HUNT_FF && byte == SOI ? HUNT_SOI : HUNT;
    return 0;
}

/* The byte after FF inside a frame. *complete: it was the last one. */
static void read_marker(struct mjpeg *m, uint8_t byte, bool *complete) {
    if (byte == 0xff)
        return; /* fill byte */
    if (byte == EOI) {
        *complete = true;
        m->state = HUNT;
    } else if (byte == SOI) {
        m->state = SOI_IN_BODY;
    } else if (byte == 0 || byte == TEM || (byte >= RST0 && byte <= RST7)) {
        m->state = BODY;
    } else {
        m->state = LENGTH_HIGH;
    }
}

/* The byte after FF D8 inside a frame. */
static int read_after_soi(ees_source *s, uint8_t byte, bool *complete) {
    struct mjpeg *m = s->state;
    if (byte != 0xff) {
        m->state = BODY;
        return store(s, &byte, 1);
    }
    if (m->frame_bytes == 4) { /* FF D8 FF D8 FF: the first SOI had nothing behind it and is no frame */
        m->n_garbage += 2;
        m->buf->n = 0;
        return begin_frame(s, m->frame_begin + 5);
    }
    if (!m->too_big)
        m->buf->n -= 2; /* FF D8 belong to the next frame */
    m->frame_bytes -= 2;
    m->next_begun = true;
    *complete = true;
    return 0;
}

/* One byte inside a frame, but for the states that take many at once. */
static int step(ees_source *s, uint8_t byte, bool *complete) {
    struct mjpeg *m = s->state;
    if (m->state == SOI_IN_BODY)
        return read_after_soi(s, byte, complete);
    EES_TRY(store(s, &byte, 1));
    switch (m->state) {
    case MARKER:
        read_marker(m, byte, complete);
        break;
    case LENGTH_HIGH:
        m->segment_left = (size_t)byte << 8;
        m->state = LENGTH_LOW;
        break;
    default: /* LENGTH_LOW */
        m->segment_left |= byte;
        m->segment_left -= m->segment_left < 2 ? m->segment_left : 2; /* it counts its own two bytes */
        m->state = m->segment_left ? SEGMENT : BODY;
        break;
    }
    return 0;
}

/* Many bytes of BODY or SEGMENT. @return how many were taken, or negative */
static int64_t take_run(ees_source *s, const uint8_t *data, size_t n) {
    struct mjpeg *m = s->state;
    if (m->state == SEGMENT) {
        n = n < m->segment_left ? n : m->segment_left;
        m->segment_left -= n;
        if (m->segment_left == 0)
            m->state = BODY;
    } else {
        const uint8_t *ff = memchr(data, 0xff, n);
        if (ff) {
            n = (size_t)(ff - data) + 1;
            m->state = MARKER;
        }
    }
    int rc = store(s, data, n);
    return rc < 0 ? rc : (int64_t)n;
}

/* Feed bytes until the frame is complete or they run out; *n_used says how far it went. */
static int feed(ees_source *s, const uint8_t *data, size_t n, size_t *n_used, bool *complete) {
    struct mjpeg *m = s->state;
    uint64_t base = ees__reader_position(s->reader);
    size_t i = 0;
    while (i < n && !*complete) {
        if (m->state <= HUNT_SOI) {
            EES_TRY(hunt(s, data[i], base + i));
            i++;
        } else if (m->state == BODY || m->state == SEGMENT) {
            int64_t taken = take_run(s, data + i, n - i);
            if (taken < 0)
                return (int)taken;
            i += (size_t)taken;
        } else {
            EES_TRY(step(s, data[i], complete));
            i++;
        }
    }
    *n_used = i;
    return 0;
}

static int end_of_input(ees_source *s, ees_error *err) {
    struct mjpeg *m = s->state;
    if (s->n_frames == 0)
        return EES_FAIL(err, EES_ESOURCE, "%s: no JPEG in %llu bytes", s->name, (unsigned long long)m->n_garbage);
    return EES_EOF;
}

/* Collect one frame into m->buf. @return 0, EES_EOF, or a failure */
static int collect(ees_source *s, ees_error *err) {
    struct mjpeg *m = s->state;
    bool complete = false;
    if (m->next_begun) {
        m->next_begun = false;
        EES_TRY(begin_frame(s, ees__reader_position(s->reader)));
    }
    while (!complete) {
        const uint8_t *data;
        size_t n, n_used = 0;
        EES_TRY(ees__reader_view(s->reader, &data, &n, err));
        if (n == 0) {
            if (m->state <= HUNT_SOI)
                return end_of_input(s, err);
            m->state = HUNT; /* the input ends inside the frame: its decoder knows what that is worth */
            return 0;
        }
        int rc = feed(s, data, n, &n_used, &complete);
        if (rc < 0)
            return EES_FAIL(err, rc, "%s: no memory for a frame of %llu bytes", s->name,
                            (unsigned long long)m->frame_bytes);
        ees__reader_consume(s->reader, n_used);
    }
    return 0;
}

static int next_mjpeg(ees_source *s, ees_frame *out, ees_error *err) {
    struct mjpeg *m = s->state;
    if (!m->buf && !(m->buf = ees__frame_buf_acquire(s->pool)))
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory for a frame", s->name);
    EES_TRY(collect(s, err)); /* after a stop the frame stays in m->buf */
    struct ees__frame_buf *buf = m->buf;
    m->buf = NULL;
    if (m->too_big)
        EES_FAIL(&buf->error, EES_EDAMAGED, "%s: frame at byte %llu has %llu bytes, at most %zu are allowed", s->name,
                 (unsigned long long)m->frame_begin, (unsigned long long)m->frame_bytes, s->options.max_frame_bytes);
    else if (ees__jpeg_complete(buf) < 0) {
        ees__pool_release(buf);
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory for a frame", s->name);
    }
    ees__frame_buf_hand_out(buf, EES_FRAME_JPEG, out);
    out->pts_ns = ees__frame_time_at_fps(s->n_frames, s->options.raw_fps);
    return 0;
}

const struct ees__source_kind ees__source_mjpeg = {
    .name = "mjpeg",
    .state_bytes = sizeof(struct mjpeg),
    .item_bytes = sizeof(struct ees__frame_buf),
    .fini_item = ees__frame_buf_fini,
    .match = match,
    .open = open_mjpeg,
    .next = next_mjpeg,
    .close = close_mjpeg,
};
