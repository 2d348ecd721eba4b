/* SPDX-License-Identifier: MIT */
/* What ingest costs beside the JPEG decode it contains, one JSON line a case. Files named on the command line, or two
 * synthetic pictures. Best of the repetitions, which alternate: the machine's noise only ever adds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jpeglib.h>

#include "stages/ingest/ingest.h"
#include "tests/ingest/reference.h"

enum { SIDE = 224, PATCH = 16, N_RUNS = 100, MAX_ROWS = 4 };

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
enum { N_WAYS = sizeof ways / sizeof ways[0] };

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

/* CPU time of this thread: on a busy machine the clock on the wall shows the others. */
static double cpu_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static struct ees__ingest *open_way(const struct way *way) {
    struct ees__preproc preproc = ref_preproc();
    preproc.resize_h = way->resize_h;
    preproc.resize_w = way->resize_w;
    preproc.filter = way->filter;
    preproc.crop = preproc.crop_round_half_even = way->crop;
    return ees__ingest_open(&preproc, SIDE, SIDE, PATCH, false, way->decode, 0);
}

static double least(double a, double b) { return a < b ? a : b; }

static void bench_picture(const char *name, const void *data, size_t n) {
    static float patches[3 * SIDE * SIDE];
    const ees_frame frame = {.kind = EES_FRAME_JPEG, .data = {data}, .bytes = n};
    unsigned width = 0, height = 0, n_warnings;
    struct ees__ingest *ingest[N_WAYS];
    double decode_ms = 1e9, ingest_ms[N_WAYS];
    for (size_t w = 0; w < N_WAYS; w++) {
        ingest[w] = open_way(&ways[w]);
        ingest_ms[w] = 1e9;
    }
    for (int run = 0; run < N_RUNS; run++) {
        double start = cpu_ms();
        decode_only(data, n, &width, &height);
        decode_ms = least(decode_ms, cpu_ms() - start);
        for (size_t w = 0; w < N_WAYS; w++) {
            start = cpu_ms();
            if (!ingest[w] || ees__ingest_run(ingest[w], &frame, patches, &n_warnings, NULL) < 0)
                continue;
            ingest_ms[w] = least(ingest_ms[w], cpu_ms() - start);
        }
    }
    for (size_t w = 0; w < N_WAYS; w++) {
        printf("{\"picture\":\"%s\",\"size\":\"%ux%u\",\"bytes\":%zu,\"way\":\"%s\",\"ingest_ms\":%.3f,"
               "\"decode_only_ms\":%.3f}\n",
               name, width, height, n, ways[w].name, ingest_ms[w], decode_ms);
        ees__ingest_close(ingest[w]);
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
