/* SPDX-License-Identifier: MIT */
/* "synthetic:WIDTHxHEIGHT[,frames=N]": JPEGs made up on the spot, for benchmarks and cost measurements without a file.
 * A few different pictures (smooth gradients with texture, so that decoding costs about what a photo's does) are
 * encoded at open and handed out in turn. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include "common/fail.h"
#include "common/mem.h"
#include "io/frame_buf.h"
#include "io/source.h"

enum { N_PICTURES = 8, QUALITY = 85, DEFAULT_FRAMES = 300, MAX_SIDE = 8192 };
#define PREFIX "synthetic:"

struct synthetic {
    unsigned width, height;
    unsigned long n_frames;
    struct ees__frame_buf *pictures[N_PICTURES]; /* ours until close; each handed out as a copy */
};

static enum ees__match match_synthetic(const struct ees__probe *probe) {
    return probe->place == EES__PLACE_MADE_UP ? EES__MATCH_TOLD : EES__MATCH_NONE;
}

static int parse_name(ees_source *source, struct synthetic *s, ees_error *err) {
    const char *text = source->name + sizeof PREFIX - 1;
    int used = 0;
    s->n_frames = DEFAULT_FRAMES;
    if (sscanf(text, "%ux%u%n", &s->width, &s->height, &used) == 2 && text[used] == ',') {
        int used_frames = 0;
        if (sscanf(text + used, ",frames=%lu%n", &s->n_frames, &used_frames) == 1)
            used += used_frames;
    }
    if (used == 0 || text[used] || s->width < 1 || s->height < 1 || s->width > MAX_SIDE || s->height > MAX_SIDE)
        return EES_FAIL(err, EES_EINVAL, "%s: expected synthetic:WIDTHxHEIGHT[,frames=N], sides 1 to %d", source->name,
                        MAX_SIDE);
    return 0;
}

/* One row of picture `idx`: two slow waves a channel and a fine pseudo-random grain. */
static void paint_row(const struct synthetic *s, unsigned idx, unsigned y, JSAMPLE *row) {
    uint32_t grain = (idx * 9176u + y) * 2654435761u;
    for (unsigned x = 0; x < s->width; x++)
        for (unsigned c = 0; c < 3; c++) {
            unsigned wave = (x * (2 + c + idx) * 256 / s->width + y * (3 + idx) * 256 / s->height) & 511;
            unsigned level = wave < 256 ? wave : 511 - wave;
            grain = grain * 1664525u + 1013904223u;
            row[3 * x + c] = (JSAMPLE)((level * 7 + (grain >> 24)) / 8);
        }
}

/* libjpeg's encoder and where it jumps when it fails, which here means out of memory. */
struct encoder {
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    jmp_buf failed;
    unsigned char *bytes;
    unsigned long n_bytes;
};

static void jump_out(j_common_ptr c) { longjmp(((struct encoder *)c)->failed, 1); }

static void encode_rows(const struct synthetic *s, unsigned idx, struct encoder *e, JSAMPLE *row) {
    struct jpeg_compress_struct *c = &e->c;
    jpeg_create_compress(c);
    jpeg_mem_dest(c, &e->bytes, &e->n_bytes);
    c->image_width = s->width;
    c->image_height = s->height;
    c->input_components = 3;
    c->in_color_space = JCS_RGB;
    jpeg_set_defaults(c);
    jpeg_set_quality(c, QUALITY, TRUE);
    jpeg_start_compress(c, TRUE);
    for (unsigned y = 0; y < s->height; y++) {
        paint_row(s, idx, y, row);
        jpeg_write_scanlines(c, &row, 1);
    }
    jpeg_finish_compress(c);
}

static int encode_picture(const struct synthetic *s, unsigned idx, struct ees__frame_buf *buf) {
    struct encoder *e = ees__calloc_aligned(1, sizeof *e);
    JSAMPLE *row = ees__calloc_aligned(s->width, 3);
    volatile int rc = EES_ENOMEM; /* set after setjmp */
    if (e && row) {
        e->c.err = jpeg_std_error(&e->errors);
        e->errors.error_exit = jump_out;
        if (setjmp(e->failed) == 0) {
            encode_rows(s, idx, e, row);
            rc = ees__frame_buf_append(buf, e->bytes, e->n_bytes);
        }
        jpeg_destroy_compress(&e->c);
        free(e->bytes);
    }
    ees__free(row);
    ees__free(e);
    return rc;
}

static int open_synthetic(ees_source *source, ees_error *err) {
    struct synthetic *s = source->state;
    EES_TRY(parse_name(source, s, err));
    for (unsigned i = 0; i < N_PICTURES; i++) {
        s->pictures[i] = ees__frame_buf_acquire(source->pool);
        if (!s->pictures[i] || encode_picture(s, i, s->pictures[i]) < 0)
            return EES_FAIL(err, EES_ENOMEM, "%s: no memory", source->name);
    }
    source->info.backend = "none";
    source->info.fps = source->options.raw_fps;
    source->info.n_frames = (int64_t)s->n_frames;
    source->info.width_px = s->width;
    source->info.height_px = s->height;
    return 0;
}

static int next_synthetic(ees_source *source, ees_frame *out, ees_error *err) {
    struct synthetic *s = source->state;
    if (source->n_frames >= s->n_frames)
        return EES_EOF;
    const struct ees__frame_buf *picture = s->pictures[source->n_frames % N_PICTURES];
    struct ees__frame_buf *buf = ees__frame_buf_acquire(source->pool);
    if (!buf || ees__frame_buf_append(buf, picture->data, picture->n) < 0) {
        if (buf)
            ees__pool_release(buf);
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory", source->name);
    }
    ees__frame_buf_hand_out(buf, EES_FRAME_JPEG, out);
    out->pts_ns = ees__frame_time_at_fps(source->n_frames, source->options.raw_fps);
    return 0;
}

static void close_synthetic(ees_source *source) {
    struct synthetic *s = source->state;
    for (unsigned i = 0; i < N_PICTURES; i++)
        if (s->pictures[i])
            ees__pool_release(s->pictures[i]);
}

const struct ees__source_kind ees__source_synthetic = {
    .name = "synthetic",
    .state_bytes = sizeof(struct synthetic),
    .item_bytes = sizeof(struct ees__frame_buf),
    .fini_item = ees__frame_buf_fini,
    .match = match_synthetic,
    .open = open_synthetic,
    .next = next_synthetic,
    .close = close_synthetic,
};
