/* SPDX-License-Identifier: MIT */
/* Temporary files, made-up JPEGs, and a summary of what a source hands out. */
#ifndef TESTS_IO_SUPPORT_H
#define TESTS_IO_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "eestream/source.h"

/* ---- bytes ---- */

struct bytes {
    uint8_t *data;
    size_t n, capacity;
};

void put(struct bytes *b, const void *data, size_t n);
void put_text(struct bytes *b, const char *text);
void put_u16(struct bytes *b, unsigned x);
void put_u32(struct bytes *b, uint32_t x);
void set_u32(struct bytes *b, size_t at, uint32_t x);
void put_zeros(struct bytes *b, size_t n);
void drop(struct bytes *b);

/* ---- files ---- */

/* A folder made for the test program, removed with all in it at the end. Setup and teardown of a cmocka group. */
int make_folder(void **state);
int remove_folder(void **state);

/* "<folder>/<name>", in one of a few static buffers. */
const char *in_folder(const char *name);
void make_subfolder(const char *name);

/* Write the file and return its path, as in_folder() does. */
const char *write_file(const char *name, const void *data, size_t n);

/* ---- pictures ---- */

/* A syntactically complete baseline JPEG of about `n` bytes of entropy-coded data that depends on `seed`; its Huffman
 * tables are those of the standard, or left out. It is not meant to be decoded. */
void put_jpeg(struct bytes *b, unsigned seed, size_t n, int with_tables);

/* ---- sources ---- */

struct summary {
    unsigned n_frames, n_damaged;
    uint64_t n_bytes;
    uint64_t hash;    /* of all sound frames' bytes, with their lengths */
    int rc;           /* what ended it: EES_EOF, EES_ESOURCE... or what opening said */
    int64_t last_ns;  /* pts of the last frame */
    ees_error error;  /* of the end or of opening */
    ees_error damage; /* of the last damaged frame */
    char kind[16], backend[16];
};

/* Open, read to the end, close. Checks on the way that frames are numbered from 0. */
struct summary read_all(const char *uri, const ees_source_options *options);

/* The same sum over frames known in advance. */
void sum_frame(struct summary *s, const void *data, size_t n);

ees_source_options default_options(void);

#endif
