/* SPDX-License-Identifier: MIT */
/* Attention core: per head, K (times the scale) and V are packed like weights of a linear layer, then each tile of
 * query rows makes its scores, its softmax and its product with V while the scores are in the first cache. */
#ifndef EES_STAGES_KERNELS_SIMD_ATTENTION_H
#define EES_STAGES_KERNELS_SIMD_ATTENTION_H

/* Scratch of one head. */
struct attention_scratch {
    float *keys;   /* panels of keys, [t / TILE_COLUMNS][d][TILE_COLUMNS] */
    float *values; /* panels of columns of V, [d / TILE_COLUMNS][t][TILE_COLUMNS] */
    float *scores; /* (TILE_ROWS, ld_scores) */
    size_t ld_scores;
};

/* A vector more than t needs: rows a power of two apart would fall into the same cache sets. */
static size_t scores_ld(size_t t) { return ees__round_up(t, TILE_COLUMNS) + VL; }

/* SIZE_MAX when the sizes overflow: no allocation of that size succeeds. */
static size_t attention_scratch_floats(size_t t, size_t h, size_t d) {
    size_t keys, values, scores, sum;
    if (!ees__mul(ees__round_up(t, TILE_COLUMNS), d, &keys) || !ees__mul(ees__round_up(d, TILE_COLUMNS), t, &values) ||
        !ees__mul(scores_ld(t), TILE_ROWS, &scores) || !ees__add(keys, values, &sum) || !ees__add(sum, scores, &sum))
        return SIZE_MAX;
    return sum;
}

static struct attention_scratch cut_scratch(float *scratch, size_t t, size_t d) {
    float *values = scratch + ees__round_up(t, TILE_COLUMNS) * d;
    return (struct attention_scratch){
        .keys = scratch,
        .values = values,
        .scores = values + ees__round_up(d, TILE_COLUMNS) * t,
        .ld_scores = scores_ld(t),
    };
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

/* row[0 .. n) = exp(row - max), returns the sum. The row has room for whole vectors. A NaN anywhere makes the sum NaN:
 * the maximum may pass over it, the exponential does not. */
static float exponentiate_row(float *row, size_t n) {
    size_t padded = ees__round_up(n, VL);
    for (size_t i = n; i < padded; i++)
        row[i] = -__builtin_inff();
    vf max = load(row);
    for (size_t i = VL; i < padded; i += VL)
        max = vector_max(load(row + i), max);
    vf shift = splat(lanes_max(max)), sum = {0};
    for (size_t i = 0; i < padded; i += VL) {
        vf e = exp_nonpositive(load(row + i) - shift);
        store(row + i, e);
        sum += e;
    }
    return lanes_sum(sum);
}

/* y = a b for a panel that is in the cache already. */
static void multiply_cached(const float *b, size_t k, const float *a, size_t lda, size_t rows, float *y, size_t ldy) {
    const struct panel_step step = {.b = b, .bias = no_bias, .k = k, .prefetch = (uintptr_t)b};
    tiles[rows](&step, a, lda, y, ldy);
}

/* out (rows, d) of query rows q. */
static void attend_rows(const struct attention_scratch *s, const float *q, size_t ldq, size_t rows, size_t t, size_t d,
                        float *out, size_t ldout) {
    float tile[TILE_ROWS * TILE_COLUMNS], inverse[TILE_ROWS];
    for (size_t key = 0; key < t; key += TILE_COLUMNS)
        multiply_cached(s->keys + key * d, d, q, ldq, rows, s->scores + key, s->ld_scores);
    for (size_t i = 0; i < rows; i++)
        inverse[i] = 1.0f / exponentiate_row(s->scores + i * s->ld_scores, t);
    for (size_t first = 0; first < d; first += TILE_COLUMNS) {
        size_t columns = d - first < TILE_COLUMNS ? d - first : TILE_COLUMNS;
        multiply_cached(s->values + first * t, t, s->scores, s->ld_scores, rows, tile, TILE_COLUMNS);
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < columns; j++)
                out[i * ldout + first + j] = tile[i * TILE_COLUMNS + j] * inverse[i];
    }
}

static void attention(const float *qkv, size_t ldqkv, size_t t, size_t h, size_t d, float scale, float *out,
                      size_t ldout, float *scratch) {
    struct attention_scratch s = cut_scratch(scratch, t, d);
    size_t n_tiles = (t + TILE_ROWS - 1) / TILE_ROWS;
    for (size_t head = 0; head < h; head++) {
        const float *q = qkv + head * d, *k = q + h * d, *v = k + h * d;
        pack_panels(k, ldqkv, t, d, scale, s.keys);
        pack_values(v, ldqkv, t, d, s.values);
        for (size_t idx = 0; idx < n_tiles; idx++) {
            size_t first = tile_row(t, n_tiles, idx), rows = tile_row(t, n_tiles, idx + 1) - first;
            attend_rows(&s, q + first * ldqkv, ldqkv, rows, t, d, out + first * ldout + head * d, ldout);
        }
    }
}

#endif
