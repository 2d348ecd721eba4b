/* SPDX-License-Identifier: MIT */
/* Description: which levels there are, what asking for an unknown or missing one reports, opening packed weights. */
#include "testing.h"

/* AddressSanitizer ends the program at an impossible allocation unless told that NULL is an answer. */
EES_API const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }

static void best_level_heads_the_list(void **state) {
    size_t n;
    const struct ees__kernels *const *list = ees__kernels_list(&n);
    assert_true(n >= 1);
    assert_ptr_equal(ees__kernels_get(NULL, NULL), list[0]);
    assert_string_equal(list[n - 1]->name, "scalar");
    for (size_t i = 0; i < n; i++) {
        assert_ptr_equal(ees__kernels_get(list[i]->name, NULL), list[i]);
        print_message("level %s\n", list[i]->name);
    }
}

static void auto_is_the_best(void **state) {
    assert_ptr_equal(ees__kernels_get("auto", NULL), ees__kernels_get(NULL, NULL));
}

static void unknown_level_is_invalid(void **state) {
    ees_error err = {0};
    assert_null(ees__kernels_get("sse9", &err));
    assert_int_equal(err.code, EES_EINVAL);
    assert_non_null(strstr(err.message, "sse9"));
}

static void level_of_another_architecture_is_unsupported(void **state) {
#if defined(__x86_64__)
    const char *other = "neon";
#else
    const char *other = "avx2";
#endif
    ees_error err = {0};
    assert_null(ees__kernels_get(other, &err));
    assert_int_equal(err.code, EES_EUNSUPPORTED);
}

static void open_reports_what_it_takes(const struct ees__kernels *k) {
    const float w[6] = {1, 2, 3, 4, 5, 6};
    struct ees__linear l;
    assert_int_equal(ees__linear_open(k, w, NULL, 2, 3, &l, NULL), 0);
    assert_int_equal(l.n, 2);
    assert_int_equal(l.k, 3);
    assert_true(l.bias[0] == 0 && l.bias[1] == 0);
    assert_true(ees__linear_bytes(&l) >= sizeof w + 2 * sizeof(float));
    ees__linear_close(&l);
    assert_null(l.packed);
    ees__linear_close(&l);
}

static void weights_open_and_close(void **state) {
    open_reports_what_it_takes(ees__kernels_get("scalar", NULL));
    for_each_simd_level(open_reports_what_it_takes);
}

static void impossible_size_is_out_of_memory(void **state) {
    const float w = 0;
    struct ees__linear l;
    ees_error err = {0};
    const struct ees__kernels *k = ees__kernels_get(NULL, NULL);
    assert_int_equal(ees__linear_open(k, &w, NULL, SIZE_MAX / 2, 8, &l, &err), EES_ENOMEM);
    assert_int_equal(err.code, EES_ENOMEM);
    assert_int_equal(ees__linear_open(k, &w, NULL, SIZE_MAX / 64, 4, &l, NULL), EES_ENOMEM);
    assert_null(l.packed);
}

static void peaks_grow_with_rounds(const struct ees__kernels *k) {
    for (int p = 0; p < EES__N_PRECISIONS; p++) {
        if (!k->products[p])
            continue;
        double one = k->products[p]->peak(1);
        assert_true(one > 0);
        assert_true(k->products[p]->peak(3) == 3 * one);
    }
}

static void reading_stays_inside(const struct ees__kernels *k) {
    enum { N = 3 * EES__READ_FLOATS };
    float *x = random_input(N, 0, 1);
    k->read(x, N);
    free_input(x, 0);
}

static void limits_of_every_level(void **state) {
    peaks_grow_with_rounds(ees__kernels_get("scalar", NULL));
    reading_stays_inside(ees__kernels_get("scalar", NULL));
    for_each_simd_level(peaks_grow_with_rounds);
    for_each_simd_level(reading_stays_inside);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(best_level_heads_the_list), cmocka_unit_test(auto_is_the_best),
        cmocka_unit_test(unknown_level_is_invalid),  cmocka_unit_test(level_of_another_architecture_is_unsupported),
        cmocka_unit_test(weights_open_and_close),    cmocka_unit_test(impossible_size_is_out_of_memory),
        cmocka_unit_test(limits_of_every_level),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
