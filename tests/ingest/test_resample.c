/* SPDX-License-Identifier: MIT */
/* The streaming resize against known answers from Pillow (spec 11), against the long way of reference.c, and the CPU
 * levels against each other, bit for bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "stages/ingest/resample.h"
#include "tests/ingest/reference.h"

/* Values come out as they are: 1 * level - 0. */
static const struct ees__preproc plain = {.rescale = 1.0, .std = {1.0, 1.0, 1.0}};

/* A grey picture through the resampler; patches of side 1 are the pixels themselves. */
static void resize_grey(const uint8_t *in, unsigned height, unsigned width, unsigned out_h, unsigned out_w,
                        enum ees__filter filter, int *out) {
    struct ees__resample r;
    assert_int_equal(ees__resample_init(&r, &plain, out_h, out_w, 1, NULL), 0);
    struct ees__axis_shape rows = {height, out_h, height, out_h, 0, filter};
    struct ees__axis_shape columns = {width, out_w, width, out_w, 0, filter};
    float *patches = malloc((size_t)out_h * out_w * 3 * sizeof *patches);
    uint8_t *row = calloc(1, (size_t)width * EES__PX_BYTES + EES__ROW_SLACK_BYTES);
    assert_int_equal(ees__resample_begin(&r, &rows, &columns, patches, NULL), 0);
    for (unsigned y = 0; y < height; y++) {
        for (unsigned x = 0; x < width; x++)
            memset(row + x * EES__PX_BYTES, in[y * width + x], EES__PX_BYTES);
        ees__resample_rows(&r, y, 1, row, 0);
    }
    assert_int_equal(r.n_done, out_h);
    for (unsigned i = 0; i < out_h * out_w; i++) {
        assert_true(patches[3 * i] == patches[3 * i + 1] && patches[3 * i] == patches[3 * i + 2]);
        out[i] = (int)patches[3 * i];
    }
    free(patches);
    free(row);
    ees__resample_fini(&r);
}

static void test_known_answers(void **state) {
    static const uint8_t in[20] = {0, 50, 100, 150, 200, 255, 0, 255, 0, 255, 10, 20, 30, 40, 50, 7, 7, 7, 7, 7};
    static const int shrunk[2][6] = {{74, 108, 146, 30, 36, 44}, {78, 108, 157, 27, 29, 35}};
    static const int enlarged_row1[2][7] = {{179, 85, 70, 209, 92, 128, 239}, {201, 81, 57, 228, 76, 121, 255}};
    for (int filter = 0; filter < 2; filter++) {
        int out[35];
        resize_grey(in, 4, 5, 2, 3, (enum ees__filter)filter, out);
        for (int i = 0; i < 6; i++)
            assert_int_equal(out[i], shrunk[filter][i]);
        resize_grey(in, 4, 5, 5, 7, (enum ees__filter)filter, out);
        for (int i = 0; i < 7; i++)
            assert_int_equal(out[7 + i], enlarged_row1[filter][i]);
    }
}

/* Sizes that meet each border: 1, one more than a vector, primes, much larger one way. */
static void test_random_sizes(void **state) {
    uint64_t seed = 1;
    for (int n = 0; n < 400; n++) {
        unsigned width = ref_between(&seed, 1, 100), height = ref_between(&seed, 1, 100);
        unsigned patch = ref_between(&seed, 1, 5);
        unsigned out_h = patch * ref_between(&seed, 1, 8), out_w = patch * ref_between(&seed, 1, 8);
        struct ees__preproc preproc = ref_preproc();
        preproc.filter = (enum ees__filter)ref_between(&seed, 0, 1);
        preproc.crop = ref_between(&seed, 0, 2) > 0;
        preproc.crop_round_half_even = ref_between(&seed, 0, 1);
        if (!preproc.crop) {
            preproc.resize_h = out_h;
            preproc.resize_w = out_w;
        } else if (ref_between(&seed, 0, 3)) {
            preproc.resize_h = ref_between(&seed, 1, 60);
            preproc.resize_w = ref_between(&seed, 0, 1) ? ref_between(&seed, 1, 60) : 0;
        } /* else: no resize, padding where the picture is too small */
        uint8_t *rgb = ref_picture(width, height, ref_random(&seed));
        size_t n_floats = (size_t)3 * out_h * out_w;
        float *expected = malloc(n_floats * sizeof *expected), *got = malloc(n_floats * sizeof *got);
        ref_ingest(&preproc, rgb, width, height, out_h, out_w, patch, expected);

        struct ees__ingest *ingest = ees__ingest_open(&preproc, out_h, out_w, patch, false, EES_DECODE_EXACT, 0);
        assert_non_null(ingest);
        ees_frame frame = {.kind = EES_FRAME_RGB24,
                           .width_px = width,
                           .height_px = height,
                           .data = {rgb},
                           .stride = {(size_t)width * 3}};
        unsigned n_warnings;
        ees_error err = {0};
        if (ees__ingest_run(ingest, &frame, got, &n_warnings, &err) < 0)
            fail_msg("%ux%u: %s", width, height, err.message);
        if (memcmp(expected, got, n_floats * sizeof *got) != 0)
            fail_msg("case %d: %ux%u to %ux%u (resize %u,%u crop %d) differs", n, width, height, out_w, out_h,
                     preproc.resize_w, preproc.resize_h, preproc.crop);
        ees__ingest_close(ingest);
        free(rgb);
        free(expected);
        free(got);
    }
}

/* Four different rows; the pixel behind each result must stay as it is. */
static void check_columns(const struct ees__resample_kernels *level, const struct ees__axis *axis, uint64_t *seed) {
    size_t row_bytes = (size_t)axis->shape.n_in * EES__PX_BYTES + EES__ROW_SLACK_BYTES;
    size_t out_bytes = (size_t)(axis->shape.n + 1) * EES__PX_BYTES;
    const uint8_t *row[EES__ROWS_AT_ONCE];
    uint8_t *expected[EES__ROWS_AT_ONCE], *got[EES__ROWS_AT_ONCE];
    for (int k = 0; k < EES__ROWS_AT_ONCE; k++) {
        uint8_t *bytes = malloc(row_bytes);
        for (size_t i = 0; i < row_bytes; i++)
            bytes[i] = (uint8_t)ref_random(seed);
        row[k] = bytes;
        expected[k] = calloc(1, out_bytes);
        got[k] = calloc(1, out_bytes);
    }
    ees__resample_portable.columns(axis, row, expected);
    level->columns(axis, row, got);
    for (int k = 0; k < EES__ROWS_AT_ONCE; k++) {
        for (size_t i = 0; i < out_bytes; i++)
            if (i % EES__PX_BYTES != 3 || i >= out_bytes - EES__PX_BYTES)
                assert_int_equal(expected[k][i], got[k][i]);
        free((void *)row[k]);
        free(expected[k]);
        free(got[k]);
    }
}

static void check_rows(const struct ees__resample_kernels *level, const struct ees__axis *axis, uint64_t *seed) {
    struct ees__window window = {.row_bytes = EES__STRIP_BYTES * ref_between(seed, 1, 3), .n_rows = axis->max_count};
    window.data = malloc(window.row_bytes * window.n_rows);
    for (size_t i = 0; i < window.row_bytes * window.n_rows; i++)
        window.data[i] = (uint8_t)ref_random(seed);
    uint8_t rows[2][3 * EES__STRIP_BYTES];
    for (unsigned i = 0; i < axis->shape.n; i++) {
        ees__resample_portable.rows(axis, &window, i, rows[0]);
        level->rows(axis, &window, i, rows[1]);
        assert_memory_equal(rows[0], rows[1], window.row_bytes);
    }
    free(window.data);
}

static void test_levels_agree(void **state) {
    if (ees__resample_level(0) == &ees__resample_portable) {
        print_message("no vector level on this CPU: skipped\n");
        skip();
    }
    uint64_t seed = 7;
    struct ees__axis axis = {0};
    for (unsigned n_in = 1; n_in <= 130; n_in++) {
        struct ees__axis_shape shape = {n_in,
                                        ref_between(&seed, 1, 60),
                                        n_in,
                                        ref_between(&seed, 1, 90),
                                        (int64_t)ref_between(&seed, 0, 40) - 20,
                                        (enum ees__filter)ref_between(&seed, 0, 1)};
        if (shape.offset >= (int64_t)shape.n_resized)
            shape.offset = 0;
        assert_int_equal(ees__axis_set(&axis, &shape, NULL), 0);
        const struct ees__resample_kernels *level;
        for (unsigned idx = 0; axis.max_count && (level = ees__resample_level(idx)) != &ees__resample_portable; idx++) {
            check_columns(level, &axis, &seed);
            check_rows(level, &axis, &seed);
        }
    }
    ees__axis_fini(&axis);
}

/* The largest picture JPEG can describe, both ways: sums stay in int32, tables stay small. */
static void test_extreme_sides(void **state) {
    const int64_t long_side = (int64_t)224 * EES__MAX_SIDE;
    const struct ees__axis_shape shapes[] = {
        {EES__MAX_SIDE, 224, EES__MAX_SIDE, 224, 0, EES__FILTER_BICUBIC},
        {EES__MAX_SIDE, 1, EES__MAX_SIDE, 1, 0, EES__FILTER_BICUBIC},
        {EES__MAX_SIDE, 224, EES__MAX_SIDE, long_side, long_side / 2 - 112, EES__FILTER_BICUBIC},
        {1, 224, 1, long_side, long_side / 2 - 112, EES__FILTER_BILINEAR},
    };
    uint8_t *row = malloc((size_t)EES__MAX_SIDE * EES__PX_BYTES + EES__ROW_SLACK_BYTES), out[224 * EES__PX_BYTES];
    memset(row, 255, (size_t)EES__MAX_SIDE * EES__PX_BYTES + EES__ROW_SLACK_BYTES);
    struct ees__axis axis = {0};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        assert_int_equal(ees__axis_set(&axis, &shapes[i], NULL), 0);
        assert_true((size_t)axis.shape.n * axis.stride <= 4u * EES__MAX_SIDE + 8 * 224);
        const uint8_t *const in[EES__ROWS_AT_ONCE] = {row, row, row, row};
        uint8_t *const same[EES__ROWS_AT_ONCE] = {out, out, out, out};
        const struct ees__resample_kernels *level;
        for (unsigned idx = 0; (level = ees__resample_level(idx)) != NULL; idx++) {
            level->columns(&axis, in, same);
            for (unsigned x = 0; x < axis.shape.n; x++) /* white stays white */
                assert_memory_equal(out + x * EES__PX_BYTES, "\xff\xff\xff", 3);
        }
    }
    ees__axis_fini(&axis);
    free(row);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_random_sizes),
        cmocka_unit_test(test_levels_agree),
        cmocka_unit_test(test_extreme_sides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
