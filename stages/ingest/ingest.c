/* SPDX-License-Identifier: MIT */
/* Frames of any kind to patches: works out how a picture of this size maps to the model's input, and feeds the
 * resampler the rows it needs. One object a worker; its buffers grow to the largest frame seen and are then reused. */
#include "stages/ingest/ingest.h"

#include <string.h>

#include "common/fail.h"
#include "common/mem.h"
#include "stages/ingest/jpeg.h"
#include "stages/ingest/resample.h"
#include "stages/ingest/yuv.h"

enum { DEFAULT_MAX_PIXELS = 40000000 };
_Static_assert((int)EES__ROWS_AT_ONCE <= (int)EES__JPEG_MAX_ROWS, "rows are resized as they are read");

struct ees__ingest {
    struct ees__preproc preproc;
    unsigned height, width; /* of the model's input; the resampler makes what its patches cover of it */
    enum ees_decode decode;
    uint64_t max_pixels;
    struct ees__resample resample;
    struct ees__jpeg *jpeg;
    ees__yuv_row_function *yuv_row;
    bool has_gaps;   /* patches that the picture covers in part */
    uint8_t *buffer; /* rows on their way into the resampler */
    size_t buffer_bytes;
};

struct ees__ingest *ees__ingest_open(const struct ees__preproc *preproc, unsigned height, unsigned width,
                                     unsigned patch, bool pads, enum ees_decode decode, uint64_t max_pixels) {
    struct ees__ingest *ingest = ees__calloc_aligned(1, sizeof *ingest);
    if (!ingest)
        return NULL;
    ingest->preproc = *preproc;
    ingest->height = height;
    ingest->width = width;
    ingest->decode = decode;
    ingest->max_pixels = max_pixels ? max_pixels : DEFAULT_MAX_PIXELS;
    ingest->yuv_row = ees__yuv_pick();
    ingest->jpeg = ees__jpeg_open(ingest->max_pixels);
    ingest->has_gaps = pads && (height % patch || width % patch);
    if (!pads) {
        height -= height % patch;
        width -= width % patch;
    }
    if (ees__resample_init(&ingest->resample, preproc, height, width, patch, NULL) < 0 || !ingest->jpeg) {
        ees__ingest_close(ingest);
        return NULL;
    }
    return ingest;
}

void ees__ingest_close(struct ees__ingest *ingest) {
    if (!ingest)
        return;
    ees__resample_fini(&ingest->resample);
    ees__jpeg_close(ingest->jpeg);
    ees__free(ingest->buffer);
    ees__free(ingest);
}

/* ---- Geometry ------------------------------------------------------------------------------------------ */

/* Where a crop of `crop` samples starts in a line of n; negative: that many samples of padding come first. Both
 * families pad a line that is too short, and put an odd sample of the padding on different sides. */
static int64_t crop_offset(uint64_t n, unsigned crop, bool half_even) {
    if (n < crop) {
        unsigned missing = crop - (unsigned)n;
        return -(int64_t)(half_even ? missing / 2 : (missing + 1) / 2);
    }
    uint64_t over = n - crop, half = over / 2;
    if (half_even && over % 2 && half % 2)
        half++;
    return (int64_t)half;
}

/* Size a picture of (height, width) is resized to (spec 2.1). */
static void resized_size(const struct ees__preproc *preproc, unsigned height, unsigned width, uint64_t *resized_h,
                         uint64_t *resized_w) {
    *resized_h = height;
    *resized_w = width;
    if (!preproc->resize_h)
        return;
    *resized_h = preproc->resize_h;
    *resized_w = preproc->resize_w;
    if (preproc->resize_w)
        return;
    if (height <= width)
        *resized_w = (uint64_t)preproc->resize_h * width / height;
    else {
        *resized_w = preproc->resize_h;
        *resized_h = (uint64_t)preproc->resize_h * height / width;
    }
}

/* Without a crop the resize gives the model's input; a picture that is not resized either has to have its size. */
static int check_uncropped(const struct ees__ingest *ingest, uint64_t resized_h, uint64_t resized_w, ees_error *err) {
    if (ingest->preproc.crop || (resized_h == ingest->height && resized_w == ingest->width))
        return 0;
    return EES_FAIL(err, EES_EDAMAGED, "picture becomes %llux%llu pixels, the model takes %ux%u and crops nothing",
                    (unsigned long long)resized_w, (unsigned long long)resized_h, ingest->width, ingest->height);
}

static int check_size(const struct ees__ingest *ingest, unsigned height, unsigned width, ees_error *err) {
    if (height == 0 || width == 0 || height > EES__MAX_SIDE || width > EES__MAX_SIDE)
        return EES_FAIL(err, EES_EDAMAGED, "picture of %ux%u pixels, each side must be 1 to %d", width, height,
                        EES__MAX_SIDE);
    if ((uint64_t)height * width > ingest->max_pixels)
        return EES_FAIL(err, EES_EDAMAGED, "picture of %ux%u pixels, the limit is %llu", width, height,
                        (unsigned long long)ingest->max_pixels);
    return 0;
}

/* Start the resampler on rows of a picture of (height, width), decoded at `scale` eighths: `n_rows` of `n_columns`. */
static int begin_rows(struct ees__ingest *ingest, unsigned height, unsigned width, unsigned scale, unsigned n_rows,
                      unsigned n_columns, float *patches, ees_error *err) {
    const struct ees__preproc *preproc = &ingest->preproc;
    const bool half_even = preproc->crop_round_half_even;
    uint64_t resized_h, resized_w;
    resized_size(preproc, height, width, &resized_h, &resized_w);
    EES_TRY(check_uncropped(ingest, resized_h, resized_w, err));
    struct ees__axis_shape rows = {
        .n_in = n_rows,
        .n = ingest->resample.height,
        .length = (double)height * scale / EES__JPEG_SCALE_ONE,
        .n_resized = resized_h,
        .offset = crop_offset(resized_h, ingest->height, half_even),
        .filter = preproc->filter,
    };
    struct ees__axis_shape columns = {
        .n_in = n_columns,
        .n = ingest->resample.width,
        .length = (double)width * scale / EES__JPEG_SCALE_ONE,
        .n_resized = resized_w,
        .offset = crop_offset(resized_w, ingest->width, half_even),
        .filter = preproc->filter,
    };
    return ees__resample_begin(&ingest->resample, &rows, &columns, patches, err);
}

/* The same for a picture that comes as it is. */
static int begin_frame(struct ees__ingest *ingest, const ees_frame *frame, float *patches, ees_error *err) {
    return begin_rows(ingest, frame->height_px, frame->width_px, EES__JPEG_SCALE_ONE, frame->height_px, frame->width_px,
                      patches, err);
}

static int reserve_buffer(struct ees__ingest *ingest, size_t bytes, ees_error *err) {
    if (bytes <= ingest->buffer_bytes)
        return 0;
    ees__free(ingest->buffer);
    ingest->buffer = ees__calloc_aligned(1, bytes);
    ingest->buffer_bytes = ingest->buffer ? bytes : 0;
    return ingest->buffer ? 0 : EES_FAIL(err, EES_ENOMEM, "no memory for %zu bytes of pixels", bytes);
}

/* Bytes of a row of pixels with the slack the resampler wants; width is at most EES__MAX_SIDE. */
static size_t row_bytes(unsigned width) {
    return ees__round_up((size_t)width * EES__PX_BYTES + EES__ROW_SLACK_BYTES, EES_CACHE_LINE);
}

/* ---- Frame kinds --------------------------------------------------------------------------------------- */

/* Eighths to decode at: 8, or the least that leaves no fewer pixels than the resize asks for. Only powers of two:
 * libjpeg-turbo has no vector code for the others, and 5/8 takes longer than the whole. */
static unsigned pick_scale(const struct ees__ingest *ingest, unsigned height, unsigned width) {
    if (ingest->decode != EES_DECODE_FAST || !ingest->preproc.resize_h)
        return EES__JPEG_SCALE_ONE;
    uint64_t resized_h, resized_w;
    resized_size(&ingest->preproc, height, width, &resized_h, &resized_w);
    unsigned scale = 1;
    while (scale < EES__JPEG_SCALE_ONE && ((uint64_t)height * scale < resized_h * EES__JPEG_SCALE_ONE ||
                                           (uint64_t)width * scale < resized_w * EES__JPEG_SCALE_ONE))
        scale *= 2;
    return scale;
}

static int feed_jpeg_rows(struct ees__ingest *ingest, unsigned n_rows, size_t stride, ees_error *err) {
    const struct ees__axis *rows = &ingest->resample.rows, *columns = &ingest->resample.columns;
    uint8_t *pixels = ingest->buffer + EES__JPEG_ROW_SKEW;
    unsigned start; /* pixel the rows begin at */
    EES_TRY(ees__jpeg_crop(ingest->jpeg, columns->first_in, columns->end_in, &start, err));
    for (unsigned y = 0; y < n_rows;) {
        int n = ees__jpeg_read(ingest->jpeg, pixels + (size_t)start * EES__PX_BYTES, EES__ROWS_AT_ONCE, stride, err);
        if (n < 0)
            return n;
        unsigned first = y > rows->first_in ? y : rows->first_in;
        unsigned end = y + (unsigned)n < rows->end_in ? y + (unsigned)n : rows->end_in;
        if (first < end)
            ees__resample_rows(&ingest->resample, first, end - first, pixels + (first - y) * stride, stride);
        y += (unsigned)n;
    }
    return 0;
}

static int run_jpeg(struct ees__ingest *ingest, const ees_frame *frame, float *patches, unsigned *n_warnings,
                    ees_error *err) {
    unsigned width, height, n_columns, n_rows;
    EES_TRY(ees__jpeg_begin(ingest->jpeg, frame->data[0], frame->bytes, &width, &height, err));
    unsigned scale = pick_scale(ingest, height, width);
    EES_TRY(ees__jpeg_start(ingest->jpeg, scale, &n_columns, &n_rows, err));
    size_t stride = row_bytes(n_columns);
    EES_TRY(reserve_buffer(ingest, EES__JPEG_ROW_SKEW + stride * EES__ROWS_AT_ONCE, err));
    EES_TRY(begin_rows(ingest, height, width, scale, n_rows, n_columns, patches, err));
    EES_TRY(feed_jpeg_rows(ingest, n_rows, stride, err));
    return ees__jpeg_finish(ingest->jpeg, n_warnings, err);
}

/* Only `columns` of a row are looked at. */
static void widen_rgb24(const uint8_t *rgb, unsigned first, unsigned end, uint8_t *row) {
    for (unsigned x = first; x + 1 < end; x++)
        memcpy(row + (size_t)x * EES__PX_BYTES, rgb + (size_t)x * 3, 4); /* the fourth is of no meaning */
    memcpy(row + (size_t)(end - 1) * EES__PX_BYTES, rgb + (size_t)(end - 1) * 3, 3);
}

static int run_rgb24(struct ees__ingest *ingest, const ees_frame *frame, float *patches, ees_error *err) {
    if (!frame->data[0] || frame->stride[0] < (size_t)frame->width_px * 3)
        return EES_FAIL(err, EES_EINVAL, "RGB24 frame: stride %zu is less than a row of %u pixels", frame->stride[0],
                        frame->width_px);
    const size_t stride = row_bytes(frame->width_px);
    EES_TRY(reserve_buffer(ingest, stride * EES__ROWS_AT_ONCE, err));
    EES_TRY(begin_frame(ingest, frame, patches, err));
    const struct ees__axis *rows = &ingest->resample.rows, *columns = &ingest->resample.columns;
    for (unsigned y = rows->first_in, n; y < rows->end_in; y += n) {
        for (n = 0; n < EES__ROWS_AT_ONCE && y + n < rows->end_in; n++)
            widen_rgb24((const uint8_t *)frame->data[0] + (y + n) * frame->stride[0], columns->first_in,
                        columns->end_in, ingest->buffer + n * stride);
        ees__resample_rows(&ingest->resample, y, n, ingest->buffer, stride);
    }
    return 0;
}

static int check_planes(const ees_frame *frame, ees_error *err) {
    if (frame->chroma_shift_x > 2 || frame->chroma_shift_y > 2)
        return EES_FAIL(err, EES_EINVAL, "YUV frame: chroma shifts %u, %u are above 2", frame->chroma_shift_x,
                        frame->chroma_shift_y);
    size_t chroma_width = ((size_t)frame->width_px + (1u << frame->chroma_shift_x) - 1) >> frame->chroma_shift_x;
    if (!frame->data[0] || frame->stride[0] < frame->width_px)
        return EES_FAIL(err, EES_EINVAL, "YUV frame: luma stride %zu is less than a row of %u pixels", frame->stride[0],
                        frame->width_px);
    if (frame->data[1] && (!frame->data[2] || frame->stride[1] < chroma_width || frame->stride[2] < chroma_width))
        return EES_FAIL(err, EES_EINVAL, "YUV frame: chroma strides %zu, %zu are less than a row of %zu samples",
                        frame->stride[1], frame->stride[2], chroma_width);
    return 0;
}

/* Pixels [first, end) of row y; first is where a chroma sample begins. */
static void convert_yuv_row(const struct ees__ingest *ingest, const struct ees__yuv_coefs *coefs,
                            const ees_frame *frame, unsigned y, unsigned first, unsigned end, uint8_t *scratch,
                            uint8_t *row) {
    const uint8_t *plane[3] = {(const uint8_t *)frame->data[0] + y * frame->stride[0] + first};
    for (int i = 1; i < 3 && frame->data[1]; i++)
        plane[i] = (const uint8_t *)frame->data[i] + (y >> frame->chroma_shift_y) * frame->stride[i] +
                   (first >> frame->chroma_shift_x);
    ingest->yuv_row(coefs, plane[0], plane[1], plane[2], frame->chroma_shift_x, end - first, scratch,
                    row + (size_t)first * EES__PX_BYTES);
}

static int run_yuv(struct ees__ingest *ingest, const ees_frame *frame, float *patches, ees_error *err) {
    struct ees__yuv_coefs coefs;
    EES_TRY(check_planes(frame, err));
    EES_TRY(ees__yuv_coefs_set(&coefs, frame->yuv_matrix, frame->yuv_full_range, err));
    const size_t stride = row_bytes(frame->width_px), pixels = stride * EES__ROWS_AT_ONCE;
    EES_TRY(reserve_buffer(ingest, pixels + 2 * (size_t)frame->width_px, err));
    EES_TRY(begin_frame(ingest, frame, patches, err));
    const struct ees__axis *rows = &ingest->resample.rows, *columns = &ingest->resample.columns;
    unsigned first = columns->first_in >> frame->chroma_shift_x << frame->chroma_shift_x;
    for (unsigned y = rows->first_in, n; y < rows->end_in; y += n) {
        for (n = 0; n < EES__ROWS_AT_ONCE && y + n < rows->end_in; n++)
            convert_yuv_row(ingest, &coefs, frame, y + n, first, columns->end_in, ingest->buffer + pixels,
                            ingest->buffer + n * stride);
        ees__resample_rows(&ingest->resample, y, n, ingest->buffer, stride);
    }
    return 0;
}

/* Already normalised (3, H, W): only cut into patches. */
static int run_tensor(const struct ees__ingest *ingest, const ees_frame *frame, float *patches, ees_error *err) {
    const struct ees__resample *r = &ingest->resample;
    if (!frame->data[0] || frame->width_px != ingest->width || frame->height_px != ingest->height)
        return EES_FAIL(err, EES_EINVAL, "tensor frame is (3, %u, %u), the model takes (3, %u, %u)", frame->height_px,
                        frame->width_px, ingest->height, ingest->width);
    const size_t p = r->patch;
    const char *pixels = frame->data[0]; /* the caller's bytes need no alignment */
    for (size_t c = 0; c < 3; c++)
        for (size_t y = 0; y < r->height; y++) {
            const char *in = pixels + (c * ingest->height + y) * ingest->width * sizeof(float);
            float *out = patches + y / p * ees__patch_columns(r) * 3 * p * p + c * p * p + y % p * p;
            for (size_t x = 0; x < r->width; x += p, out += 3 * p * p, in += p * sizeof(float))
                memcpy(out, in, (r->width - x < p ? r->width - x : p) * sizeof(float));
        }
    return 0;
}

int ees__ingest_run(struct ees__ingest *ingest, const ees_frame *frame, float *patches, unsigned *n_warnings,
                    ees_error *err) {
    const struct ees__resample *r = &ingest->resample;
    *n_warnings = 0;
    if (ingest->has_gaps)
        memset(patches, 0,
               (r->height + r->patch - 1) / r->patch * ees__patch_columns(r) * 3 * r->patch * r->patch *
                   sizeof *patches);
    switch (frame->kind) {
    case EES_FRAME_JPEG:
        return run_jpeg(ingest, frame, patches, n_warnings, err);
    case EES_FRAME_RGB24:
        EES_TRY(check_size(ingest, frame->height_px, frame->width_px, err));
        return run_rgb24(ingest, frame, patches, err);
    case EES_FRAME_YUV:
        EES_TRY(check_size(ingest, frame->height_px, frame->width_px, err));
        return run_yuv(ingest, frame, patches, err);
    case EES_FRAME_TENSOR:
        return run_tensor(ingest, frame, patches, err);
    }
    return EES_FAIL(err, EES_EINVAL, "frame of unknown kind %d", (int)frame->kind);
}
