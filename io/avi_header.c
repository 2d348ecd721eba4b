/* SPDX-License-Identifier: MIT */
/* The header of an AVI file. Source of the layout: Microsoft's AVI RIFF File Reference (avih, strh, strf) and the
 * OpenDML AVI File Format Extensions 1.02 (dmlh). */
#include "io/avi.h"

#include <string.h>

#include "common/fail.h"

enum { MAX_BODY = 64 }; /* the longest part of a header chunk that is looked at */

/* hdrl and strl are walked through as if their parts stood in one row: their own sizes are not needed. */
static bool is_entered(uint32_t list) {
    return list == EES__FOURCC('h', 'd', 'r', 'l') || list == EES__FOURCC('s', 't', 'r', 'l') ||
           list == EES__FOURCC('o', 'd', 'm', 'l');
}

struct ees__avi_name ees__avi_name(uint32_t fourcc) {
    struct ees__avi_name name = {{0}};
    for (int i = 0; i < 4; i++) {
        char c = (char)(fourcc >> 8 * i & 0xff);
        name.text[i] = c >= 0x20 && c < 0x7f ? c : '?';
    }
    return name;
}

bool ees__avi_is_fourcc(uint32_t fourcc) {
    for (int i = 0; i < 4; i++) {
        unsigned c = fourcc >> 8 * i & 0xff;
        if (c < 0x20 || c >= 0x7f)
            return false;
    }
    return true;
}

int ees__avi_read_chunk(struct ees__reader *r, struct ees__avi_chunk *chunk, ees_error *err) {
    uint8_t bytes[EES__AVI_CHUNK_BYTES];
    size_t n;
    chunk->at = ees__reader_position(r);
    EES_TRY(ees__reader_read(r, bytes, sizeof bytes, &n, err));
    if (n == 0)
        return EES_EOF;
    if (n < sizeof bytes)
        return EES_FAIL(err, EES_ESOURCE, "%s: file ends inside the chunk header at byte %llu", ees__reader_name(r),
                        (unsigned long long)chunk->at);
    chunk->fourcc = ees__avi_u32(bytes);
    chunk->size = ees__avi_u32(bytes + 4);
    return 0;
}

uint64_t ees__avi_list_end(const struct ees__avi_chunk *chunk) {
    bool told = chunk->size > 4 && chunk->size < 0xfffffff0u;
    return told ? ees__avi_chunk_end(chunk) : 0;
}

/* Read up to `max` bytes of the chunk's body and stand behind the chunk. Bytes that are missing read as zero. */
static int read_body(struct ees__reader *r, const struct ees__avi_chunk *chunk, uint8_t body[MAX_BODY],
                     ees_error *err) {
    size_t want = chunk->size < MAX_BODY ? chunk->size : MAX_BODY, got;
    memset(body, 0, MAX_BODY);
    EES_TRY(ees__reader_read(r, body, want, &got, err));
    return ees__reader_skip(r, ees__avi_chunk_end(chunk) - ees__reader_position(r), err);
}

static void parse_stream_header(const uint8_t *body, unsigned stream_idx, struct ees__avi_header *h) {
    if (h->has_video || ees__avi_u32(body) != EES__FOURCC('v', 'i', 'd', 's'))
        return;
    h->has_video = true;
    h->stream_idx = stream_idx;
    h->codec = ees__avi_u32(body + 4);
    h->scale = ees__avi_u32(body + 20);
    h->rate = ees__avi_u32(body + 24);
    h->n_frames = ees__avi_u32(body + 32);
}

/* BITMAPINFOHEADER; its compression counts before the handler of strh. */
static void parse_video_format(const uint8_t *body, struct ees__avi_header *h) {
    h->width_px = (int32_t)ees__avi_u32(body + 4);
    h->height_px = (int32_t)ees__avi_u32(body + 8);
    if (ees__avi_u32(body + 16) != 0)
        h->codec = ees__avi_u32(body + 16);
}

static void parse_chunk(const struct ees__avi_chunk *chunk, const uint8_t *body, unsigned *n_streams,
                        struct ees__avi_header *h) {
    switch (chunk->fourcc) {
    case EES__FOURCC('a', 'v', 'i', 'h'):
        h->frame_us = ees__avi_u32(body);
        break;
    case EES__FOURCC('s', 't', 'r', 'h'):
        parse_stream_header(body, (*n_streams)++, h);
        break;
    case EES__FOURCC('s', 't', 'r', 'f'):
        if (h->has_video && h->stream_idx + 1 == *n_streams)
            parse_video_format(body, h);
        break;
    case EES__FOURCC('d', 'm', 'l', 'h'): /* strh counts the first RIFF only, dmlh all */
        if (ees__avi_u32(body) > h->n_frames)
            h->n_frames = ees__avi_u32(body);
        break;
    default:
        break;
    }
}

/* A header chunk that does not fit the file cannot be stepped over. */
static int check_chunk(struct ees__reader *r, const struct ees__avi_chunk *chunk, ees_error *err) {
    int64_t size = ees__reader_size(r);
    if (!ees__avi_is_fourcc(chunk->fourcc))
        return EES_FAIL(err, EES_ESOURCE, "%s: no chunk at byte %llu, where the AVI header should go on",
                        ees__reader_name(r), (unsigned long long)chunk->at);
    if (size >= 0 && chunk->at + EES__AVI_CHUNK_BYTES + chunk->size > (uint64_t)size)
        return EES_FAIL(err, EES_ESOURCE, "%s: header chunk '%s' at byte %llu claims %u bytes, the file has %lld",
                        ees__reader_name(r), ees__avi_name(chunk->fourcc).text, (unsigned long long)chunk->at,
                        chunk->size, (long long)size);
    return 0;
}

/* A list: step in or over. *movi: it holds the frames. */
static int enter_list(struct ees__reader *r, const struct ees__avi_chunk *chunk, bool *movi, ees_error *err) {
    uint8_t type[4] = {0};
    size_t n;
    EES_TRY(ees__reader_read(r, type, sizeof type, &n, err));
    uint32_t list = ees__avi_u32(type);
    *movi = list == EES__FOURCC('m', 'o', 'v', 'i');
    if (*movi || is_entered(list))
        return 0;
    EES_TRY(check_chunk(r, chunk, err));
    return ees__reader_skip(r, chunk->size > 4 ? ees__avi_chunk_end(chunk) - ees__reader_position(r) : 0, err);
}

static int read_one(struct ees__reader *r, unsigned *n_streams, struct ees__avi_header *h, bool *movi, ees_error *err) {
    struct ees__avi_chunk chunk;
    uint8_t body[MAX_BODY];
    int rc = ees__avi_read_chunk(r, &chunk, err);
    if (rc == EES_EOF)
        return EES_FAIL(err, EES_ESOURCE, "%s: AVI ends at byte %llu, before any frame", ees__reader_name(r),
                        (unsigned long long)chunk.at);
    if (rc < 0)
        return rc;
    if (chunk.fourcc == EES__FOURCC('L', 'I', 'S', 'T')) {
        EES_TRY(enter_list(r, &chunk, movi, err));
        h->movi_end = *movi ? ees__avi_list_end(&chunk) : 0;
        return 0;
    }
    EES_TRY(check_chunk(r, &chunk, err));
    EES_TRY(read_body(r, &chunk, body, err));
    parse_chunk(&chunk, body, n_streams, h);
    return 0;
}

int ees__avi_read_header(struct ees__reader *r, struct ees__avi_header *h, ees_error *err) {
    unsigned n_streams = 0;
    *h = (struct ees__avi_header){0};
    EES_TRY(ees__reader_skip(r, 12, err)); /* "RIFF", its size, "AVI " */
    for (bool movi = false; !movi;)
        EES_TRY(read_one(r, &n_streams, h, &movi, err));
    return 0;
}
