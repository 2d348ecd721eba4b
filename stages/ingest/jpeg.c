/* SPDX-License-Identifier: MIT */
/* The classic libjpeg interface over a picture in memory. libjpeg-turbo's defaults are Pillow's settings: accurate
 * integer DCT, fancy upsampling, block smoothing of incomplete progressive files.
 *
 * Verdicts are libjpeg's own: its fatal errors make a frame damaged, its warnings are counted and the frame is used
 * (cameras send harmless oddities on every frame). Added are limits a hostile file meets: pixels, memory, scans, and
 * blocks read over all scans, since a small progressive file may ask for each pixel a thousand times. */
#include "stages/ingest/jpeg.h"

#include <limits.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/fail.h"
#include "common/mem.h"
#include "stages/ingest/jpeg_memory.h"

#include <jerror.h>

enum {
    MAX_IMAGE_BYTES = 160 << 20, /* coefficients of 27 Mpx 4:4:4 or 55 Mpx 4:2:0 progressive */
    WORK_PER_PIXEL = 16,         /* a common progressive file visits each coefficient block 5 to 14 times a pixel */
};

struct ees__jpeg {
    struct jpeg_decompress_struct cinfo;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    struct ees__jpeg_memory memory;
    jmp_buf escape; /* set by each entry: libjpeg's fatal errors land there */
    uint64_t max_pixels;
    uint64_t work, max_work; /* coefficient blocks read while a multi-scan file is taken in */
    bool taking_in;
    char text[JMSG_LENGTH_MAX]; /* of the fatal error */
};

/* The managers below get libjpeg's struct, which is the first member of ours. */
static struct ees__jpeg *get_jpeg(void *cinfo) { return cinfo; }

/* ---- What libjpeg calls -------------------------------------------------------------------------------- */

static void escape_error(j_common_ptr cinfo) {
    struct ees__jpeg *jpeg = get_jpeg(cinfo);
    cinfo->err->format_message(cinfo, jpeg->text);
    longjmp(jpeg->escape, 1);
}

static void count_warning(j_common_ptr cinfo, int level) {
    if (level < 0)
        cinfo->err->num_warnings++;
}

static void ignore_source(j_decompress_ptr cinfo) { (void)cinfo; }

/* The data ended early: libjpeg is told so and reads on through end-of-image markers. */
static boolean fill_with_end(j_decompress_ptr cinfo) {
    static const JOCTET end[] = {0xff, JPEG_EOI};
    WARNMS(cinfo, JWRN_JPEG_EOF);
    cinfo->src->next_input_byte = end;
    cinfo->src->bytes_in_buffer = sizeof end;
    return TRUE;
}

static void skip_source(j_decompress_ptr cinfo, long n) {
    size_t left = cinfo->src->bytes_in_buffer, skip = n > 0 ? (size_t)n : 0;
    if (skip > left)
        skip = left;
    cinfo->src->next_input_byte += skip;
    cinfo->src->bytes_in_buffer = left - skip;
}

/* Called once an iMCU row while a multi-scan file is taken in, before any row comes out. */
static void check_work(j_common_ptr common) {
    struct ees__jpeg *jpeg = get_jpeg(common);
    const struct jpeg_decompress_struct *cinfo = &jpeg->cinfo;
    if (!jpeg->taking_in)
        return;
    unsigned mcu_rows = cinfo->comps_in_scan == 1 ? (unsigned)cinfo->cur_comp_info[0]->v_samp_factor : 1;
    jpeg->work += (uint64_t)cinfo->MCUs_per_row * (unsigned)cinfo->blocks_in_MCU * mcu_rows;
    if (cinfo->input_scan_number <= EES__JPEG_MAX_SCANS && jpeg->work <= jpeg->max_work)
        return;
    snprintf(jpeg->text, sizeof jpeg->text, "too many scans of %ux%u pixels: %d seen", cinfo->image_width,
             cinfo->image_height, cinfo->input_scan_number);
    longjmp(jpeg->escape, 1);
}

/* ---- Entries ------------------------------------------------------------------------------------------- */

/* Report what made libjpeg give up, and get ready for the next picture. */
static int give_up(struct ees__jpeg *jpeg, ees_error *err) {
    int failure = jpeg->memory.failure;
    unsigned row = jpeg->cinfo.output_scanline;
    jpeg_abort_decompress(&jpeg->cinfo);
    if (failure == EES_ENOMEM)
        return EES_FAIL(err, EES_ENOMEM, "JPEG: no memory for a picture of %ux%u pixels", jpeg->cinfo.image_width,
                        jpeg->cinfo.image_height);
    if (failure)
        return EES_FAIL(err, EES_EDAMAGED, "JPEG: %ux%u pixels in several scans need more than %d MiB",
                        jpeg->cinfo.image_width, jpeg->cinfo.image_height, MAX_IMAGE_BYTES >> 20);
    return EES_FAIL(err, EES_EDAMAGED, "JPEG: %s (row %u of %u)", jpeg->text, row, jpeg->cinfo.image_height);
}

struct ees__jpeg *ees__jpeg_open(uint64_t max_pixels) {
    struct ees__jpeg *jpeg = ees__calloc_aligned(1, sizeof *jpeg);
    if (!jpeg)
        return NULL;
    jpeg->max_pixels = max_pixels;
    jpeg->max_work = max_pixels / DCTSIZE2 * WORK_PER_PIXEL;
    jpeg->cinfo.err = jpeg_std_error(&jpeg->errors);
    jpeg->errors.error_exit = escape_error;
    jpeg->errors.emit_message = count_warning;
    if (setjmp(jpeg->escape)) {
        jpeg_destroy_decompress(&jpeg->cinfo);
        ees__free(jpeg);
        return NULL;
    }
    jpeg_create_decompress(&jpeg->cinfo);
    ees__jpeg_memory_attach(&jpeg->memory, &jpeg->cinfo, MAX_IMAGE_BYTES);
    jpeg->source.init_source = ignore_source;
    jpeg->source.fill_input_buffer = fill_with_end;
    jpeg->source.skip_input_data = skip_source;
    jpeg->source.resync_to_restart = jpeg_resync_to_restart;
    jpeg->source.term_source = ignore_source;
    jpeg->progress.progress_monitor = check_work;
    jpeg->cinfo.src = &jpeg->source;
    jpeg->cinfo.progress = &jpeg->progress;
    return jpeg;
}

void ees__jpeg_close(struct ees__jpeg *jpeg) {
    if (!jpeg)
        return;
    jpeg_abort_decompress(&jpeg->cinfo);
    jpeg_destroy_decompress(&jpeg->cinfo);
    ees__jpeg_memory_fini(&jpeg->memory);
    ees__free(jpeg);
}

/* 1, 3 and 4 components are all Pillow opens. CMYK is converted here, everything else by libjpeg. */
static int check_header(struct ees__jpeg *jpeg, ees_error *err) {
    struct jpeg_decompress_struct *cinfo = &jpeg->cinfo;
    uint64_t n_pixels = (uint64_t)cinfo->image_width * cinfo->image_height;
    if (n_pixels > jpeg->max_pixels) {
        EES_FAIL(err, EES_EDAMAGED, "JPEG: header claims %ux%u pixels, the limit is %llu", cinfo->image_width,
                 cinfo->image_height, (unsigned long long)jpeg->max_pixels);
        ees__hint(err, "raise the pixel limit if this picture is genuine");
        return EES_EDAMAGED;
    }
    if (cinfo->num_components != 1 && cinfo->num_components != 3 && cinfo->num_components != 4)
        return EES_FAIL(err, EES_EDAMAGED, "JPEG: %d components, expected 1 (grey), 3 (colour) or 4 (CMYK)",
                        cinfo->num_components);
    cinfo->out_color_space = cinfo->num_components == 4 ? JCS_CMYK : JCS_EXT_RGBX;
    return 0;
}

/* Get ready for a picture, whatever became of the last one. No table of it may be used: libjpeg keeps them for
 * abbreviated files, but a picture must not depend on its neighbours. */
static void reset(struct ees__jpeg *jpeg) {
    struct jpeg_decompress_struct *cinfo = &jpeg->cinfo;
    jpeg_abort_decompress(cinfo);
    memset(cinfo->quant_tbl_ptrs, 0, sizeof cinfo->quant_tbl_ptrs);
    memset(cinfo->dc_huff_tbl_ptrs, 0, sizeof cinfo->dc_huff_tbl_ptrs);
    memset(cinfo->ac_huff_tbl_ptrs, 0, sizeof cinfo->ac_huff_tbl_ptrs);
    cinfo->image_width = cinfo->image_height = cinfo->output_scanline = 0;
    jpeg->memory.failure = 0;
    jpeg->work = 0;
    jpeg->taking_in = false;
}

int ees__jpeg_begin(struct ees__jpeg *jpeg, const void *data, size_t bytes, unsigned *width, unsigned *height,
                    ees_error *err) {
    if (bytes == 0)
        return EES_FAIL(err, EES_EDAMAGED, "JPEG: no data");
    reset(jpeg);
    jpeg->source.next_input_byte = data;
    jpeg->source.bytes_in_buffer = bytes;
    if (setjmp(jpeg->escape))
        return give_up(jpeg, err);
    jpeg_read_header(&jpeg->cinfo, TRUE);
    int rc = check_header(jpeg, err);
    if (rc < 0) {
        jpeg_abort_decompress(&jpeg->cinfo);
        return rc;
    }
    *width = jpeg->cinfo.image_width;
    *height = jpeg->cinfo.image_height;
    return 0;
}

int ees__jpeg_start(struct ees__jpeg *jpeg, unsigned scale, unsigned *width, unsigned *height, ees_error *err) {
    if (setjmp(jpeg->escape))
        return give_up(jpeg, err);
    jpeg->cinfo.scale_num = scale;
    jpeg->cinfo.scale_denom = EES__JPEG_SCALE_ONE;
    jpeg->taking_in = true;
    jpeg_start_decompress(&jpeg->cinfo);
    jpeg->taking_in = false;
    *width = jpeg->cinfo.output_width;
    *height = jpeg->cinfo.output_height;
    return 0;
}

int ees__jpeg_crop(struct ees__jpeg *jpeg, unsigned first, unsigned end, unsigned *start, ees_error *err) {
    struct jpeg_decompress_struct *cinfo = &jpeg->cinfo;
    *start = 0;
    /* Fancy upsampling takes the edge of the crop for the edge of the picture, which shows one chroma sample deep: one
     * MCU more on each side keeps that out. Smoothing of progressive files looks further; those are left whole. */
    unsigned margin = (unsigned)(cinfo->max_h_samp_factor * DCTSIZE);
    JDIMENSION x = first > margin ? first - margin : 0;
    JDIMENSION width = cinfo->output_width - end > margin ? end + margin - x : cinfo->output_width - x;
    if (cinfo->progressive_mode || width > cinfo->output_width / 8 * 7)
        return 0;
    if (setjmp(jpeg->escape))
        return give_up(jpeg, err);
    jpeg_crop_scanline(cinfo, &x, &width);
    *start = x;
    return 0;
}

static unsigned scale_byte(unsigned a, unsigned b) { /* a * b / 255, rounded, as Pillow's MULDIV255 */
    unsigned x = a * b + 128;
    return ((x >> 8) + x) >> 8;
}

/* What Pillow does to any four-component JPEG: taken as Adobe's inverted CMYK, then convert("RGB"). In terms of the
 * inverted bytes in the file, R = K - (255 - C) * K / 255. */
static void convert_cmyk(uint8_t *row, unsigned width) {
    for (uint8_t *px = row, *end = row + (size_t)width * 4; px < end; px += 4)
        for (int c = 0; c < 3; c++)
            px[c] = (uint8_t)(px[3] - scale_byte(255u - px[c], px[3]));
}

int ees__jpeg_read(struct ees__jpeg *jpeg, uint8_t *rows, unsigned n, size_t stride, ees_error *err) {
    struct jpeg_decompress_struct *cinfo = &jpeg->cinfo;
    const JDIMENSION first = cinfo->output_scanline;
    JSAMPROW row[EES__JPEG_MAX_ROWS];
    for (unsigned i = 0; i < n; i++)
        row[i] = rows + i * stride;
    if (setjmp(jpeg->escape))
        return give_up(jpeg, err);
    while (cinfo->output_scanline < cinfo->output_height && cinfo->output_scanline - first < n)
        jpeg_read_scanlines(cinfo, row + (cinfo->output_scanline - first), n - (cinfo->output_scanline - first));
    for (unsigned i = 0; cinfo->out_color_space == JCS_CMYK && i < cinfo->output_scanline - first; i++)
        convert_cmyk(row[i], cinfo->output_width);
    return (int)(cinfo->output_scanline - first);
}

int ees__jpeg_finish(struct ees__jpeg *jpeg, unsigned *n_warnings, ees_error *err) {
    if (setjmp(jpeg->escape))
        return give_up(jpeg, err);
    jpeg_finish_decompress(&jpeg->cinfo);
    *n_warnings = (unsigned)jpeg->errors.num_warnings;
    return 0;
}
