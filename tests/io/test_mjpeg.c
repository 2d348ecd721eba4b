/* SPDX-License-Identifier: MIT */
/* Concatenated JPEGs: where frames begin and end, in whatever pieces the bytes arrive; and frames without tables. */
#define _GNU_SOURCE
#include "support.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jpeglib.h>

#include "io/jpeg_tables.h"

static void put_expected(struct bytes *b, struct summary *s, const struct bytes *jpeg) {
    put(b, jpeg->data, jpeg->n);
    sum_frame(s, jpeg->data, jpeg->n);
}

static void check(const struct bytes *b, const struct summary *expected) {
    struct summary got = read_all(write_file("x.mjpeg", b->data, b->n), NULL);
    if (got.rc != EES_EOF || got.n_frames != expected->n_frames || got.hash != expected->hash)
        fail_msg("%u frames with %llu bytes, not %u with %llu; %s", got.n_frames, (unsigned long long)got.n_bytes,
                 expected->n_frames, (unsigned long long)expected->n_bytes, got.error.message);
    assert_string_equal(got.kind, "mjpeg");
}

static void test_plain(void **state) {
    struct bytes b = {0};
    struct summary expected = {0};
    for (unsigned i = 0; i < 50; i++) {
        struct bytes jpeg = {0};
        put_jpeg(&jpeg, i, i * 997, 1);
        put_expected(&b, &expected, &jpeg);
        drop(&jpeg);
    }
    check(&b, &expected);
    drop(&b);
}

/* A multipart stream: text between the frames, FF bytes among it. */
static void test_garbage_between(void **state) {
    struct bytes b = {0};
    struct summary expected = {0};
    for (unsigned i = 0; i < 20; i++) {
        struct bytes jpeg = {0};
        put_jpeg(&jpeg, i, 200, 1);
        put_text(&b, i ? "\r\n--boundary\r\nContent-Type: image/jpeg\r\n\r\n" : "\xff\xd8\xff"); /* a cut first frame */
        if (i == 0)
            b.n = 0;
        put(&b, "\xff\xff\xd8\x01\xff\xd8", i ? 6 : 0); /* nearly a start */
        put_expected(&b, &expected, &jpeg);
        drop(&jpeg);
    }
    put_zeros(&b, 100);
    check(&b, &expected);
    drop(&b);
}

/* Without EOI a frame ends where the next begins. */
static void test_missing_eoi(void **state) {
    struct bytes b = {0};
    struct summary expected = {0};
    for (unsigned i = 0; i < 10; i++) {
        struct bytes jpeg = {0};
        put_jpeg(&jpeg, i, 300 + i, 1);
        if (i % 2)
            jpeg.n -= 2;
        put_expected(&b, &expected, &jpeg);
        drop(&jpeg);
    }
    check(&b, &expected);
    drop(&b);
}

/* A whole JPEG inside APP1, as cameras put thumbnails. */
static void test_thumbnail(void **state) {
    struct bytes b = {0}, thumb = {0}, jpeg = {0}, rest = {0};
    struct summary expected = {0};
    put_jpeg(&thumb, 5, 500, 1);
    put_jpeg(&rest, 6, 700, 1);
    put(&jpeg, "\xff\xd8\xff\xe1", 4);
    put(&jpeg, (uint8_t[]){(uint8_t)((thumb.n + 2) >> 8), (uint8_t)(thumb.n + 2)}, 2);
    put(&jpeg, thumb.data, thumb.n);
    put(&jpeg, rest.data + 2, rest.n - 2);
    put_expected(&b, &expected, &jpeg);
    put_expected(&b, &expected, &rest);
    check(&b, &expected);
    drop(&b);
    drop(&thumb);
    drop(&jpeg);
    drop(&rest);
}

/* Several scans, fill bytes before a marker, a segment of length 2 and one whose length is impossible. */
static void test_odd_markers(void **state) {
    static const char odd[] = "\xff\xd8\xff\xff\xff\xfe\0\2\xff\xda\0\2abc\xff\0def\xff\xd3ghi"
                              "\xff\xff\xc4\0\4xy\xff\xda\0\0jkl\xff\xd9";
    struct bytes b = {0}, jpeg = {0};
    struct summary expected = {0};
    put(&jpeg, odd, sizeof odd - 1);
    put_expected(&b, &expected, &jpeg);
    put_expected(&b, &expected, &jpeg);
    check(&b, &expected);
    drop(&b);
    drop(&jpeg);
}

static void test_ends_inside(void **state) {
    struct bytes b = {0}, jpeg = {0};
    struct summary expected = {0};
    put_jpeg(&jpeg, 1, 1000, 1);
    put_expected(&b, &expected, &jpeg);
    jpeg.n -= 100; /* the last one is incomplete: it is handed out as far as it goes */
    put_expected(&b, &expected, &jpeg);
    check(&b, &expected);
    drop(&b);
    drop(&jpeg);
}

/* Cut at every byte: as many frames as have begun, and no crash. */
static void test_cut_everywhere(void **state) {
    struct bytes b = {0};
    for (unsigned i = 0; i < 3; i++)
        put_jpeg(&b, i, 40, 1);
    size_t frame = b.n / 3;
    for (size_t n = 1; n <= b.n; n++) {
        ees_source_options options = default_options();
        options.io = EES_IO_PREAD; /* a ring costs milliseconds to make */
        struct summary got = read_all(write_file("x.mjpeg", b.data, n), &options);
        unsigned begun = (unsigned)((n + frame - 3) / frame);
        if (got.n_frames != begun)
            fail_msg("cut at %zu: %u frames, not %u", n, got.n_frames, begun);
        assert_int_equal(got.rc, begun ? EES_EOF : EES_ESOURCE);
    }
    drop(&b);
}

static void test_frame_limit(void **state) {
    struct bytes b = {0};
    ees_source_options options = default_options();
    put_jpeg(&b, 1, 100, 1);
    put_jpeg(&b, 2, 1 << 20, 1);
    put_jpeg(&b, 3, 100, 1);
    options.max_frame_bytes = 10000;
    struct summary got = read_all(write_file("x.mjpeg", b.data, b.n), &options);
    assert_int_equal(got.rc, EES_EOF);
    assert_int_equal(got.n_frames, 3);
    assert_int_equal(got.n_damaged, 1);
    assert_non_null(strstr(got.damage.message, "at most 10000"));
    drop(&b);
}

/* A limit that falls on each byte around a missing EOI. */
static void test_limit_at_border(void **state) {
    struct bytes b = {0}, jpeg = {0};
    put_jpeg(&jpeg, 1, 100, 1);
    size_t first = jpeg.n - 2;
    put(&b, jpeg.data, first);
    put(&b, jpeg.data, jpeg.n);
    for (size_t limit = first - 4; limit <= first + 6; limit++) {
        ees_source_options options = default_options();
        options.max_frame_bytes = limit;
        struct summary got = read_all(write_file("x.mjpeg", b.data, b.n), &options);
        assert_int_equal(got.n_frames, 2);
        assert_true(got.n_damaged >= (unsigned)(limit < first) + (limit < jpeg.n));
        assert_true(limit < jpeg.n || got.n_damaged == 0);
    }
    drop(&b);
    drop(&jpeg);
}

static void test_nothing(void **state) {
    struct bytes b = {0};
    put_zeros(&b, 100000);
    struct summary got = read_all(write_file("x.mjpeg", b.data, b.n), NULL);
    assert_int_equal(got.rc, EES_ESOURCE);
    assert_non_null(strstr(got.error.message, "no JPEG in 100000 bytes"));
    drop(&b);
}

/* ---- from a pipe, in pieces ---- */

struct feeder {
    int fd;
    const struct bytes *b;
    size_t piece;
};

static void *feed(void *argument) {
    const struct feeder *f = argument;
    for (size_t at = 0; at < f->b->n; at += f->piece) {
        size_t n = f->b->n - at < f->piece ? f->b->n - at : f->piece;
        assert_int_equal(write(f->fd, f->b->data + at, n), n);
    }
    close(f->fd);
    return NULL;
}

static void test_stdin_pieces(void **state) {
    struct bytes b = {0};
    struct summary expected = {0};
    int saved = dup(0);
    for (unsigned i = 0; i < 30; i++) {
        struct bytes jpeg = {0};
        put_jpeg(&jpeg, i, 300, 1);
        if (i % 3 == 1)
            jpeg.n -= 2;
        put_expected(&b, &expected, &jpeg);
        drop(&jpeg);
    }
    for (size_t piece = 1; piece < 70000; piece = piece * 3 + 1) {
        int ends[2];
        pthread_t thread;
        assert_int_equal(pipe(ends), 0);
        struct feeder f = {ends[1], &b, piece};
        assert_int_equal(dup2(ends[0], 0), 0);
        close(ends[0]);
        assert_int_equal(pthread_create(&thread, NULL, feed, &f), 0);
        struct summary got = read_all("-", NULL);
        pthread_join(thread, NULL);
        assert_int_equal(got.n_frames, expected.n_frames);
        assert_true(got.hash == expected.hash);
        assert_string_equal(got.backend, "stream");
    }
    dup2(saved, 0);
    close(saved);
    drop(&b);
}

/* ---- Huffman tables ---- */

static void encode(struct bytes *b) {
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    unsigned char *out = NULL;
    unsigned long n = 0;
    JSAMPLE row[64 * 3], *rows = row;
    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &out, &n);
    c.image_width = 64;
    c.image_height = 48;
    c.input_components = 3;
    c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&c);
    jpeg_start_compress(&c, TRUE);
    for (int y = 0; y < 48; y++) {
        for (int x = 0; x < 64 * 3; x++)
            row[x] = (JSAMPLE)((x * 7 + y * y * 3) ^ (x * y));
        jpeg_write_scanlines(&c, &rows, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    put(b, out, n);
    free(out);
}

/* Take all DHT segments out. What they held is the standard's, because the encoder was left at its defaults. */
static void strip_tables(struct bytes *to, const struct bytes *from, struct bytes *tables) {
    size_t at = 2;
    put(to, from->data, 2);
    while (from->data[at + 1] != 0xda) {
        size_t n = 2 + ((size_t)from->data[at + 2] << 8 | from->data[at + 3]);
        if (from->data[at + 1] == 0xc4)
            put(tables, from->data + at + 4, n - 4);
        else
            put(to, from->data + at, n);
        at += n;
    }
    put(to, from->data + at, from->n - at);
}

/* Our tables are libjpeg's, table by table. */
static void test_standard_tables(void **state) {
    struct bytes whole = {0}, bare = {0}, tables = {0};
    uint8_t ours[EES__JPEG_TABLES_BYTES];
    encode(&whole);
    strip_tables(&bare, &whole, &tables);
    ees__jpeg_write_tables(ours);
    assert_int_equal(ours[2] << 8 | ours[3], EES__JPEG_TABLES_BYTES - 2);
    assert_int_equal(tables.n, EES__JPEG_TABLES_BYTES - 4);
    for (size_t at = 0; at < tables.n;) { /* in any order */
        size_t n = 17;
        for (int i = 1; i <= 16; i++)
            n += tables.data[at + (size_t)i];
        assert_non_null(memmem(ours, sizeof ours, tables.data + at, n));
        at += n;
    }
    drop(&whole);
    drop(&bare);
    drop(&tables);
}

/* Frames come with tables, whether they had any or not. */
static void test_without_tables(void **state) {
    struct bytes whole = {0}, bare = {0}, tables = {0}, expected = {0};
    uint8_t ours[EES__JPEG_TABLES_BYTES];
    encode(&whole);
    strip_tables(&bare, &whole, &tables);
    size_t scan = ees__jpeg_tables_gap(bare.data, bare.n);
    assert_true(scan > 0);
    assert_int_equal(ees__jpeg_tables_gap(whole.data, whole.n), 0);
    ees__jpeg_write_tables(ours);
    put(&expected, bare.data, scan);
    put(&expected, ours, sizeof ours);
    put(&expected, bare.data + scan, bare.n - scan);
    struct bytes b = {0};
    struct summary sum = {0};
    put(&b, bare.data, bare.n);
    put(&b, whole.data, whole.n);
    sum_frame(&sum, expected.data, expected.n);
    sum_frame(&sum, whole.data, whole.n);
    check(&b, &sum);
    drop(&b);
    drop(&whole);
    drop(&bare);
    drop(&tables);
    drop(&expected);
}

/* Progressive JPEGs, damaged headers and stubs are left alone. */
static void test_tables_not_for_all(void **state) {
    static const char *const stubs[] = {"", "\xff", "\xff\xd8", "\xff\xd8\xff\xc0", "\xff\xd8\xff\xc0\0\0\xff\xda\0\0"};
    static const size_t lengths[] = {0, 1, 2, 4, 6};
    struct bytes jpeg = {0};
    put_jpeg(&jpeg, 1, 50, 0);
    assert_true(ees__jpeg_tables_gap(jpeg.data, jpeg.n) > 0);
    for (size_t n = 0; n < 33; n++)
        assert_int_equal(ees__jpeg_tables_gap(jpeg.data, n), 0);
    jpeg.data[21] = 0xc2; /* SOF2 */
    assert_int_equal(ees__jpeg_tables_gap(jpeg.data, jpeg.n), 0);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
        assert_int_equal(ees__jpeg_tables_gap((const uint8_t *)stubs[i], lengths[i]), 0);
    drop(&jpeg);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),           cmocka_unit_test(test_garbage_between),
        cmocka_unit_test(test_missing_eoi),     cmocka_unit_test(test_thumbnail),
        cmocka_unit_test(test_odd_markers),     cmocka_unit_test(test_ends_inside),
        cmocka_unit_test(test_cut_everywhere),  cmocka_unit_test(test_frame_limit),
        cmocka_unit_test(test_limit_at_border), cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_stdin_pieces),    cmocka_unit_test(test_standard_tables),
        cmocka_unit_test(test_without_tables),  cmocka_unit_test(test_tables_not_for_all),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
