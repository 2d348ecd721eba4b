/* SPDX-License-Identifier: MIT */
/* y = post(x W^T + bias) with narrow elements, written once for int8 (simd_s8.h) and bf16 (simd_bf16.h). Beside what
 * simd_vectors.h asks for, a level's file defines
 *
 *     narrow, narrow_x        element types of packed weights and of narrowed rows of x
 *     GROUP                   elements of k that stand together in packed weights
 *     STEP                    elements of k to which rows and panels are padded
 *     PLACE(j, e)             where element e of a group of column j stands among VL groups, j < VL
 *     ROW_GROUP               rows of x that stand together, a group of each in turn, where that is not one
 *     sum_tile(), peak()      see below and kernels.h; of simd_dot.h where the CPU sums groups lane by lane
 *
 * and the header of its precision the rest: accumulators, narrowing of rows, what becomes of a sum. That takes a
 * panel's vectors, struct terms, which are loaded once a tile: the compiler cannot know that stores to y leave them.
 *
 * W is packed in panels of TILE_COLUMNS of its rows, [n / TILE_COLUMNS][k / GROUP][TILE_COLUMNS][GROUP], zero-padded.
 * All rows of a chunk of x are narrowed into scratch first, once for all panels; then each panel is multiplied with
 * tiles of them over the whole of k. There are no blocks of k: a panel of narrow weights and a tile's rows stream from
 * the private cache faster than they are used up. */
#ifndef EES_STAGES_KERNELS_SIMD_NARROW_H
#define EES_STAGES_KERNELS_SIMD_NARROW_H

#include "stages/kernels/simd_peak.h"

#ifndef ROW_GROUP
#define ROW_GROUP 1
#endif
_Static_assert(EES__NARROW_MULTIPLE % STEP == 0, "rows are padded to whole steps");
_Static_assert(ROW_GROUP == 1 || STEP == GROUP, "what pads a row is a part of one group");

/* What a tile multiplies its rows with: one panel. */
struct panel_step {
    const narrow *b;
    size_t n_steps;
    const float *bias, *weight_scale; /* int8: weight_scale and sums, see struct ees__linear */
    const int32_t *sums;
    bool accumulate;            /* add to y */
    enum ees__post_op post;     /* then this, but for additions */
    const float *scale, *shift; /* EES__POST_GELU_AFFINE */
    uintptr_t prefetch;         /* what to bring closer meanwhile: an address, never read through */
};

/* Rows of x as they lie in scratch. */
struct narrow_rows {
    const narrow_x *x;
    size_t ld;
    const struct ees__narrow_row *row; /* int8 only */
};

/* Where row i begins in scratch, and its element p from there. */
INLINE size_t row_begin(size_t i, size_t ld) { return i / ROW_GROUP * ROW_GROUP * ld + i % ROW_GROUP * GROUP; }
INLINE size_t row_place(size_t p) { return p / GROUP * GROUP * ROW_GROUP + p % GROUP; }

/* tile_row() for tiles that begin with a group of rows. */
INLINE size_t group_row(size_t m, size_t n_tiles, size_t idx) {
    size_t row = tile_row((m + ROW_GROUP - 1) / ROW_GROUP, n_tiles, idx) * ROW_GROUP;
    return row < m ? row : m;
}

INLINE struct terms load_terms(const struct panel_step *step);
INLINE vf finish(accumulator sum, const struct terms *terms, int vector, const struct ees__narrow_row *row);
static void narrow_row(const float *x, size_t k, narrow_x *out, struct ees__narrow_row *row);

/* sum (rows, TILE_COLUMNS) = a (rows, k) * b (k, TILE_COLUMNS). */
INLINE void sum_tile(const int rows, const struct panel_step *step, const struct narrow_rows *a,
                     accumulator sum[TILE_ROWS][TILE_VECTORS]);

/* y (rows, TILE_COLUMNS) = [y +] that sum, scaled, + bias. `rows` is a constant in each instance. */
INLINE void multiply_tile(const int rows, const struct panel_step *step, const struct narrow_rows *a, float *y,
                          size_t ldy) {
    accumulator sum[TILE_ROWS][TILE_VECTORS];
    UNROLLED
    for (int i = 0; i < rows; i++) {
        __builtin_prefetch(y + i * ldy, 1);
        __builtin_prefetch(y + i * ldy + TILE_COLUMNS - 1, 1);
    }
    sum_tile(rows, step, a, sum);
    const struct terms terms = load_terms(step);
    const bool accumulate = step->accumulate;
    UNROLLED
    for (int i = 0; i < rows; i++) {
        UNROLLED
        for (int j = 0; j < TILE_VECTORS; j++) {
            vf z = finish(sum[i][j], &terms, j, &a->row[i]);
            store(y + i * ldy + j * VL, accumulate ? load(y + i * ldy + j * VL) + z : z);
        }
    }
}

typedef void tile_fn(const struct panel_step *step, const struct narrow_rows *a, float *y, size_t ldy);

#define DEFINE_TILE(rows)                                                                                              \
    static void multiply_tile_##rows(const struct panel_step *step, const struct narrow_rows *a, float *y,             \
                                     size_t ldy) {                                                                     \
        multiply_tile(rows, step, a, y, ldy);                                                                          \
    }
TILE_LIST(DEFINE_TILE)

#define TILE_ENTRY(rows) [rows] = multiply_tile_##rows,
static tile_fn *const tiles[TILE_ROWS + 1] = {TILE_LIST(TILE_ENTRY)};

static size_t panel_elements(size_t k) { return ees__round_up(k, STEP) * TILE_COLUMNS; }

static size_t packed_bytes(size_t n, size_t k) {
    return ees__round_up(n, TILE_COLUMNS) / TILE_COLUMNS * panel_elements(k) * sizeof(narrow);
}

static void pack(const void *weights, size_t n, size_t k, void *packed) {
    const narrow *w = weights;
    narrow *to = packed;
    memset(packed, 0, packed_bytes(n, k));
    for (size_t j = 0; j < n; j++) {
        narrow *panel = to + j / TILE_COLUMNS * panel_elements(k);
        size_t column = j % TILE_COLUMNS, vector = column / VL * VL * GROUP;
        for (size_t p = 0; p < k; p++)
            panel[p / GROUP * GROUP * TILE_COLUMNS + vector + PLACE(column % VL, p % GROUP)] = w[j * k + p];
    }
}

static void multiply_rows(const struct panel_step *step, const struct narrow_rows *a, size_t rows, float *y,
                          size_t ldy) {
    tiles[rows](step, a, y, ldy);
    activate_tile(step->post, true, y, ldy, rows, step->scale, step->shift);
}

/* The same where only the first `columns` of the panel exist in y, scale and shift. */
static void multiply_rows_edge(const struct panel_step *step, const struct narrow_rows *a, size_t rows, float *y,
                               size_t ldy, size_t columns) {
    float tile[TILE_ROWS * TILE_COLUMNS], scale[TILE_COLUMNS] = {0}, shift[TILE_COLUMNS] = {0};
    struct panel_step padded = *step;
    if (step->scale) {
        padded.scale = memcpy(scale, step->scale, columns * sizeof(float));
        padded.shift = memcpy(shift, step->shift, columns * sizeof(float));
    }
    memset(tile, 0, rows * TILE_COLUMNS * sizeof(float));
    for (size_t i = 0; i < rows && step->accumulate; i++)
        memcpy(tile + i * TILE_COLUMNS, y + i * ldy, columns * sizeof(float));
    multiply_rows(&padded, a, rows, tile, TILE_COLUMNS);
    for (size_t i = 0; i < rows; i++)
        memcpy(y + i * ldy, tile + i * TILE_COLUMNS, columns * sizeof(float));
}

/* m rows against one panel; each tile brings a part of the panel to come, `next`, into the cache. */
static void multiply_panel(struct panel_step *step, const narrow *next, const struct narrow_rows *a, size_t m, float *y,
                           size_t ldy, size_t columns) {
    size_t n_tiles = (m + TILE_ROWS - 1) / TILE_ROWS;
    for (size_t idx = 0; idx < n_tiles; idx++) {
        size_t first = group_row(m, n_tiles, idx), rows = group_row(m, n_tiles, idx + 1) - first;
        const struct narrow_rows part = {.x = a->x + first * a->ld, .ld = a->ld, .row = a->row + first};
        step->prefetch = (uintptr_t)next + idx * step->n_steps * (STEP / GROUP) * PREFETCH_STEP;
        if (columns == TILE_COLUMNS)
            multiply_rows(step, &part, rows, y + first * ldy, ldy);
        else
            multiply_rows_edge(step, &part, rows, y + first * ldy, ldy, columns);
    }
}

static void multiply_panels(const struct ees__linear *l, const struct narrow_rows *a, size_t m, float *y, size_t ldy,
                            const struct ees__post *post) {
    struct panel_step step = {
        .n_steps = ees__round_up(l->k, STEP) / STEP,
        .accumulate = ees__post_adds(post->op),
        .post = post->op,
    };
    const narrow *packed = l->packed;
    for (size_t n = 0; n < l->n; n += TILE_COLUMNS) {
        bool more = l->n - n > TILE_COLUMNS;
        step.b = packed + n * (panel_elements(l->k) / TILE_COLUMNS);
        step.bias = l->bias + n;
        step.weight_scale = l->scale + n;
        step.sums = l->sums + n;
        if (post->op == EES__POST_GELU_AFFINE) {
            step.scale = post->scale + n;
            step.shift = post->shift + n;
        }
        multiply_panel(&step, more ? step.b + panel_elements(l->k) : packed, a, m, y + n, ldy,
                       more ? TILE_COLUMNS : l->n - n);
    }
}

static void run(const struct ees__linear *l, const float *x, size_t ldx, size_t m, float *y, size_t ldy,
                const struct ees__post *post, float *scratch) {
    size_t n_chunks = (m + ROW_CHUNK - 1) / ROW_CHUNK, ld = ees__narrow_ld(l->k);
    struct ees__narrow_row *row = (struct ees__narrow_row *)scratch;
    narrow_x *narrowed = (narrow_x *)(row + ROW_CHUNK);
    for (size_t idx = 0; idx < n_chunks; idx++) {
        size_t first = tile_row(m, n_chunks, idx), rows = tile_row(m, n_chunks, idx + 1) - first;
        for (size_t i = 0; i < rows; i++)
            narrow_row(x + (first + i) * ldx, l->k, narrowed + row_begin(i, ld), &row[i]);
        const struct narrow_rows a = {.x = narrowed, .ld = ld, .row = row};
        multiply_panels(l, &a, rows, y + first * ldy, ldy, post);
    }
}

#define NARROW_PRODUCT(name)                                                                                           \
    const struct ees__product name = {.packed_bytes = packed_bytes, .pack = pack, .run = run, .peak = peak}

#endif
