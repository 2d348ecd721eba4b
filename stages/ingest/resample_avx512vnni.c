/* SPDX-License-Identifier: MIT */
/* The resize's inner loops for AVX-512 with VNNI: a weight in three digits of base 256, so that one instruction adds up
 * four taps of bytes. Sums are joined modulo 2^32, which is exact because the whole sum stays in int32. Empty on other
 * machines. */
#include "stages/ingest/resample_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

enum { ROUND = 1 << (EES__WEIGHT_BITS - 1) };

struct sums {
    __m512i digit[EES__WEIGHT_DIGITS];
};

VNNI static inline struct sums start_sums(void) {
    return (struct sums){{_mm512_set1_epi32(ROUND), _mm512_setzero_si512(), _mm512_setzero_si512()}};
}

/* A step of four taps' digits for all lanes. */
VNNI static inline void load_digits(const int8_t *digits, __m512i w[EES__WEIGHT_DIGITS]) {
    for (int d = 0; d < EES__WEIGHT_DIGITS; d++)
        w[d] = _mm512_set1_epi32(((const int *)(const void *)digits)[d]);
}

/* Each int32 lane of `bytes` holds four taps of one sample. */
VNNI static inline void add_taps(struct sums *s, __m512i bytes, const __m512i w[EES__WEIGHT_DIGITS]) {
    for (int d = 0; d < EES__WEIGHT_DIGITS; d++)
        s->digit[d] = _mm512_dpbusd_epi32(s->digit[d], bytes, w[d]);
}

VNNI static inline __m512i join(const struct sums *s) {
    __m512i low = _mm512_add_epi32(s->digit[0], _mm512_slli_epi32(s->digit[1], 8));
    return _mm512_srai_epi32(_mm512_add_epi32(low, _mm512_slli_epi32(s->digit[2], 16)), EES__WEIGHT_BITS);
}

/* Four pixels of each of four rows, row k in 128-bit lane k, turned so that a channel's four taps are neighbours. */
VNNI static inline __m512i load_pixels(const uint8_t *const row[EES__ROWS_AT_ONCE], size_t at) {
    const __m512i turn = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    __m128i px[EES__ROWS_AT_ONCE];
    for (int k = 0; k < EES__ROWS_AT_ONCE; k++)
        px[k] = _mm_loadu_si128((const __m128i *)(row[k] + at));
    __m256i rows01 = _mm256_inserti128_si256(_mm256_castsi128_si256(px[0]), px[1], 1);
    __m256i rows23 = _mm256_inserti128_si256(_mm256_castsi128_si256(px[2]), px[3], 1);
    return _mm512_shuffle_epi8(_mm512_inserti64x4(_mm512_castsi256_si512(rows01), rows23, 1), turn);
}

VNNI static void resize_columns(const struct ees__axis *axis, const uint8_t *const row[EES__ROWS_AT_ONCE],
                                uint8_t *const out[EES__ROWS_AT_ONCE]) {
    const size_t n = axis->shape.n;
    const int8_t *digits = axis->digits;
    for (size_t i = 0; i < n; i++, digits += (size_t)axis->stride * EES__WEIGHT_DIGITS) {
        size_t at = (size_t)axis->first[i] * EES__PX_BYTES;
        struct sums s = start_sums();
        for (size_t t = 0; t < axis->count[i]; t += EES__TAPS) {
            __m512i w[EES__WEIGHT_DIGITS];
            load_digits(digits + t * EES__WEIGHT_DIGITS, w);
            add_taps(&s, load_pixels(row, at + t * EES__PX_BYTES), w);
        }
        __m128i bytes = _mm512_cvtusepi32_epi8(_mm512_max_epi32(join(&s), _mm512_setzero_si512()));
        _mm_storeu_si32(out[0] + i * EES__PX_BYTES, bytes);
        _mm_storeu_si32(out[1] + i * EES__PX_BYTES, _mm_srli_si128(bytes, 4));
        _mm_storeu_si32(out[2] + i * EES__PX_BYTES, _mm_srli_si128(bytes, 8));
        _mm_storeu_si32(out[3] + i * EES__PX_BYTES, _mm_srli_si128(bytes, 12));
    }
}

/* A strip of four rows of the window, from `slot` on: bytes 4 j to 4 j + 3 of each 128-bit lane in taps[j]. */
VNNI static inline void load_strip(const struct ees__window *window, unsigned slot, size_t x, __m512i taps[4]) {
    __m512i row[EES__TAPS];
    for (int t = 0; t < EES__TAPS; t++) {
        row[t] = _mm512_loadu_si512(window->data + slot * window->row_bytes + x);
        slot = slot + 1 == window->n_rows ? 0 : slot + 1;
    }
    __m512i low01 = _mm512_unpacklo_epi8(row[0], row[1]), low23 = _mm512_unpacklo_epi8(row[2], row[3]);
    __m512i high01 = _mm512_unpackhi_epi8(row[0], row[1]), high23 = _mm512_unpackhi_epi8(row[2], row[3]);
    taps[0] = _mm512_unpacklo_epi16(low01, low23);
    taps[1] = _mm512_unpackhi_epi16(low01, low23);
    taps[2] = _mm512_unpacklo_epi16(high01, high23);
    taps[3] = _mm512_unpackhi_epi16(high01, high23);
}

VNNI static void resize_rows(const struct ees__axis *axis, const struct ees__window *window, unsigned i, uint8_t *out) {
    const int8_t *digits = axis->digits + (size_t)i * axis->stride * EES__WEIGHT_DIGITS;
    const unsigned count = axis->count[i], first = axis->first[i];
    for (size_t x = 0; x < window->row_bytes; x += EES__STRIP_BYTES) {
        struct sums s[4] = {start_sums(), start_sums(), start_sums(), start_sums()};
        for (unsigned t = 0; t < count; t += EES__TAPS) {
            __m512i w[EES__WEIGHT_DIGITS], taps[4];
            load_digits(digits + (size_t)t * EES__WEIGHT_DIGITS, w);
            load_strip(window, (first + t) % window->n_rows, x, taps);
            for (int j = 0; j < 4; j++)
                add_taps(&s[j], taps[j], w);
        }
        __m512i words0 = _mm512_packs_epi32(join(&s[0]), join(&s[1]));
        __m512i words1 = _mm512_packs_epi32(join(&s[2]), join(&s[3]));
        _mm512_storeu_si512(out + x, _mm512_packus_epi16(words0, words1)); /* both packs saturate */
    }
}

const struct ees__resample_kernels ees__resample_avx512vnni = {"avx512vnni", resize_columns, resize_rows};
#endif
