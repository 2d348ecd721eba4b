/* SPDX-License-Identifier: MIT */
/* Helpers of the io tests. */
#define _GNU_SOURCE
#include "support.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/jpeg_tables.h"

/* ---- bytes ---- */

void put(struct bytes *b, const void *data, size_t n) {
    if (b->n + n > b->capacity) {
        b->capacity = (b->n + n) * 2 + 64;
        b->data = realloc(b->data, b->capacity);
        assert_non_null(b->data);
    }
    memcpy(b->data + b->n, data, n);
    b->n += n;
}

void put_text(struct bytes *b, const char *text) { put(b, text, strlen(text)); }

void put_u16(struct bytes *b, unsigned x) { put(b, (uint8_t[]){x & 0xff, x >> 8 & 0xff}, 2); }

void put_u32(struct bytes *b, uint32_t x) {
    put_u16(b, x & 0xffff);
    put_u16(b, x >> 16);
}

void set_u32(struct bytes *b, size_t at, uint32_t x) {
    assert_true(at + 4 <= b->n);
    for (int i = 0; i < 4; i++)
        b->data[at + (size_t)i] = (uint8_t)(x >> 8 * i);
}

void put_zeros(struct bytes *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        put(b, "", 1);
}

void drop(struct bytes *b) {
    free(b->data);
    *b = (struct bytes){0};
}

/* ---- files ---- */

static char folder[64];

int make_folder(void **state) {
    strcpy(folder, "/tmp/eestream-io-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) { return remove(path); }

int remove_folder(void **state) { return nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS); }

const char *in_folder(const char *name) {
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

void make_subfolder(const char *name) { assert_int_equal(mkdir(in_folder(name), 0700), 0); }

const char *write_file(const char *name, const void *data, size_t n) {
    const char *path = in_folder(name);
    unlink(path); /* writing over a file makes ext4 wait for the disk */
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return path;
}

/* ---- pictures ---- */

void put_jpeg(struct bytes *b, unsigned seed, size_t n, int with_tables) {
    static const uint8_t frame_header[] = {0xff, 0xc0, 0, 11, 8, 0, 8, 0, 8, 1, 1, 0x11, 0};
    static const uint8_t scan_header[] = {0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0};
    put(b, "\xff\xd8", 2);
    put(b, "\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0", 18);
    put(b, frame_header, sizeof frame_header);
    if (with_tables) {
        uint8_t tables[EES__JPEG_TABLES_BYTES];
        ees__jpeg_write_tables(tables);
        put(b, tables, sizeof tables);
    }
    put(b, scan_header, sizeof scan_header);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        uint8_t byte = (uint8_t)(seed >> 24);
        if (byte == 0xff) /* now and then stuffed, now and then a restart marker */
            put(b, (uint8_t[]){0xff, seed & 1 ? 0 : 0xd0 | (seed >> 8 & 7)}, 2);
        else
            put(b, &byte, 1);
    }
    put(b, "\xff\xd9", 2);
}

/* ---- sources ---- */

ees_source_options default_options(void) {
    ees_source_options options;
    ees_source_options_default(&options);
    return options;
}

static void hash_bytes(uint64_t *hash, const uint8_t *data, size_t n) {
    for (size_t i = 0; i < n; i++)
        *hash = (*hash ^ data[i]) * 1099511628211u;
}

void sum_frame(struct summary *s, const void *data, size_t n) {
    uint64_t length = n;
    s->n_frames++;
    s->n_bytes += n;
    hash_bytes(&s->hash, (const uint8_t *)&length, sizeof length);
    hash_bytes(&s->hash, data, n);
}

static void sum_planes(struct summary *s, const ees_frame *f) {
    s->n_frames++;
    for (int i = 0; i < 3 && f->data[i]; i++) {
        unsigned sx = i ? f->chroma_shift_x : 0, sy = i ? f->chroma_shift_y : 0;
        size_t width = f->kind == EES_FRAME_RGB24 ? 3 * f->width_px : (f->width_px + (1u << sx) - 1) >> sx;
        size_t height = (f->height_px + (1u << sy) - 1) >> sy;
        for (size_t y = 0; y < height; y++)
            hash_bytes(&s->hash, (const uint8_t *)f->data[i] + y * f->stride[i], width);
        s->n_bytes += width * height;
    }
}

static void take_frame(struct summary *s, const ees_frame *f) {
    assert_int_equal(f->frame_idx, s->n_frames);
    assert_non_null(f->release);
    assert_non_null(f->source);
    s->last_ns = f->pts_ns;
    if (f->error) {
        s->n_frames++;
        s->n_damaged++;
        s->damage = *f->error;
        assert_int_equal(f->error->code, EES_EDAMAGED);
    } else if (f->kind == EES_FRAME_JPEG) {
        sum_frame(s, f->data[0], f->bytes);
    } else {
        sum_planes(s, f);
    }
    f->release(f->opaque);
}

struct summary read_all(const char *uri, const ees_source_options *options) {
    struct summary s = {.last_ns = -1};
    ees_source *source;
    ees_frame frame;
    s.rc = ees_source_open(uri, options, &source, &s.error);
    if (s.rc < 0)
        return s;
    snprintf(s.kind, sizeof s.kind, "%s", ees_source_get_info(source)->kind);
    snprintf(s.backend, sizeof s.backend, "%s", ees_source_get_info(source)->backend);
    while ((s.rc = ees_source_next(source, &frame, &s.error)) == 0)
        take_frame(&s, &frame);
    assert_int_equal(ees_source_next(source, &frame, NULL), s.rc); /* over is over */
    ees_source_close(source);
    return s;
}
