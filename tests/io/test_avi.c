/* SPDX-License-Identifier: MIT */
/* The AVI demuxer against files made here: as writers make them, without index, with sizes that lie, beyond 2 GB, and
 * cut at every byte. */
#define _GNU_SOURCE
#include "support.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_FRAMES = 6 };

/* ---- a writer ---- */

struct avi {
    struct bytes b;
    size_t riff, movi; /* offsets of their size fields, 0: not open */
    size_t chunk[64];  /* offset of each frame chunk's header */
    unsigned n_chunks;
    struct bytes index;
    struct summary expected; /* of the frames put in */
    size_t frame_end[64];    /* file offset behind each frame's payload */
};

static size_t begin_list(struct bytes *b, const char *fourcc, const char *type) {
    put_text(b, fourcc);
    size_t at = b->n;
    put_u32(b, 0);
    put_text(b, type);
    return at;
}

static void end_list(struct bytes *b, size_t at) { set_u32(b, at, (uint32_t)(b->n - at - 4)); }

static void put_chunk(struct bytes *b, const char *fourcc, const void *data, size_t n) {
    put_text(b, fourcc);
    put_u32(b, (uint32_t)n);
    put(b, data, n);
    if (n & 1)
        put(b, "", 1);
}

static void put_stream_header(struct bytes *b, const char *type, const char *codec) {
    size_t strl = begin_list(b, "LIST", "strl");
    struct bytes h = {0};
    put_text(&h, type);
    put_text(&h, codec);
    put_zeros(&h, 12);
    put_u32(&h, 1001);  /* scale */
    put_u32(&h, 30000); /* rate */
    put_u32(&h, 0);
    put_u32(&h, N_FRAMES);
    put_zeros(&h, 20);
    put_chunk(b, "strh", h.data, h.n);
    h.n = 0;
    put_u32(&h, 40);
    put_u32(&h, 64);            /* width */
    put_u32(&h, (uint32_t)-48); /* height, top-down */
    put_u16(&h, 1);
    put_u16(&h, 24);
    put_text(&h, codec);
    put_zeros(&h, 20);
    put_chunk(b, "strf", h.data, h.n);
    end_list(b, strl);
    drop(&h);
}

static void begin_avi(struct avi *a, const char *codec, bool audio_first) {
    *a = (struct avi){0};
    a->riff = begin_list(&a->b, "RIFF", "AVI ");
    size_t hdrl = begin_list(&a->b, "LIST", "hdrl");
    struct bytes avih = {0};
    put_u32(&avih, 33367);
    put_zeros(&avih, 52);
    put_chunk(&a->b, "avih", avih.data, avih.n);
    drop(&avih);
    if (audio_first)
        put_stream_header(&a->b, "auds", "\1\0\0\0");
    put_stream_header(&a->b, "vids", codec);
    put_stream_header(&a->b, "vids", codec); /* a second one: not read */
    end_list(&a->b, hdrl);
    put_chunk(&a->b, "JUNK", "junk!", 5);
    a->movi = begin_list(&a->b, "LIST", "movi");
}

static void put_frame_bytes(struct avi *a, const char *fourcc, const void *data, size_t n) {
    a->chunk[a->n_chunks] = a->b.n;
    put_chunk(&a->b, fourcc, data, n);
    a->frame_end[a->n_chunks++] = a->b.n - (n & 1);
    if (n)
        sum_frame(&a->expected, data, n);
    put_text(&a->index, fourcc);
    put_u32(&a->index, 0x10);
    put_u32(&a->index, (uint32_t)a->chunk[a->n_chunks - 1]);
    put_u32(&a->index, (uint32_t)n);
}

static void put_frame(struct avi *a, const char *fourcc, unsigned seed, size_t n) {
    struct bytes jpeg = {0};
    put_jpeg(&jpeg, seed, n, 1);
    put_frame_bytes(a, fourcc, jpeg.data, jpeg.n);
    drop(&jpeg);
}

/* The same with an even number of bytes, so that there is no padding that a recovered frame could carry along. */
static void put_even_frame(struct avi *a, const char *fourcc, unsigned seed, size_t n) {
    struct bytes jpeg = {0};
    do {
        jpeg.n = 0;
        put_jpeg(&jpeg, seed, n++, 1);
    } while (jpeg.n & 1);
    put_frame_bytes(a, fourcc, jpeg.data, jpeg.n);
    drop(&jpeg);
}

static void end_avi(struct avi *a, bool with_index) {
    end_list(&a->b, a->movi);
    if (with_index)
        put_chunk(&a->b, "idx1", a->index.data, a->index.n);
    end_list(&a->b, a->riff);
}

static void drop_avi(struct avi *a) {
    drop(&a->b);
    drop(&a->index);
}

/* N_FRAMES frames of odd and even length, with audio and other streams in between. */
static void make_plain(struct avi *a, bool with_index) {
    begin_avi(a, "MJPG", true);
    for (unsigned i = 0; i < N_FRAMES; i++) {
        put_chunk(&a->b, "00wb", "sound", 5);
        put_frame(a, "01dc", i, 100 + i);
        put_chunk(&a->b, "02dc", "\xff\xd8 other stream", 15);
    }
    end_avi(a, with_index);
}

static struct summary read_avi(const struct avi *a, enum ees_io_backend io) {
    ees_source_options options = default_options();
    options.io = io;
    return read_all(write_file("x.avi", a->b.data, a->b.n), &options);
}

static void check_all(const struct avi *a, const struct summary *got, int rc) {
    if (got->rc != rc)
        fail_msg("ended with %s: %s", ees_error_name(got->rc), got->error.message);
    assert_int_equal(got->n_frames, a->expected.n_frames);
    assert_int_equal(got->n_bytes, a->expected.n_bytes);
    assert_true(got->hash == a->expected.hash);
    assert_int_equal(got->n_damaged, 0);
}

/* ---- as writers make them ---- */

static void test_plain(void **state) {
    for (int with_index = 0; with_index < 2; with_index++) {
        struct avi a;
        make_plain(&a, with_index);
        for (int io = EES_IO_AUTO; io <= EES_IO_PREAD; io += EES_IO_PREAD) {
            struct summary got = read_avi(&a, (enum ees_io_backend)io);
            check_all(&a, &got, EES_EOF);
            assert_string_equal(got.kind, "avi");
            assert_int_equal(got.last_ns, (int64_t)(N_FRAMES - 1) * 1001 * 1000000000 / 30000);
        }
        drop_avi(&a);
    }
}

static void test_info(void **state) {
    struct avi a;
    ees_source *s;
    make_plain(&a, true);
    assert_int_equal(ees_source_open(write_file("x.avi", a.b.data, a.b.n), NULL, &s, NULL), 0);
    const ees_source_info *info = ees_source_get_info(s);
    assert_int_equal(info->width_px, 64);
    assert_int_equal(info->height_px, 48);
    assert_int_equal(info->n_frames, N_FRAMES);
    assert_true(info->fps > 29.96 && info->fps < 29.98);
    ees_source_close(s);
    drop_avi(&a);
}

/* An empty chunk repeats the frame before: it takes time, but is no frame. */
static void test_empty_chunks(void **state) {
    struct avi a;
    begin_avi(&a, "mjpg", false);
    put_frame(&a, "00dc", 1, 50);
    put_frame_bytes(&a, "00dc", "", 0);
    put_frame_bytes(&a, "00db", "", 0);
    put_frame(&a, "00db", 2, 51);
    end_avi(&a, true);
    struct summary got = read_avi(&a, EES_IO_AUTO);
    assert_int_equal(a.expected.n_frames, 2);
    check_all(&a, &got, EES_EOF);
    assert_int_equal(got.last_ns, (int64_t)3 * 1001 * 1000000000 / 30000);
    drop_avi(&a);
}

static void test_rec_lists(void **state) {
    struct avi a;
    begin_avi(&a, "MJPG", false);
    for (unsigned i = 0; i < N_FRAMES; i++) {
        size_t rec = begin_list(&a.b, "LIST", "rec ");
        put_chunk(&a.b, "01wb", "sound", 5);
        put_frame(&a, "00dc", i, 77 + i);
        end_list(&a.b, rec);
        put_chunk(&a.b, "ix00", "index of this list..", 20);
    }
    end_avi(&a, true);
    struct summary got = read_avi(&a, EES_IO_AUTO);
    check_all(&a, &got, EES_EOF);
    drop_avi(&a);
}

static void test_two_riffs(void **state) {
    struct avi a;
    make_plain(&a, true);
    for (int part = 0; part < 2; part++) {
        a.riff = begin_list(&a.b, "RIFF", "AVIX");
        a.movi = begin_list(&a.b, "LIST", "movi");
        for (unsigned i = 0; i < N_FRAMES; i++)
            put_frame(&a, "01dc", 100 + i, 300 + i);
        end_avi(&a, false);
    }
    struct summary got = read_avi(&a, EES_IO_AUTO);
    assert_int_equal(got.n_frames, 3 * N_FRAMES);
    check_all(&a, &got, EES_EOF);
    drop_avi(&a);
}

/* Frames before and after a hole of more than 2 GB in a chunk of another stream, and beyond 4 GB in a second RIFF. */
static void test_beyond_4_gb(void **state) {
    static const uint32_t hole = 2200000000u;
    struct avi a;
    const char *path = in_folder("sparse.avi");
    begin_avi(&a, "MJPG", false);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    off_t at = 0;
    for (unsigned part = 0; part < 3; part++) {
        put_frame(&a, "00dc", part, 1000);
        put_text(&a.b, "01wb");
        put_u32(&a.b, hole);
        assert_int_equal(pwrite(fd, a.b.data, a.b.n, at), a.b.n);
        at += (off_t)a.b.n + hole;
        a.b.n = 0;
        a.riff = begin_list(&a.b, "RIFF", "AVIX");
        a.movi = begin_list(&a.b, "LIST", "movi"); /* sizes stay 0: the writer never came back */
    }
    put_frame(&a, "00dc", 9, 2000);
    assert_int_equal(pwrite(fd, a.b.data, a.b.n, at), a.b.n);
    close(fd);
    struct summary got = read_all(path, NULL);
    assert_true(at > (off_t)6 << 30);
    check_all(&a, &got, EES_EOF);
    unlink(path);
    drop_avi(&a);
}

static void test_pipe(void **state) {
    struct avi a;
    make_plain(&a, true);
    const char *path = write_file("x.avi", a.b.data, a.b.n);
    char command[300];
    int ends[2], saved = dup(0);
    snprintf(command, sizeof command, "cat '%s'", path);
    FILE *cat = popen(command, "r");
    assert_non_null(cat);
    assert_int_equal(dup2(fileno(cat), 0), 0);
    struct summary got = read_all("-", NULL);
    assert_string_equal(got.backend, "stream");
    check_all(&a, &got, EES_EOF);
    pclose(cat);
    /* a size that lies ends it, with the frames before */
    set_u32(&a.b, a.chunk[3] + 4, 1 << 30);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], a.b.data, a.b.n), a.b.n);
    close(ends[1]);
    assert_int_equal(dup2(ends[0], 0), 0);
    got = read_all("-", NULL);
    assert_int_equal(got.rc, EES_ESOURCE);
    assert_int_equal(got.n_frames, 3);
    assert_non_null(strstr(got.error.message, "inside the frame of 1073741824 bytes"));
    close(ends[0]);
    dup2(saved, 0);
    close(saved);
    drop_avi(&a);
}

static void test_unpadded(void **state) {
    struct avi a;
    begin_avi(&a, "MJPG", false);
    for (unsigned i = 0; i < N_FRAMES; i++) {
        put_frame(&a, "00dc", i, 100 + i);
        a.b.n = a.frame_end[i]; /* take the padding back */
    }
    end_avi(&a, true);
    struct summary got = read_avi(&a, EES_IO_AUTO);
    check_all(&a, &got, EES_EOF);
    drop_avi(&a);
}

/* ---- sizes that lie ---- */

/* Whatever size a frame's chunk claims, all frames come, whole. */
static void test_lying_frame_sizes(void **state) {
    static const uint32_t lies[] = {0, 1, 2, 3, 7, 50, 99, 101, 5000, 0x7fffffff, 0xffffffff, 0xfffffff0};
    for (unsigned victim = 0; victim < N_FRAMES; victim++)
        for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
            struct avi a;
            begin_avi(&a, "MJPG", false);
            for (unsigned k = 0; k < N_FRAMES; k++)
                put_even_frame(&a, "00dc", k, 100 + k);
            end_avi(&a, true);
            set_u32(&a.b, a.chunk[victim] + 4, lies[i]);
            struct summary got = read_avi(&a, EES_IO_PREAD);
            if (got.rc != EES_EOF || got.n_frames != N_FRAMES || got.hash != a.expected.hash)
                fail_msg("frame %u claims %u: %u frames, %s", victim, lies[i], got.n_frames, got.error.message);
            drop_avi(&a);
        }
}

/* Sizes of lists and of the RIFF are never needed. */
static void test_lying_list_sizes(void **state) {
    static const uint32_t lies[] = {0, 4, 5, 100, 0xffffffff};
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        struct avi a;
        make_plain(&a, true);
        set_u32(&a.b, a.movi, lies[i]);
        set_u32(&a.b, a.riff, lies[i]);
        struct summary got = read_avi(&a, EES_IO_AUTO);
        check_all(&a, &got, EES_EOF);
        drop_avi(&a);
    }
}

/* A chunk of another stream that claims too much: what follows is found again. */
static void test_lying_other_chunk(void **state) {
    struct avi a;
    begin_avi(&a, "MJPG", false);
    put_frame(&a, "00dc", 1, 100);
    size_t sound = a.b.n;
    put_chunk(&a.b, "01wb", "sound", 5);
    for (unsigned i = 2; i < 5; i++)
        put_frame(&a, "00dc", i, 100);
    end_avi(&a, true);
    set_u32(&a.b, sound + 4, 0x7fffffff);
    struct summary got = read_avi(&a, EES_IO_AUTO);
    check_all(&a, &got, EES_EOF);
    drop_avi(&a);
}

/* Bytes of nothing between two chunks. */
static void test_garbage_between(void **state) {
    struct avi a;
    begin_avi(&a, "MJPG", false);
    put_frame(&a, "00dc", 1, 100);
    size_t after_first = a.b.n;
    put_frame(&a, "00dc", 2, 100);
    end_avi(&a, true);
    struct bytes b = {0};
    put(&b, a.b.data, after_first);
    put_zeros(&b, 1000);
    put(&b, a.b.data + after_first, a.b.n - after_first);
    struct summary got = read_all(write_file("x.avi", b.data, b.n), NULL);
    assert_int_equal(got.rc, EES_EOF);
    assert_int_equal(got.n_frames, 2);
    drop(&b);
    drop_avi(&a);
}

/* After damage the walk goes on at a list or a RIFF as well as at a frame. */
static void test_structures_found_again(void **state) {
    for (int riff = 0; riff < 2; riff++) {
        struct avi a;
        begin_avi(&a, "MJPG", false);
        put_frame(&a, "00dc", 1, 100);
        put_chunk(&a.b, "\1\2\3\4", "this is no chunk", 16);
        if (riff)
            begin_list(&a.b, "RIFF", "AVIX");
        begin_list(&a.b, "LIST", riff ? "movi" : "rec ");
        put_chunk(&a.b, "01wb", "sound", 5);
        put_frame(&a, "00dc", 2, 100);
        end_avi(&a, true);
        struct summary got = read_avi(&a, EES_IO_AUTO);
        assert_int_equal(got.rc, EES_EOF);
        assert_int_equal(got.n_frames, 2);
        drop_avi(&a);
    }
}

/* Where nothing is found any more, the byte is named, after the frames before it. */
static void test_broken_off(void **state) {
    char word[64];
    struct avi a;
    begin_avi(&a, "MJPG", false);
    put_even_frame(&a, "00dc", 1, 100);
    put_even_frame(&a, "00dc", 2, 100);
    snprintf(word, sizeof word, "no chunk at byte %zu", a.b.n);
    put_zeros(&a.b, 3000);
    end_avi(&a, false);
    struct summary got = read_avi(&a, EES_IO_AUTO);
    assert_int_equal(got.rc, EES_ESOURCE);
    assert_non_null(strstr(got.error.message, word));
    assert_int_equal(got.n_frames, 2);
    assert_true(got.hash == a.expected.hash);
    drop_avi(&a);
}

/* Without a rate of the stream the main header's time of a frame counts; without either, the options. */
static void test_no_rate(void **state) {
    for (int both = 0; both < 2; both++) {
        struct avi a;
        make_plain(&a, true);
        uint8_t *vids = memmem(a.b.data, a.b.n, "vidsMJPG", 8), *avih = memmem(a.b.data, a.b.n, "avih", 4);
        memset(vids + 20, 0, 8);
        if (both)
            memset(avih + 8, 0, 4);
        struct summary got = read_avi(&a, EES_IO_AUTO);
        check_all(&a, &got, EES_EOF);
        assert_int_equal(got.last_ns, both ? (int64_t)(N_FRAMES - 1) * 1000000000 / 30 : (N_FRAMES - 1) * 33367000);
        drop_avi(&a);
    }
}

static void test_zeros_behind(void **state) {
    struct avi a;
    make_plain(&a, true);
    put_zeros(&a.b, 5001); /* preallocated by the recorder */
    struct summary got = read_avi(&a, EES_IO_AUTO);
    check_all(&a, &got, EES_EOF);
    drop_avi(&a);
}

static void test_index_lies(void **state) {
    struct avi a;
    make_plain(&a, false);
    a.index.n = 0;
    for (int i = 0; i < 64; i++)
        put_u32(&a.index, 0xdeadbeef);
    put_chunk(&a.b, "idx1", a.index.data, a.index.n);
    struct summary got = read_avi(&a, EES_IO_AUTO);
    check_all(&a, &got, EES_EOF);
    drop_avi(&a);
}

static void test_frame_limit(void **state) {
    struct avi a;
    ees_source_options options = default_options();
    begin_avi(&a, "MJPG", false);
    put_frame(&a, "00dc", 1, 100);
    put_frame(&a, "00dc", 2, 9000);
    put_frame(&a, "00dc", 3, 100);
    end_avi(&a, true);
    options.max_frame_bytes = 8000;
    const char *path = write_file("x.avi", a.b.data, a.b.n);
    struct summary got = read_all(path, &options);
    assert_int_equal(got.rc, EES_EOF);
    assert_int_equal(got.n_frames, 3);
    assert_int_equal(got.n_damaged, 1);
    assert_non_null(strstr(got.damage.message, "at most 8000"));
    set_u32(&a.b, a.chunk[1] + 4, 0); /* the same without a size to go by */
    got = read_all(write_file("x.avi", a.b.data, a.b.n), &options);
    assert_int_equal(got.rc, EES_EOF);
    assert_int_equal(got.n_frames, 3);
    assert_int_equal(got.n_damaged, 1);
    assert_non_null(strstr(got.damage.message, "more than 8000"));
    drop_avi(&a);
}

/* ---- cut short ---- */

/* Cut at every byte: whole frames before the cut are delivered, exactly, and then a clean end or an error that names a
 * byte. Never more. */
static void check_cut(const struct avi *a, const char *path, size_t n) {
    ees_source_options options = default_options();
    options.io = EES_IO_PREAD; /* a ring costs milliseconds to make */
    assert_int_equal(truncate(path, (off_t)n), 0);
    struct summary got = read_all(path, &options);
    unsigned n_whole = 0;
    struct summary expected = {0};
    for (unsigned i = 0; i < a->n_chunks && a->frame_end[i] <= n; i++, n_whole++)
        sum_frame(&expected, a->b.data + a->chunk[i] + 8, a->frame_end[i] - a->chunk[i] - 8);
    if (got.n_frames != n_whole || got.hash != expected.hash || got.n_damaged)
        fail_msg("cut at %zu: %u frames, not %u: %s", n, got.n_frames, n_whole, got.error.message);
    if (n_whole < a->n_chunks) {
        assert_int_equal(got.rc, n < 12 ? got.rc : EES_ESOURCE);
        assert_true(got.rc < EES_EOF);
        assert_true(n < 12 || strstr(got.error.message, "byte"));
    }
}

static void test_cut_everywhere(void **state) {
    struct avi a;
    char path[256];
    make_plain(&a, true);
    snprintf(path, sizeof path, "%s", write_file("cut.avi", a.b.data, a.b.n));
    for (size_t n = a.b.n; n-- > 0;)
        check_cut(&a, path, n);
    drop_avi(&a);
}

/* Every byte of the header and of the first frames' headers, replaced: no crash, no more frames than chunks. */
static void test_every_byte_changed(void **state) {
    struct avi a;
    begin_avi(&a, "MJPG", false);
    for (unsigned i = 0; i < 3; i++)
        put_frame(&a, "00dc", i, 20);
    end_avi(&a, true);
    for (size_t i = 0; i < a.b.n; i++) {
        uint8_t saved = a.b.data[i];
        a.b.data[i] = (uint8_t)(saved ^ 0xff);
        struct summary got = read_avi(&a, EES_IO_PREAD);
        assert_true(got.n_frames <= 3 + 1);
        assert_true(got.rc < 0);
        a.b.data[i] = saved;
    }
    drop_avi(&a);
}

/* ---- not ours ---- */

static void test_not_a_video(void **state) {
    struct avi a = {0};
    a.riff = begin_list(&a.b, "RIFF", "AVI ");
    size_t hdrl = begin_list(&a.b, "LIST", "hdrl");
    put_stream_header(&a.b, "auds", "\1\0\0\0");
    end_list(&a.b, hdrl);
    a.movi = begin_list(&a.b, "LIST", "movi");
    end_avi(&a, false);
    struct summary got = read_avi(&a, EES_IO_AUTO);
    assert_int_equal(got.rc, EES_ESOURCE);
    assert_non_null(strstr(got.error.message, "without a video stream"));
    drop_avi(&a);
}

/* Other codecs go to libav, or say that they need it. */
static void test_other_codec(void **state) {
    struct avi a;
    begin_avi(&a, "H264", false);
    put_frame(&a, "00dc", 1, 50);
    end_avi(&a, true);
    struct summary got = read_avi(&a, EES_IO_AUTO);
    assert_true(got.rc == EES_EUNSUPPORTED || strcmp(got.kind, "libav") == 0 || strstr(got.error.message, "libav"));
    drop_avi(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_empty_chunks),
        cmocka_unit_test(test_rec_lists),
        cmocka_unit_test(test_two_riffs),
        cmocka_unit_test(test_beyond_4_gb),
        cmocka_unit_test(test_pipe),
        cmocka_unit_test(test_unpadded),
        cmocka_unit_test(test_lying_frame_sizes),
        cmocka_unit_test(test_lying_list_sizes),
        cmocka_unit_test(test_lying_other_chunk),
        cmocka_unit_test(test_garbage_between),
        cmocka_unit_test(test_structures_found_again),
        cmocka_unit_test(test_broken_off),
        cmocka_unit_test(test_no_rate),
        cmocka_unit_test(test_zeros_behind),
        cmocka_unit_test(test_index_lies),
        cmocka_unit_test(test_frame_limit),
        cmocka_unit_test(test_cut_everywhere),
        cmocka_unit_test(test_every_byte_changed),
        cmocka_unit_test(test_not_a_video),
        cmocka_unit_test(test_other_codec),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
