/* SPDX-License-Identifier: MIT */
/* What ingest costs beside the JPEG decode it contains, one JSON line a case. Files named on the command line, or two
 * synthetic pictures. Best of the repetitions: the machine's noise only ever adds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include "common/clock.h"
#include "stages/ingest/ingest.h"
#include "tests/ingest/reference.h"

enum { SIDE = 224, PATCH = 16, N_RUNS = 40, MAX_ROWS = 4 };

struct way {
    const char *name;
    unsigned resize_h, resize_w;
    enum ees__filter filter;
    bool crop;
    enum ees_decode decode;
};

static const struct way ways[] = {
    {"shorter side 224, bilinear, crop", 224, 0, EES__FILTER_BILINEAR, true, EES_DECODE_EXACT},
    {"shorter side 256, bicubic, crop", 256, 0, EES__FILTER_BICUBIC, true, EES_DECODE_EXACT},
    {"224x224, bilinear", 224, 224, EES__FILTER_BILINEAR, false, EES_DECODE_EXACT},
    {"shorter side 224, bilinear, crop, fast decode", 224, 0, EES__FILTER_BILINEAR, true, EES_DECODE_FAST},
};

/* libjpeg alone, all rows, the colour layout ingest asks for. */
static void decode_only(const void *data, size_t n, unsigned *width, unsigned *height) {
    struct jpeg_decompress_struct cinfo;
    struct jpeg_error_mgr errors;
    cinfo.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&cinfo);
    jpeg_mem_src(&cinfo, data, n);
    jpeg_read_header(&cinfo, TRUE);
    cinfo.out_color_space = JCS_EXT_RGBX;
    jpeg_start_decompress(&cinfo);
    *width = cinfo.output_width;
    *height = cinfo.output_height;
    unsigned char *rows = malloc((size_t)*width * 4 * MAX_ROWS);
    JSAMPROW pointers[MAX_ROWS];
    for (int i = 0; i < MAX_ROWS; i++)
        pointers[i] = rows + (size_t)i * *width * 4;
    while (cinfo.output_scanline < cinfo.output_height)
        jpeg_read_scanlines(&cinfo, pointers, MAX_ROWS);
    jpeg_finish_decompress(&cinfo);
    jpeg_destroy_decompress(&cinfo);
    free(rows);
}

static void bench_picture(const char *name, const void *data, size_t n) {
    static float patches[3 * SIDE * SIDE];
    unsigned width = 0, height = 0, n_warnings;
    double decode_ms = 1e9;
    for (int i = 0; i < N_RUNS; i++) {
        uint64_t start = ees__now_ns();
        decode_only(data, n, &width, &height);
        double ms = (double)(ees__now_ns() - start) / 1e6;
        decode_ms = ms < decode_ms ? ms : decode_ms;
    }
    for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
        struct ees__preproc preproc = ref_preproc();
        preproc.resize_h = ways[w].resize_h;
        preproc.resize_w = ways[w].resize_w;
        preproc.filter = ways[w].filter;
        preproc.crop = preproc.crop_round_half_even = ways[w].crop;
        struct ees__ingest *ingest = ees__ingest_open(&preproc, SIDE, SIDE, PATCH, false, ways[w].decode, 0);
        ees_frame frame = {.kind = EES_FRAME_JPEG, .data = {data}, .bytes = n};
        double best = 1e9;
        for (int i = 0; ingest && i < N_RUNS; i++) {
            uint64_t start = ees__now_ns();
            if (ees__ingest_run(ingest, &frame, patches, &n_warnings, NULL) < 0)
                break;
            double ms = (double)(ees__now_ns() - start) / 1e6;
            best = ms < best ? ms : best;
        }
        printf("{\"picture\":\"%s\",\"size\":\"%ux%u\",\"bytes\":%zu,\"way\":\"%s\",\"ingest_ms\":%.3f,"
               "\"decode_only_ms\":%.3f}\n",
               name, width, height, n, ways[w].name, best, decode_ms);
        ees__ingest_close(ingest);
    }
}

static int bench_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return 1;
    }
    static char data[16 << 20];
    size_t n = fread(data, 1, sizeof data, file);
    fclose(file);
    bench_picture(path, data, n);
    return 0;
}

static void bench_synthetic(unsigned width, unsigned height) {
    uint8_t *rgb = ref_picture(width, height, 1);
    size_t n;
    void *jpeg = ref_encode(rgb, width, height, 75, 2, false, &n);
    bench_picture("synthetic", jpeg, n);
    free(rgb);
    free(jpeg);
}

int main(int argc, char **argv) {
    int rc = 0;
    for (int i = 1; i < argc; i++)
        rc |= bench_file(argv[i]);
    if (argc < 2) {
        bench_synthetic(640, 480);
        bench_synthetic(1920, 1080);
    }
    return rc;
}
