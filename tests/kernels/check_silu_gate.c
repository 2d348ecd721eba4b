/* SPDX-License-Identifier: MIT */
/* Description: silu(a) b in place, every level: shapes and guards against the scalar twin, silu over the whole range of
 * float against double. */
#include "testing.h"

static void check_shape(const struct ees__kernels *k, size_t rows, size_t c, size_t offset, size_t gap) {
    size_t ld = 2 * c + gap, n = (rows - 1) * ld + 2 * c;
    float *x = random_input(n, offset, 43), *expected = alloc_input(n, 0);
    struct output y = alloc_output(n, offset);
    memcpy(expected, x, n * sizeof *x);
    memcpy(y.data, x, n * sizeof *x);
    ees__kernels_get("scalar", NULL)->silu_gate(expected, ld, rows, c);
    k->silu_gate(y.data, ld, rows, c);
    check_guards(&y, k->name);
    /* 4 ulp of silu, half of one for the product; all numbers are below 1. */
    for (size_t i = 0; i < n; i++)
        check_close(y.data[i], expected[i], i % ld < c ? 4.5 * FLOAT_EPS * fabs((double)expected[i]) : 0, k->name,
                    "gate", i / ld, i % ld);
    free_input(x, offset);
    free_input(expected, 0);
    free_output(&y);
}

static void check_shapes(const struct ees__kernels *k) {
    for (size_t c = 1; c <= 67; c++)
        check_shape(k, 1 + c % 5, c, c % 4, c % 3);
    check_shape(k, 257, 4096, 0, 0);
    check_shape(k, 7, 1024, 1, 5);
}

static void shapes(void **state) { for_each_simd_level(check_shapes); }

static double exact_silu(float x) { return (double)x / (1.0 + exp(-(double)x)); }

/* 4 ulp; where exp(x) leaves the normal range the result may be 0. */
static void check_value(const struct ees__kernels *k, float x, float got, double *worst) {
    double exact = exact_silu(x), error = ulp_error(got, exact);
    if (x < -87 && got == 0)
        return;
    if (error > *worst)
        *worst = error;
    if (!(error <= 4))
        fail_msg("%s: silu(%a) is %a, exactly %a: %.2f ulp", k->name, x, got, exact, error);
}

static void check_all_floats(const struct ees__kernels *k) {
    enum { BATCH = 1024 };
    float x[2 * BATCH], before[BATCH];
    double worst = 0;
    size_t n = 0;
    for (uint64_t bits = 0; bits < 0xff800000u; bits += 40009) {
        uint32_t word = (uint32_t)bits;
        if ((word & 0x7fffffffu) >= 0x7f800000u)
            continue;
        memcpy(&before[n++], &word, sizeof word);
        if (n < BATCH)
            continue;
        for (size_t i = 0; i < BATCH; i++)
            x[BATCH + i] = 1;
        memcpy(x, before, sizeof before);
        k->silu_gate(x, 2 * BATCH, 1, BATCH);
        for (size_t i = 0; i < BATCH; i++)
            check_value(k, before[i], x[i], &worst);
        n = 0;
    }
    print_message("  %-7s silu within %.2f ulp\n", k->name, worst);
}

static void all_floats(void **state) { for_each_simd_level(check_all_floats); }

static void check_special(const struct ees__kernels *k) {
    float x[8] = {INFINITY, -INFINITY, NAN, -0.0f, 1, 1, 1, 1};
    k->silu_gate(x, 8, 1, 4);
    assert_true(x[0] == INFINITY && x[1] == 0 && isnan(x[2]) && x[3] == 0);
    /* spec 11 */
    float known[4] = {-1, 1, 1, 1};
    k->silu_gate(known, 4, 1, 2);
    assert_true(fabsf(known[0] + .268941432f) < 1e-7f && fabsf(known[1] - .731058598f) < 1e-7f);
}

static void special_values(void **state) {
    for_each_simd_level(check_special);
    check_special(ees__kernels_get("scalar", NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes),
        cmocka_unit_test(all_floats),
        cmocka_unit_test(special_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
