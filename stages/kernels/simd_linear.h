/* SPDX-License-Identifier: MIT */
/* y = post(x W^T + bias), and the register tile that attention shares.
 *
 * W is packed in panels of TILE_COLUMNS rows of W: [n / TILE_COLUMNS][k][TILE_COLUMNS], zero-padded, so that a step
 * over k reads whole vectors one after the other. For a block of k, each panel is multiplied with all rows of x, a
 * tile of at most TILE_ROWS rows at a time; partial sums meet in y. The order in which an element is summed is
 * therefore k ascending within blocks of a size that only k decides: the same whatever m and the row's tile.
 *
 * x is not packed: with addresses computed by the loads themselves it is as fast, and copying costs 2 to 5 % at narrow
 * widths. The one weak spot is an ldx of a multiple of 1024 floats on a CPU whose first cache has fewer ways than a
 * tile has rows; a caller that can choose adds a cache line to it. */
#ifndef EES_STAGES_KERNELS_SIMD_LINEAR_H
#define EES_STAGES_KERNELS_SIMD_LINEAR_H

enum { ROW_PANELS = 4 }; /* panels a lone row is multiplied with at once */

/* What a tile multiplies its rows with: k rows of one panel. */
struct panel_step {
    const float *b, *bias;
    size_t k;
    bool accumulate;            /* add to y */
    enum ees__post_op post;     /* then this, but for additions */
    const float *scale, *shift; /* EES__POST_GELU_AFFINE */
    uintptr_t prefetch;         /* what to bring closer meanwhile: an address, never read through */
};

typedef void tile_fn(const struct panel_step *step, const float *a, size_t lda, float *y, size_t ldy);

/* y (rows, TILE_COLUMNS) = [y +] a (rows, k) * b (k, TILE_COLUMNS) + bias. `rows` is a constant in each instance. */
INLINE void multiply_tile(const int rows, const struct panel_step *step, const float *a, size_t lda, float *y,
                          size_t ldy) {
    const float *b = step->b;
    const size_t k = step->k;
    const uintptr_t prefetch = step->prefetch;
    vf sum[TILE_ROWS][TILE_VECTORS];
    UNROLLED
    for (int i = 0; i < rows; i++) {
        __builtin_prefetch(y + i * ldy, 1);
        __builtin_prefetch(y + i * ldy + TILE_COLUMNS - 1, 1);
        UNROLLED
        for (int j = 0; j < TILE_VECTORS; j++)
            sum[i][j] = (vf){0};
    }
    for (size_t p = 0; p < k; p++) {
        __builtin_prefetch((const void *)(prefetch + p * PREFETCH_STEP));
        vf panel[TILE_VECTORS];
        UNROLLED
        for (int j = 0; j < TILE_VECTORS; j++)
            panel[j] = load(b + p * TILE_COLUMNS + j * VL);
        UNROLLED
        for (int i = 0; i < rows; i++) {
            UNROLLED
            for (int j = 0; j < TILE_VECTORS; j++)
                sum[i][j] += a[i * lda + p] * panel[j];
        }
    }
    UNROLLED
    for (int i = 0; i < rows; i++) {
        UNROLLED
        for (int j = 0; j < TILE_VECTORS; j++) {
            vf z = sum[i][j] + load(step->bias + j * VL);
            store(y + i * ldy + j * VL, step->accumulate ? load(y + i * ldy + j * VL) + z : z);
        }
    }
}

#define DEFINE_TILE(rows)                                                                                              \
    static void multiply_tile_##rows(const struct panel_step *step, const float *a, size_t lda, float *y,              \
                                     size_t ldy) {                                                                     \
        multiply_tile(rows, step, a, lda, y, ldy);                                                                     \
    }
TILE_LIST(DEFINE_TILE)

#define TILE_ENTRY(rows) [rows] = multiply_tile_##rows,
static tile_fn *const tiles[TILE_ROWS + 1] = {TILE_LIST(TILE_ENTRY)};

static const float no_bias[ROW_PANELS * TILE_COLUMNS];

static size_t f32_packed_bytes(size_t n, size_t k) { return ees__round_up(n, TILE_COLUMNS) * k * sizeof(float); }

/* Panels of w (n, k), each element times `scale`. */
static void pack_panels(const float *w, size_t ldw, size_t n, size_t k, float scale, float *packed) {
    for (size_t first = 0; first < n; first += TILE_COLUMNS, packed += k * TILE_COLUMNS) {
        size_t columns = n - first < TILE_COLUMNS ? n - first : TILE_COLUMNS;
        for (size_t j = 0; j < columns; j++)
            for (size_t p = 0; p < k; p++)
                packed[p * TILE_COLUMNS + j] = w[(first + j) * ldw + p] * scale;
        for (size_t j = columns; j < TILE_COLUMNS; j++)
            for (size_t p = 0; p < k; p++)
                packed[p * TILE_COLUMNS + j] = 0.0f;
    }
}

static void f32_pack(const void *w, size_t n, size_t k, void *packed) { pack_panels(w, k, n, k, 1.0f, packed); }

static void multiply_rows(const struct panel_step *step, const float *a, size_t lda, size_t rows, float *y,
                          size_t ldy) {
    tiles[rows](step, a, lda, y, ldy);
    activate_tile(step->post, false, y, ldy, rows, step->scale, step->shift);
}

/* The same where only the first `columns` of the panel exist in y, scale and shift. */
static void multiply_rows_edge(const struct panel_step *step, const float *a, size_t lda, size_t rows, float *y,
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
    multiply_rows(&padded, a, lda, rows, tile, TILE_COLUMNS);
    for (size_t i = 0; i < rows; i++)
        memcpy(y + i * ldy, tile + i * TILE_COLUMNS, columns * sizeof(float));
}

/* All rows against one panel. Each tile brings a part of the panel to come, `next`, into the cache: without that the
 * first tile of every panel waits for memory, 5 % of the time with the weights of ViT-B in the last-level cache. */
static void multiply_panel(struct panel_step *step, const float *next, const float *x, size_t ldx, size_t m, float *y,
                           size_t ldy, size_t columns) {
    size_t n_tiles = (m + TILE_ROWS - 1) / TILE_ROWS;
    for (size_t idx = 0; idx < n_tiles; idx++) {
        size_t first = tile_row(m, n_tiles, idx), rows = tile_row(m, n_tiles, idx + 1) - first;
        step->prefetch = (uintptr_t)next + idx * step->k * PREFETCH_STEP;
        if (columns == TILE_COLUMNS)
            multiply_rows(step, x + first * ldx, ldx, rows, y + first * ldy, ldy);
        else
            multiply_rows_edge(step, x + first * ldx, ldx, rows, y + first * ldy, ldy, columns);
    }
}

/* Blocks of k of equal size, at most K_BLOCK. */
static size_t k_block(size_t k) {
    size_t n_blocks = (k + K_BLOCK - 1) / K_BLOCK;
    return (k + n_blocks - 1) / n_blocks;
}

/* One row against ROW_PANELS panels at once, which lie `panel_floats` apart: a single panel has too few sums to hide
 * the latency of an addition, and a lone row (a classifier's) should wait for memory only. */
static void multiply_row(const struct panel_step *step, size_t panel_floats, const float *a, float *y) {
    vf sum[ROW_PANELS * TILE_VECTORS];
    UNROLLED
    for (int j = 0; j < ROW_PANELS * TILE_VECTORS; j++)
        sum[j] = (vf){0};
    for (size_t p = 0; p < step->k; p++) {
        const float *b = step->b + p * TILE_COLUMNS;
        UNROLLED
        for (int j = 0; j < ROW_PANELS * TILE_VECTORS; j++)
            sum[j] += a[p] * load(b + j / TILE_VECTORS * panel_floats + j % TILE_VECTORS * VL);
    }
    UNROLLED
    for (int j = 0; j < ROW_PANELS * TILE_VECTORS; j++) {
        vf z = sum[j] + load(step->bias + j * VL);
        store(y + j * VL, step->accumulate ? load(y + j * VL) + z : z);
    }
    for (int j = 0; j < ROW_PANELS * TILE_COLUMNS; j += TILE_COLUMNS)
        activate_tile(step->post, false, y + j, 0, 1, step->scale ? step->scale + j : NULL,
                      step->shift ? step->shift + j : NULL);
}

/* The panel of columns n, n + 1, ... and its block of k from `k`. */
static void aim_step(struct panel_step *step, const struct ees__linear *l, const struct ees__post *post, size_t n,
                     size_t k) {
    step->b = (const float *)l->packed + n * l->k + k * TILE_COLUMNS;
    step->bias = k + step->k == l->k ? l->bias + n : no_bias;
    if (post->op == EES__POST_GELU_AFFINE) {
        step->scale = post->scale + n;
        step->shift = post->shift + n;
    }
}

static void multiply_block(struct panel_step *step, const struct ees__linear *l, const struct ees__post *post, size_t k,
                           const float *x, size_t ldx, size_t m, float *y, size_t ldy) {
    const float *packed = l->packed, *next_block = k + step->k < l->k ? packed + (k + step->k) * TILE_COLUMNS : packed;
    size_t n = 0;
    for (; m == 1 && l->n - n >= ROW_PANELS * TILE_COLUMNS; n += ROW_PANELS * TILE_COLUMNS) {
        aim_step(step, l, post, n, k);
        multiply_row(step, l->k * TILE_COLUMNS, x + k, y + n);
    }
    for (; n < l->n; n += TILE_COLUMNS) {
        bool more = l->n - n > TILE_COLUMNS;
        aim_step(step, l, post, n, k);
        multiply_panel(step, more ? step->b + TILE_COLUMNS * l->k : next_block, x + k, ldx, m, y + n, ldy,
                       more ? TILE_COLUMNS : l->n - n);
    }
}

static void linear_rows(const struct ees__linear *l, const float *x, size_t ldx, size_t m, float *y, size_t ldy,
                        const struct ees__post *post) {
    size_t block = k_block(l->k);
    for (size_t k = 0; k < l->k; k += block) {
        bool last = l->k - k <= block;
        struct panel_step step = {
            .k = last ? l->k - k : block,
            .accumulate = k > 0 || ees__post_adds(post->op),
            .post = last ? post->op : EES__POST_NONE,
        };
        multiply_block(&step, l, post, k, x, ldx, m, y, ldy);
    }
}

static void f32_run(const struct ees__linear *l, const float *x, size_t ldx, size_t m, float *y, size_t ldy,
                    const struct ees__post *post, float *scratch) {
    size_t n_chunks = (m + ROW_CHUNK - 1) / ROW_CHUNK;
    for (size_t idx = 0; idx < n_chunks; idx++) {
        size_t first = tile_row(m, n_chunks, idx), rows = tile_row(m, n_chunks, idx + 1) - first;
        linear_rows(l, x + first * ldx, ldx, rows, y + first * ldy, ldy, post);
    }
}

#define MULTIPLY_ADD(sum, w, x) ((sum) + (x) * (w))
DEFINE_PEAK(f32_peak, vf, vf, vf, MULTIPLY_ADD, 1)

static const struct ees__product f32_product = {
    .packed_bytes = f32_packed_bytes, .pack = f32_pack, .run = f32_run, .peak = f32_peak};

#endif
