/* SPDX-License-Identifier: MIT */
/* 1876 odd and damaged JPEGs (shared data, bad/jpeg_dev.tar.xz): for each the verdict is libjpeg-turbo's own, it comes
 * within 2 seconds of CPU time, memory stays below 256 MiB, and the patches are those of the whole picture decoded by libjpeg
 * alone, whichever frames came before.
 *
 * The only other verdict allowed is a refusal by one of our limits, which say so. */
#define _GNU_SOURCE /* nftw */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ftw.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <jpeglib.h>

#include "stages/ingest/ingest.h"

enum { SIDE = 32, PATCH = 8, MAX_FILES = 8192, MAX_FILE_BYTES = 16 << 20, MAX_RSS_KIB = 256 << 10 };
static const uint64_t time_limit_ns = 2000000000u;
static const char archive[] = EES_SHARED_DATA "/bad/jpeg_dev.tar.xz";

enum verdict { OK, WARNED, DAMAGED };
static const char *const verdict_names[] = {"ok", "warned", "damaged"};

static char folder[] = "/tmp/ees_corpus_XXXXXX";
static char *files[MAX_FILES];
static size_t n_files;

static int collect(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)ftw;
    if (type == FTW_F && n_files < MAX_FILES)
        files[n_files++] = strdup(path);
    return 0;
}

static int delete_entry(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static int unpack(void **state) {
    char command[512];
    assert_non_null(mkdtemp(folder));
    snprintf(command, sizeof command, "tar -xJf '%s' -C '%s'", archive, folder);
    assert_int_equal(system(command), 0);
    nftw(folder, collect, 16, FTW_PHYS);
    assert_true(n_files > 1000);
    return 0;
}

static int clean_up(void **state) {
    for (size_t i = 0; i < n_files; i++)
        free(files[i]);
    if (n_files)
        nftw(folder, delete_entry, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}

static uint8_t *read_file(const char *path, size_t *n) {
    static uint8_t data[MAX_FILE_BYTES];
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    *n = fread(data, 1, sizeof data, file);
    fclose(file);
    return data;
}

/* ---- libjpeg's verdict: its own source manager, defaults, the whole picture -------------------------------- */

struct judge {
    struct jpeg_error_mgr errors;
    jmp_buf escape;
};

static void escape_error(j_common_ptr cinfo) { longjmp(((struct judge *)cinfo->err)->escape, 1); }
static void be_silent(j_common_ptr cinfo, int level) { cinfo->err->num_warnings += level < 0; }

/* Packed RGB of the whole picture; NULL: CMYK. */
struct whole {
    unsigned width, height;
    uint8_t *rgb;
};

static enum verdict judge_decode(struct jpeg_decompress_struct *cinfo, struct judge *judge, struct whole *whole) {
    jpeg_read_header(cinfo, TRUE);
    if (cinfo->num_components == 2 || (uint64_t)cinfo->image_width * cinfo->image_height > 40000000)
        return DAMAGED; /* no RGB can be made of it; above the pixel limit */
    cinfo->out_color_space = cinfo->num_components == 4 ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(cinfo);
    size_t row_bytes = (size_t)cinfo->output_width * (size_t)cinfo->output_components;
    whole->width = cinfo->output_width;
    whole->height = cinfo->output_height;
    whole->rgb = malloc(row_bytes * whole->height);
    while (cinfo->output_scanline < cinfo->output_height) {
        JSAMPROW row = whole->rgb + cinfo->output_scanline * row_bytes;
        jpeg_read_scanlines(cinfo, &row, 1);
    }
    jpeg_finish_decompress(cinfo);
    if (cinfo->num_components == 4) {
        free(whole->rgb);
        whole->rgb = NULL;
    }
    return judge->errors.num_warnings ? WARNED : OK;
}

static enum verdict judge_file(const uint8_t *data, size_t n, struct whole *whole) {
    static struct jpeg_decompress_struct cinfo;
    static struct judge judge;
    *whole = (struct whole){0};
    cinfo.err = jpeg_std_error(&judge.errors);
    judge.errors.error_exit = escape_error;
    judge.errors.emit_message = be_silent;
    jpeg_create_decompress(&cinfo);
    volatile enum verdict verdict = DAMAGED;
    if (setjmp(judge.escape) == 0) {
        jpeg_mem_src(&cinfo, data, n);
        verdict = judge_decode(&cinfo, &judge, whole);
    }
    jpeg_destroy_decompress(&cinfo);
    return verdict;
}

/* ---- Ours -------------------------------------------------------------------------------------------------- */

/* A crop, so that the decoder is asked for part of the rows. */
static struct ees__ingest *open_ingest(void) {
    struct ees__preproc preproc = {
        .resize_h = SIDE, .crop = true, .rescale = 1 / 255.0, .mean = {0.5, 0.5, 0.5}, .std = {0.5, 0.5, 0.5}};
    struct ees__ingest *ingest = ees__ingest_open(&preproc, SIDE, SIDE, PATCH, false, EES_DECODE_EXACT, 0);
    assert_non_null(ingest);
    return ingest;
}

static enum verdict run_ours(struct ees__ingest *ingest, const ees_frame *frame, float *patches, ees_error *err) {
    unsigned n_warnings;
    *err = (ees_error){0};
    int rc = ees__ingest_run(ingest, frame, patches, &n_warnings, err);
    assert_true(rc == 0 || rc == EES_EDAMAGED);
    return rc ? DAMAGED : n_warnings ? WARNED : OK;
}

static bool is_our_limit(const ees_error *err) {
    return strstr(err->message, "too many scans") || strstr(err->message, "in several scans need more than");
}

struct tally {
    unsigned n_by_verdict[3], n_limited, n_compared, n_wrong;
    uint64_t slowest_ns;
};

static void complain(struct tally *tally, const char *path, const char *what, const char *detail) {
    print_message("%s: %s %s\n", strrchr(path, '/') + 1, what, detail);
    tally->n_wrong++;
}

static void check_pixels(struct ees__ingest *ingest, const struct whole *whole, const float *got, const char *path,
                         struct tally *tally) {
    static float expected[3 * SIDE * SIDE];
    ees_error err;
    ees_frame frame = {.kind = EES_FRAME_RGB24,
                       .width_px = whole->width,
                       .height_px = whole->height,
                       .data = {whole->rgb},
                       .stride = {(size_t)whole->width * 3}};
    assert_int_equal(run_ours(ingest, &frame, expected, &err), OK);
    if (memcmp(expected, got, sizeof expected) != 0)
        complain(tally, path, "pixels differ from libjpeg's", "");
    tally->n_compared++;
}

/* Of this thread: what the machine does besides is no matter. */
static uint64_t cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void check_file(struct ees__ingest *ingest, const char *path, struct tally *tally) {
    static float patches[3 * SIDE * SIDE];
    size_t n;
    const uint8_t *data = read_file(path, &n);
    ees_error err;
    ees_frame frame = {.kind = EES_FRAME_JPEG, .data = {data}, .bytes = n};
    uint64_t start = cpu_ns();
    enum verdict ours = run_ours(ingest, &frame, patches, &err);
    uint64_t took_ns = cpu_ns() - start;
    tally->slowest_ns = took_ns > tally->slowest_ns ? took_ns : tally->slowest_ns;
    tally->n_by_verdict[ours]++;
    if (took_ns > time_limit_ns)
        complain(tally, path, "takes too long", "");
    if (ours == DAMAGED && is_our_limit(&err)) {
        print_message("%s: %s\n", strrchr(path, '/') + 1, err.message);
        tally->n_limited++;
        return;
    }
    struct whole whole;
    enum verdict expected = judge_file(data, n, &whole);
    if (ours != expected)
        complain(tally, path, verdict_names[ours], verdict_names[expected]);
    else if (ours != DAMAGED && whole.rgb)
        check_pixels(ingest, &whole, patches, path, tally);
    free(whole.rgb);
}

static void test_corpus(void **state) {
    struct ees__ingest *ingest = open_ingest();
    struct tally tally = {0};
    for (size_t i = 0; i < n_files; i++)
        check_file(ingest, files[i], &tally);
    ees__ingest_close(ingest);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    print_message("%zu files: %u ok, %u warned, %u damaged (%u by our limits); %u compared by pixel; slowest %.3f s; "
                  "%ld MiB at most\n",
                  n_files, tally.n_by_verdict[OK], tally.n_by_verdict[WARNED], tally.n_by_verdict[DAMAGED],
                  tally.n_limited, tally.n_compared, (double)tally.slowest_ns / 1e9, usage.ru_maxrss >> 10);
    assert_int_equal(tally.n_wrong, 0);
    assert_true(tally.n_limited <= 10);
    assert_true(tally.n_compared > 300);
#if !defined(__SANITIZE_ADDRESS__) /* which keeps freed memory */
    assert_true(usage.ru_maxrss <= MAX_RSS_KIB);
#endif
}

int main(void) {
    if (access(archive, R_OK) != 0) {
        printf("skipped: no %s\n", archive);
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_corpus)};
    return cmocka_run_group_tests(tests, unpack, clean_up);
}
