/* SPDX-License-Identifier: MIT */
/* Attention core on bf16 elements: scores and softmax are float32, what is multiplied is rounded. K (times the scale)
 * and V are packed as panels of weights, V's with two tokens to a group. */
#ifndef EES_STAGES_KERNELS_SIMD_BF16_ATTENTION_H
#define EES_STAGES_KERNELS_SIMD_BF16_ATTENTION_H

static const float no_bias[TILE_COLUMNS];

static size_t keys_elements(size_t t, size_t d) { return ees__round_up(t, TILE_COLUMNS) * ees__round_up(d, STEP); }

/* Two bytes an element. */
static size_t attention_packed_floats(size_t t, size_t d) {
    size_t keys, values, sum;
    if (!ees__mul(ees__round_up(t, TILE_COLUMNS), ees__round_up(d, STEP), &keys) ||
        !ees__mul(ees__round_up(d, TILE_COLUMNS), ees__round_up(t, STEP), &values) || !ees__add(keys, values, &sum))
        return SIZE_MAX;
    return (sum + 1) / 2;
}

/* Keys are columns of the first product: a group is two channels of one key. */
static void pack_keys(const float *k, size_t ldk, size_t t, size_t d, float scale, narrow *packed) {
    memset(packed, 0, keys_elements(t, d) * sizeof *packed);
    for (size_t key = 0; key < t; key++, k += ldk) {
        narrow *to = packed + key / TILE_COLUMNS * panel_elements(d) + key % TILE_COLUMNS * GROUP;
        for (size_t p = 0; p < d; p += VL) {
            size_t n = d - p < VL ? d - p : VL;
            vn v = vector_narrow((n < VL ? load_part(k + p, n) : load(k + p)) * scale);
            narrow row[VL];
            memcpy(row, &v, sizeof row);
            for (size_t i = 0; i < n; i += GROUP)
                memcpy(to + (p + i) / GROUP * GROUP * TILE_COLUMNS, row + i, GROUP * sizeof *row);
        }
    }
}

/* Channels are columns of the second: a group is one channel of two tokens. */
static void pack_values(const float *v, size_t ldv, size_t t, size_t d, narrow *packed) {
    for (size_t first = 0; first < d; first += TILE_COLUMNS)
        for (size_t i = 0; i < t; i += GROUP)
            for (size_t column = first; column < first + TILE_COLUMNS; column += VL, packed += GROUP * VL) {
                size_t n = column >= d ? 0 : d - column < VL ? d - column : VL;
                const float *even = v + i * ldv + column, *odd = even + ldv;
                vn low = vector_narrow(n == VL ? load(even) : load_part(even, n));
                vn high = vector_narrow(i + 1 == t ? (vf){0} : n == VL ? load(odd) : load_part(odd, n));
                vu both = __builtin_convertvector(low, vu) | __builtin_convertvector(high, vu) << 16;
                memcpy(packed, &both, sizeof both);
            }
}

/* y = a b for a panel that is in the cache already. */
static void multiply_cached(const narrow *b, size_t k, const narrow_x *a, size_t lda, size_t rows, float *y,
                            size_t ldy) {
    const struct panel_step step = {
        .b = b, .bias = no_bias, .n_steps = ees__round_up(k, STEP) / STEP, .prefetch = (uintptr_t)b};
    const struct narrow_rows narrowed = {.x = a, .ld = lda};
    tiles[rows](&step, &narrowed, y, ldy);
}

/* What attend_rows() needs beside the packed head: float32 scores, then rounded queries and probabilities. */
static size_t attention_scratch_floats(size_t t, size_t d) {
    size_t floats;
    if (t > SIZE_MAX / 8 || d > SIZE_MAX / 8 ||
        !ees__mul(scores_ld(t) + ees__narrow_ld(t) + ees__narrow_ld(d), TILE_ROWS, &floats))
        return SIZE_MAX;
    return floats;
}

/* A packed head. */
struct packed_head {
    const narrow *keys, *values;
    const float *bias, *mask; /* (t, ees__score_ld(t)) or NULL */
    size_t t, d;
};

/* out (rows, d) of query rows q, the first of which is row `first` of the head. */
static void attend_rows(const struct packed_head *head, const float *q, size_t ldq, size_t first, size_t rows,
                        float *out, size_t ldout, float *scratch) {
    const size_t t = head->t, d = head->d, ld = scores_ld(t), ld_q = ees__narrow_ld(d), ld_p = ees__narrow_ld(t);
    float tile[TILE_ROWS * TILE_COLUMNS], inverse[TILE_ROWS], *scores = scratch;
    narrow_x *queries = (narrow_x *)(scores + TILE_ROWS * ld), *probabilities = queries + TILE_ROWS * ld_q;
    for (size_t i = 0; i < rows; i++)
        narrow_row(q + i * ldq, d, queries + i * ld_q, NULL);
    for (size_t key = 0; key < t; key += TILE_COLUMNS)
        multiply_cached(head->keys + key / TILE_COLUMNS * panel_elements(d), d, queries, ld_q, rows, scores + key, ld);
    for (size_t i = 0; i < rows; i++) {
        inverse[i] = 1.0f / exponentiate_row(scores + i * ld, t, score_row(head->bias, t, first + i),
                                             score_row(head->mask, t, first + i));
        narrow_row(scores + i * ld, t, probabilities + i * ld_p, NULL);
    }
    for (size_t channel = 0; channel < d; channel += TILE_COLUMNS) {
        size_t columns = d - channel < TILE_COLUMNS ? d - channel : TILE_COLUMNS;
        multiply_cached(head->values + channel / TILE_COLUMNS * panel_elements(t), t, probabilities, ld_p, rows, tile,
                        TILE_COLUMNS);
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < columns; j++)
                out[i * ldout + channel + j] = tile[i * TILE_COLUMNS + j] * inverse[i];
    }
}

static void attention_pack(const struct ees__attention *a, const float *qkv, size_t ldqkv, size_t head, float *packed) {
    const float *k = qkv + (a->h + head) * a->d, *v = k + a->h * a->d;
    narrow *to = (narrow *)packed;
    pack_keys(k, ldqkv, a->t, a->d, a->scale, to);
    pack_values(v, ldqkv, a->t, a->d, to + keys_elements(a->t, a->d));
}

static void attention(const struct ees__attention *a, const float *qkv, size_t ldqkv, size_t head, size_t first,
                      size_t end, const float *packed, float *out, size_t ldout, float *scratch) {
    const narrow *keys = (const narrow *)packed;
    const struct packed_head one = {
        .keys = keys,
        .values = keys + keys_elements(a->t, a->d),
        .bias = a->bias ? score_row(a->bias, a->t, head * a->t) : NULL,
        .mask = a->mask,
        .t = a->t,
        .d = a->d,
    };
    const size_t n_rows = end - first, n_tiles = (n_rows + TILE_ROWS - 1) / TILE_ROWS;
    const float *q = qkv + head * a->d;
    for (size_t idx = 0; idx < n_tiles; idx++) {
        size_t row = first + tile_row(n_rows, n_tiles, idx), rows = first + tile_row(n_rows, n_tiles, idx + 1) - row;
        attend_rows(&one, q + row * ldqkv, ldqkv, row, rows, out + row * ldout + head * a->d, ldout, scratch);
    }
}

#endif
