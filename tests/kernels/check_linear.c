/* SPDX-License-Identifier: MIT */
/* Description: linear of every level and precision against the scalar twin: shapes around the tile, real shapes,
 * strides, offsets, every post operation, special values, and rows that do not depend on each other. int8 is exact. */
#include "testing.h"

/* A linear layer at one level and at the scalar one, on the same numbers. */
struct layer {
    size_t m, n, k;
    size_t offset; /* floats off alignment, of x and y */
    size_t gap;    /* ldx - k and ldy - n */
    enum ees__post_op op;
    enum ees__precision precision;
};

/* Those the level has. */
#define FOR_PRECISIONS(k, precision)                                                                                   \
    for (int precision = EES__F32; precision < EES__N_PRECISIONS; precision++)                                         \
        if ((k)->products[precision])

static const float *affine_scale, *affine_shift; /* for any n of this file */
enum { MAX_N = 3072 };

static struct ees__post post_of(enum ees__post_op op) {
    return (struct ees__post){.op = op,
                              .scale = op == EES__POST_GELU_AFFINE ? affine_scale : NULL,
                              .shift = op == EES__POST_GELU_AFFINE ? affine_shift : NULL};
}

static void run_linear(const struct ees__kernels *k, const struct layer *c, const float *w, const float *bias,
                       const float *x, float *y) {
    struct ees__linear l;
    struct ees__post post = post_of(c->op);
    assert_int_equal(ees__linear_open_as(k, c->precision, w, bias, c->n, c->k, &l, NULL), 0);
    float *scratch = ees__calloc_aligned(k->linear_scratch_floats(c->m, c->n, c->k), sizeof(float));
    assert_non_null(scratch);
    k->linear(&l, x, c->k + c->gap, c->m, y, c->n + c->gap, &post, scratch);
    ees__free(scratch);
    ees__linear_close(&l);
}

/* A chain of k fused multiply-adds, each off by half an ulp of a partial sum that |x| |w| bounds: errors of random
 * sign grow like sqrt(k). gelu multiplies them by its slope, at most 1.13, and adds 5 ulp of its own, as the other
 * activations do; the affine multiplies by its scale, at most 1. The twin's last rounding and the bias are in the
 * constants. Of int8 only activations but relu, and the affine, are inexact. Narrow products have a rougher gelu. */
static double tolerance(const struct layer *c, const float *x, const float *w, float bias, float before, float after) {
    bool exact = c->op == EES__POST_NONE || c->op == EES__POST_ADD || c->op == EES__POST_RELU;
    if (c->precision == EES__S8 && exact)
        return 0; /* the same integers, the same roundings */
    double gelu = c->precision == EES__F32 ? 0 : EES__NARROW_GELU * (1 + fabs((double)after) / 4);
    if (c->precision == EES__S8)
        return 8 * FLOAT_EPS * (fabs((double)after) + 2) + gelu;
    double terms = fabs((double)bias) + fabs((double)before) + fabs((double)after);
    for (size_t p = 0; p < c->k; p++)
        terms += fabs((double)x[p] * w[p]);
    return 1.13 * FLOAT_EPS * (sqrt((double)c->k) + 5) * (terms + 1e-30) + gelu;
}

static void check_layer(const struct ees__kernels *k, const struct layer *c) {
    size_t ldx = c->k + c->gap, ldy = c->n + c->gap;
    float *x = random_input((c->m - 1) * ldx + c->k, c->offset, 1), *w = random_input(c->n * c->k, 0, 2);
    float *bias = random_input(c->n, c->offset, 3), *before = random_input(c->m * c->n, 0, 4);
    struct output y = alloc_output((c->m - 1) * ldy + c->n, c->offset);
    struct output expected = alloc_output((c->m - 1) * ldy + c->n, 0);
    for (size_t i = 0; ees__post_adds(c->op) && i < c->m; i++) {
        memcpy(y.data + i * ldy, before + i * c->n, c->n * sizeof(float));
        memcpy(expected.data + i * ldy, before + i * c->n, c->n * sizeof(float));
    }
    run_linear(ees__kernels_get("scalar", NULL), c, w, bias, x, expected.data);
    run_linear(k, c, w, bias, x, y.data);
    check_guards(&y, k->name);
    char what[96];
    snprintf(what, sizeof what, "m %zu n %zu k %zu op %d", c->m, c->n, c->k, c->op);
    for (size_t i = 0; i < c->m; i++) {
        for (size_t j = 0; j < c->n; j++) {
            float e = expected.data[i * ldy + j];
            check_close(y.data[i * ldy + j], e,
                        tolerance(c, x + i * ldx, w + j * c->k, bias[j], before[i * c->n + j], e), k->name, what, i, j);
        }
        if (i + 1 < c->m)
            check_untouched(&y, i * ldy + c->n, c->gap, what);
    }
    free_input(x, c->offset);
    free_input(w, 0);
    free_input(bias, c->offset);
    free_input(before, 0);
    free_output(&y);
    free_output(&expected);
}

static void check_precisions(const struct ees__kernels *k, struct layer c) {
    FOR_PRECISIONS(k, precision) {
        c.precision = precision;
        check_layer(k, &c);
    }
}

static void check_small_shapes(const struct ees__kernels *k) {
    static const size_t columns[] = {1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 67, 129};
    static const size_t depths[] = {1, 2, 3, 4, 5, 17, 31, 97};
    for (size_t m = 1; m <= 29; m++)
        for (size_t n = 0; n < N_OF(columns); n++)
            for (size_t d = 0; d < N_OF(depths); d++)
                check_precisions(
                    k, (struct layer){m, columns[n], depths[d], m % 4, m % 3, (m + n + d) % EES__N_POST_OPS, EES__F32});
}

static void shapes_around_the_tile(void **state) { for_each_simd_level(check_small_shapes); }

/* Depths around the blocks of k of the levels, where partial sums meet in y. */
static void check_depths(const struct ees__kernels *k) {
    static const size_t depths[] = {255, 256, 257, 383, 384, 385, 511, 513, 767, 768, 769, 1537, 3072};
    for (size_t d = 0; d < N_OF(depths); d++)
        for (int op = EES__POST_NONE; op < EES__N_POST_OPS; op++)
            for (size_t m = 1; m <= 13; m += 12)
                check_precisions(k, (struct layer){m, 37, depths[d], 1, 3, op, EES__F32});
}

static void depths_around_the_blocks(void **state) { for_each_simd_level(check_depths); }

static void check_real_shapes(const struct ees__kernels *k) {
    static const size_t shapes[][3] = {{65, 96, 96},    {65, 288, 96},   {65, 384, 96},   {65, 96, 384},
                                       {197, 192, 192}, {197, 768, 192}, {198, 192, 768}, {198, 384, 384},
                                       {65, 1536, 384}, {65, 384, 1536}, {13, 768, 3072}, {13, 3072, 768},
                                       {1, 100, 768},   {1, 1000, 384},  {520, 64, 48}};
    for (size_t i = 0; i < N_OF(shapes); i++)
        check_precisions(k,
                         (struct layer){shapes[i][0], shapes[i][1], shapes[i][2], 0, 0, i % EES__N_POST_OPS, EES__F32});
}

static void real_shapes(void **state) { for_each_simd_level(check_real_shapes); }

static void check_rows(const struct ees__kernels *k, size_t n, size_t depth, enum ees__post_op op,
                       enum ees__precision precision) {
    enum { M = 197 };
    struct layer all = {M, n, depth, 0, 0, op, precision};
    float *x = random_input(M * depth, 0, 5), *w = random_input(n * depth, 0, 6), *bias = random_input(n, 0, 7);
    float *whole = random_input(M * n, 0, 8), *part = random_input(M * n, 0, 8);
    run_linear(k, &all, w, bias, x, whole);
    for (size_t first = 0, rows = 1; first < M; first += rows, rows = rows % 17 + 1) {
        struct layer some = all;
        some.m = first + rows <= M ? rows : M - first;
        run_linear(k, &some, w, bias, x + first * depth, part + first * n);
    }
    if (memcmp(whole, part, M * n * sizeof(float)))
        fail_msg("%s: rows of a %zu x %zu layer depend on how many there are", k->name, n, depth);
    free_input(x, 0);
    free_input(w, 0);
    free_input(bias, 0);
    free_input(whole, 0);
    free_input(part, 0);
}

static void check_row_independence(const struct ees__kernels *k) {
    if (!rows_are_independent(k))
        return;
    for (int op = EES__POST_NONE; op < EES__N_POST_OPS; op++) {
        FOR_PRECISIONS(k, precision) {
            check_rows(k, 192, 192, op, precision);
            check_rows(k, 133, 800, op, precision);
        }
    }
}

static void rows_do_not_depend_on_m(void **state) {
    check_rows(ees__kernels_get("scalar", NULL), 33, 65, EES__POST_GELU, EES__S8);
    for_each_simd_level(check_row_independence);
}

/* One row holds a NaN, one an infinity, one nothing special: each row feels its own value only. */
static void check_special_values(const struct ees__kernels *k) {
    enum { M = 3, N = 33, K = 19 };
    float x[M * K], w[N * K], y[M * N];
    for (size_t i = 0; i < M * K; i++)
        x[i] = 0.5f;
    for (size_t i = 0; i < N * K; i++)
        w[i] = 1.0f;
    x[0 * K + 7] = NAN;
    x[1 * K + 18] = -INFINITY;
    for (int op = EES__POST_NONE; op <= EES__POST_GELU; op++) {
        FOR_PRECISIONS(k, precision) {
            run_linear(k, &(struct layer){M, N, K, 0, 0, op, precision}, w, NULL, x, y);
            for (size_t j = 0; j < N; j++) {
                assert_true(isnan(y[j]));
                float from_infinity = y[N + j];
                assert_true(precision == EES__S8   ? isnan(from_infinity)
                            : op == EES__POST_NONE ? from_infinity == -INFINITY
                                                   : fabsf(from_infinity) <= EES__NARROW_GELU);
                float rough = op == EES__POST_NONE || precision == EES__F32 ? 0 : EES__NARROW_GELU * 9.5f / 4;
                assert_true(fabsf(y[2 * N + j] - 9.5f) < 1e-5f + rough);
            }
        }
    }
}

static void special_values_stay_in_their_row(void **state) { for_each_simd_level(check_special_values); }

static void check_denormals(const struct ees__kernels *k) {
    const float x[2] = {0x1p-140f, -0x1p-149f}, w[1] = {1};
    float y[2];
    run_linear(k, &(struct layer){2, 1, 1, 0, 0, EES__POST_NONE, EES__F32}, w, NULL, x, y);
    assert_memory_equal(x, y, sizeof x);
}

static void denormals_are_kept(void **state) { for_each_simd_level(check_denormals); }

/* The largest sums of products there can be, of either sign and in pairs: nothing on the way to int32 may saturate. */
static void check_extremes(const struct ees__kernels *k) {
    enum { M = 6, N = 67, K = 3072 };
    float *x = alloc_input(M * K, 0), *w = alloc_input(N * K, 0), *bias = random_input(N, 0, 12);
    for (size_t i = 0; i < M * K; i++) {
        static const float patterns[M][4] = {{1, 1, 1, 1},   {-1, -1, -1, -1},      {1, -1, 1, -1},
                                             {1, 1, -1, -1}, {-3e38f, 3e38f, 0, 0}, {3e38f, 0, 0, 0}};
        x[i] = patterns[i / K][i % 4];
    }
    for (size_t i = 0; i < N * K; i++)
        w[i] = i / K % 3 == 0 ? 1.0f : i / K % 3 == 1 ? -1.0f : i % 2 ? 1.0f : -1.0f;
    struct output y = alloc_output(M * N, 0), expected = alloc_output(M * N, 0);
    struct layer c = {M, N, K, 0, 0, EES__POST_NONE, EES__S8};
    run_linear(k, &c, w, bias, x, y.data);
    run_linear(ees__kernels_get("scalar", NULL), &c, w, bias, x, expected.data);
    for (size_t i = 0; i < M * N; i++) /* NaN, of a range beyond float, has many encodings */
        check_close(y.data[i], expected.data[i], 0, k->name, "extremes", i / N, i % N);
    assert_true(fabsf(y.data[0] - 3072.0f) < 1.1f); /* and the twin is right */
    assert_true(fabsf(y.data[N] + 3072.0f) < 1.1f);
    free_input(x, 0);
    free_input(w, 0);
    free_input(bias, 0);
    free_output(&y);
    free_output(&expected);
}

static void int8_sums_do_not_saturate(void **state) { for_each_simd_level(check_extremes); }

/* Rows of zeros, of one constant, of denormals; a row of W that is zero. */
static void check_flat_rows(const struct ees__kernels *k) {
    enum { M = 4, N = 5, K = 37 };
    float x[M * K] = {0}, w[N * K], y[M * N];
    const float bias[N] = {1, 2, 3, 4, 5};
    for (size_t p = 0; p < K; p++) {
        x[K + p] = 0.75f;
        x[2 * K + p] = -0.75f;
        x[3 * K + p] = 0x1p-140f;
    }
    for (size_t i = 0; i < N * K; i++)
        w[i] = i / K == 2 ? 0.0f : 0.5f;
    run_linear(k, &(struct layer){M, N, K, 0, 0, EES__POST_NONE, EES__S8}, w, bias, x, y);
    for (size_t j = 0; j < N; j++) {
        float product = j == 2 ? 0.0f : 0.75f * 0.5f * K;
        assert_true(y[j] == bias[j]);
        assert_true(fabsf(y[N + j] - bias[j] - product) < 1e-4f);
        assert_true(fabsf(y[2 * N + j] - bias[j] + product) < 1e-4f);
        assert_true(y[3 * N + j] == bias[j]);
    }
}

static void int8_takes_flat_rows(void **state) {
    check_flat_rows(ees__kernels_get("scalar", NULL));
    for_each_simd_level(check_flat_rows);
}

/* Quantised once more, weights that are quantised already stay what they are. */
static void quantising_twice_changes_nothing(void **state) {
    enum { K = 97 };
    float w[K];
    int8_t q[K], again[K];
    for (uint32_t seed = 1; seed < 2000; seed++) {
        uint32_t state_of = seed;
        for (size_t p = 0; p < K; p++)
            w[p] = next_random(&state_of) * 0.1f;
        float scale = ees__quantise_row(w, K, q);
        for (size_t p = 0; p < K; p++)
            w[p] = scale * q[p] * 3.7f; /* as a layer scale does */
        ees__quantise_row(w, K, again);
        assert_memory_equal(q, again, K);
    }
}

int main(void) {
    affine_scale = random_input(MAX_N, 0, 9);
    affine_shift = random_input(MAX_N, 0, 10);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes_around_the_tile),
        cmocka_unit_test(depths_around_the_blocks),
        cmocka_unit_test(real_shapes),
        cmocka_unit_test(rows_do_not_depend_on_m),
        cmocka_unit_test(special_values_stay_in_their_row),
        cmocka_unit_test(denormals_are_kept),
        cmocka_unit_test(int8_sums_do_not_saturate),
        cmocka_unit_test(int8_takes_flat_rows),
        cmocka_unit_test(quantising_twice_changes_nothing),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free_input((float *)affine_scale, 0);
    free_input((float *)affine_shift, 0);
    return failed;
}
