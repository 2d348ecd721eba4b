/* SPDX-License-Identifier: MIT */
/* What the two halves of the AVI demuxer share: the header (avi_header.c) and the frames (avi.c). */
#ifndef EES_IO_AVI_H
#define EES_IO_AVI_H

#include "io/source.h"

#define EES__FOURCC(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

enum { EES__AVI_CHUNK_BYTES = 8 };

struct ees__avi_chunk {
    uint32_t fourcc, size;
    uint64_t at; /* byte offset of its header */
};

/* What the header says of the first video stream. */
struct ees__avi_header {
    bool has_video;
    unsigned stream_idx;  /* number in the names of its chunks */
    uint32_t codec;       /* FOURCC, 0: not said */
    uint32_t scale, rate; /* rate / scale frames a second; 0: not said */
    uint32_t frame_us;    /* the main header's time of a frame */
    uint32_t n_frames;    /* as claimed, 0: not said */
    int32_t width_px, height_px;
    uint64_t movi_end; /* where the list of frames claims to end, 0: not said */
};

static inline uint32_t ees__avi_u32(const uint8_t *p) { return EES__FOURCC(p[0], p[1], p[2], p[3]); }

/* The name of a chunk as text, for messages. */
struct ees__avi_name {
    char text[5];
};
struct ees__avi_name ees__avi_name(uint32_t fourcc);

/* Four printable characters? */
bool ees__avi_is_fourcc(uint32_t fourcc);

/* Read a chunk header. @return 0; EES_EOF when the input ends before its first byte; EES_ESOURCE when inside it */
int ees__avi_read_chunk(struct ees__reader *r, struct ees__avi_chunk *chunk, ees_error *err);

/* Byte after a chunk, with its padding. */
static inline uint64_t ees__avi_chunk_end(const struct ees__avi_chunk *chunk) {
    return chunk->at + EES__AVI_CHUNK_BYTES + chunk->size + (chunk->size & 1);
}

/* Where the list at `chunk` (LIST movi) claims to end; 0 when its size is one that unfinished files carry. */
uint64_t ees__avi_list_end(const struct ees__avi_chunk *chunk);

/* Read all up to the first chunk inside LIST movi. */
int ees__avi_read_header(struct ees__reader *r, struct ees__avi_header *header, ees_error *err);

#endif
