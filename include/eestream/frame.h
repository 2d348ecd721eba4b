/* SPDX-License-Identifier: MIT */
/** A frame on its way into the engine: what a source produces and ees_engine_push() takes. */
#ifndef EESTREAM_FRAME_H
#define EESTREAM_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "eestream/error.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ees_frame_kind {
    EES_FRAME_JPEG = 1, /**< one JPEG: data[0], bytes */
    EES_FRAME_RGB24,    /**< packed R,G,B, 8 bit: data[0], stride[0] bytes a row */
    EES_FRAME_YUV,      /**< planar 8 bit: data[0..2], stride[0..2]; grey when data[1] is NULL */
    EES_FRAME_TENSOR,   /**< float32 (3, H, W), already normalised: data[0]; H, W as the model's input */
};

/** How planar YUV maps to RGB. JPEG files carry full-range BT.601, most H.264 limited-range BT.601/709. */
enum ees_yuv_matrix { EES_YUV_BT601 = 0, EES_YUV_BT709, EES_YUV_BT2020 };

typedef struct ees_frame {
    enum ees_frame_kind kind;
    uint32_t width_px, height_px; /**< EES_FRAME_JPEG: unset, the file says it */
    const void *data[3];
    size_t stride[3];       /**< bytes from one row to the next */
    size_t bytes;           /**< EES_FRAME_JPEG: length of data[0] */
    uint8_t chroma_shift_x; /**< EES_FRAME_YUV: log2 of horizontal chroma subsampling, 0 or 1 (2 for 4:1:1) */
    uint8_t chroma_shift_y; /**< EES_FRAME_YUV: the same vertically */
    uint8_t yuv_matrix;     /**< enum ees_yuv_matrix */
    uint8_t yuv_full_range; /**< 1: Y 0..255, 0: Y 16..235 */

    uint32_t stream;     /**< stream of the engine it belongs to: 0, or from ees_stream_open() */
    uint32_t source_idx; /**< set by the caller, handed back in the result */
    uint64_t frame_idx;  /**< 0-based within its source */
    int64_t pts_ns;      /**< presentation time in nanoseconds from the start of the source; -1 unknown */
    const char *source;  /**< name of the source, lives as long as the source; may be NULL */
    const char *truth;   /**< label of the true class when the source knows it; lives as `source`; may be NULL */
    ees_error *error;    /**< not NULL: the source found this frame damaged; it becomes one failed result.
                              Lives until release() */

    /** Called exactly once, from any thread, when the engine no longer reads `data` and `error`.
     *  NULL: ees_engine_push() copies what it needs before it returns. */
    void (*release)(void *opaque);
    void *opaque;
} ees_frame;

#ifdef __cplusplus
}
#endif
#endif
