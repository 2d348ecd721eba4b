/* SPDX-License-Identifier: MIT */
/* Attention core on int8 elements. Queries, keys and channels of V are quantised around 0, each by its own largest
 * magnitude. A query's weights exp(s - max s) are rounded to steps of 1 / 255, sums of products are exact, and what
 * they give is divided by the sum of the rounded weights, which therefore add up to 1. */
#ifndef EES_STAGES_KERNELS_SIMD_S8_ATTENTION_H
#define EES_STAGES_KERNELS_SIMD_S8_ATTENTION_H

_Static_assert(GROUP == 4 && PLACE(1, 2) == GROUP + 2 && sizeof(narrow_x) == 1, "groups are packed as words");

enum { QUERY_ZERO = 128 }; /* u of a query's 0 */

/* A packed matrix: n columns of k elements in panels, and what becomes of their sums: (sum + offset) scale + bias.
 * Vectors are padded to whole panels. */
struct columns {
    narrow *panels;
    int32_t *offset;
    float *scale, *bias;
    size_t n, k;
};

static size_t columns_bytes(size_t n, size_t k) {
    size_t padded = ees__round_up(n, TILE_COLUMNS);
    return ees__round_up(padded * ees__round_up(k, STEP), EES_CACHE_LINE) + 3 * padded * sizeof(float);
}

static struct columns lay_columns(void *memory, size_t n, size_t k) {
    size_t padded = ees__round_up(n, TILE_COLUMNS);
    narrow *panels = memory;
    float *vectors = (float *)(panels + ees__round_up(padded * ees__round_up(k, STEP), EES_CACHE_LINE));
    return (struct columns){.panels = panels,
                            .offset = (int32_t *)vectors,
                            .scale = vectors + padded,
                            .bias = vectors + 2 * padded,
                            .n = n,
                            .k = k};
}

/* Keys as columns of d, then channels as columns of t. */
static size_t attention_packed_floats(size_t t, size_t d) {
    size_t area;
    if (t > SIZE_MAX / 64 || d > SIZE_MAX / 64 ||
        !ees__mul(ees__round_up(t, TILE_COLUMNS), ees__round_up(d, TILE_COLUMNS), &area) || area > SIZE_MAX / 64)
        return SIZE_MAX;
    return (columns_bytes(t, d) + columns_bytes(d, t)) / sizeof(float);
}

/* Of a tile: scores, then quantised queries and weights. */
static size_t attention_scratch_floats(size_t t, size_t d) {
    size_t floats;
    if (t > SIZE_MAX / 8 || d > SIZE_MAX / 8 ||
        !ees__mul(scores_ld(t) + ees__narrow_ld(t) + ees__narrow_ld(d), TILE_ROWS, &floats))
        return SIZE_MAX;
    return floats;
}

/* ---- Packing -------------------------------------------------------------------------------------------- */

INLINE vf load_first(const float *p, size_t n) { return n < VL ? load_part(p, n) : load(p); }

/* x inverse to the nearest whole number. */
INLINE vi to_steps(vf x, vf inverse) { return (vi)(x * inverse + EES__ROUNDER) - (vi)splat(EES__ROUNDER); }

/* Steps of magnitudes up to `largest`, and their inverse. What is all but 0 has any step, and 0 steps. */
INLINE vf find_step(vf largest, vf *inverse) {
    const vu flat = (vu)(largest < EES__LEAST_RANGE);
    *inverse = (vf)(~flat & (vu)(127.0f / largest));
    return (vf)((flat & (vu)splat(1.0f)) | (~flat & (vu)(largest * (1.0f / 127.0f))));
}

/* The same of a row; NaN if one of its values is not finite. */
static float find_row_step(const float *x, size_t n, float *inverse) {
    vf largest = {0}, poison = {0};
    for (size_t p = 0; p < n; p += VL) {
        vf v = load_first(x + p, n - p);
        largest = vector_max(absolute(v), largest);
        poison += v * 0.0f;
    }
    vf inverses, step = find_step(splat(vector_largest(largest)), &inverses);
    *inverse = inverses[0];
    return step[0] + vector_total(poison);
}

/* A head's part of row `ahead` of k is wanted soon, its query and its V later. Between rows lies more than a page,
 * which hardware does not look beyond. */
INLINE void prefetch_token(const struct ees__attention *a, const float *k, size_t ldk, size_t key) {
    enum { AHEAD = 8 };
    const size_t c = a->h * a->d * sizeof(float);
    const uintptr_t here = (uintptr_t)(k + key * ldk), soon = here + AHEAD * ldk * sizeof(float);
    for (size_t at = 0; at < a->d * sizeof(float); at += EES_CACHE_LINE) {
        __builtin_prefetch((const void *)(soon + at));
        __builtin_prefetch((const void *)(here + c + at), 0, 2);
        __builtin_prefetch((const void *)(here - c + at), 0, 2);
    }
}

static void pack_keys(const struct ees__attention *a, const float *k, size_t ldk, const struct columns *to) {
    const size_t padded = ees__round_up(a->t, TILE_COLUMNS);
    memset(to->panels, 0, padded * ees__round_up(a->d, STEP));
    for (size_t key = 0; key < a->t; key++) {
        const float *row = k + key * ldk;
        narrow *column = to->panels + key / TILE_COLUMNS * panel_elements(a->d) + key % TILE_COLUMNS * GROUP;
        float inverse;
        vi sum = {0};
        prefetch_token(a, k, ldk, key);
        to->scale[key] = find_row_step(row, a->d, &inverse) * a->scale;
        for (size_t p = 0; p < a->d; p += VL) {
            vi q = to_steps(load_first(row + p, a->d - p), splat(inverse));
            vn narrowed = (vn)vector_low(q);
            for (size_t i = 0; i < VL && p + i < a->d; i += GROUP)
                memcpy(column + (p + i) * TILE_COLUMNS, (const narrow_x *)&narrowed + i, GROUP);
            sum += q;
        }
        float total = vector_total(__builtin_convertvector(sum, vf)); /* a NaN's is anything, and its scale is NaN */
        to->offset[key] = absolute(splat(total))[0] < 0x1p+24f ? (X_SHIFT - QUERY_ZERO) * (int32_t)total : 0;
        to->bias[key] = 0.0f;
    }
    for (size_t key = a->t; key < padded; key++) { /* no weight for these */
        to->offset[key] = 0;
        to->scale[key] = 0.0f;
        to->bias[key] = -__builtin_inff();
    }
}

/* Steps of VL channels of V, the first n of which exist, and their inverses. */
INLINE vf find_channel_steps(const float *v, size_t ldv, size_t t, size_t n, vf *inverse) {
    vf largest = {0}, poison = {0};
    for (size_t i = 0; i < t; i++) {
        vf x = load_first(v + i * ldv, n);
        largest = vector_max(absolute(x), largest);
        poison += x * 0.0f;
    }
    return find_step(largest, inverse) + poison;
}

static void pack_values(const struct ees__attention *a, const float *v, size_t ldv, const struct columns *to) {
    for (size_t column = 0; column < ees__round_up(a->d, TILE_COLUMNS); column += VL) {
        narrow *word = to->panels + column / TILE_COLUMNS * panel_elements(a->t) + column % TILE_COLUMNS * GROUP;
        size_t n = column < a->d ? a->d - column : 0;
        vf inverse = {0};
        vi sum = {0};
        store(to->scale + column, find_channel_steps(v + column, n ? ldv : 0, n ? a->t : 0, n, &inverse));
        for (size_t i = 0; i < a->t; i += GROUP, word += TILE_COLUMNS * GROUP) {
            vu words = {0};
            for (size_t e = 0; e < GROUP && n && i + e < a->t; e++) {
                vi q = to_steps(load_first(v + (i + e) * ldv + column, n), inverse);
                words |= ((vu)q & 0xffu) << (8 * e);
                sum += q;
            }
            memcpy(word, &words, sizeof words);
        }
        sum *= X_SHIFT;
        memcpy(to->offset + column, &sum, sizeof sum);
    }
}

static void attention_pack(const struct ees__attention *a, const float *qkv, size_t ldqkv, size_t head, float *packed) {
    const float *k = qkv + (a->h + head) * a->d, *v = k + a->h * a->d;
    struct columns keys = lay_columns(packed, a->t, a->d);
    struct columns values = lay_columns(packed + columns_bytes(a->t, a->d) / sizeof(float), a->d, a->t);
    pack_keys(a, k, ldqkv, &keys);
    pack_values(a, v, ldqkv, &values);
}

/* ---- Query rows ----------------------------------------------------------------------------------------- */

/* scores (rows, TILE_COLUMNS), less the queries' own steps; `largest`, lane by lane, is brought up to date. */
INLINE void score_tile(const int rows, const struct panel_step *step, const struct narrow_rows *a, float *scores,
                       size_t ld, vf *largest) {
    accumulator sum[TILE_ROWS][TILE_VECTORS];
    sum_tile(rows, step, a, sum);
    const struct terms terms = load_terms(step);
    UNROLLED
    for (int i = 0; i < rows; i++) {
        vf top = largest[i];
        UNROLLED
        for (int j = 0; j < TILE_VECTORS; j++) {
            vf z = __builtin_convertvector(sum[i][j] + terms.sums[j], vf) * terms.scale[j] + terms.bias[j];
            store(scores + i * ld + j * VL, z);
            top = vector_max(z, top);
        }
        largest[i] = top;
    }
}

/* out (rows, TILE_COLUMNS) = weights * V, times factor[i]. */
INLINE void mix_tile(const int rows, const struct panel_step *step, const struct narrow_rows *a, float *out, size_t ld,
                     const float *factor) {
    accumulator sum[TILE_ROWS][TILE_VECTORS];
    sum_tile(rows, step, a, sum);
    const struct terms terms = load_terms(step);
    UNROLLED
    for (int i = 0; i < rows; i++) {
        UNROLLED
        for (int j = 0; j < TILE_VECTORS; j++)
            store(out + i * ld + j * VL,
                  __builtin_convertvector(sum[i][j] + terms.sums[j], vf) * (terms.scale[j] * factor[i]));
    }
}

typedef void score_fn(const struct panel_step *step, const struct narrow_rows *a, float *scores, size_t ld,
                      vf *largest);
typedef void mix_fn(const struct panel_step *step, const struct narrow_rows *a, float *out, size_t ld,
                    const float *factor);

#define DEFINE_SCORE(rows)                                                                                             \
    static void score_tile_##rows(const struct panel_step *step, const struct narrow_rows *a, float *scores,           \
                                  size_t ld, vf *largest) {                                                            \
        score_tile(rows, step, a, scores, ld, largest);                                                                \
    }
TILE_LIST(DEFINE_SCORE)

#define DEFINE_MIX(rows)                                                                                               \
    static void mix_tile_##rows(const struct panel_step *step, const struct narrow_rows *a, float *out, size_t ld,     \
                                const float *factor) {                                                                 \
        mix_tile(rows, step, a, out, ld, factor);                                                                      \
    }
TILE_LIST(DEFINE_MIX)

#define SCORE_ENTRY(rows) [rows] = score_tile_##rows,
#define MIX_ENTRY(rows)   [rows] = mix_tile_##rows,
static score_fn *const score_tiles[TILE_ROWS + 1] = {TILE_LIST(SCORE_ENTRY)};
static mix_fn *const mix_tiles[TILE_ROWS + 1] = {TILE_LIST(MIX_ENTRY)};

/* Panel `column / TILE_COLUMNS`. It is in the cache already. */
INLINE struct panel_step step_of(const struct columns *c, size_t column) {
    const narrow *b = c->panels + column / TILE_COLUMNS * panel_elements(c->k);
    return (struct panel_step){.b = b,
                               .n_steps = ees__round_up(c->k, STEP) / STEP,
                               .bias = c->bias + column,
                               .weight_scale = c->scale + column,
                               .sums = c->offset + column,
                               .prefetch = (uintptr_t)b};
}

/* u of a query and its step. */
static float quantise_query(const float *q, size_t d, narrow_x *u) {
    float inverse, step = find_row_step(q, d, &inverse);
    for (size_t p = 0; p < d; p += VL)
        *(vn_unaligned *)(u + p) = quantise(load_first(q + p, d - p), inverse, EES__ROUNDER + QUERY_ZERO - X_SHIFT);
    return step;
}

/* scores = step scores + bias + mask, and their maximum. */
static float add_to_scores(float *scores, size_t t, float step, const float *bias, const float *mask) {
    vf largest = splat(-__builtin_inff());
    for (size_t p = 0; p < t; p += VL) {
        vf s = load(scores + p) * step;
        s = bias ? s + load(bias + p) : s;
        s = mask ? s + load(mask + p) : s;
        store(scores + p, s);
        largest = vector_max(s, largest);
    }
    return vector_largest(largest);
}

/* weights = 255 exp(step (scores - largest)) to the nearest whole number, the exponential within 2^-13 of itself.
 * Returns the inverse of their sum; NaN if there is one among the scores. */
static float weigh_scores(const float *scores, size_t t, float step, float largest, narrow_x *weights) {
    const float LOG2_255 = 0x1.ffa37cp+2f;
    const float BIASED = EES__ROUNDER + 127.0f; /* see exp_split() */
    const vf slope = splat(step * 0x1.715476p+0f);
    vf total = {0};
    for (size_t p = 0; p < t; p += VL) {
        vf x = vector_max(splat(-126.0f), (load(scores + p) - largest) * slope + LOG2_255);
        vf shifted = x + BIASED, f = x - (shifted - BIASED);
        vf power = ((f * 0x1.c3f6fcp-5f + 0x1.f0de98p-3f) * f + 0x1.62f31ep-1f) * f + 0x1.fff690p-1f;
        vf whole = power * (vf)((vu)shifted << 23) + EES__ROUNDER;
        *(vn_unaligned *)(weights + p) = (vn)vector_low((vi)whole - X_SHIFT);
        total += whole - EES__ROUNDER;
    }
    return 1.0f / vector_total(total);
}

struct packed_head {
    struct columns keys, values;
    const float *bias, *mask; /* (t, ees__score_ld(t)) or NULL */
};

/* out (rows, d) of query rows q, the first of which is row `first` of the head. */
static void attend_rows(const struct packed_head *head, const float *q, size_t ldq, size_t first, size_t rows,
                        float *out, size_t ldout, float *scratch) {
    const size_t t = head->keys.n, d = head->keys.k, ld = scores_ld(t);
    const struct narrow_rows queries = {.x = (narrow_x *)(scratch + TILE_ROWS * ld), .ld = ees__narrow_ld(d)};
    const struct narrow_rows weights = {.x = queries.x + TILE_ROWS * queries.ld, .ld = ees__narrow_ld(t)};
    float step[TILE_ROWS], inverse[TILE_ROWS], tile[TILE_ROWS * TILE_COLUMNS], *scores = scratch;
    vf largest[TILE_ROWS];
    for (size_t i = 0; i < rows; i++) {
        step[i] = quantise_query(q + i * ldq, d, (narrow_x *)queries.x + i * queries.ld);
        largest[i] = splat(-__builtin_inff());
    }
    for (size_t key = 0; key < t; key += TILE_COLUMNS) {
        const struct panel_step panel = step_of(&head->keys, key);
        score_tiles[rows](&panel, &queries, scores + key, ld, largest);
    }
    for (size_t i = 0; i < rows; i++) {
        float top = vector_largest(largest[i]);
        if (head->bias || head->mask) {
            top = add_to_scores(scores + i * ld, t, step[i], score_row(head->bias, t, first + i),
                                score_row(head->mask, t, first + i));
            step[i] = 1.0f;
        }
        inverse[i] = weigh_scores(scores + i * ld, t, step[i], top, (narrow_x *)weights.x + i * weights.ld);
    }
    for (size_t channel = 0; channel < d; channel += TILE_COLUMNS) {
        const struct panel_step panel = step_of(&head->values, channel);
        bool whole = d - channel >= TILE_COLUMNS;
        mix_tiles[rows](&panel, &weights, whole ? out + channel : tile, whole ? ldout : TILE_COLUMNS, inverse);
        for (size_t i = 0; i < rows && !whole; i++)
            memcpy(out + i * ldout + channel, tile + i * TILE_COLUMNS, (d - channel) * sizeof *out);
    }
}

static void attention(const struct ees__attention *a, const float *qkv, size_t ldqkv, size_t head, size_t first,
                      size_t end, const float *packed, float *out, size_t ldout, float *scratch) {
    const struct packed_head one = {
        .keys = lay_columns((void *)packed, a->t, a->d),
        .values = lay_columns((void *)(packed + columns_bytes(a->t, a->d) / sizeof(float)), a->d, a->t),
        .bias = a->bias ? score_row(a->bias, a->t, head * a->t) : NULL,
        .mask = a->mask,
    };
    const size_t n_rows = end - first, n_tiles = (n_rows + TILE_ROWS - 1) / TILE_ROWS;
    const float *q = qkv + head * a->d;
    for (size_t idx = 0; idx < n_tiles; idx++) {
        size_t row = first + tile_row(n_rows, n_tiles, idx), rows = first + tile_row(n_rows, n_tiles, idx + 1) - row;
        attend_rows(&one, q + row * ldqkv, ldqkv, row, rows, out + row * ldout + head * a->d, ldout, scratch);
    }
}

#define S8_ATTENTION(name)                                                                                             \
    const struct ees__attention_core name = {.packed_floats = attention_packed_floats,                                 \
                                             .scratch_floats = attention_scratch_floats,                               \
                                             .pack = attention_pack,                                                   \
                                             .run = attention}

#endif
