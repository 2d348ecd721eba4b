/* SPDX-License-Identifier: MIT */
/* YUV rows to RGB rows, 16-bit fixed point. Written for the compiler's vectoriser, built twice on x86.
 *
 *      Y' = (Y - offset) * gain      R = Y' + 2 (1 - Kr) V'      B = Y' + 2 (1 - Kb) U'
 *      G = Y' - (2 Kb (1 - Kb) U' + 2 Kr (1 - Kr) V') / Kg       with Kg = 1 - Kr - Kb        (ITU-R BT.601, 709, 2020)
 *
 * Within 1 level of the formula in real numbers; chroma in the middle of 2x2 pixels is not interpolated. */
#include "stages/ingest/yuv.h"

#include <math.h>
#include <string.h>

#include "common/cpu.h"
#include "common/fail.h"

enum { YUV_BITS = 16, YUV_ROUND = 1 << (YUV_BITS - 1) };

#define INLINE static inline __attribute__((always_inline))

static const struct {
    double kr, kb;
} matrices[] = {
    [EES_YUV_BT601] = {0.299, 0.114},
    [EES_YUV_BT709] = {0.2126, 0.0722},
    [EES_YUV_BT2020] = {0.2627, 0.0593},
};

int ees__yuv_coefs_set(struct ees__yuv_coefs *coefs, unsigned matrix, int full_range, ees_error *err) {
    if (matrix >= sizeof matrices / sizeof matrices[0])
        return EES_FAIL(err, EES_EINVAL, "YUV matrix %u is unknown, expected 0 to 2", matrix);
    const double kr = matrices[matrix].kr, kb = matrices[matrix].kb, kg = 1.0 - kr - kb;
    const double one = 1 << YUV_BITS;
    const double y_gain = full_range ? one : one * 255.0 / 219.0;
    const double c_gain = full_range ? one : one * 255.0 / 224.0;
    coefs->y_offset = full_range ? 0 : 16;
    coefs->y_gain = (int32_t)lrint(y_gain);
    coefs->v_to_r = (int32_t)lrint(c_gain * 2.0 * (1.0 - kr));
    coefs->u_to_b = (int32_t)lrint(c_gain * 2.0 * (1.0 - kb));
    coefs->u_to_g = (int32_t)lrint(c_gain * -2.0 * kb * (1.0 - kb) / kg);
    coefs->v_to_g = (int32_t)lrint(c_gain * -2.0 * kr * (1.0 - kr) / kg);
    return 0;
}

INLINE uint32_t clip_byte(int32_t x) {
    x >>= YUV_BITS;
    x = x < 0 ? 0 : x;
    return (uint32_t)(x > 255 ? 255 : x);
}

/* One 32-bit store: four of a byte each take the vectoriser half as long again. */
INLINE void store_pixel(uint8_t *out, uint32_t r, uint32_t g, uint32_t b) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    uint32_t px = r << 24 | g << 16 | b << 8;
#else
    uint32_t px = r | g << 8 | b << 16;
#endif
    memcpy(out, &px, sizeof px);
}

INLINE void repeat_samples(const uint8_t *restrict in, unsigned shift, unsigned n, uint8_t *restrict out) {
    size_t i = 0;
    if (shift == 1)
        for (; i + 1 < n; i += 2)
            out[i] = out[i + 1] = in[i / 2];
    for (; i < n; i++)
        out[i] = in[i >> shift];
}

INLINE void convert_row(const struct ees__yuv_coefs *coefs, const uint8_t *restrict y, const uint8_t *restrict u,
                        const uint8_t *restrict v, unsigned n, uint8_t *restrict out) {
    const struct ees__yuv_coefs k = *coefs;
    for (size_t i = 0; i < n; i++) {
        int32_t luma = (y[i] - k.y_offset) * k.y_gain + YUV_ROUND;
        int32_t du = u[i] - 128, dv = v[i] - 128;
        uint32_t r = clip_byte(luma + dv * k.v_to_r);
        uint32_t g = clip_byte(luma + du * k.u_to_g + dv * k.v_to_g);
        uint32_t b = clip_byte(luma + du * k.u_to_b);
        store_pixel(out + 4 * i, r, g, b);
    }
}

INLINE void yuv_row(const struct ees__yuv_coefs *coefs, const uint8_t *y, const uint8_t *u, const uint8_t *v,
                    unsigned shift, unsigned n, uint8_t *scratch, uint8_t *out) {
    if (!u || !v) {
        memset(scratch, 128, n);
        u = v = scratch;
    } else if (shift) {
        repeat_samples(u, shift, n, scratch);
        repeat_samples(v, shift, n, scratch + n);
        u = scratch;
        v = scratch + n;
    }
    convert_row(coefs, y, u, v, n, out);
}

static void yuv_row_base(const struct ees__yuv_coefs *coefs, const uint8_t *y, const uint8_t *u, const uint8_t *v,
                         unsigned shift, unsigned n, uint8_t *scratch, uint8_t *out) {
    yuv_row(coefs, y, u, v, shift, n, scratch, out);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void yuv_row_avx2(const struct ees__yuv_coefs *coefs, const uint8_t *y,
                                                         const uint8_t *u, const uint8_t *v, unsigned shift, unsigned n,
                                                         uint8_t *scratch, uint8_t *out) {
    yuv_row(coefs, y, u, v, shift, n, scratch, out);
}
#endif

ees__yuv_row_function *ees__yuv_pick(void) {
#if defined(__x86_64__)
    if (ees__cpu_flags() & EES__CPU_AVX2)
        return yuv_row_avx2;
#endif
    return yuv_row_base;
}
