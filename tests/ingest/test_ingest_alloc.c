/* SPDX-License-Identifier: MIT */
/* After the first frame of a size nothing is allocated, inside libjpeg neither: the C library's functions are replaced
 * by counting ones for the whole process. And with memory running out at any point: an error, no crash, no leak. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>

#include <cmocka.h>

#include "stages/ingest/ingest.h"
#include "tests/ingest/reference.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
int main(void) {
    printf("skipped: the sanitizer owns malloc\n");
    return 77;
}
#else

/* glibc's own names of the real functions. */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t alignment, size_t n);
void __libc_free(void *p);

static long n_calls, n_alive, fails_from = -1; /* calls counted from 0; -1: none fails */

static bool next_call_fails(void) { return n_calls++ >= fails_from && fails_from >= 0; }

static void *counted(void *p) {
    n_alive += p != NULL;
    return p;
}

void *malloc(size_t n) { return next_call_fails() ? NULL : counted(__libc_malloc(n)); }
void *calloc(size_t n, size_t size) { return next_call_fails() ? NULL : counted(__libc_calloc(n, size)); }
void *aligned_alloc(size_t alignment, size_t n) {
    return next_call_fails() ? NULL : counted(__libc_memalign(alignment, n));
}
void *realloc(void *p, size_t n) {
    if (next_call_fails())
        return NULL;
    n_alive -= p != NULL;
    return counted(__libc_realloc(p, n));
}
void free(void *p) {
    n_alive -= p != NULL;
    __libc_free(p);
}

enum { SIDE = 48, PATCH = 8 };
static float patches[3 * SIDE * SIDE];

static struct ees__ingest *open_ingest(void) {
    struct ees__preproc preproc = ref_preproc();
    preproc.resize_h = SIDE;
    preproc.crop = true;
    return ees__ingest_open(&preproc, SIDE, SIDE, PATCH, false, EES_DECODE_EXACT, 0);
}

/* One frame of each kind that decodes something. */
struct frames {
    ees_frame frame[4];
    void *owned[4];
};

static void make_frames(struct frames *frames) {
    enum { W = 200, H = 150 };
    uint8_t *rgb = ref_picture(W, H, 1);
    for (int i = 0; i < 2; i++) {
        size_t n;
        frames->owned[i] = ref_encode(rgb, W, H, 80, 2, i == 1, &n);
        frames->frame[i] = (ees_frame){.kind = EES_FRAME_JPEG, .data = {frames->owned[i]}, .bytes = n};
    }
    frames->owned[2] = rgb;
    frames->frame[2] =
        (ees_frame){.kind = EES_FRAME_RGB24, .width_px = W, .height_px = H, .data = {rgb}, .stride = {W * 3}};
    frames->owned[3] = NULL;
    frames->frame[3] = (ees_frame){.kind = EES_FRAME_YUV,
                                   .width_px = W,
                                   .height_px = H,
                                   .data = {rgb, rgb, rgb},
                                   .stride = {W, W / 2, W / 2},
                                   .chroma_shift_x = 1,
                                   .chroma_shift_y = 1};
}

static void free_frames(struct frames *frames) {
    for (int i = 0; i < 4; i++)
        free(frames->owned[i]);
}

static void test_steady_state_allocates_nothing(void **state) {
    struct frames frames;
    make_frames(&frames);
    struct ees__ingest *ingest = open_ingest();
    assert_non_null(ingest);
    unsigned n_warnings;
    for (int i = 0; i < 4; i++)
        assert_int_equal(ees__ingest_run(ingest, &frames.frame[i], patches, &n_warnings, NULL), 0);
    long before = n_calls;
    for (int round = 0; round < 20; round++)
        for (int i = 0; i < 4; i++)
            assert_int_equal(ees__ingest_run(ingest, &frames.frame[i], patches, &n_warnings, NULL), 0);
    assert_int_equal(n_calls, before);
    ees__ingest_close(ingest);
    free_frames(&frames);
}

/* Every allocation of open and of the first frames, failing alone and for good. */
static void test_out_of_memory(void **state) {
    struct frames frames;
    make_frames(&frames);
    long baseline = n_alive;
    int n_points = 0;
    for (bool survived = false; !survived; n_points++) {
        ees_error err = {0};
        int rc = 0;
        n_calls = 0;
        fails_from = n_points;
        struct ees__ingest *ingest = open_ingest();
        for (int i = 0; i < 4 && ingest && rc == 0; i++) {
            unsigned n_warnings;
            rc = ees__ingest_run(ingest, &frames.frame[i], patches, &n_warnings, &err);
        }
        survived = n_calls <= fails_from;
        fails_from = -1;
        if (ingest && rc < 0) {
            assert_int_equal(rc, EES_ENOMEM);
            assert_non_null(strstr(err.message, "memory"));
            unsigned n_warnings; /* with memory again, the same object works */
            for (int i = 0; i < 4; i++)
                assert_int_equal(ees__ingest_run(ingest, &frames.frame[i], patches, &n_warnings, NULL), 0);
        }
        ees__ingest_close(ingest);
        assert_int_equal(n_alive, baseline);
    }
    print_message("%d allocations, each failed once\n", n_points - 1);
    assert_true(n_points > 10);
    free_frames(&frames);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steady_state_allocates_nothing),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
