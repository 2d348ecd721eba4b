/* SPDX-License-Identifier: MIT */
/* Attention core: K (times the scale) and V of a head are packed like weights of a linear layer, then each tile of
 * query rows makes its scores, its softmax and its product with V while the scores are in the first cache. */
#ifndef EES_STAGES_KERNELS_SIMD_ATTENTION_H
#define EES_STAGES_KERNELS_SIMD_ATTENTION_H

/* Panels of keys, [t / TILE_COLUMNS][d][TILE_COLUMNS]; behind them panels of columns of V,
 * [d / TILE_COLUMNS][t][TILE_COLUMNS]. */
static size_t keys_floats(size_t t, size_t d) { return ees__round_up(t, TILE_COLUMNS) * d; }

/* SIZE_MAX when the sizes overflow: no allocation of that size succeeds. */
static size_t attention_packed_floats(size_t t, size_t d) {
    size_t keys, values, sum;
    if (!ees__mul(ees__round_up(t, TILE_COLUMNS), d, &keys) || !ees__mul(ees__round_up(d, TILE_COLUMNS), t, &values) ||
        !ees__add(keys, values, &sum))
        return SIZE_MAX;
    return sum;
}

/* Scores of a tile, (TILE_ROWS, scores_ld(t)). */
static size_t attention_scratch_floats(size_t t, size_t d) {
    size_t scores;
    return ees__mul(scores_ld(t), TILE_ROWS, &scores) ? scores : SIZE_MAX;
}

static void pack_values(const float *v, size_t ldv, size_t t, size_t d, float *packed) {
    for (size_t first = 0; first < d; first += TILE_COLUMNS) {
        size_t columns = d - first < TILE_COLUMNS ? d - first : TILE_COLUMNS;
        for (size_t i = 0; i < t; i++, packed += TILE_COLUMNS) {
            memcpy(packed, v + i * ldv + first, columns * sizeof(float));
            memset(packed + columns, 0, (TILE_COLUMNS - columns) * sizeof(float));
        }
    }
}

/* y = a b for a panel that is in the cache already. */
static void multiply_cached(const float *b, size_t k, const float *a, size_t lda, size_t rows, float *y, size_t ldy) {
    const struct panel_step step = {.b = b, .bias = no_bias, .k = k, .prefetch = (uintptr_t)b};
    tiles[rows](&step, a, lda, y, ldy);
}

/* A packed head. */
struct packed_head {
    const float *keys, *values;
    const float *bias, *mask; /* (t, ees__score_ld(t)) or NULL */
    size_t t, d;
};

/* out (rows, d) of query rows q, the first of which is row `first` of the head. */
static void attend_rows(const struct packed_head *head, const float *q, size_t ldq, size_t first, size_t rows,
                        float *out, size_t ldout, float *scores) {
    const size_t t = head->t, d = head->d, ld_scores = scores_ld(t);
    float tile[TILE_ROWS * TILE_COLUMNS], inverse[TILE_ROWS];
    for (size_t key = 0; key < t; key += TILE_COLUMNS)
        multiply_cached(head->keys + key * d, d, q, ldq, rows, scores + key, ld_scores);
    for (size_t i = 0; i < rows; i++)
        inverse[i] = 1.0f / exponentiate_row(scores + i * ld_scores, t, score_row(head->bias, t, first + i),
                                             score_row(head->mask, t, first + i));
    for (size_t channel = 0; channel < d; channel += TILE_COLUMNS) {
        size_t columns = d - channel < TILE_COLUMNS ? d - channel : TILE_COLUMNS;
        multiply_cached(head->values + channel * t, t, scores, ld_scores, rows, tile, TILE_COLUMNS);
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < columns; j++)
                out[i * ldout + channel + j] = tile[i * TILE_COLUMNS + j] * inverse[i];
    }
}

static void attention_pack(const struct ees__attention *a, const float *qkv, size_t ldqkv, size_t head, float *packed) {
    const float *k = qkv + (a->h + head) * a->d, *v = k + a->h * a->d;
    pack_panels(k, ldqkv, a->t, a->d, a->scale, packed);
    pack_values(v, ldqkv, a->t, a->d, packed + keys_floats(a->t, a->d));
}

static void attention(const struct ees__attention *a, const float *qkv, size_t ldqkv, size_t head, size_t first,
                      size_t end, const float *packed, float *out, size_t ldout, float *scratch) {
    const struct packed_head one = {
        .keys = packed,
        .values = packed + keys_floats(a->t, a->d),
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

static const struct ees__attention_core f32_attention = {
    .packed_floats = attention_packed_floats,
    .scratch_floats = attention_scratch_floats,
    .pack = attention_pack,
    .run = attention,
};

#endif
