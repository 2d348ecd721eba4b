/* SPDX-License-Identifier: MIT */
/* The resize's inner loops for AVX2. gcc 12 takes vectors of bytes apart one by one when it widens them itself, hence
 * intrinsics. Empty on other machines. */
#include "stages/ingest/resample_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))

enum { ROUND = 1 << (EES__WEIGHT_BITS - 1), STEP = 32 };

AVX2 static inline __m256i load_widened(const uint8_t *p) { /* 8 bytes to 8 x int32 */
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
}

/* Both taps' halves of two rows added up: row a's four channels in the low half, row b's in the high one. */
AVX2 static inline __m256i add_halves(__m256i a, __m256i b) {
    return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
}

/* Two taps of a pixel's four channels in one vector, for four rows. */
AVX2 static void resize_columns(const struct ees__axis *axis, const uint8_t *const row[EES__ROWS_AT_ONCE],
                                uint8_t *const out[EES__ROWS_AT_ONCE]) {
    const __m256i spread = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    const __m256i start = _mm256_setr_epi32(ROUND, ROUND, ROUND, ROUND, 0, 0, 0, 0);
    const size_t n = axis->shape.n;
    const int32_t *weights = axis->weights;
    for (size_t i = 0; i < n; i++, weights += axis->stride) {
        size_t at = (size_t)axis->first[i] * EES__PX_BYTES;
        __m256i sum0 = start, sum1 = start, sum2 = start, sum3 = start;
        for (size_t t = 0; t < axis->count[i]; t += 2, at += 2 * EES__PX_BYTES) {
            __m128i pair = _mm_loadl_epi64((const __m128i *)(weights + t));
            __m256i w = _mm256_permutevar8x32_epi32(_mm256_castsi128_si256(pair), spread);
            sum0 = _mm256_add_epi32(sum0, _mm256_mullo_epi32(load_widened(row[0] + at), w));
            sum1 = _mm256_add_epi32(sum1, _mm256_mullo_epi32(load_widened(row[1] + at), w));
            sum2 = _mm256_add_epi32(sum2, _mm256_mullo_epi32(load_widened(row[2] + at), w));
            sum3 = _mm256_add_epi32(sum3, _mm256_mullo_epi32(load_widened(row[3] + at), w));
        }
        __m256i total01 = _mm256_srai_epi32(add_halves(sum0, sum1), EES__WEIGHT_BITS);
        __m256i total23 = _mm256_srai_epi32(add_halves(sum2, sum3), EES__WEIGHT_BITS);
        __m256i words = _mm256_packs_epi32(total01, total23); /* rows 0 and 2, rows 1 and 3; both packs saturate */
        __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
        _mm_storeu_si32(out[0] + i * EES__PX_BYTES, bytes);
        _mm_storeu_si32(out[2] + i * EES__PX_BYTES, _mm_srli_si128(bytes, 4));
        _mm_storeu_si32(out[1] + i * EES__PX_BYTES, _mm_srli_si128(bytes, 8));
        _mm_storeu_si32(out[3] + i * EES__PX_BYTES, _mm_srli_si128(bytes, 12));
    }
}

/* 4 x 8 sums to 32 bytes in order: the packs work within halves of 128 bits, the permutation mends that. */
AVX2 static inline void clip_store(const __m256i sum[4], uint8_t *out) {
    __m256i v[4];
    for (int j = 0; j < 4; j++)
        v[j] = _mm256_srai_epi32(sum[j], EES__WEIGHT_BITS);
    __m256i words0 = _mm256_packs_epi32(v[0], v[1]), words1 = _mm256_packs_epi32(v[2], v[3]);
    __m256i bytes = _mm256_packus_epi16(words0, words1);
    bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)out, bytes);
}

AVX2 static void resize_rows(const struct ees__axis *axis, const struct ees__window *window, unsigned i, uint8_t *out) {
    const int32_t *weights = axis->weights + (size_t)i * axis->stride;
    const unsigned count = axis->count[i], first_slot = axis->first[i] % window->n_rows;
    for (size_t x = 0; x < window->row_bytes; x += STEP) {
        __m256i sum[4];
        for (int j = 0; j < 4; j++)
            sum[j] = _mm256_set1_epi32(ROUND);
        unsigned slot = first_slot;
        for (unsigned t = 0; t < count; t++) {
            const uint8_t *row = window->data + slot * window->row_bytes + x;
            __m256i w = _mm256_set1_epi32(weights[t]);
            for (int j = 0; j < 4; j++)
                sum[j] = _mm256_add_epi32(sum[j], _mm256_mullo_epi32(load_widened(row + j * 8), w));
            slot = slot + 1 == window->n_rows ? 0 : slot + 1;
        }
        clip_store(sum, out + x);
    }
}

const struct ees__resample_kernels ees__resample_avx2 = {"avx2", resize_columns, resize_rows};
#endif
