/* SPDX-License-Identifier: MIT */
/* The resize's inner loops for AArch64. Empty on other machines. */
#include "stages/ingest/resample_kernels.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#include <string.h>

enum { ROUND = 1 << (EES__WEIGHT_BITS - 1), STEP = 32 };

/* 8 bytes to 8 x int32: widened twice, the low four in [0]. */
static inline int32x4x2_t load_widened(const uint8_t *p) {
    uint16x8_t words = vmovl_u8(vld1_u8(p));
    int32x4x2_t v = {{vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(words))),
                      vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(words)))}};
    return v;
}

/* Two taps a step, the four channels of a pixel in one vector. */
static void resize_row(const struct ees__axis *axis, const uint8_t *row, uint8_t *out) {
    const unsigned n = axis->shape.n;
    const int32_t *weights = axis->weights;
    for (unsigned i = 0; i < n; i++, weights += axis->stride) {
        const uint8_t *px = row + (size_t)axis->first[i] * EES__PX_BYTES;
        int32x4_t sum0 = vdupq_n_s32(ROUND), sum1 = vdupq_n_s32(0);
        for (size_t t = 0; t < axis->count[i]; t += 2) {
            int32x2_t w = vld1_s32(weights + t);
            int32x4x2_t pair = load_widened(px + t * EES__PX_BYTES);
            sum0 = vmlaq_lane_s32(sum0, pair.val[0], w, 0);
            sum1 = vmlaq_lane_s32(sum1, pair.val[1], w, 1);
        }
        int32x4_t total = vshrq_n_s32(vaddq_s32(sum0, sum1), EES__WEIGHT_BITS);
        int16x4_t words = vqmovn_s32(total);
        uint32_t bytes = vget_lane_u32(vreinterpret_u32_u8(vqmovun_s16(vcombine_s16(words, words))), 0);
        memcpy(out + (size_t)i * EES__PX_BYTES, &bytes, sizeof bytes);
    }
}

static void resize_columns(const struct ees__axis *axis, const uint8_t *const row[EES__ROWS_AT_ONCE],
                           uint8_t *const out[EES__ROWS_AT_ONCE]) {
    for (int k = 0; k < EES__ROWS_AT_ONCE; k++)
        resize_row(axis, row[k], out[k]);
}

static inline uint8x8_t clip_sums(int32x4_t low, int32x4_t high) {
    int16x4_t words0 = vqmovn_s32(vshrq_n_s32(low, EES__WEIGHT_BITS));
    int16x4_t words1 = vqmovn_s32(vshrq_n_s32(high, EES__WEIGHT_BITS));
    return vqmovun_s16(vcombine_s16(words0, words1));
}

static void resize_rows(const struct ees__axis *axis, const struct ees__window *window, unsigned i, uint8_t *out) {
    const int32_t *weights = axis->weights + (size_t)i * axis->stride;
    const unsigned count = axis->count[i], first_slot = axis->first[i] % window->n_rows;
    for (size_t x = 0; x < window->row_bytes; x += STEP) {
        int32x4_t sum[8];
        for (int j = 0; j < 8; j++)
            sum[j] = vdupq_n_s32(ROUND);
        unsigned slot = first_slot;
        for (unsigned t = 0; t < count; t++) {
            const uint8_t *row = window->data + slot * window->row_bytes + x;
            for (int j = 0; j < 4; j++) {
                int32x4x2_t px = load_widened(row + j * 8);
                sum[2 * j] = vmlaq_n_s32(sum[2 * j], px.val[0], weights[t]);
                sum[2 * j + 1] = vmlaq_n_s32(sum[2 * j + 1], px.val[1], weights[t]);
            }
            slot = slot + 1 == window->n_rows ? 0 : slot + 1;
        }
        for (int j = 0; j < 4; j++)
            vst1_u8(out + x + j * 8, clip_sums(sum[2 * j], sum[2 * j + 1]));
    }
}

const struct ees__resample_kernels ees__resample_neon = {"neon", resize_columns, resize_rows};
#endif
