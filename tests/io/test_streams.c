/* SPDX-License-Identifier: MIT */
/* Y4M, raw frames, list files, options, and stopping a source that waits. */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

/* ---- Y4M ---- */

/* Header and `n` frames of `frame_bytes` bytes that count up. */
static const char *write_y4m(const char *header, const char *frame_line, unsigned n, size_t frame_bytes) {
    struct bytes b = {0};
    put_text(&b, header);
    for (unsigned i = 0; i < n; i++) {
        put_text(&b, frame_line);
        for (size_t k = 0; k < frame_bytes; k++)
            put(&b, &(uint8_t){(uint8_t)(k + i)}, 1);
    }
    const char *path = write_file("x.y4m", b.data, b.n);
    drop(&b);
    return path;
}

static void test_y4m_forms(void **state) {
    static const struct {
        const char *header;
        size_t plane[3];
        unsigned shift_x, shift_y, full;
    } forms[] = {
        {"YUV4MPEG2 W5 H3 F25:1 Ip A1:1 C420jpeg\n", {15, 6, 6}, 1, 1, 0},
        {"YUV4MPEG2 H3 W5\n", {15, 6, 6}, 1, 1, 0},
        {"YUV4MPEG2 W5 H3 C422 XCOLORRANGE=FULL\n", {15, 9, 9}, 1, 0, 1},
        {"YUV4MPEG2 W5 H3 C444 XYSCSS=444\n", {15, 15, 15}, 0, 0, 0},
        {"YUV4MPEG2 W5 H3 C411\n", {15, 6, 6}, 2, 0, 0},
        {"YUV4MPEG2 W5 H3 Cmono\n", {15, 0, 0}, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        size_t n = forms[i].plane[0] + forms[i].plane[1] + forms[i].plane[2];
        const char *path = write_y4m(forms[i].header, i % 2 ? "FRAME\n" : "FRAME Ib\n", 3, n);
        ees_source *s;
        ees_frame f;
        assert_int_equal(ees_source_open(path, NULL, &s, NULL), 0);
        for (unsigned k = 0; k < 3; k++) {
            assert_int_equal(ees_source_next(s, &f, NULL), 0);
            assert_int_equal(f.kind, EES_FRAME_YUV);
            assert_int_equal(f.width_px, 5);
            assert_int_equal(f.height_px, 3);
            const uint8_t *at = f.data[0];
            for (int p = 0; p < 3; p++) {
                if (forms[i].plane[p] == 0) {
                    assert_null(f.data[p]);
                    continue;
                }
                assert_ptr_equal(f.data[p], at);
                assert_int_equal(*at, (uint8_t)((size_t)(at - (const uint8_t *)f.data[0]) + k));
                assert_int_equal(f.stride[p] * (p ? (3u + (1u << forms[i].shift_y) - 1) >> forms[i].shift_y : 3u),
                                 forms[i].plane[p]);
                at += forms[i].plane[p];
            }
            assert_int_equal(f.chroma_shift_x, forms[i].shift_x);
            assert_int_equal(f.chroma_shift_y, forms[i].shift_y);
            assert_int_equal(f.yuv_full_range, forms[i].full);
            assert_int_equal(f.pts_ns, (int64_t)k * 1000000000 / (i ? 30 : 25));
            f.release(f.opaque);
        }
        assert_int_equal(ees_source_next(s, &f, NULL), EES_EOF);
        ees_source_close(s);
    }
}

static void test_y4m_refused(void **state) {
    static const struct {
        const char *header;
        int rc;
        const char *word;
    } bad[] = {
        {"YUV4MPEG2 H3\n", EES_ESOURCE, "width and height"},
        {"YUV4MPEG2 W0 H3\n", EES_ESOURCE, "'W0'"},
        {"YUV4MPEG2 W70000 H3\n", EES_ESOURCE, "'W70000'"},
        {"YUV4MPEG2 W-5 H3\n", EES_ESOURCE, "'W-5'"},
        {"YUV4MPEG2 W5x H3\n", EES_ESOURCE, "'W5x'"},
        {"YUV4MPEG2 W5 H3 C420p10\n", EES_EUNSUPPORTED, "'C420p10'"},
        {"YUV4MPEG2 W5 H3 Fx\n", EES_ESOURCE, "'Fx'"},
        {"YUV4MPEG2 W5 H3", EES_ESOURCE, "inside a header line"},
        {"YUV4MPEG3 W5 H3\n", EES_ESOURCE, "does not begin with YUV4MPEG2"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct summary got = read_all(write_y4m(bad[i].header, "", 0, 0), NULL);
        if (got.rc != bad[i].rc || !strstr(got.error.message, bad[i].word))
            fail_msg("%s: %s %s", bad[i].header, ees_error_name(got.rc), got.error.message);
    }
    char line[1000] = "YUV4MPEG2 W5 H3 ";
    memset(line + strlen(line), 'X', sizeof line - 1 - strlen(line));
    line[sizeof line - 1] = '\0';
    struct summary got = read_all(write_y4m(line, "", 0, 0), NULL);
    assert_int_equal(got.rc, EES_ESOURCE);
    assert_non_null(strstr(got.error.message, "longer than 512"));
}

/* Cut at every byte: whole frames first, then an error with the byte, or the end between two frames. */
static void test_y4m_cut(void **state) {
    const char *header = "YUV4MPEG2 W4 H2 C420\n";
    struct bytes b = {0};
    put_text(&b, header);
    for (int i = 0; i < 3; i++) {
        put_text(&b, "FRAME\n");
        put_zeros(&b, 12);
    }
    for (size_t n = strlen(header); n <= b.n; n++) {
        ees_source_options options = default_options();
        options.io = EES_IO_PREAD;
        struct summary got = read_all(write_file("cut.y4m", b.data, n), &options);
        size_t whole = (n - strlen(header)) / 18;
        assert_int_equal(got.n_frames, whole);
        assert_int_equal(got.rc, (n - strlen(header)) % 18 ? EES_ESOURCE : EES_EOF);
        assert_true(got.rc == EES_EOF || strstr(got.error.message, "byte"));
    }
    b.data[strlen(header) + 18] = 'f';
    struct summary got = read_all(write_file("cut.y4m", b.data, b.n), NULL);
    assert_int_equal(got.n_frames, 1);
    assert_int_equal(got.rc, EES_ESOURCE);
    assert_non_null(strstr(got.error.message, "no FRAME at byte 39"));
    drop(&b);
}

/* ---- raw ---- */

static void test_raw(void **state) {
    struct bytes b = {0};
    ees_source_options options = default_options();
    for (int i = 0; i < 4 * 3 * 2 * 3; i++)
        put(&b, &(uint8_t){(uint8_t)i}, 1);
    options.raw = "rgb24:4x2";
    options.raw_fps = 10;
    ees_source *s;
    ees_frame f;
    assert_int_equal(ees_source_open(write_file("x.raw", b.data, b.n), &options, &s, NULL), 0);
    assert_int_equal(ees_source_get_info(s)->n_frames, 3);
    for (unsigned k = 0; k < 3; k++) {
        assert_int_equal(ees_source_next(s, &f, NULL), 0);
        assert_int_equal(f.kind, EES_FRAME_RGB24);
        assert_int_equal(f.stride[0], 12);
        assert_memory_equal(f.data[0], b.data + 24 * k, 24);
        assert_int_equal(f.pts_ns, (int64_t)k * 100000000);
        f.release(f.opaque);
    }
    assert_int_equal(ees_source_next(s, &f, NULL), EES_EOF);
    ees_source_close(s);
    struct summary got = read_all(write_file("x.raw", b.data, b.n - 1), &options);
    assert_int_equal(got.n_frames, 2);
    assert_int_equal(got.rc, EES_ESOURCE);
    assert_non_null(strstr(got.error.message, "ends at byte 71"));
    drop(&b);
}

static void test_raw_formats(void **state) {
    static const char *const bad[] = {"",           "rgb24",         "rgb24:0x4", "rgb24:4x",
                                      "rgb24:4x4x", "rgb24:99999x4", "bgr24:4x4", "rgb24:-4x4"};
    const char *path = write_file("x.raw", "abc", 3);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ees_source_options options = default_options();
        options.raw = bad[i];
        assert_int_equal(read_all(path, &options).rc, EES_EINVAL);
    }
}

static void test_options(void **state) {
    const char *path = write_file("x.raw", "abc", 3);
    for (int i = 0; i < 5; i++) {
        ees_source_options options = default_options();
        if (i == 0)
            options.raw_fps = 0;
        if (i == 1)
            options.raw_fps = 0.0 / 0.0;
        if (i == 2)
            options.max_frame_bytes = 0;
        if (i == 3)
            options.readahead = 0;
        if (i == 4)
            options.io = (enum ees_io_backend)9;
        assert_int_equal(read_all(path, &options).rc, EES_EINVAL);
    }
}

/* ---- lists ---- */

static void check_list(const char *text, size_t n_expected, const char *const expected[]) {
    char **uris;
    size_t n;
    const char *path = write_file("sources.streams", text, strlen(text));
    assert_true(ees_source_is_list(path));
    assert_int_equal(ees_source_read_list(path, &uris, &n, NULL), 0);
    assert_int_equal(n, n_expected);
    for (size_t i = 0; i < n; i++) {
        bool alone = expected[i][0] == '/' || expected[i][0] == '-' || strstr(expected[i], "://");
        assert_string_equal(uris[i], alone ? expected[i] : in_folder(expected[i]));
    }
    free(uris);
}

static void test_lists(void **state) {
    check_list("a.avi\n", 1, (const char *[]){"a.avi"});
    check_list("# all\n\n  a.avi  \r\n/b/c.avi # with comment\n-\nrtsp://x/y\n\tsub/d#1.mp4", 5,
               (const char *[]){"a.avi", "/b/c.avi", "-", "rtsp://x/y", "sub/d#1.mp4"});
    check_list("two words.avi", 1, (const char *[]){"two words.avi"});
}

static void check_list_refused(const char *path, const char *word) {
    char **uris;
    size_t n;
    ees_error err = {0};
    assert_int_equal(ees_source_read_list(path, &uris, &n, &err), EES_ESOURCE);
    if (!strstr(err.message, word))
        fail_msg("%s", err.message);
}

static void test_lists_refused(void **state) {
    check_list_refused(in_folder("none.list"), "No such file");
    check_list_refused(in_folder("."), "regular file");
    check_list_refused(write_file("a.list", "", 0), "no source in the list");
    check_list_refused(write_file("a.list", "# none\n\n", 8), "no source in the list");
    check_list_refused(write_file("a.list", "a\0b", 3), "not a text file");
    const char *path = write_file("a.list", "a", 1);
    assert_int_equal(truncate(path, (16 << 20) + 1), 0);
    check_list_refused(path, "at most");
    assert_false(ees_source_is_list("x.avi"));
    assert_false(ees_source_is_list("list"));
}

/* ---- pipes and stopping ---- */

/* A named pipe is a source; reading waits for its writer, who takes his time. */
static void *write_fifo(void *path) {
    struct bytes b = {0};
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    put_jpeg(&b, 1, 500, 1);
    for (int i = 0; i < 3; i++) {
        usleep(20000);
        if (write(fd, b.data, b.n) != (ssize_t)b.n)
            break;
    }
    close(fd);
    drop(&b);
    return NULL;
}

static void test_fifo(void **state) {
    char path[256];
    pthread_t thread;
    snprintf(path, sizeof path, "%s", in_folder("fifo"));
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(pthread_create(&thread, NULL, write_fifo, path), 0);
    struct summary got = read_all(path, NULL);
    pthread_join(thread, NULL);
    assert_int_equal(got.n_frames, 3);
    assert_int_equal(got.rc, EES_EOF);
    assert_string_equal(got.backend, "stream");
}

/* A source on a pipe that holds one frame and then stays open and silent. */
struct silent {
    int writer, saved_stdin;
    ees_source *source;
};

static void open_silent(struct silent *s) {
    int ends[2];
    struct bytes b = {0};
    ees_frame frame;
    put_jpeg(&b, 1, 500, 1);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], b.data, b.n), b.n);
    s->saved_stdin = dup(0);
    assert_int_equal(dup2(ends[0], 0), 0);
    close(ends[0]);
    s->writer = ends[1];
    assert_int_equal(ees_source_open("-", NULL, &s->source, NULL), 0);
    assert_int_equal(ees_source_next(s->source, &frame, NULL), 0); /* a whole frame does not wait for the next */
    frame.release(frame.opaque);
    drop(&b);
}

static void close_silent(struct silent *s) {
    ees_frame frame;
    assert_int_equal(ees_source_next(s->source, &frame, NULL), EES_ECANCELED); /* and every later call */
    ees_source_close(s->source);
    close(s->writer);
    dup2(s->saved_stdin, 0);
    close(s->saved_stdin);
}

static void *stop_later(void *source) {
    usleep(50000);
    ees_source_stop(source);
    return NULL;
}

static void test_stop_from_thread(void **state) {
    struct silent s;
    pthread_t thread;
    ees_frame frame;
    ees_error err = {0};
    open_silent(&s);
    assert_int_equal(pthread_create(&thread, NULL, stop_later, s.source), 0);
    assert_int_equal(ees_source_next(s.source, &frame, &err), EES_ECANCELED); /* or never */
    assert_int_equal(err.code, 0);                                            /* not a failure */
    pthread_join(thread, NULL);
    close_silent(&s);
}

/* ---- stopping by the caller's descriptor, which works before there is a source ---- */

static void *write_later(void *fd) {
    usleep(30000); /* mostly after the source began to wait; what is tested holds before as well */
    eventfd_write(*(const int *)fd, 1);
    return NULL;
}

/* Opening what gives no byte ends as soon as the descriptor is readable. */
static void check_opening_stopped(const char *uri, bool readable_at_once) {
    ees_source_options options = default_options();
    pthread_t thread;
    ees_source *s = NULL;
    ees_error err = {0};
    options.stop_fd = eventfd(readable_at_once, EFD_CLOEXEC);
    if (!readable_at_once)
        assert_int_equal(pthread_create(&thread, NULL, write_later, &options.stop_fd), 0);
    assert_int_equal(ees_source_open(uri, &options, &s, &err), EES_ECANCELED);
    assert_null(s);
    assert_int_equal(err.code, 0); /* not a failure */
    if (!readable_at_once)
        pthread_join(thread, NULL);
    close(options.stop_fd);
}

static void test_stop_opening(void **state) {
    int ends[2], saved = dup(0);
    const char *fifo = in_folder("no_writer");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(dup2(ends[0], 0), 0);
    for (int at_once = 0; at_once < 2; at_once++) {
        check_opening_stopped(fifo, at_once);
        check_opening_stopped("-", at_once);
    }
    assert_int_equal(write(ends[1], "\xff\xd8", 2), 2); /* a beginning, too short to tell what it is */
    check_opening_stopped("-", false);
    dup2(saved, 0);
    close(saved);
    close(ends[0]);
    close(ends[1]);
    check_opening_stopped(in_folder("."), true);
    check_opening_stopped(write_file("x.mjpeg", "abc", 3), true);
    check_opening_stopped("synthetic:64x64", true);
}

/* One descriptor for opening and reading, here a pipe whose other end goes away. */
static void test_stop_fd_ends_reading(void **state) {
    ees_source_options options = default_options();
    struct bytes b = {0};
    int ends[2];
    ees_source *s;
    ees_frame frame;
    for (unsigned i = 0; i < 5; i++)
        put_jpeg(&b, i, 100, 1);
    assert_int_equal(pipe(ends), 0);
    options.stop_fd = ends[0];
    assert_int_equal(ees_source_open(write_file("x.mjpeg", b.data, b.n), &options, &s, NULL), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ees_source_next(s, &frame, NULL), 0);
        frame.release(frame.opaque);
    }
    close(ends[1]);
    assert_int_equal(ees_source_next(s, &frame, NULL), EES_ECANCELED);
    assert_int_equal(ees_source_next(s, &frame, NULL), EES_ECANCELED);
    ees_source_close(s);
    close(ends[0]);
    assert_int_equal(read_all(in_folder("x.mjpeg"), &options).rc, EES_EINVAL); /* closed: a mistake, told */
    drop(&b);
}

static ees_source *to_stop;

static void stop_from_signal(int number) {
    int saved = errno;
    errno = 4711;
    ees_source_stop(to_stop);
    if (errno != 4711)
        abort();
    errno = saved;
}

static void test_stop_from_signal(void **state) {
    const struct sigaction action = {.sa_handler = stop_from_signal, .sa_flags = SA_RESTART};
    const struct itimerval once = {{0, 0}, {0, 30000}};
    struct sigaction before;
    struct silent s;
    ees_frame frame;
    open_silent(&s);
    to_stop = s.source;
    assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &once, NULL), 0);
    assert_int_equal(ees_source_next(s.source, &frame, NULL), EES_ECANCELED);
    sigaction(SIGALRM, &before, NULL);
    close_silent(&s);
}

/* Also where nothing blocks. */
static void test_stop_file(void **state) {
    struct bytes b = {0};
    ees_source *s;
    ees_frame frame;
    for (unsigned i = 0; i < 5; i++)
        put_jpeg(&b, i, 100, 1);
    assert_int_equal(ees_source_open(write_file("x.mjpeg", b.data, b.n), NULL, &s, NULL), 0);
    assert_int_equal(ees_source_next(s, &frame, NULL), 0);
    frame.release(frame.opaque);
    for (int i = 0; i < 100000; i++)
        ees_source_stop(s); /* as often as one likes */
    assert_int_equal(ees_source_next(s, &frame, NULL), EES_ECANCELED);
    ees_source_close(s);
    drop(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_y4m_forms),
        cmocka_unit_test(test_y4m_refused),
        cmocka_unit_test(test_y4m_cut),
        cmocka_unit_test(test_raw),
        cmocka_unit_test(test_raw_formats),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_lists_refused),
        cmocka_unit_test(test_fifo),
        cmocka_unit_test(test_stop_from_thread),
        cmocka_unit_test(test_stop_opening),
        cmocka_unit_test(test_stop_fd_ends_reading),
        cmocka_unit_test(test_stop_from_signal),
        cmocka_unit_test(test_stop_file),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
