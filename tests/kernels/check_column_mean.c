/* SPDX-License-Identifier: MIT */
/* Description: column means of every level against the scalar twin. */
#include "testing.h"

static void check_shape(const struct ees__kernels *k, size_t rows, size_t c, size_t offset, size_t gap) {
    size_t ld = c + gap;
    float *x = random_input((rows - 1) * ld + c, offset, 41), *expected = alloc_input(c, 0);
    struct output y = alloc_output(c, offset);
    ees__kernels_get("scalar", NULL)->column_mean(x, ld, rows, c, expected);
    k->column_mean(x, ld, rows, c, y.data);
    check_guards(&y, k->name);
    /* A chain of `rows` additions of numbers below 1, errors of random sign, divided by rows. */
    double tolerance = FLOAT_EPS * (1 + sqrt((double)rows)) / 2;
    for (size_t j = 0; j < c; j++)
        check_close(y.data[j], expected[j], tolerance, k->name, "column mean", rows, j);
    free_input(x, offset);
    free_input(expected, 0);
    free_output(&y);
}

static void check_shapes(const struct ees__kernels *k) {
    for (size_t c = 1; c <= 67; c++)
        check_shape(k, 1 + c % 7, c, c % 4, c % 3);
    check_shape(k, 196, 768, 0, 0);
    check_shape(k, 196, 192, 1, 5);
    check_shape(k, 3136, 96, 0, 0);
}

static void shapes(void **state) { for_each_simd_level(check_shapes); }

static void check_special(const struct ees__kernels *k) {
    enum { ROWS = 6, C = 21 };
    float x[ROWS * C] = {0}, y[C];
    x[2 * C + 20] = NAN;
    x[3 * C + 4] = INFINITY;
    k->column_mean(x, C, ROWS, C, y);
    for (size_t j = 0; j < C; j++)
        assert_true(j == 20 ? isnan(y[j]) : j == 4 ? y[j] == INFINITY : y[j] == 0);
}

static void special_values(void **state) { for_each_simd_level(check_special); }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes),
        cmocka_unit_test(special_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
