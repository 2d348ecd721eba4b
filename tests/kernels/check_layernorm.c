/* SPDX-License-Identifier: MIT */
/* Description: LayerNorm of every level against the scalar twin. */
#include "testing.h"

struct shape {
    size_t rows, c, offset, gap;
    float mean; /* added to inputs in [-1, 1) */
};

/* The deviation x - mean is off by eps (|mean| sqrt(c) / CHAINS + 1) at most, divided by sigma, which is about 0.57
 * here, and multiplied by |gamma| <= 1; the result itself, up to 2 in size, carries some ulp more. */
static double tolerance(const struct shape *s) {
    return FLOAT_EPS * (2 * (fabs((double)s->mean) + 1) * (sqrt((double)s->c) + 2) + 8);
}

static void check_shape(const struct ees__kernels *k, const struct shape *s) {
    size_t ld = s->c + s->gap, n = (s->rows - 1) * ld + s->c;
    float *x = random_input(n, s->offset, 21), *gamma = random_input(s->c, s->offset, 22);
    float *beta = random_input(s->c, s->offset, 23), *expected = alloc_input(n, 0);
    for (size_t i = 0; i < n; i++)
        x[i] += s->mean;
    struct output y = alloc_output(n, s->offset);
    ees__kernels_get("scalar", NULL)->layernorm(x, ld, s->rows, s->c, gamma, beta, 1e-2f, expected, ld);
    k->layernorm(x, ld, s->rows, s->c, gamma, beta, 1e-2f, y.data, ld);
    check_guards(&y, k->name);
    char what[64];
    snprintf(what, sizeof what, "rows %zu c %zu", s->rows, s->c);
    for (size_t i = 0; i < s->rows; i++) {
        for (size_t j = 0; j < s->c; j++)
            check_close(y.data[i * ld + j], expected[i * ld + j], tolerance(s), k->name, what, i, j);
        if (i + 1 < s->rows)
            check_untouched(&y, i * ld + s->c, s->gap, what);
    }
    free_input(x, s->offset);
    free_input(gamma, s->offset);
    free_input(beta, s->offset);
    free_input(expected, 0);
    free_output(&y);
}

static void check_shapes(const struct ees__kernels *k) {
    for (size_t c = 1; c <= 131; c++)
        check_shape(k, &(struct shape){1 + c % 4, c, c % 4, c % 3, 0});
    static const size_t real[] = {96, 192, 384, 768, 1024};
    for (size_t i = 0; i < N_OF(real); i++) {
        check_shape(k, &(struct shape){197, real[i], 0, 0, 0});
        check_shape(k, &(struct shape){3, real[i], 1, 7, 100});
    }
}

static void shapes(void **state) { for_each_simd_level(check_shapes); }

/* In place, as the engine may call it. */
static void check_in_place(const struct ees__kernels *k) {
    enum { ROWS = 5, C = 77 };
    float *x = random_input(ROWS * C, 0, 24), *gamma = random_input(C, 0, 25), *y = alloc_input(ROWS * C, 0);
    k->layernorm(x, C, ROWS, C, gamma, gamma, 1e-6f, y, C);
    k->layernorm(x, C, ROWS, C, gamma, gamma, 1e-6f, x, C);
    assert_memory_equal(x, y, ROWS * C * sizeof(float));
    free_input(x, 0);
    free_input(gamma, 0);
    free_input(y, 0);
}

static void in_place(void **state) { for_each_simd_level(check_in_place); }

static void check_special(const struct ees__kernels *k) {
    enum { C = 37 };
    float x[3 * C], ones[C], zeros[C] = {0}, y[3 * C];
    for (size_t i = 0; i < 3 * C; i++)
        x[i] = 5;
    for (size_t i = 0; i < C; i++)
        ones[i] = 1;
    x[3] = NAN;
    x[C + 36] = INFINITY;
    k->layernorm(x, C, 3, C, ones, zeros, 1e-6f, y, C);
    for (size_t j = 0; j < C; j++) {
        assert_true(isnan(y[j]) && isnan(y[C + j]));
        assert_true(fabsf(y[2 * C + j]) < 5e-3f); /* a constant row: rounding of its mean over sqrt(eps) */
    }
}

static void special_values(void **state) { for_each_simd_level(check_special); }

/* Spec 11. */
static void check_known(const struct ees__kernels *k) {
    static const float x[4] = {.001f, .002f, .003f, .004f}, ones[4] = {1, 1, 1, 1}, zeros[4] = {0};
    static const float known[3][3] = {
        {1e-12f, -1.34164025f, -.44721342f}, {1e-6f, -1, -.33333333f}, {1e-5f, -.44721360f, -.14907120f}};
    for (size_t i = 0; i < 3; i++) {
        float y[4];
        k->layernorm(x, 4, 1, 4, ones, zeros, known[i][0], y, 4);
        check_close(y[0], known[i][1], 1e-6, k->name, "known answer", i, 0);
        check_close(y[1], known[i][2], 1e-6, k->name, "known answer", i, 1);
    }
}

static void known_answers(void **state) {
    check_known(ees__kernels_get("scalar", NULL));
    for_each_simd_level(check_known);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes),
        cmocka_unit_test(in_place),
        cmocka_unit_test(special_values),
        cmocka_unit_test(known_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
