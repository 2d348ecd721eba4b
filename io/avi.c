/* SPDX-License-Identifier: MIT */
/* MJPEG in AVI and OpenDML. The lists of frames are walked chunk by chunk, as one flat row: LIST movi, LIST rec and
 * further RIFF AVIX are stepped into, everything else is stepped over. So neither an index nor the size of a list or
 * a RIFF is ever needed, and files beyond 2 GB, without index, or never finished by their writer read like any other.
 *
 * What cannot be trusted is the size of a chunk. A frame's size is believed when another chunk, or the end of the
 * file, follows where it says. Otherwise the frame is taken to end where the next chunk of the same stream (its
 * name and FF D8) or the next known structure is found, so a wrong size costs nothing; where nothing is found
 * the stream ends with the byte offset. This needs a file; on a pipe a wrong size ends the stream. */
#include "io/avi.h"

#include <string.h>

#include "common/fail.h"
#include "io/frame_buf.h"
#include "io/jpeg_tables.h"

enum {
    HEADER = EES__AVI_CHUNK_BYTES,
    SIGNATURE_BYTES = HEADER + 4, /* what find_structure() must see of a chunk */
    FIRST_STEP = 1024,            /* a search reads ahead in growing steps: most end within the first frame */
    LAST_STEP = 64 * 1024,
};

#define FOURCC_LIST EES__FOURCC('L', 'I', 'S', 'T')
#define FOURCC_RIFF EES__FOURCC('R', 'I', 'F', 'F')
#define FOURCC_IDX1 EES__FOURCC('i', 'd', 'x', '1')
#define FOURCC_MOVI EES__FOURCC('m', 'o', 'v', 'i')
#define FOURCC_REC  EES__FOURCC('r', 'e', 'c', ' ')
#define FOURCC_AVIX EES__FOURCC('A', 'V', 'I', 'X')

struct avi {
    struct ees__avi_header header;
    uint32_t compressed, uncompressed; /* names of our stream's chunks: 00dc, 00db */
    uint64_t n_chunks;                 /* of our stream, empty ones too: the clock */
    uint64_t movi_end;                 /* where the list of frames ends or claims to end, 0: unknown */
};

static enum ees__match match(const struct ees__probe *probe) {
    bool avi = probe->n_head >= 12 && memcmp(probe->head, "RIFF", 4) == 0 && memcmp(probe->head + 8, "AVI ", 4) == 0;
    return avi ? EES__MATCH_CONTENT : EES__MATCH_NONE;
}

/* Names under which baseline JPEG travels in AVI. */
static bool is_mjpeg(uint32_t codec) {
    static const char names[][5] = {"MJPG", "mjpg", "jpeg", "JPEG", "mjpa", "dmb1",
                                    "AVI1", "AVRn", "ACDV", "CJPG", "IJPG", "QIVG"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (codec == ees__avi_u32((const uint8_t *)names[i]))
            return true;
    return false;
}

static void fill_info(ees_source *s, struct ees__avi_header *h) {
    if (h->rate == 0 || h->scale == 0) {
        h->rate = h->frame_us ? 1000000 : 0;
        h->scale = h->frame_us;
    }
    s->info.fps = h->rate && h->scale ? (double)h->rate / h->scale : s->options.raw_fps;
    s->info.n_frames = h->n_frames ? (int64_t)h->n_frames : -1;
    s->info.width_px = h->width_px > 0 ? (uint32_t)h->width_px : 0;
    s->info.height_px = (uint32_t)(h->height_px < 0 ? -(int64_t)h->height_px : h->height_px); /* below 0: top-down */
}

static int open_avi(ees_source *s, ees_error *err) {
    struct avi *a = s->state;
    EES_TRY(ees__avi_read_header(s->reader, &a->header, err));
    if (!a->header.has_video)
        return EES_FAIL(err, EES_ESOURCE, "%s: AVI without a video stream", s->name);
    if (!is_mjpeg(a->header.codec))
        return EES__OPEN_ELSEWHERE;
    if (a->header.stream_idx > 99)
        return EES_FAIL(err, EES_ESOURCE, "%s: video is stream %u, AVI names only 100", s->name, a->header.stream_idx);
    char tens = (char)('0' + a->header.stream_idx / 10), ones = (char)('0' + a->header.stream_idx % 10);
    a->compressed = EES__FOURCC(tens, ones, 'd', 'c');
    a->uncompressed = EES__FOURCC(tens, ones, 'd', 'b');
    a->movi_end = a->header.movi_end;
    fill_info(s, &a->header);
    return 0;
}

static bool is_frame(const struct avi *a, uint32_t fourcc) {
    return fourcc == a->compressed || fourcc == a->uncompressed;
}

static bool fits_file(const ees_source *s, uint64_t at, uint32_t size) {
    int64_t file_size = ees__reader_size(s->reader);
    return file_size < 0 || at + HEADER + size <= (uint64_t)file_size;
}

/* Has the walk passed the end of the list of frames? What it meets there is no loss. */
static bool frames_are_over(const struct avi *a, uint64_t at) { return a->movi_end && at >= a->movi_end; }

/* ---- finding the way again ---- */

/* Is this the start of a chunk beyond doubt? `p` shows SIGNATURE_BYTES. */
static bool is_structure(const struct avi *a, const uint8_t *p) {
    uint32_t fourcc = ees__avi_u32(p), size = ees__avi_u32(p + 4), type = ees__avi_u32(p + 8);
    if (is_frame(a, fourcc))
        return size == 0 || (p[8] == 0xff && p[9] == 0xd8);
    if (fourcc == FOURCC_LIST)
        return type == FOURCC_MOVI || type == FOURCC_REC;
    if (fourcc == FOURCC_RIFF)
        return type == FOURCC_AVIX;
    return fourcc == FOURCC_IDX1 && size % 16 == 0; /* entries of 16 bytes */
}

static size_t find_structure(const struct avi *a, const uint8_t *data, size_t from, size_t n) {
    for (size_t i = from; i + SIGNATURE_BYTES <= n; i++)
        if (is_structure(a, data + i))
            return i;
    return n;
}

/* Collect bytes from the current position into `buf` up to the next structure and stand there. When there are more
 * than max_frame_bytes, buf->error is set and the bytes are passed over.
 * @return 0; EES_EOF when the file ends first; a failure */
static int collect_to_structure(ees_source *s, struct ees__frame_buf *buf, ees_error *err) {
    uint64_t begin = ees__reader_position(s->reader), base = begin; /* base: offset of buf->data[0] */
    size_t step = FIRST_STEP, searched = 0;
    buf->n = 0;
    for (;;) {
        size_t got;
        if (ees__frame_buf_reserve(buf, buf->n + step) < 0)
            return EES_FAIL(err, EES_ENOMEM, "%s: no memory for a frame", s->name);
        EES_TRY(ees__reader_read(s->reader, buf->data + buf->n, step, &got, err));
        buf->n += got;
        size_t found = find_structure(s->state, buf->data, searched, buf->n);
        bool too_big = base + found - begin > s->options.max_frame_bytes;
        if (too_big)
            EES_FAIL(&buf->error, EES_EDAMAGED, "%s: frame at byte %llu has more than %zu bytes", s->name,
                     (unsigned long long)begin, s->options.max_frame_bytes);
        if (found < buf->n) {
            ees__reader_seek(s->reader, base + found);
            buf->n = found;
            return 0;
        }
        if (got == 0)
            return EES_EOF;
        searched = buf->n < SIGNATURE_BYTES ? 0 : buf->n - SIGNATURE_BYTES + 1;
        if (too_big) {
            base += searched;
            buf->n -= searched;
            memmove(buf->data, buf->data + searched, buf->n);
            searched = 0;
        }
        step = step < LAST_STEP ? step * 2 : LAST_STEP;
    }
}

/* Nothing is left to go on with after `chunk`, which could not be believed: the end, or the error that says where. */
static int break_off(const ees_source *s, const struct ees__avi_chunk *chunk, ees_error *err) {
    if (frames_are_over(s->state, chunk->at))
        return EES_EOF;
    if (!ees__avi_is_fourcc(chunk->fourcc))
        return EES_FAIL(err, EES_ESOURCE, "%s: no chunk at byte %llu, and none after it", s->name,
                        (unsigned long long)chunk->at);
    return EES_FAIL(err, EES_ESOURCE, "%s: chunk '%s' at byte %llu claims %u bytes, the file breaks off before",
                    s->name, ees__avi_name(chunk->fourcc).text, (unsigned long long)chunk->at, chunk->size);
}

/* Go to the next structure from byte `from` on, past what follows `chunk`. */
static int resync(ees_source *s, const struct ees__avi_chunk *chunk, uint64_t from, struct ees__frame_buf *buf,
                  ees_error *err) {
    int rc = EES_EOF;
    if (ees__reader_can_seek(s->reader)) {
        ees__reader_seek(s->reader, from);
        rc = collect_to_structure(s, buf, err);
    }
    return rc == EES_EOF ? break_off(s, chunk, err) : rc;
}

/* ---- frames ---- */

static bool is_digit(unsigned c) { return c >= '0' && c <= '9'; }

/* One of the names that AVI itself gives to chunks between frames: 00dc, 01wb, ix00, LIST... */
static bool is_avi_name(uint32_t fourcc) {
    unsigned a = fourcc & 0xff, b = fourcc >> 8 & 0xff, c = fourcc >> 16 & 0xff, d = fourcc >> 24;
    switch (fourcc) {
    case FOURCC_LIST:
    case FOURCC_RIFF:
    case FOURCC_IDX1:
    case EES__FOURCC('J', 'U', 'N', 'K'):
        return true;
    default:
        break;
    }
    if (a == 'i' && b == 'x')
        return is_digit(c) && is_digit(d);
    return is_digit(a) && is_digit(b) && c >= 'a' && c <= 'z' && d >= 'a' && d <= 'z';
}

/* Is there a chunk (or the end of the file) at byte `at`? Its own size may be a lie or cut short, which says nothing
 * against the chunk before it; only where the name is unknown does the size decide. Leaves the reader anywhere. */
static int chunk_follows(ees_source *s, uint64_t at, bool *yes, ees_error *err) {
    uint8_t bytes[HEADER];
    size_t n;
    ees__reader_seek(s->reader, at);
    EES_TRY(ees__reader_read(s->reader, bytes, sizeof bytes, &n, err));
    uint32_t fourcc = ees__avi_u32(bytes);
    *yes = n < sizeof bytes || is_avi_name(fourcc) ||
           (ees__avi_is_fourcc(fourcc) && fits_file(s, at, ees__avi_u32(bytes + 4)));
    return 0;
}

/* Where the chunk after a frame begins if the frame's size is right; 0 when it is not. */
static int find_next_chunk(ees_source *s, const struct ees__avi_chunk *chunk, uint64_t *next, ees_error *err) {
    bool follows = false;
    *next = ees__avi_chunk_end(chunk);
    if (fits_file(s, chunk->at, chunk->size))
        EES_TRY(chunk_follows(s, *next, &follows, err));
    if (!follows && (chunk->size & 1) && fits_file(s, chunk->at, chunk->size)) {
        *next -= 1; /* some writers do not pad */
        EES_TRY(chunk_follows(s, *next, &follows, err));
    }
    if (!follows)
        *next = 0;
    return 0;
}

/* Bytes of a frame that is above the limit: passed over, and the frame damaged. */
static int pass_payload(ees_source *s, const struct ees__avi_chunk *chunk, struct ees__frame_buf *buf, ees_error *err) {
    EES_FAIL(&buf->error, EES_EDAMAGED, "%s: frame at byte %llu has %u bytes, at most %zu are allowed", s->name,
             (unsigned long long)chunk->at, chunk->size, s->options.max_frame_bytes);
    return ees__reader_skip(s->reader, chunk->size, err);
}

static int read_payload(ees_source *s, const struct ees__avi_chunk *chunk, struct ees__frame_buf *buf, ees_error *err) {
    if (chunk->size > s->options.max_frame_bytes) {
        EES_TRY(pass_payload(s, chunk, buf, err));
    } else {
        if (ees__frame_buf_reserve(buf, chunk->size) < 0)
            return EES_FAIL(err, EES_ENOMEM, "%s: no memory for a frame of %u bytes", s->name, chunk->size);
        EES_TRY(ees__reader_read(s->reader, buf->data, chunk->size, &buf->n, err));
    }
    uint64_t end = chunk->at + HEADER + chunk->size, at = ees__reader_position(s->reader);
    if (at >= end)
        return 0;
    return EES_FAIL(err, EES_ESOURCE, "%s: input ends at byte %llu, inside the frame of %u bytes at byte %llu", s->name,
                    (unsigned long long)at, chunk->size, (unsigned long long)chunk->at);
}

/* Read the frame at `chunk` by its size and go on to byte `next`. */
static int read_sized(ees_source *s, const struct ees__avi_chunk *chunk, uint64_t next, struct ees__frame_buf *buf,
                      ees_error *err) {
    ees__reader_seek(s->reader, chunk->at + HEADER);
    EES_TRY(read_payload(s, chunk, buf, err));
    ees__reader_seek(s->reader, next);
    return 0;
}

/* Read the frame at `chunk`, whose size is in doubt, by looking for its end. Where none is to be found its size is all
 * there is, as long as the file has so many bytes: it is what follows the frame that is damaged. */
static int read_unsized(ees_source *s, const struct ees__avi_chunk *chunk, struct ees__frame_buf *buf, ees_error *err) {
    ees__reader_seek(s->reader, chunk->at + HEADER);
    int rc = collect_to_structure(s, buf, err);
    if (rc != EES_EOF)
        return rc;
    if (!fits_file(s, chunk->at, chunk->size))
        return break_off(s, chunk, err);
    buf->n = 0;
    buf->error.code = 0;
    return read_sized(s, chunk, ees__avi_chunk_end(chunk), buf, err);
}

/* Read the frame at `chunk`, whose header is behind us, and stand at the chunk after it. */
static int read_frame(ees_source *s, const struct ees__avi_chunk *chunk, struct ees__frame_buf *buf, ees_error *err) {
    uint64_t next = 0;
    buf->n = 0;
    if (!ees__reader_can_seek(s->reader)) {
        EES_TRY(read_payload(s, chunk, buf, err));
        return ees__reader_skip(s->reader, chunk->size & 1, err);
    }
    EES_TRY(find_next_chunk(s, chunk, &next, err));
    return next ? read_sized(s, chunk, next, buf, err) : read_unsized(s, chunk, buf, err);
}

/* ---- the walk ---- */

static int enter_list(ees_source *s, const struct ees__avi_chunk *chunk, ees_error *err) {
    struct avi *a = s->state;
    uint8_t type[4] = {0};
    size_t n;
    EES_TRY(ees__reader_read(s->reader, type, sizeof type, &n, err));
    uint32_t list = ees__avi_u32(type);
    if (list == FOURCC_MOVI)
        a->movi_end = ees__avi_list_end(chunk);
    if (chunk->fourcc == FOURCC_RIFF || list == FOURCC_MOVI || list == FOURCC_REC || chunk->size < 4)
        return 0;
    return ees__reader_skip(s->reader, ees__avi_chunk_end(chunk) - ees__reader_position(s->reader), err);
}

/* A chunk that is not a frame. */
static int pass_chunk(ees_source *s, const struct ees__avi_chunk *chunk, struct ees__frame_buf *buf, ees_error *err) {
    struct avi *a = s->state;
    if (chunk->fourcc == FOURCC_IDX1)
        a->movi_end = chunk->at; /* whatever the list claimed */
    if (chunk->fourcc == FOURCC_RIFF)
        a->movi_end = 0; /* the next LIST movi will say */
    if (chunk->fourcc == FOURCC_RIFF || chunk->fourcc == FOURCC_LIST)
        return enter_list(s, chunk, err);
    if (!ees__avi_is_fourcc(chunk->fourcc))
        return resync(s, chunk, chunk->at + 1, buf, err);
    if (!fits_file(s, chunk->at, chunk->size))
        return resync(s, chunk, chunk->at + HEADER, buf, err);
    return ees__reader_skip(s->reader, ees__avi_chunk_end(chunk) - ees__reader_position(s->reader), err);
}

/* The next chunk header, or the reason why there is none. */
static int read_chunk(ees_source *s, struct ees__avi_chunk *chunk, ees_error *err) {
    const struct avi *a = s->state;
    uint64_t at = ees__reader_position(s->reader);
    ees_error ends = {0};
    int rc = ees__avi_read_chunk(s->reader, chunk, &ends);
    if (rc == 0)
        return 0;
    if (rc == EES_EOF && a->movi_end > at)
        return EES_FAIL(err, EES_ESOURCE, "%s: file ends at byte %llu, its frames should go on to byte %llu", s->name,
                        (unsigned long long)at, (unsigned long long)a->movi_end);
    if (rc == EES_ESOURCE && ends.os_errno == 0 && frames_are_over(a, at))
        return EES_EOF; /* a few stray bytes after everything */
    if (rc != EES_EOF && err)
        *err = ends;
    return rc;
}

/* Walk on to the next frame that is not empty, into `buf`. */
static int find_frame(ees_source *s, struct ees__frame_buf *buf, ees_error *err) {
    struct avi *a = s->state;
    for (;;) {
        struct ees__avi_chunk chunk;
        if (ees__stop_wanted(&s->stop))
            return EES_ECANCELED;
        EES_TRY(read_chunk(s, &chunk, err));
        if (!is_frame(a, chunk.fourcc)) {
            EES_TRY(pass_chunk(s, &chunk, buf, err));
            buf->error.code = 0; /* what was passed over is no frame, so its length is no damage */
            continue;
        }
        a->n_chunks++;
        EES_TRY(read_frame(s, &chunk, buf, err));
        if (buf->n > 0 || buf->error.code)
            return ees__jpeg_complete(buf) < 0 ? EES_FAIL(err, EES_ENOMEM, "%s: no memory for a frame", s->name) : 0;
    }
}

static int next_avi(ees_source *s, ees_frame *out, ees_error *err) {
    struct avi *a = s->state;
    struct ees__frame_buf *buf = ees__frame_buf_acquire(s->pool);
    if (!buf)
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory for a frame", s->name);
    int rc = find_frame(s, buf, err);
    if (rc < 0) {
        ees__pool_release(buf);
        return rc;
    }
    ees__frame_buf_hand_out(buf, EES_FRAME_JPEG, out);
    out->pts_ns = a->header.rate ? ees__frame_time_ns(a->n_chunks - 1, a->header.scale, a->header.rate)
                                 : ees__frame_time_at_fps(a->n_chunks - 1, s->options.raw_fps);
    return 0;
}

const struct ees__source_kind ees__source_avi = {
    .name = "avi",
    .state_bytes = sizeof(struct avi),
    .item_bytes = sizeof(struct ees__frame_buf),
    .fini_item = ees__frame_buf_fini,
    .match = match,
    .open = open_avi,
    .next = next_avi,
};
