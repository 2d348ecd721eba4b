/* SPDX-License-Identifier: MIT */
/* sum_tile() and peak() of simd_narrow.h for CPUs that multiply a vector of groups, one a column, with one group of x.
 * The file defines
 *
 *     LANES(X)                X(0) X(1) ...: groups that one load of x brings
 *     vector_w, vector_x, load_w(p), load_x(p)
 *     dot(sum, w, x, lane)    sum plus, in each lane, a group of w times the group `lane` of x */
#ifndef EES_STAGES_KERNELS_SIMD_DOT_H
#define EES_STAGES_KERNELS_SIMD_DOT_H

#define COUNT_LANE(lane) +1
enum { N_LANES = LANES(COUNT_LANE) };
_Static_assert(STEP == GROUP * N_LANES, "a step is one load of x");

/* Where a load brings one group, it is used up at once; where it brings more, all rows' wait in registers. */
INLINE void sum_tile(const int rows, const struct panel_step *step, const struct narrow_rows *a,
                     accumulator sum[TILE_ROWS][TILE_VECTORS]) {
    const narrow *b = step->b;
    const narrow_x *from = a->x;
    const size_t ld = a->ld, n_steps = step->n_steps;
    uintptr_t prefetch = step->prefetch;
    UNROLLED
    for (int i = 0; i < rows; i++) {
        UNROLLED
        for (int j = 0; j < TILE_VECTORS; j++)
            sum[i][j] = (accumulator){0};
    }
    for (size_t p = 0; p < n_steps; p++) {
        vector_x x[TILE_ROWS];
        UNROLLED
        for (int i = 0; N_LANES > 1 && i < rows; i++)
            x[i] = load_x(from + i * ld);
#define MULTIPLY_LANE(lane)                                                                                            \
    {                                                                                                                  \
        vector_w panel[TILE_VECTORS];                                                                                  \
        __builtin_prefetch((const void *)(prefetch + (lane)*PREFETCH_STEP));                                           \
        UNROLLED                                                                                                       \
        for (int j = 0; j < TILE_VECTORS; j++)                                                                         \
            panel[j] = load_w(b + ((lane)*TILE_COLUMNS + j * VL) * GROUP);                                             \
        UNROLLED                                                                                                       \
        for (int i = 0; i < rows; i++) {                                                                               \
            if (N_LANES == 1)                                                                                          \
                x[i] = load_x(from + i * ld);                                                                          \
            UNROLLED                                                                                                   \
            for (int j = 0; j < TILE_VECTORS; j++)                                                                     \
                sum[i][j] = dot(sum[i][j], panel[j], x[i], lane);                                                      \
        }                                                                                                              \
    }
        LANES(MULTIPLY_LANE)
        b += STEP * TILE_COLUMNS;
        from += STEP;
        prefetch += N_LANES * PREFETCH_STEP;
    }
}

#define FIRST_DOT(sum, w, x) dot(sum, w, x, 0)
DEFINE_PEAK(peak, accumulator, vector_w, vector_x, FIRST_DOT, GROUP)

#endif
