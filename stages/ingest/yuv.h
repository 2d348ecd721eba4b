/* SPDX-License-Identifier: MIT */
/* Planar 8-bit YUV to R, G, B, x rows: BT.601, 709 and 2020 (non-constant luminance), limited and full range. */
#ifndef EES_INGEST_YUV_H
#define EES_INGEST_YUV_H

#include <stdint.h>

#include "eestream/frame.h"

/* Fixed point, 16 fractional bits. */
struct ees__yuv_coefs {
    int32_t y_offset, y_gain;
    int32_t v_to_r, u_to_g, v_to_g, u_to_b;
};

/* @return 0; EES_EINVAL unknown matrix */
int ees__yuv_coefs_set(struct ees__yuv_coefs *coefs, unsigned matrix, int full_range, ees_error *err);

/* `n` pixels. Chroma has one sample for each 2^shift pixels and is repeated, as swscale does when it does not scale.
 * @param u, v     NULL: grey
 * @param scratch  2 * n bytes
 * @param out      4 * n bytes */
typedef void ees__yuv_row_function(const struct ees__yuv_coefs *coefs, const uint8_t *y, const uint8_t *u,
                                   const uint8_t *v, unsigned shift, unsigned n, uint8_t *scratch, uint8_t *out);

/* The fastest form this CPU has; all give the same bytes. Asks the CPU: call it once. */
ees__yuv_row_function *ees__yuv_pick(void);

#endif
