/* SPDX-License-Identifier: MIT */
/* Pictures: single files, folders with classes, patterns; files that are missing, empty or not what they seem. */
#define _GNU_SOURCE
#include "support.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void write_jpeg(const char *name, unsigned seed, size_t n, struct summary *expected) {
    struct bytes jpeg = {0};
    put_jpeg(&jpeg, seed, n, 1);
    write_file(name, jpeg.data, jpeg.n);
    if (expected)
        sum_frame(expected, jpeg.data, jpeg.n);
    drop(&jpeg);
}

static void check(const char *uri, const struct summary *expected) {
    for (int io = EES_IO_AUTO; io <= EES_IO_PREAD; io += EES_IO_PREAD) {
        ees_source_options options = default_options();
        options.io = (enum ees_io_backend)io;
        struct summary got = read_all(uri, &options);
        if (got.rc != EES_EOF || got.n_frames != expected->n_frames || got.hash != expected->hash)
            fail_msg("%s: %u frames, not %u; %s", uri, got.n_frames, expected->n_frames, got.error.message);
        assert_string_equal(got.kind, "images");
    }
}

static void test_single(void **state) {
    struct summary expected = {0};
    write_jpeg("one.JPG", 1, 5000, &expected);
    check(in_folder("one.JPG"), &expected);
}

/* More files than are read ahead, in byte order of their names: "B" < "a", "10" < "9". */
static void test_folder_order(void **state) {
    static const char *const names[] = {"10.jpg", "9.jpg", "B.jpeg", "_x.jpg", "a.jpg",
                                        "b.jfif", "c.jpe", "d.jpg",  "e.jpg"};
    static const unsigned order[] = {4, 8, 0, 2, 1, 7, 3, 6, 5}; /* written in this order */
    struct summary expected = {0};
    make_subfolder("plain");
    for (unsigned i = 0; i < 9; i++) {
        char name[64];
        snprintf(name, sizeof name, "plain/%s", names[order[i]]);
        write_jpeg(name, order[i], 100 * (order[i] + 1), NULL);
    }
    for (unsigned i = 0; i < 9; i++) {
        struct bytes jpeg = {0};
        put_jpeg(&jpeg, i, 100 * (i + 1), 1);
        sum_frame(&expected, jpeg.data, jpeg.n);
        drop(&jpeg);
    }
    write_file("plain/notes.txt", "x", 1);
    write_file("plain/.hidden.jpg", "x", 1);
    check(in_folder("plain"), &expected);
    check(in_folder("plain/"), &expected);
}

static void test_classes(void **state) {
    static const char *const truths[] = {NULL, NULL, "cat", "cat", "dog"};
    ees_source *s;
    ees_frame frame;
    make_subfolder("set");
    make_subfolder("set/dog");
    make_subfolder("set/cat");
    make_subfolder("set/cat/deeper");
    make_subfolder("set/.git");
    write_jpeg("set/z.jpg", 1, 10, NULL);
    write_jpeg("set/a.jpg", 2, 10, NULL);
    write_jpeg("set/dog/1.jpg", 3, 10, NULL);
    write_jpeg("set/cat/2.jpg", 4, 10, NULL);
    write_jpeg("set/cat/1.jpg", 5, 10, NULL);
    write_jpeg("set/cat/deeper/1.jpg", 6, 10, NULL);
    write_jpeg("set/.git/1.jpg", 7, 10, NULL);
    assert_int_equal(ees_source_open(in_folder("set"), NULL, &s, NULL), 0);
    assert_int_equal(ees_source_get_info(s)->n_frames, 5);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(ees_source_next(s, &frame, NULL), 0);
        if (truths[i])
            assert_string_equal(frame.truth, truths[i]);
        else
            assert_null(frame.truth);
        assert_int_equal(frame.pts_ns, (int64_t)i * 1000000000 / 30);
        frame.release(frame.opaque);
    }
    assert_int_equal(ees_source_next(s, &frame, NULL), EES_EOF);
    ees_source_close(s);
}

static void test_glob(void **state) {
    struct summary expected = {0};
    make_subfolder("glob");
    for (unsigned i = 0; i < 12; i++) {
        char name[64];
        snprintf(name, sizeof name, "glob/f_%02u.jpg", i);
        write_jpeg(name, i, 50, i < 10 ? &expected : NULL);
    }
    check(in_folder("glob/f_0*.jpg"), &expected);
    check(in_folder("glo?/f_0[0-9].jpg"), &expected);
}

/* A name with such letters that exists is that file. */
static void test_glob_letters_in_name(void **state) {
    struct summary expected = {0};
    write_jpeg("what[1]?.jpg", 3, 60, &expected);
    check(in_folder("what[1]?.jpg"), &expected);
}

static void test_damaged_files(void **state) {
    make_subfolder("bad");
    write_jpeg("bad/a.jpg", 1, 100, NULL);
    write_file("bad/b.jpg", "", 0);
    write_jpeg("bad/c.jpg", 2, 100, NULL);
    write_jpeg("bad/d.jpg", 2, 9000, NULL);
    ees_source *s;
    ees_frame frame;
    ees_source_options options = default_options();
    options.max_frame_bytes = 5000;
    options.readahead = 1;
    write_jpeg("bad/e.jpg", 3, 100, NULL);
    assert_int_equal(ees_source_open(in_folder("bad"), &options, &s, NULL), 0);
    unlink(in_folder("bad/c.jpg")); /* gone after it was listed */
    unlink(in_folder("bad/e.jpg"));
    assert_int_equal(mkfifo(in_folder("bad/e.jpg"), 0600), 0); /* must not block */
    static const char *const words[] = {NULL, "b.jpg: empty file", "c.jpg: cannot read: No such file",
                                        "d.jpg: more than 5000", "e.jpg: not a regular file"};
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(ees_source_next(s, &frame, NULL), 0);
        assert_int_equal(frame.frame_idx, i);
        if (words[i] && (!frame.error || !strstr(frame.error->message, words[i])))
            fail_msg("frame %u: %s", i, frame.error ? frame.error->message : "sound");
        assert_true(words[i] || !frame.error);
        frame.release(frame.opaque);
    }
    assert_int_equal(ees_source_next(s, &frame, NULL), EES_EOF);
    ees_source_close(s);
}

static void check_refused(const char *uri, int rc, const char *word) {
    struct summary got = read_all(uri, NULL);
    if (got.rc != rc || !strstr(got.error.message, word))
        fail_msg("%s: %s, %s", uri, ees_error_name(got.rc), got.error.message);
}

static void test_refused(void **state) {
    make_subfolder("none");
    write_file("none/readme.md", "x", 1);
    check_refused(in_folder("none"), EES_ESOURCE, "no pictures");
    check_refused(in_folder("none/*.jpg"), EES_ESOURCE, "no file matches");
    check_refused(in_folder("none/*"), EES_ESOURCE, "no pictures");
    check_refused(in_folder("absent.jpg"), EES_ESOURCE, "No such file");
    check_refused(write_file("zero.jpg", "", 0), EES_ESOURCE, "holds no bytes");
    check_refused("http://localhost/x.jpg", EES_EUNSUPPORTED, "network");
}

/* Formats other than JPEG need the module; without it the need is named when the folder is opened. */
static void test_needs_libav(void **state) {
    char *dir = getenv("EESTREAM_MODULE_DIR"), *saved = dir ? strdup(dir) : NULL;
    unsetenv("EESTREAM_MODULE_DIR");
    make_subfolder("png");
    write_jpeg("png/a.jpg", 1, 10, NULL);
    write_file("png/b.png", "\x89PNG\r\n\x1a\n", 8);
    check_refused(in_folder("png"), EES_EUNSUPPORTED, "b.png");
    if (saved)
        setenv("EESTREAM_MODULE_DIR", saved, 1);
    free(saved);
}

/* Frames outlive the source. */
static void test_release_after_close(void **state) {
    ees_source *s;
    ees_frame frames[3];
    struct bytes jpeg = {0};
    make_subfolder("late");
    for (unsigned i = 0; i < 3; i++)
        write_jpeg((char *[]){"late/0.jpg", "late/1.jpg", "late/2.jpg"}[i], i, 400, NULL);
    assert_int_equal(ees_source_open(in_folder("late"), NULL, &s, NULL), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(ees_source_next(s, &frames[i], NULL), 0);
    ees_source_close(s);
    for (unsigned i = 0; i < 3; i++) {
        jpeg.n = 0;
        put_jpeg(&jpeg, i, 400, 1);
        assert_int_equal(frames[i].bytes, jpeg.n);
        assert_memory_equal(frames[i].data[0], jpeg.data, jpeg.n);
        frames[i].release(frames[i].opaque);
    }
    drop(&jpeg);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_single),
        cmocka_unit_test(test_folder_order),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_glob),
        cmocka_unit_test(test_glob_letters_in_name),
        cmocka_unit_test(test_damaged_files),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_needs_libav),
        cmocka_unit_test(test_release_after_close),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
