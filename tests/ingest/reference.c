/* SPDX-License-Identifier: MIT */
#include "tests/ingest/reference.h"

#include <math.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

uint64_t ref_random(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

unsigned ref_between(uint64_t *state, unsigned lo, unsigned hi) {
    return lo + (unsigned)(ref_random(state) % (hi - lo + 1));
}

uint8_t *ref_picture(unsigned width, unsigned height, uint64_t seed) {
    uint8_t *rgb = malloc((size_t)width * height * 3), *p = rgb;
    double fx = 0.02 + (double)(seed % 7) * 0.03, fy = 0.015 + (double)(seed % 5) * 0.04;
    for (unsigned y = 0; y < height; y++)
        for (unsigned x = 0; x < width; x++)
            for (int c = 0; c < 3; c++) {
                double v = 128 + 80 * sin(fx * x + c) + 50 * cos(fy * y * (c + 1)) + ((x / 9 + y / 7) % 2 ? 30 : -30);
                v += (double)(ref_random(&seed) % 31) - 15;
                *p++ = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
            }
    return rgb;
}

void *ref_encode(const uint8_t *rgb, unsigned width, unsigned height, int quality, int sampling, bool progressive,
                 size_t *n_bytes) {
    struct jpeg_compress_struct cinfo;
    struct jpeg_error_mgr errors;
    unsigned char *out = NULL;
    unsigned long n = 0;
    cinfo.err = jpeg_std_error(&errors);
    jpeg_create_compress(&cinfo);
    jpeg_mem_dest(&cinfo, &out, &n);
    cinfo.image_width = width;
    cinfo.image_height = height;
    cinfo.input_components = 3;
    cinfo.in_color_space = JCS_RGB;
    jpeg_set_defaults(&cinfo);
    jpeg_set_quality(&cinfo, quality, TRUE);
    cinfo.comp_info[0].h_samp_factor = cinfo.comp_info[0].v_samp_factor = sampling;
    if (progressive)
        jpeg_simple_progression(&cinfo);
    jpeg_start_compress(&cinfo, TRUE);
    while (cinfo.next_scanline < height) {
        JSAMPROW row = (JSAMPROW)rgb + (size_t)cinfo.next_scanline * width * 3;
        jpeg_write_scanlines(&cinfo, &row, 1);
    }
    jpeg_finish_compress(&cinfo);
    jpeg_destroy_compress(&cinfo);
    *n_bytes = n;
    return out;
}

static double filter_at(enum ees__filter filter, double t) {
    t = fabs(t);
    if (filter == EES__FILTER_BILINEAR)
        return t < 1 ? 1 - t : 0;
    if (t < 1)
        return (1.5 * t - 2.5) * t * t + 1;
    return t < 2 ? ((-0.5 * t + 2.5) * t - 4) * t + 2 : 0;
}

/* One line of `n_in` samples, `step` bytes apart, to `n_out` samples (spec 2.2). */
static void resize_line(const uint8_t *in, unsigned n_in, uint8_t *out, unsigned n_out, size_t step,
                        enum ees__filter filter) {
    double scale = (double)n_in / n_out, fs = scale > 1 ? scale : 1;
    double support = fs * (filter == EES__FILTER_BILINEAR ? 1 : 2);
    for (unsigned x = 0; x < n_out; x++) {
        double centre = (x + 0.5) * scale, sum = 0;
        long lo = (long)(centre - support + 0.5), hi = (long)(centre + support + 0.5);
        lo = lo < 0 ? 0 : lo;
        hi = hi > (long)n_in ? (long)n_in : hi;
        for (long i = lo; i < hi; i++)
            sum += filter_at(filter, (i - centre + 0.5) / fs);
        int64_t value = 1 << 21;
        for (long i = lo; i < hi; i++) {
            double w = filter_at(filter, (i - centre + 0.5) / fs) / sum * (1 << 22);
            value += (int64_t)(w < 0 ? w - 0.5 : w + 0.5) * in[(size_t)i * step];
        }
        value >>= 22;
        out[x * step] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
    }
}

uint8_t *ref_resize(const uint8_t *rgb, unsigned width, unsigned height, unsigned out_width, unsigned out_height,
                    enum ees__filter filter) {
    uint8_t *wide = malloc((size_t)out_width * height * 3), *out = malloc((size_t)out_width * out_height * 3);
    uint8_t *column_in = malloc(height), *column_out = malloc(out_height);
    uint8_t *line_in = malloc(width), *line_out = malloc(out_width);
    for (unsigned y = 0; y < height; y++)
        for (int c = 0; c < 3; c++) {
            for (unsigned x = 0; x < width; x++)
                line_in[x] = rgb[((size_t)y * width + x) * 3 + c];
            resize_line(line_in, width, line_out, out_width, 1, filter);
            for (unsigned x = 0; x < out_width; x++)
                wide[((size_t)y * out_width + x) * 3 + c] = line_out[x];
        }
    for (unsigned x = 0; x < out_width; x++)
        for (int c = 0; c < 3; c++) {
            for (unsigned y = 0; y < height; y++)
                column_in[y] = wide[((size_t)y * out_width + x) * 3 + c];
            resize_line(column_in, height, column_out, out_height, 1, filter);
            for (unsigned y = 0; y < out_height; y++)
                out[((size_t)y * out_width + x) * 3 + c] = column_out[y];
        }
    free(wide);
    free(column_in);
    free(column_out);
    free(line_in);
    free(line_out);
    return out;
}

/* First sample of the crop; negative: padding. */
static long crop_start(long n, long crop, bool half_even) {
    double half = (double)(n - crop) / 2;
    if (n < crop)
        return half_even ? -((crop - n) / 2) : (long)floor(half);
    return half_even ? (long)nearbyint(half) : (long)floor(half);
}

void ref_ingest(const struct ees__preproc *preproc, const uint8_t *rgb, unsigned width, unsigned height,
                unsigned model_height, unsigned model_width, unsigned patch, float *patches) {
    unsigned w = width, h = height;
    if (preproc->resize_h && preproc->resize_w)
        h = preproc->resize_h, w = preproc->resize_w;
    else if (preproc->resize_h && height <= width)
        h = preproc->resize_h, w = (unsigned)((uint64_t)preproc->resize_h * width / height);
    else if (preproc->resize_h)
        w = preproc->resize_h, h = (unsigned)((uint64_t)preproc->resize_h * height / width);
    uint8_t *resized = ref_resize(rgb, width, height, w, h, preproc->filter);
    long top = crop_start(h, model_height, preproc->crop_round_half_even);
    long left = crop_start(w, model_width, preproc->crop_round_half_even);
    for (unsigned y = 0; y < model_height; y++)
        for (unsigned x = 0; x < model_width; x++)
            for (int c = 0; c < 3; c++) {
                long sy = top + y, sx = left + x;
                bool inside = sy >= 0 && sy < (long)h && sx >= 0 && sx < (long)w;
                uint8_t level = inside ? resized[((size_t)sy * w + sx) * 3 + c] : 0;
                float value = (float)level / 255.0f; /* ToTensor, then Normalize */
                value -= (float)preproc->mean[c];
                value /= (float)preproc->std[c];
                size_t n = (size_t)(y / patch) * (model_width / patch) + x / patch;
                patches[n * 3 * patch * patch + c * patch * patch + y % patch * patch + x % patch] = value;
            }
    free(resized);
}

struct ees__preproc ref_preproc(void) {
    return (struct ees__preproc){.rescale = 1 / 255.0, .mean = {0.485, 0.456, 0.406}, .std = {0.229, 0.224, 0.225}};
}
