/* SPDX-License-Identifier: MIT */
/* The resize's inner loops in plain C: the definition the vector levels are checked against, and the list of levels.
 * A result is clip((2^21 + sum of weight x sample) >> 22), spec 2.2. */
#include "stages/ingest/resample_kernels.h"

#include "common/cpu.h"

enum { ROUND = 1 << (EES__WEIGHT_BITS - 1) };

static uint8_t clip_sum(int32_t sum) {
    sum >>= EES__WEIGHT_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

static void resize_row(const struct ees__axis *axis, const uint8_t *row, uint8_t *out) {
    for (unsigned i = 0; i < axis->shape.n; i++, out += EES__PX_BYTES) {
        const uint8_t *px = row + (size_t)axis->first[i] * EES__PX_BYTES;
        const int32_t *weights = axis->weights + (size_t)i * axis->stride;
        int32_t r = ROUND, g = ROUND, b = ROUND;
        for (unsigned t = 0; t < axis->count[i]; t++, px += EES__PX_BYTES) {
            r += weights[t] * px[0];
            g += weights[t] * px[1];
            b += weights[t] * px[2];
        }
        out[0] = clip_sum(r);
        out[1] = clip_sum(g);
        out[2] = clip_sum(b);
    }
}

static void resize_columns(const struct ees__axis *axis, const uint8_t *const row[EES__ROWS_AT_ONCE],
                           uint8_t *const out[EES__ROWS_AT_ONCE]) {
    for (int k = 0; k < EES__ROWS_AT_ONCE; k++)
        resize_row(axis, row[k], out[k]);
}

static void resize_rows(const struct ees__axis *axis, const struct ees__window *window, unsigned i, uint8_t *out) {
    const int32_t *weights = axis->weights + (size_t)i * axis->stride;
    for (size_t x = 0; x < window->row_bytes; x += EES__STRIP_BYTES) {
        int32_t sum[EES__STRIP_BYTES];
        for (int j = 0; j < EES__STRIP_BYTES; j++)
            sum[j] = ROUND;
        for (unsigned t = 0; t < axis->count[i]; t++) {
            unsigned slot = (axis->first[i] + t) % window->n_rows;
            const uint8_t *row = window->data + slot * window->row_bytes + x;
            for (int j = 0; j < EES__STRIP_BYTES; j++)
                sum[j] += weights[t] * row[j];
        }
        for (int j = 0; j < EES__STRIP_BYTES; j++)
            out[x + j] = clip_sum(sum[j]);
    }
}

const struct ees__resample_kernels ees__resample_portable = {"portable", resize_columns, resize_rows};

static const struct {
    const struct ees__resample_kernels *kernels;
    unsigned cpu_flags; /* all needed */
} levels[] = {
#if defined(__x86_64__)
    {&ees__resample_avx512vnni, EES__CPU_AVX512 | EES__CPU_AVX512_VNNI},
    {&ees__resample_avx2, EES__CPU_AVX2},
#elif defined(__aarch64__)
    {&ees__resample_neon, EES__CPU_NEON},
#endif
    {&ees__resample_portable, 0},
};

const struct ees__resample_kernels *ees__resample_level(unsigned idx) {
    const unsigned cpu_flags = ees__cpu_flags();
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++)
        if ((levels[i].cpu_flags & ~cpu_flags) == 0 && idx-- == 0)
            return levels[i].kernels;
    return NULL;
}
