/* SPDX-License-Identifier: MIT */
/* 1876 odd and damaged JPEGs (shared data, bad/jpeg_dev.tar.xz): for each the verdict is libjpeg-turbo's own, it comes
 * within 2 seconds, memory stays below 256 MiB, and the patches do not depend on which frames came before.
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
#include <unistd.h>

#include <cmocka.h>
#include <jpeglib.h>

#include "common/clock.h"
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

static enum verdict judge_decode(struct jpeg_decompress_struct *cinfo, struct judge *judge) {
    jpeg_read_header(cinfo, TRUE);
    if (cinfo->num_components == 2 || (uint64_t)cinfo->image_width * cinfo->image_height > 40000000)
        return DAMAGED; /* no RGB can be made of it; above the pixel limit */
    cinfo->out_color_space = cinfo->num_components == 4 ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(cinfo);
    JSAMPARRAY row = cinfo->mem->alloc_sarray((j_common_ptr)cinfo, JPOOL_IMAGE, cinfo->output_width * 4, 1);
    while (cinfo->output_scanline < cinfo->output_height)
        jpeg_read_scanlines(cinfo, row, 1);
    jpeg_finish_decompress(cinfo);
    return judge->errors.num_warnings ? WARNED : OK;
}

static enum verdict judge_file(const uint8_t *data, size_t n) {
    static struct jpeg_decompress_struct cinfo;
    static struct judge judge;
    cinfo.err = jpeg_std_error(&judge.errors);
    judge.errors.error_exit = escape_error;
    judge.errors.emit_message = be_silent;
    jpeg_create_decompress(&cinfo);
    volatile enum verdict verdict = DAMAGED;
    if (setjmp(judge.escape) == 0) {
        jpeg_mem_src(&cinfo, data, n);
        verdict = judge_decode(&cinfo, &judge);
    }
    jpeg_destroy_decompress(&cinfo);
    return verdict;
}

/* ---- Ours -------------------------------------------------------------------------------------------------- */

static struct ees__ingest *open_ingest(void) {
    struct ees__preproc preproc = {
        .resize_h = SIDE, .resize_w = SIDE, .rescale = 1 / 255.0, .mean = {0.5, 0.5, 0.5}, .std = {0.5, 0.5, 0.5}};
    struct ees__ingest *ingest = ees__ingest_open(&preproc, SIDE, SIDE, PATCH, EES_DECODE_EXACT, 0);
    assert_non_null(ingest);
    return ingest;
}

static enum verdict run_ours(struct ees__ingest *ingest, const uint8_t *data, size_t n, float *patches,
                             ees_error *err) {
    ees_frame frame = {.kind = EES_FRAME_JPEG, .data = {data}, .bytes = n};
    unsigned n_warnings;
    *err = (ees_error){0};
    int rc = ees__ingest_run(ingest, &frame, patches, &n_warnings, err);
    assert_true(rc == 0 || rc == EES_EDAMAGED);
    return rc ? DAMAGED : n_warnings ? WARNED : OK;
}

static bool is_our_limit(const ees_error *err) {
    return strstr(err->message, "too many scans") || strstr(err->message, "in several scans need more than");
}

static void test_corpus(void **state) {
    static float used[3 * SIDE * SIDE], fresh[3 * SIDE * SIDE];
    struct ees__ingest *ingest = open_ingest();
    unsigned n_by_verdict[3] = {0}, n_limited = 0, n_wrong = 0;
    uint64_t slowest_ns = 0;
    for (size_t i = 0; i < n_files; i++) {
        size_t n;
        const uint8_t *data = read_file(files[i], &n);
        const char *name = strrchr(files[i], '/') + 1;
        ees_error err;
        memset(used, 0, sizeof used);
        memset(fresh, 0, sizeof fresh);
        uint64_t start = ees__now_ns();
        enum verdict ours = run_ours(ingest, data, n, used, &err);
        uint64_t took = ees__now_ns() - start;
        slowest_ns = took > slowest_ns ? took : slowest_ns;
        if (took > time_limit_ns) {
            print_message("%s: %.2f s\n", name, (double)took / 1e9);
            n_wrong++;
        }
        n_by_verdict[ours]++;
        if (ours == DAMAGED && is_our_limit(&err)) {
            print_message("%s: %s\n", name, err.message);
            n_limited++;
            continue;
        }
        enum verdict expected = judge_file(data, n);
        if (ours != expected) {
            print_message("%s: %s, libjpeg says %s (%s)\n", name, verdict_names[ours], verdict_names[expected],
                          err.message);
            n_wrong++;
        }
        struct ees__ingest *other = open_ingest();
        run_ours(other, data, n, fresh, &err);
        ees__ingest_close(other);
        if (ours != DAMAGED && memcmp(used, fresh, sizeof used) != 0) {
            print_message("%s: patches depend on the frames before\n", name);
            n_wrong++;
        }
    }
    ees__ingest_close(ingest);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    print_message("%zu files: %u ok, %u warned, %u damaged (%u by our limits); slowest %.3f s; %ld MiB at most\n",
                  n_files, n_by_verdict[OK], n_by_verdict[WARNED], n_by_verdict[DAMAGED], n_limited,
                  (double)slowest_ns / 1e9, usage.ru_maxrss >> 10);
    assert_int_equal(n_wrong, 0);
    assert_true(n_limited <= 10);
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
