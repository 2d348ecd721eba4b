/* SPDX-License-Identifier: MIT */
/* Each kind of frame through ees__ingest_run(): right values, clear refusals, and no trace of the frame before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>

#include <cmocka.h>
#include <jpeglib.h>

#include "stages/ingest/ingest.h"
#include "stages/ingest/yuv.h"
#include "tests/ingest/reference.h"

enum { SIDE = 32, PATCH = 8, N_FLOATS = 3 * SIDE * SIDE };

/* Shorter side to SIDE, centre crop: LGViT's way, on a small input. */
static struct ees__ingest *open_small(enum ees_decode decode, uint64_t max_pixels) {
    struct ees__preproc preproc = ref_preproc();
    preproc.resize_h = SIDE;
    preproc.crop = preproc.crop_round_half_even = true;
    struct ees__ingest *ingest = ees__ingest_open(&preproc, SIDE, SIDE, PATCH, false, decode, max_pixels);
    assert_non_null(ingest);
    return ingest;
}

static ees_frame jpeg_frame(const void *data, size_t n) {
    return (ees_frame){.kind = EES_FRAME_JPEG, .data = {data}, .bytes = n};
}

static void run_ok(struct ees__ingest *ingest, const ees_frame *frame, float *patches) {
    unsigned n_warnings;
    ees_error err = {0};
    if (ees__ingest_run(ingest, frame, patches, &n_warnings, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(n_warnings, 0);
}

static void run_fails(struct ees__ingest *ingest, const ees_frame *frame, int code, const char *part) {
    static float patches[N_FLOATS];
    unsigned n_warnings;
    ees_error err = {0};
    assert_int_equal(ees__ingest_run(ingest, frame, patches, &n_warnings, &err), code);
    assert_int_equal(err.code, code);
    if (!strstr(err.message, part))
        fail_msg("message '%s' does not say '%s'", err.message, part);
}

/* Whole-image decode of a JPEG to packed RGB by plain libjpeg. */
static uint8_t *decode_whole(const void *data, size_t n, unsigned *width, unsigned *height) {
    struct jpeg_decompress_struct cinfo;
    struct jpeg_error_mgr errors;
    cinfo.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&cinfo);
    jpeg_mem_src(&cinfo, data, n);
    jpeg_read_header(&cinfo, TRUE);
    cinfo.out_color_space = JCS_RGB;
    jpeg_start_decompress(&cinfo);
    *width = cinfo.output_width;
    *height = cinfo.output_height;
    uint8_t *rgb = malloc((size_t)*width * *height * 3);
    while (cinfo.output_scanline < cinfo.output_height) {
        JSAMPROW row = rgb + (size_t)cinfo.output_scanline * *width * 3;
        jpeg_read_scanlines(&cinfo, &row, 1);
    }
    jpeg_finish_decompress(&cinfo);
    jpeg_destroy_decompress(&cinfo);
    return rgb;
}

/* Any size, any sampling, sequential and progressive, one decoder for all of them. */
static void test_jpeg_equals_whole_decode(void **state) {
    struct ees__ingest *ingest = open_small(EES_DECODE_EXACT, 0);
    struct ees__preproc preproc = ref_preproc();
    preproc.resize_h = SIDE;
    preproc.crop = preproc.crop_round_half_even = true;
    static float expected[N_FLOATS], got[N_FLOATS];
    uint64_t seed = 3;
    for (int i = 0; i < 120; i++) {
        unsigned width = i < 20 ? 1u + (unsigned)i : ref_between(&seed, 1, 300), height = ref_between(&seed, 1, 200);
        uint8_t *rgb = ref_picture(width, height, ref_random(&seed));
        size_t n;
        void *jpeg = ref_encode(rgb, width, height, (int)ref_between(&seed, 20, 95), (int)ref_between(&seed, 1, 2),
                                ref_between(&seed, 0, 2) == 0, &n);
        unsigned w, h;
        uint8_t *decoded = decode_whole(jpeg, n, &w, &h);
        ref_ingest(&preproc, decoded, w, h, SIDE, SIDE, PATCH, expected);
        ees_frame frame = jpeg_frame(jpeg, n);
        run_ok(ingest, &frame, got);
        assert_memory_equal(expected, got, sizeof got);
        free(rgb);
        free(jpeg);
        free(decoded);
    }
    ees__ingest_close(ingest);
}

/* Two waves across whatever the size: nothing in it is finer than the model's pixels. */
static uint8_t *smooth_picture(unsigned width, unsigned height) {
    uint8_t *rgb = malloc((size_t)width * height * 3), *p = rgb;
    for (unsigned y = 0; y < height; y++)
        for (unsigned x = 0; x < width; x++)
            for (int c = 0; c < 3; c++)
                *p++ = (uint8_t)(128 + 60 * sin(12.0 * x / width + c) + 60 * cos(12.0 * y / height + 2 * c));
    return rgb;
}

/* Decoding at a smaller scale filters differently, but must not move or crop anything. */
static void test_fast_decode_is_close(void **state) {
    struct ees__ingest *exact = open_small(EES_DECODE_EXACT, 0), *fast = open_small(EES_DECODE_FAST, 0);
    static float a[N_FLOATS], b[N_FLOATS];
    uint64_t seed = 5;
    for (int i = 0; i < 30; i++) {
        unsigned width = ref_between(&seed, 1, 700), height = ref_between(&seed, 1, 700);
        uint8_t *rgb = smooth_picture(width, height);
        size_t n;
        void *jpeg = ref_encode(rgb, width, height, 90, 2, false, &n);
        ees_frame frame = jpeg_frame(jpeg, n);
        run_ok(exact, &frame, a);
        run_ok(fast, &frame, b);
        double sum = 0;
        for (int j = 0; j < N_FLOATS; j++)
            sum += fabs((double)a[j] - (double)b[j]);
        /* One level is 0.0175 in these units; moved by one pixel the pictures differ by 0.15 and more. */
        assert_true(sum / N_FLOATS < 0.02);
        if (width < 2 * SIDE || height < 2 * SIDE) /* no smaller scale covers the input: the same work */
            assert_memory_equal(a, b, sizeof a);
        free(rgb);
        free(jpeg);
    }
    ees__ingest_close(exact);
    ees__ingest_close(fast);
}

static void test_rgb24_with_stride(void **state) {
    struct ees__ingest *ingest = open_small(EES_DECODE_EXACT, 0);
    static float tight[N_FLOATS], wide[N_FLOATS];
    enum { W = 75, H = 50, STRIDE = W * 3 + 11 };
    uint8_t *rgb = ref_picture(W, H, 9), *padded = malloc(STRIDE * (H - 1) + W * 3); /* nothing behind the last pixel */
    for (int y = 0; y < H; y++)
        memcpy(padded + y * STRIDE, rgb + y * W * 3, W * 3);
    ees_frame frame = {.kind = EES_FRAME_RGB24, .width_px = W, .height_px = H, .data = {rgb}, .stride = {W * 3}};
    run_ok(ingest, &frame, tight);
    frame.data[0] = padded;
    frame.stride[0] = STRIDE;
    run_ok(ingest, &frame, wide);
    assert_memory_equal(tight, wide, sizeof wide);
    free(rgb);
    free(padded);
    ees__ingest_close(ingest);
}

/* The formula in real numbers, one pixel. */
static void yuv_formula(unsigned matrix, int full, int y, int u, int v, double rgb[3]) {
    static const double kr[] = {0.299, 0.2126, 0.2627}, kb[] = {0.114, 0.0722, 0.0593};
    double r = kr[matrix], b = kb[matrix], g = 1 - r - b;
    double luma = full ? y / 255.0 : (y - 16) / 219.0, range = full ? 255.0 : 224.0;
    double pb = (u - 128) / range, pr = (v - 128) / range;
    rgb[0] = luma + 2 * (1 - r) * pr;
    rgb[2] = luma + 2 * (1 - b) * pb;
    rgb[1] = (luma - r * rgb[0] - b * rgb[2]) / g;
    for (int c = 0; c < 3; c++)
        rgb[c] = 255 * (rgb[c] < 0 ? 0 : rgb[c] > 1 ? 1 : rgb[c]);
}

static void test_yuv_follows_formula(void **state) {
    ees__yuv_row_function *convert = ees__yuv_pick();
    uint8_t y[256], u[256], v[256], scratch[512], out[1024];
    double worst = 0;
    for (unsigned matrix = 0; matrix < 3; matrix++)
        for (int full = 0; full < 2; full++) {
            struct ees__yuv_coefs coefs;
            assert_int_equal(ees__yuv_coefs_set(&coefs, matrix, full, NULL), 0);
            uint64_t seed = 1;
            for (int n = 1; n <= 256; n++) {
                unsigned shift = ref_between(&seed, 0, 2);
                for (int i = 0; i < n; i++) {
                    y[i] = (uint8_t)ref_random(&seed);
                    u[i] = (uint8_t)ref_random(&seed);
                    v[i] = (uint8_t)ref_random(&seed);
                }
                memset(out, 0xee, sizeof out);
                convert(&coefs, y, u, v, shift, (unsigned)n, scratch, out);
                for (int i = 0; i < n; i++) {
                    double rgb[3];
                    yuv_formula(matrix, full, y[i], u[i >> shift], v[i >> shift], rgb);
                    for (int c = 0; c < 3; c++)
                        worst = fmax(worst, fabs(rgb[c] - out[4 * i + c]));
                }
                if (n < 256)
                    assert_int_equal(out[4 * n], 0xee);
            }
        }
    print_message("YUV to RGB: at most %.3f levels from the real-number formula\n", worst);
    assert_true(worst < 0.51); /* rounding, and 16-bit coefficients */
    struct ees__yuv_coefs coefs;
    assert_int_equal(ees__yuv_coefs_set(&coefs, 3, 0, NULL), EES_EINVAL);
}

/* Planes at odd sizes: a chroma row and column stand for the last odd pixel. */
static void test_yuv_frame(void **state) {
    static float expected[N_FLOATS], got[N_FLOATS];
    struct ees__ingest *ingest = open_small(EES_DECODE_EXACT, 0);
    enum { W = 101, H = 67 };
    uint64_t seed = 11;
    for (unsigned sx = 0; sx < 3; sx++)
        for (unsigned sy = 0; sy < 2; sy++) {
            unsigned cw = (W + (1u << sx) - 1) >> sx, ch = (H + (1u << sy) - 1) >> sy;
            uint8_t *planes[3] = {malloc(W * H), malloc(cw * ch), malloc(cw * ch)}, *rgb = malloc(W * H * 3);
            for (unsigned i = 0; i < W * H; i++)
                planes[0][i] = (uint8_t)ref_random(&seed);
            for (unsigned i = 0; i < cw * ch; i++) {
                planes[1][i] = (uint8_t)ref_random(&seed);
                planes[2][i] = (uint8_t)ref_random(&seed);
            }
            for (unsigned grey = 0; grey < 2; grey++) {
                struct ees__yuv_coefs coefs;
                assert_int_equal(ees__yuv_coefs_set(&coefs, EES_YUV_BT709, 0, NULL), 0);
                for (unsigned i = 0; i < W * H; i++) {
                    unsigned c = (i / W >> sy) * cw + (i % W >> sx);
                    uint8_t px[4], scratch[2];
                    ees__yuv_pick()(&coefs, planes[0] + i, grey ? NULL : planes[1] + c, grey ? NULL : planes[2] + c, 0,
                                    1, scratch, px);
                    memcpy(rgb + i * 3, px, 3);
                }
                ees_frame frame = {
                    .kind = EES_FRAME_RGB24, .width_px = W, .height_px = H, .data = {rgb}, .stride = {W * 3}};
                run_ok(ingest, &frame, expected);
                frame = (ees_frame){.kind = EES_FRAME_YUV,
                                    .width_px = W,
                                    .height_px = H,
                                    .stride = {W, cw, cw},
                                    .data = {planes[0], grey ? NULL : planes[1], grey ? NULL : planes[2]},
                                    .chroma_shift_x = (uint8_t)sx,
                                    .chroma_shift_y = (uint8_t)sy,
                                    .yuv_matrix = EES_YUV_BT709};
                run_ok(ingest, &frame, got);
                assert_memory_equal(expected, got, sizeof got);
            }
            for (int i = 0; i < 3; i++)
                free(planes[i]);
            free(rgb);
        }
    ees__ingest_close(ingest);
}

static void test_tensor(void **state) {
    struct ees__ingest *ingest = open_small(EES_DECODE_EXACT, 0);
    static float tensor[3][SIDE][SIDE], got[N_FLOATS];
    for (int i = 0; i < N_FLOATS; i++)
        (&tensor[0][0][0])[i] = (float)i;
    ees_frame frame = {.kind = EES_FRAME_TENSOR, .width_px = SIDE, .height_px = SIDE, .data = {tensor}};
    run_ok(ingest, &frame, got);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            for (int c = 0; c < 3; c++) {
                int n = y / PATCH * (SIDE / PATCH) + x / PATCH;
                int at = n * 3 * PATCH * PATCH + c * PATCH * PATCH + y % PATCH * PATCH + x % PATCH;
                assert_true(got[at] == tensor[c][y][x]);
            }
    frame.width_px = SIDE / 2;
    run_fails(ingest, &frame, EES_EINVAL, "(3, 32, 16)");
    ees__ingest_close(ingest);
}

/* Two bytes of the frame header, big endian, after its marker, length and precision: height, then width. */
static void set_claimed_size(uint8_t *jpeg, size_t n, unsigned width, unsigned height) {
    for (size_t i = 2; i + 9 < n; i++)
        if (jpeg[i] == 0xff && (jpeg[i + 1] == 0xc0 || jpeg[i + 1] == 0xc2)) {
            jpeg[i + 5] = (uint8_t)(height >> 8), jpeg[i + 6] = (uint8_t)height;
            jpeg[i + 7] = (uint8_t)(width >> 8), jpeg[i + 8] = (uint8_t)width;
            return;
        }
    fail_msg("no frame header");
}

static void test_bombs_are_refused(void **state) {
    struct ees__ingest *ingest = open_small(EES_DECODE_EXACT, 0);
    uint8_t *rgb = ref_picture(64, 64, 2);
    size_t n, n_progressive;
    uint8_t *jpeg = ref_encode(rgb, 64, 64, 80, 2, false, &n);
    uint8_t *progressive = ref_encode(rgb, 64, 64, 80, 1, true, &n_progressive);
    ees_frame frame = jpeg_frame(jpeg, n);
    static float before[N_FLOATS], after[N_FLOATS];
    run_ok(ingest, &frame, before);
    set_claimed_size(jpeg, n, 60000, 60000);
    run_fails(ingest, &frame, EES_EDAMAGED, "claims 60000x60000");
    set_claimed_size(jpeg, n, 0, 64);
    run_fails(ingest, &frame, EES_EDAMAGED, "JPEG:");
    ees_frame several_scans = jpeg_frame(progressive, n_progressive);
    set_claimed_size(progressive, n_progressive, 6300, 6300); /* 39.7 Mpx pass, 227 MiB of coefficients do not */
    run_fails(ingest, &several_scans, EES_EDAMAGED, "160 MiB");
    set_claimed_size(jpeg, n, 64, 64);
    run_ok(ingest, &frame, after); /* the decoder is none the worse */
    assert_memory_equal(before, after, sizeof after);
    ees__ingest_close(ingest);

    ingest = open_small(EES_DECODE_EXACT, 64 * 63);
    run_fails(ingest, &frame, EES_EDAMAGED, "limit is 4032");
    ees__ingest_close(ingest);
    free(rgb);
    free(jpeg);
    free(progressive);
}

/* A progressive file whose last scan is repeated: small, and as much work as its author likes. */
static void test_scan_bomb(void **state) {
    uint8_t *rgb = ref_picture(16, 16, 2);
    size_t n;
    uint8_t *jpeg = ref_encode(rgb, 16, 16, 50, 1, true, &n);
    size_t scan = 0;
    for (size_t i = 0; i + 1 < n; i++)
        if (jpeg[i] == 0xff && jpeg[i + 1] == 0xda)
            scan = i;
    assert_true(scan > 0);
    size_t scan_bytes = n - 2 - scan;
    for (int copies = 400; copies <= 600; copies += 200) {
        uint8_t *bomb = malloc(n + scan_bytes * (size_t)copies), *p = bomb + scan;
        memcpy(bomb, jpeg, scan);
        for (int i = 0; i < copies; i++, p += scan_bytes)
            memcpy(p, jpeg + scan, scan_bytes);
        *p++ = 0xff, *p++ = 0xd9;
        struct ees__ingest *ingest = open_small(EES_DECODE_EXACT, 0);
        ees_frame frame = jpeg_frame(bomb, (size_t)(p - bomb));
        static float patches[N_FLOATS];
        unsigned n_warnings;
        if (copies == 400) /* libjpeg warns of repeated scans and goes on */
            assert_int_equal(ees__ingest_run(ingest, &frame, patches, &n_warnings, NULL), 0);
        else
            run_fails(ingest, &frame, EES_EDAMAGED, "too many scans");
        ees__ingest_close(ingest);
        if (copies == 400) { /* few scans, but 16 visits a pixel of a 20x20 limit are used up */
            ingest = open_small(EES_DECODE_EXACT, 400);
            run_fails(ingest, &frame, EES_EDAMAGED, "too many scans");
            ees__ingest_close(ingest);
        }
        free(bomb);
    }
    free(rgb);
    free(jpeg);
}

static void test_truncated_is_used(void **state) {
    struct ees__ingest *ingest = open_small(EES_DECODE_EXACT, 0);
    uint8_t *rgb = ref_picture(200, 150, 4);
    size_t n;
    uint8_t *jpeg = ref_encode(rgb, 200, 150, 80, 2, false, &n);
    static float patches[N_FLOATS];
    unsigned n_warnings = 0;
    ees_frame frame = jpeg_frame(jpeg, n * 2 / 3);
    assert_int_equal(ees__ingest_run(ingest, &frame, patches, &n_warnings, NULL), 0);
    assert_true(n_warnings > 0);
    frame.bytes = n;
    run_ok(ingest, &frame, patches); /* and the count starts anew */
    frame.bytes = 100;
    run_fails(ingest, &frame, EES_EDAMAGED, "JPEG:");
    frame.bytes = 0;
    run_fails(ingest, &frame, EES_EDAMAGED, "no data");
    frame.bytes = n;
    jpeg[0] = 'P';
    run_fails(ingest, &frame, EES_EDAMAGED, "Not a JPEG");
    free(rgb);
    free(jpeg);
    ees__ingest_close(ingest);
}

/* An 8k line: one row, as wide as JPEG goes, and the same upright. */
static void test_thin_pictures(void **state) {
    struct ees__ingest *ingest = open_small(EES_DECODE_EXACT, 0);
    static const unsigned sizes[][2] = {{8192, 1}, {1, 8192}, {7680, 4320}, {65500, 1}, {1, 65500}};
    static float patches[N_FLOATS];
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned width = sizes[i][0], height = sizes[i][1];
        uint8_t *rgb = malloc((size_t)width * height * 3);
        memset(rgb, 200, (size_t)width * height * 3);
        size_t n;
        void *jpeg = ref_encode(rgb, width, height, 75, 2, i == 0, &n);
        ees_frame frame = jpeg_frame(jpeg, n);
        run_ok(ingest, &frame, patches);
        for (int j = 0; j < N_FLOATS; j++) /* one grey: 200 gives 1.31 to 1.67 by channel */
            assert_true(patches[j] > 1.29f && patches[j] < 1.71f);
        free(rgb);
        free(jpeg);
    }
    ees__ingest_close(ingest);
}

static void test_wrong_frames(void **state) {
    struct ees__ingest *ingest = open_small(EES_DECODE_EXACT, 0);
    uint8_t px[64 * 64 * 3] = {0};
    ees_frame frame = {.kind = EES_FRAME_RGB24, .width_px = 64, .height_px = 64, .data = {px}, .stride = {64 * 3}};
    frame.stride[0]--;
    run_fails(ingest, &frame, EES_EINVAL, "stride 191");
    frame.stride[0]++;
    frame.height_px = 0;
    run_fails(ingest, &frame, EES_EDAMAGED, "64x0");
    frame.height_px = 65536;
    run_fails(ingest, &frame, EES_EDAMAGED, "64x65536");
    frame.width_px = frame.height_px = 7000;
    run_fails(ingest, &frame, EES_EDAMAGED, "limit is 40000000");
    frame.width_px = frame.height_px = 64;
    frame.kind = EES_FRAME_YUV;
    frame.data[1] = frame.data[2] = px;
    frame.chroma_shift_x = frame.chroma_shift_y = 1;
    frame.stride[1] = 32;
    frame.stride[2] = 31;
    run_fails(ingest, &frame, EES_EINVAL, "chroma strides 32, 31");
    frame.stride[2] = 32;
    frame.chroma_shift_x = 3;
    run_fails(ingest, &frame, EES_EINVAL, "chroma shifts 3");
    frame.kind = (enum ees_frame_kind)17;
    run_fails(ingest, &frame, EES_EINVAL, "kind 17");
    ees__ingest_close(ingest);

    struct ees__preproc exact = ref_preproc(); /* neither resized nor cropped */
    ingest = ees__ingest_open(&exact, SIDE, SIDE, PATCH, false, EES_DECODE_EXACT, 0);
    assert_non_null(ingest);
    frame.kind = EES_FRAME_RGB24;
    run_fails(ingest, &frame, EES_EDAMAGED, "64x64");
    ees__ingest_close(ingest);
    ees__ingest_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_jpeg_equals_whole_decode),
        cmocka_unit_test(test_fast_decode_is_close),
        cmocka_unit_test(test_rgb24_with_stride),
        cmocka_unit_test(test_yuv_follows_formula),
        cmocka_unit_test(test_yuv_frame),
        cmocka_unit_test(test_tensor),
        cmocka_unit_test(test_bombs_are_refused),
        cmocka_unit_test(test_scan_bomb),
        cmocka_unit_test(test_truncated_is_used),
        cmocka_unit_test(test_thin_pictures),
        cmocka_unit_test(test_wrong_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
