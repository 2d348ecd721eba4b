/* SPDX-License-Identifier: MIT */
/* The libav module: counts and times of real clips, pixel formats, MJPEG packets, damaged and hostile files, and what
 * it must not do. Files are made with the ffmpeg program where it is installed. */
#define _GNU_SOURCE
#include "support.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "io/libav.h"

static int prepare(void **state) {
    ees_error err = {0};
    setenv("EESTREAM_MODULE_DIR", EES_BUILD_DIR, 1);
    if (ees__libav_load("test", NULL, &err) < 0) {
        printf("skipped: %s\n", err.message);
        exit(77);
    }
    return make_folder(state);
}

/* Run a shell command below the test's folder; skip the test when its program is missing. */
static void run(const char *program, const char *arguments) {
    char command[1024];
    snprintf(command, sizeof command, "command -v %s >/dev/null 2>&1", program);
    if (system(command) != 0) {
        print_message("skipped: no %s here\n", program);
        skip();
    }
    snprintf(command, sizeof command, "cd '%s' && %s %s", in_folder("."), program, arguments);
    assert_int_equal(system(command), 0);
}

static void make_clip(const char *arguments) {
    char text[512];
    snprintf(text, sizeof text, "-v error -nostdin -y -f lavfi -i testsrc=s=66x50:r=25:d=0.4 %s", arguments);
    run("ffmpeg", text);
}

static void check_clip(const char *name, unsigned n_frames, int64_t last_ns) {
    char path[512];
    snprintf(path, sizeof path, "%s/clips/%s", EES_SHARED_DATA, name);
    if (access(path, R_OK) != 0) {
        print_message("skipped: %s is not here\n", path);
        skip();
    }
    struct summary got = read_all(path, NULL);
    assert_int_equal(got.rc, EES_EOF);
    assert_int_equal(got.n_frames, n_frames);
    assert_int_equal(got.n_damaged, 0);
    assert_in_range(got.last_ns, last_ns - 1000000, last_ns + 1000000);
}

/* As `ffprobe -count_packets` counts them. */
static void test_mp4(void **state) { check_clip("bottle-detection.mp4", 1189, (int64_t)1188 * 6 * 1000000000 / 179); }
static void test_mkv(void **state) { check_clip("book.mkv", 109, (int64_t)108 * 1000000000 / 30); }

/* Frames as planes, without a copy, with what the stream says of its colours. */
static void check_format(const char *arguments, enum ees_frame_kind kind, int shift_x, int shift_y, int matrix,
                         int full) {
    ees_source *s;
    ees_frame frames[10];
    make_clip(arguments);
    assert_int_equal(ees_source_open(in_folder("x.mkv"), NULL, &s, NULL), 0);
    assert_string_equal(ees_source_get_info(s)->kind, "libav");
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(ees_source_next(s, &frames[i], NULL), 0);
        const ees_frame *f = &frames[i];
        assert_null(f->error);
        assert_int_equal(f->kind, kind);
        assert_int_equal(f->width_px, 66);
        assert_int_equal(f->height_px, 50);
        assert_int_equal(f->pts_ns, (int64_t)i * 40000000);
        if (kind != EES_FRAME_YUV)
            continue;
        assert_int_equal(f->chroma_shift_x, shift_x);
        assert_int_equal(f->chroma_shift_y, shift_y);
        assert_int_equal(f->yuv_matrix, matrix);
        assert_int_equal(f->yuv_full_range, full);
    }
    ees_frame end;
    assert_int_equal(ees_source_next(s, &end, NULL), EES_EOF);
    ees_source_close(s);
    for (unsigned i = 0; i < 10; i++) { /* they outlive source and decoder */
        assert_true(((const uint8_t *)frames[i].data[0])[0] <= 255);
        frames[i].release(frames[i].opaque);
    }
}

static void test_formats(void **state) {
    check_format("-c:v ffv1 -pix_fmt yuv420p x.mkv", EES_FRAME_YUV, 1, 1, EES_YUV_BT601, 0);
    check_format("-c:v ffv1 -pix_fmt yuv422p -colorspace bt709 x.mkv", EES_FRAME_YUV, 1, 0, EES_YUV_BT709, 0);
    check_format("-c:v ffv1 -pix_fmt yuv444p -colorspace bt2020nc -color_range pc x.mkv", EES_FRAME_YUV, 0, 0,
                 EES_YUV_BT2020, 1);
    check_format("-c:v ffv1 -pix_fmt yuv420p10 x.mkv", EES_FRAME_RGB24, 0, 0, 0, 0);
    check_format("-c:v ffv1 -pix_fmt bgr0 x.mkv", EES_FRAME_RGB24, 0, 0, 0, 0);
}

/* RGB comes out as it went in. */
static void test_rgb_values(void **state) {
    ees_source *s;
    ees_frame f;
    run("ffmpeg", "-v error -nostdin -y -f lavfi -i color=c=0x10f080:s=66x50:d=0.1,format=rgb24 -frames:v 1 x.png");
    assert_int_equal(ees_source_open(in_folder("x.png"), NULL, &s, NULL), 0);
    assert_int_equal(ees_source_next(s, &f, NULL), 0);
    assert_int_equal(f.kind, EES_FRAME_RGB24);
    for (unsigned y = 0; y < 50; y++)
        for (unsigned x = 0; x < 66; x++)
            assert_memory_equal((const uint8_t *)f.data[0] + y * f.stride[0] + 3 * x, "\x10\xf0\x80", 3);
    f.release(f.opaque);
    assert_int_equal(ees_source_next(s, &f, NULL), EES_EOF);
    ees_source_close(s);
}

/* MJPEG in MKV is handed out as the very packets that AVI would hold. */
static void test_mjpeg_packets(void **state) {
    make_clip("-c:v mjpeg x.avi");
    run("ffmpeg", "-v error -nostdin -y -i x.avi -c copy y.mkv");
    struct summary avi = read_all(in_folder("x.avi"), NULL), mkv = read_all(in_folder("y.mkv"), NULL);
    assert_string_equal(avi.kind, "avi");
    assert_string_equal(mkv.kind, "libav");
    assert_int_equal(avi.n_frames, 10);
    assert_int_equal(mkv.n_frames, 10);
    assert_true(avi.hash == mkv.hash);
}

static void test_other_avi(void **state) {
    make_clip("-c:v mpeg4 x.avi");
    struct summary got = read_all(in_folder("x.avi"), NULL);
    assert_string_equal(got.kind, "libav");
    assert_int_equal(got.n_frames, 10);
    assert_int_equal(got.rc, EES_EOF);
}

/* From a pipe, where nothing can be sought. */
static void test_pipe(void **state) {
    char command[512];
    make_clip("-c:v mpeg4 x.mkv");
    struct summary file = read_all(in_folder("x.mkv"), NULL);
    snprintf(command, sizeof command, "cat '%s'", in_folder("x.mkv"));
    int saved = dup(0);
    FILE *cat = popen(command, "r");
    assert_int_equal(dup2(fileno(cat), 0), 0);
    struct summary piped = read_all("-", NULL);
    dup2(saved, 0);
    close(saved);
    pclose(cat);
    assert_int_equal(piped.n_frames, 10);
    assert_true(piped.hash == file.hash);
}

/* A pipe that falls silent in the middle of a video: a stop gets through libav. */
static void *stop_later(void *source) {
    usleep(50000);
    ees_source_stop(source);
    return NULL;
}

static void test_stop(void **state) {
    static uint8_t bytes[1 << 20];
    int ends[2], saved = dup(0);
    pthread_t thread;
    ees_source *s;
    ees_frame frame;
    make_clip("-c:v ffv1 -g 1 x.mkv");
    FILE *f = fopen(in_folder("x.mkv"), "rb");
    size_t n = fread(bytes, 1, sizeof bytes, f) * 3 / 4;
    fclose(f);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(fcntl(ends[1], F_SETPIPE_SZ, (int)sizeof bytes), sizeof bytes);
    assert_int_equal(write(ends[1], bytes, n), n);
    assert_int_equal(dup2(ends[0], 0), 0);
    close(ends[0]);
    assert_int_equal(ees_source_open("-", NULL, &s, NULL), 0);
    assert_int_equal(pthread_create(&thread, NULL, stop_later, s), 0);
    int rc;
    while ((rc = ees_source_next(s, &frame, NULL)) == 0)
        frame.release(frame.opaque);
    assert_int_equal(rc, EES_ECANCELED);
    pthread_join(thread, NULL);
    ees_source_close(s);
    close(ends[1]);
    dup2(saved, 0);
    close(saved);
}

/* A pipe that falls silent while libav still looks what there is: only the caller's descriptor gets through. */
static void *write_later(void *fd) {
    usleep(50000);
    eventfd_write(*(const int *)fd, 1);
    return NULL;
}

static void test_stop_opening(void **state) {
    static uint8_t bytes[1 << 16];
    static const size_t cuts[] = {100, 300, 600}; /* in the header, in the tracks, before the first frame */
    make_clip("-c:v ffv1 -g 1 x.mkv");
    FILE *f = fopen(in_folder("x.mkv"), "rb");
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0] && cuts[i] < n; i++) {
        ees_source_options options;
        ees_source_options_default(&options);
        int ends[2], saved = dup(0);
        pthread_t thread;
        ees_source *s;
        ees_error err = {0};
        options.stop_fd = eventfd(0, EFD_CLOEXEC);
        assert_int_equal(pipe(ends), 0);
        assert_int_equal(write(ends[1], bytes, cuts[i]), cuts[i]);
        assert_int_equal(dup2(ends[0], 0), 0);
        close(ends[0]);
        assert_int_equal(pthread_create(&thread, NULL, write_later, &options.stop_fd), 0);
        assert_int_equal(ees_source_open("-", &options, &s, &err), EES_ECANCELED);
        assert_int_equal(err.code, 0);
        pthread_join(thread, NULL);
        close(options.stop_fd);
        close(ends[1]);
        dup2(saved, 0);
        close(saved);
    }
}

static void test_pictures_in_folder(void **state) {
    make_subfolder("mixed");
    run("ffmpeg", "-v error -nostdin -y -f lavfi -i testsrc=s=32x16:d=1 -frames:v 1 mixed/b.png");
    run("ffmpeg", "-v error -nostdin -y -f lavfi -i testsrc=s=32x16:d=1 -frames:v 1 mixed/c.bmp");
    struct bytes jpeg = {0};
    put_jpeg(&jpeg, 1, 100, 1);
    write_file("mixed/a.jpg", jpeg.data, jpeg.n);
    write_file("mixed/d.png", "no picture at all", 17);
    write_file("mixed/e.jpg", jpeg.data, jpeg.n);
    drop(&jpeg);
    struct summary got = read_all(in_folder("mixed"), NULL);
    assert_int_equal(got.rc, EES_EOF);
    assert_int_equal(got.n_frames, 5);
    assert_int_equal(got.n_damaged, 1);
    assert_non_null(strstr(got.damage.message, "d.png"));
}

/* Noise written over the middle: as many frames, or an error, but the stream is not given up at the first. */
static void test_damaged_packets(void **state) {
    make_clip("-c:v png -g 1 x.mkv");
    struct summary sound = read_all(in_folder("x.mkv"), NULL);
    assert_int_equal(sound.n_frames, 10);
    FILE *f = fopen(in_folder("x.mkv"), "r+b");
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    fseek(f, n / 2, SEEK_SET);
    for (int i = 0; i < 40; i++)
        fputc(i * 37, f);
    fclose(f);
    struct summary got = read_all(in_folder("x.mkv"), NULL);
    assert_int_equal(got.rc, EES_EOF);
    assert_int_equal(got.n_frames, 10);
    assert_int_equal(got.n_damaged, 1);
    assert_true(got.damage.message[0] != 0);
}

static void test_not_a_video(void **state) {
    const char *text = "This is a letter.\nNothing moves in it.\n";
    struct summary got = read_all(write_file("letter.txt", text, strlen(text)), NULL);
    assert_int_equal(got.rc, EES_ESOURCE);
    assert_non_null(strstr(got.error.message, "letter.txt: not a video"));
    make_clip("-f lavfi -i sine=d=0.1 -map 1 -c:a pcm_s16le sound.mkv");
    got = read_all(in_folder("sound.mkv"), NULL);
    assert_int_equal(got.rc, EES_ESOURCE);
    assert_non_null(strstr(got.error.message, "no video stream"));
}

/* Files that point elsewhere get nowhere. */
static void test_no_other_files(void **state) {
    static const char *const texts[] = {
        "ffconcat version 1.0\nfile x.mkv\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nx.mkv\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        "<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\"></MPD>",
    };
    make_clip("-c:v ffv1 x.mkv");
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct summary got = read_all(write_file("list.m3u8", texts[i], strlen(texts[i])), NULL);
        assert_int_equal(got.rc, EES_ESOURCE);
        assert_int_equal(got.n_frames, 0);
    }
}

/* The public collection of odd MP4: no crash, each within two seconds of CPU time (what the machine does besides is no
 * matter). */
static void test_mp4_collection(void **state) {
    const char *archive = EES_SHARED_DATA "/bad/mp4_dev.tar.xz";
    char command[1024], path[512];
    if (access(archive, R_OK) != 0) {
        print_message("skipped: %s is not here\n", archive);
        skip();
    }
    snprintf(command, sizeof command, "tar xf '%s' -C '%s'", archive, in_folder("."));
    assert_int_equal(system(command), 0);
    DIR *dir = opendir(in_folder("mp4"));
    assert_non_null(dir);
    unsigned n = 0;
    for (const struct dirent *d; (d = readdir(dir)) != NULL;) {
        if (d->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", in_folder("mp4"), d->d_name);
        clock_t begin = clock();
        struct summary got = read_all(path, NULL);
        double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
        print_message("%-60s %4u frames %4u damaged, %s %.100s\n", d->d_name, got.n_frames, got.n_damaged,
                      ees_error_name(got.rc), got.error.message + (got.error.code ? strlen(path) : 0));
        assert_true(seconds < 2);
        assert_true(got.rc == EES_EOF || got.error.message[0]);
        n++;
    }
    closedir(dir);
    assert_true(n > 5);
}

/* Truncated at many places: frames, then an end that says so, never a hang. Where libav itself sees nothing amiss the
 * container's own words tell. */
static void check_truncated(const char *arguments, const char *name, unsigned n_at_least) {
    static uint8_t bytes[1 << 20];
    make_clip(arguments);
    FILE *f = fopen(in_folder(name), "rb");
    size_t n = fread(bytes, 1, sizeof bytes, f), n_step = n / 60 + 1;
    fclose(f);
    unsigned last = 0;
    for (size_t cut = 1; cut < n; cut += n_step) {
        struct summary got = read_all(write_file("cut", bytes, cut), NULL);
        assert_true(got.n_frames <= 10);
        assert_true(got.n_frames - got.n_damaged + 1 >= last); /* more bytes, not fewer frames */
        last = got.n_frames - got.n_damaged;
        if (got.rc != EES_ESOURCE || !got.error.message[0])
            fail_msg("%s cut at %zu of %zu: %s", name, cut, n, ees_error_name(got.rc));
    }
    assert_true(last >= n_at_least);
    assert_int_equal(read_all(write_file("cut", bytes, n), NULL).rc, EES_EOF);
}

static void test_truncated(void **state) {
    check_truncated("-c:v mpeg4 -movflags faststart x.mp4", "x.mp4", 8);
    check_truncated("-c:v mpeg4 x.avi", "x.avi", 8);
    check_truncated("-c:v ffv1 -g 1 x.mkv", "x.mkv", 8);
    check_truncated("-c:v mpeg4 -bitexact -f matroska x.mkv", "x.mkv", 8);
}

/* A writer that could not go back leaves no size: the end is where the bytes end. */
static void test_unknown_size(void **state) {
    char command[512];
    snprintf(command, sizeof command,
             "ffmpeg -v error -nostdin -f lavfi -i testsrc=s=66x50:r=25:d=0.4 -c:v ffv1 -f matroska - >'%s'",
             in_folder("live.mkv"));
    assert_int_equal(system(command), 0);
    struct summary got = read_all(in_folder("live.mkv"), NULL);
    assert_int_equal(got.rc, EES_EOF);
    assert_int_equal(got.n_frames, 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mp4),
        cmocka_unit_test(test_mkv),
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_rgb_values),
        cmocka_unit_test(test_mjpeg_packets),
        cmocka_unit_test(test_other_avi),
        cmocka_unit_test(test_pipe),
        cmocka_unit_test(test_pictures_in_folder),
        cmocka_unit_test(test_damaged_packets),
        cmocka_unit_test(test_not_a_video),
        cmocka_unit_test(test_no_other_files),
        cmocka_unit_test(test_mp4_collection),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_unknown_size),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_stop_opening),
    };
    return cmocka_run_group_tests(tests, prepare, remove_folder);
}
