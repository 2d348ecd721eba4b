/* SPDX-License-Identifier: MIT */
/* Pictures of the libav module: libav's own buffers on loan to a frame, converted only where a frame cannot carry them.
 */
#include "io/libav_picture.h"

#include <libavutil/pixdesc.h>
#include <string.h>

#include "common/fail.h"
#include "common/mem.h"
#include "io/jpeg_tables.h"

enum { RGB_ALIGN = 64 };

void ees__picture_fini(void *item) {
    struct ees__picture *p = item;
    av_frame_free(&p->frame);
    av_packet_free(&p->packet);
    ees__free(p->rgb);
}

void ees__picture_release(void *item) {
    struct ees__picture *p = item;
    av_frame_unref(p->frame);
    av_packet_unref(p->packet);
    ees__pool_release(p);
}

struct ees__picture *ees__picture_acquire(struct ees__pool *pool) {
    struct ees__picture *p = ees__pool_acquire(pool);
    if (!p)
        return NULL;
    p->error.code = 0;
    if (!p->frame)
        p->frame = av_frame_alloc();
    if (!p->packet)
        p->packet = av_packet_alloc();
    if (p->frame && p->packet)
        return p;
    ees__pool_release(p);
    return NULL;
}

static uint8_t matrix_of(const AVFrame *frame) {
    switch (frame->colorspace) {
    case AVCOL_SPC_BT709:
        return EES_YUV_BT709;
    case AVCOL_SPC_BT2020_NCL:
    case AVCOL_SPC_BT2020_CL:
        return EES_YUV_BT2020;
    default: /* not said: as libswscale takes it */
        return EES_YUV_BT601;
    }
}

static bool is_full_range(const AVFrame *frame) {
    switch (frame->format) {
    case AV_PIX_FMT_YUVJ420P:
    case AV_PIX_FMT_YUVJ422P:
    case AV_PIX_FMT_YUVJ444P:
    case AV_PIX_FMT_YUVJ440P:
    case AV_PIX_FMT_YUVJ411P:
        return true;
    case AV_PIX_FMT_GRAY8:
        return frame->color_range != AVCOL_RANGE_MPEG;
    default:
        return frame->color_range == AVCOL_RANGE_JPEG;
    }
}

/* 8-bit planes Y, U, V or Y alone, as EES_FRAME_YUV carries them? */
static bool is_planar_yuv(const AVFrame *frame) {
    const AVPixFmtDescriptor *desc = av_pix_fmt_desc_get(frame->format);
    const uint64_t other = AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_ALPHA | AV_PIX_FMT_FLAG_PAL |
                           AV_PIX_FMT_FLAG_BITSTREAM | AV_PIX_FMT_FLAG_HWACCEL | AV_PIX_FMT_FLAG_FLOAT;
    if (!desc || (desc->flags & other) || (desc->nb_components != 3 && desc->nb_components != 1))
        return false;
    if (desc->log2_chroma_w > 2 || desc->log2_chroma_h > 1)
        return false;
    for (int i = 0; i < desc->nb_components; i++)
        if (desc->comp[i].plane != i || desc->comp[i].depth != 8 || desc->comp[i].step != 1 || frame->linesize[i] <= 0)
            return false;
    return true;
}

static void describe_yuv(const AVFrame *frame, ees_frame *out) {
    const AVPixFmtDescriptor *desc = av_pix_fmt_desc_get(frame->format);
    out->kind = EES_FRAME_YUV;
    for (int i = 0; i < desc->nb_components; i++) {
        out->data[i] = frame->data[i];
        out->stride[i] = (size_t)frame->linesize[i];
    }
    out->chroma_shift_x = desc->log2_chroma_w;
    out->chroma_shift_y = desc->log2_chroma_h;
    out->yuv_matrix = matrix_of(frame);
    out->yuv_full_range = is_full_range(frame);
}

static int reserve_rgb(struct ees__picture *p, size_t n) {
    if (n <= p->rgb_capacity)
        return 0;
    uint8_t *rgb = ees__calloc_aligned(n, 1);
    if (!rgb)
        return EES_ENOMEM;
    ees__free(p->rgb);
    p->rgb = rgb;
    p->rgb_capacity = n;
    return 0;
}

static struct SwsContext *converter(struct SwsContext **sws, const AVFrame *frame) {
    static const int spaces[] = {
        [EES_YUV_BT601] = SWS_CS_ITU601, [EES_YUV_BT709] = SWS_CS_ITU709, [EES_YUV_BT2020] = SWS_CS_BT2020};
    *sws =
        sws_getCachedContext(*sws, frame->width, frame->height, frame->format, frame->width, frame->height,
                             AV_PIX_FMT_RGB24, SWS_BILINEAR | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT, NULL, NULL, NULL);
    if (*sws) /* has no effect, and fails, where the source is RGB already */
        sws_setColorspaceDetails(*sws, sws_getCoefficients(spaces[matrix_of(frame)]), is_full_range(frame),
                                 sws_getCoefficients(SWS_CS_DEFAULT), 1, 0, 1 << 16, 1 << 16);
    return *sws;
}

/* Any other pixel format becomes RGB, in the picture's own memory. */
static int convert_rgb(struct ees__picture *p, struct SwsContext **cache, const char *name, ees_frame *out,
                       ees_error *err) {
    const AVFrame *frame = p->frame;
    size_t stride = ees__round_up((size_t)frame->width * 3, RGB_ALIGN), n;
    if (!ees__mul(stride, (size_t)frame->height + 1, &n) || reserve_rgb(p, n) < 0)
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory for a frame of %dx%d", name, frame->width, frame->height);
    struct SwsContext *sws = converter(cache, frame);
    uint8_t *planes[4] = {p->rgb};
    const int strides[4] = {(int)stride};
    out->kind = EES_FRAME_RGB24;
    if (!sws ||
        sws_scale(sws, (const uint8_t *const *)frame->data, frame->linesize, 0, frame->height, planes, strides) < 0) {
        EES_FAIL(&p->error, EES_EDAMAGED, "%s: pixel format %s cannot be converted", name,
                 av_get_pix_fmt_name(frame->format));
        return 0;
    }
    out->data[0] = p->rgb;
    out->stride[0] = stride;
    return 0;
}

int ees__picture_describe(struct ees__picture *p, struct SwsContext **cache, const char *name, ees_frame *out,
                          ees_error *err) {
    out->width_px = (uint32_t)p->frame->width;
    out->height_px = (uint32_t)p->frame->height;
    if (!is_planar_yuv(p->frame))
        return convert_rgb(p, cache, name, out, err);
    describe_yuv(p->frame, out);
    return 0;
}

int ees__picture_complete_jpeg(struct ees__picture *p) {
    size_t gap = ees__jpeg_tables_gap(p->packet->data, (size_t)p->packet->size);
    if (gap == 0)
        return 0;
    AVPacket *whole = av_packet_alloc();
    if (!whole || av_new_packet(whole, p->packet->size + EES__JPEG_TABLES_BYTES) < 0) {
        av_packet_free(&whole);
        return EES_ENOMEM;
    }
    memcpy(whole->data, p->packet->data, gap);
    ees__jpeg_write_tables(whole->data + gap);
    memcpy(whole->data + gap + EES__JPEG_TABLES_BYTES, p->packet->data + gap, (size_t)p->packet->size - gap);
    av_packet_free(&p->packet);
    p->packet = whole;
    return 0;
}
