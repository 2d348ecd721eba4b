/* SPDX-License-Identifier: MIT */
/* JPEGs to patches against Pillow and numpy: golden.bin, written by make_golden.py. Equal to the last bit, the decoded
 * and resized levels as well as the float32 values made of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "stages/ingest/ingest.h"

struct norm {
    double mean[3], std[3];
    float table[3][256];
};

enum { RESIZE_H, RESIZE_W, FILTER, CROP, HALF_EVEN, HEIGHT, WIDTH, PATCH, NORM, JPEG_BYTES, N_NUMBERS };

static void read_exactly(FILE *file, void *out, size_t n) { assert_int_equal(fread(out, 1, n, file), n); }

static void check_case(FILE *file, const struct norm norms[2], unsigned idx) {
    uint32_t k[N_NUMBERS];
    read_exactly(file, k, sizeof k);
    const struct norm *norm = &norms[k[NORM]];
    size_t n_levels = (size_t)k[HEIGHT] * k[WIDTH] * 3;
    void *jpeg = malloc(k[JPEG_BYTES]);
    uint8_t *levels = malloc(n_levels);
    float *patches = malloc(n_levels * sizeof *patches);
    read_exactly(file, jpeg, k[JPEG_BYTES]);
    read_exactly(file, levels, n_levels);

    struct ees__preproc preproc = {.resize_h = k[RESIZE_H],
                                   .resize_w = k[RESIZE_W],
                                   .crop = k[CROP],
                                   .filter = (enum ees__filter)k[FILTER],
                                   .crop_round_half_even = k[HALF_EVEN],
                                   .rescale = 1 / 255.0};
    memcpy(preproc.mean, norm->mean, sizeof preproc.mean);
    memcpy(preproc.std, norm->std, sizeof preproc.std);
    struct ees__ingest *ingest = ees__ingest_open(&preproc, k[HEIGHT], k[WIDTH], k[PATCH], false, EES_DECODE_EXACT, 0);
    assert_non_null(ingest);
    ees_frame frame = {.kind = EES_FRAME_JPEG, .data = {jpeg}, .bytes = k[JPEG_BYTES]};
    unsigned n_warnings;
    ees_error err = {0};
    if (ees__ingest_run(ingest, &frame, patches, &n_warnings, &err) < 0)
        fail_msg("case %u: %s", idx, err.message);
    assert_int_equal(n_warnings, 0);

    unsigned p = k[PATCH];
    for (unsigned y = 0; y < k[HEIGHT]; y++)
        for (unsigned x = 0; x < k[WIDTH]; x++)
            for (unsigned c = 0; c < 3; c++) {
                float expected = norm->table[c][levels[((size_t)y * k[WIDTH] + x) * 3 + c]];
                size_t n = (size_t)(y / p) * (k[WIDTH] / p) + x / p;
                float got = patches[n * 3 * p * p + c * p * p + y % p * p + x % p];
                if (memcmp(&expected, &got, sizeof got) != 0)
                    fail_msg("case %u: row %u column %u channel %u: %.9g, expected %.9g", idx, y, x, c, (double)got,
                             (double)expected);
            }
    ees__ingest_close(ingest);
    free(jpeg);
    free(levels);
    free(patches);
}

static void test_golden(void **state) {
    FILE *file = fopen(EES_PROJECT_DIR "/tests/ingest/golden.bin", "rb");
    assert_non_null(file);
    char magic[8];
    static struct norm norms[2];
    uint32_t n_cases;
    read_exactly(file, magic, sizeof magic);
    assert_memory_equal(magic, "EESGOLD1", sizeof magic);
    for (int i = 0; i < 2; i++) {
        read_exactly(file, norms[i].mean, sizeof norms[i].mean);
        read_exactly(file, norms[i].std, sizeof norms[i].std);
        read_exactly(file, norms[i].table, sizeof norms[i].table);
    }
    read_exactly(file, &n_cases, sizeof n_cases);
    assert_true(n_cases >= 12);
    for (unsigned i = 0; i < n_cases; i++)
        check_case(file, norms, i);
    assert_int_equal(fgetc(file), EOF);
    fclose(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
