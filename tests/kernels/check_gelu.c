/* SPDX-License-Identifier: MIT */
/* Description: gelu, its tanh form, silu and relu of every level over the whole range of float, seen through a linear
 * layer with the weight 1; gelu of products of narrow elements, which need not be as exact. */
#include "testing.h"

enum { BATCH = 4096 };

static double exact_gelu(float x) { return 0.5 * x * erfc(-(double)x * M_SQRT1_2); }

/* 2 u, u the tanh form's argument */
static double twice_u(float x) {
    double wide = x;
    return 2 * sqrt(2 / M_PI) * (wide + 0.044715 * wide * wide * wide);
}

/* x / 2 (1 + tanh u), without its cancellation for negative u */
static double exact_gelu_tanh(float x) { return x / (1 + exp(-twice_u(x))); }
static double exact_silu(float x) { return x / (1 + exp(-(double)x)); }
static double exact_relu(float x) { return x > 0 ? (double)x : 0.0; }

static const struct activation {
    const char *name;
    enum ees__post_op op;
    double (*exact)(float x);
    double ulp;
    bool grows;        /* by 2 |2 u| ulp below 0: a rounded u is an error of the exponent */
    double zero_under; /* magnitudes that may be 0, x < 0 */
} activations[] = {
    {"gelu", EES__POST_GELU, exact_gelu, 5, false, 0x1p-127},
    {"gelu_tanh", EES__POST_GELU_TANH, exact_gelu_tanh, 5, true, 0x1p-122},
    {"silu", EES__POST_SILU, exact_silu, 4, false, 0x1p-119},
    {"relu", EES__POST_RELU, exact_relu, 0, false, 0},
};
static const struct activation *at_hand;

static void run_as(const struct ees__kernels *k, enum ees__precision precision, enum ees__post_op op, const float *x,
                   size_t n, float *y) {
    const float one = 1;
    const struct ees__post post = {.op = op};
    struct ees__linear l;
    assert_int_equal(ees__linear_open_as(k, precision, &one, NULL, 1, 1, &l, NULL), 0);
    float *scratch = ees__calloc_aligned(k->linear_scratch_floats(n, 1, 1), sizeof *scratch);
    assert_non_null(scratch);
    k->linear(&l, x, 1, n, y, 1, &post, scratch);
    ees__free(scratch);
    ees__linear_close(&l);
}

static void run_gelu(const struct ees__kernels *k, const float *x, size_t n, float *y) {
    run_as(k, EES__F32, at_hand->op, x, n, y);
}

static void check_batch(const struct ees__kernels *k, const float *x, size_t n, double *worst) {
    float y[BATCH];
    run_gelu(k, x, n, y);
    for (size_t i = 0; i < n; i++) {
        double exact = at_hand->exact(x[i]), error = ulp_error(y[i], exact);
        if (y[i] == 0 && x[i] < 0 && fabs(exact) < at_hand->zero_under)
            continue;
        if (at_hand->grows && x[i] < 0)
            error /= 1 + 0.4 * fabs(twice_u(x[i]));
        if (error > *worst)
            *worst = error;
        if (!(error <= at_hand->ulp))
            fail_msg("%s: %s(%a) is %a, exactly %a: %.2f ulp", k->name, at_hand->name, x[i], y[i], exact, error);
    }
}

static void check_range(const struct ees__kernels *k, uint64_t first, uint64_t end, uint64_t stride, double *worst) {
    float x[BATCH];
    size_t n = 0;
    for (uint64_t bits = first; bits < end; bits += stride) {
        uint32_t word = (uint32_t)bits;
        memcpy(&x[n++], &word, sizeof word);
        if (n == BATCH || bits + stride >= end) {
            check_batch(k, x, n, worst);
            n = 0;
        }
    }
}

/* Finite floats of both signs by a prime stride, then each one around zero, the smallest normal, 1, the clamp at 14 and
 * the place near 13.3 where the result goes to zero. */
static void check_all_floats(const struct ees__kernels *k) {
    static const float special[] = {0, 0x1p-126f, 0.75f, 1, 13.2f, 13.25f, 13.3f, 14, 88, 0x1.fff000p+127f};
    double worst = 0;
    uint64_t stride = strcmp(k->name, "blas") ? 4001 : 400009; /* blas shares the scalar gelu */
    check_range(k, 0, 0x7f800000, stride, &worst);
    check_range(k, 0x80000000u, 0xff800000u, stride, &worst);
    for (size_t i = 0; i < N_OF(special); i++)
        for (uint32_t sign = 0; sign < 2; sign++) {
            uint32_t bits;
            memcpy(&bits, &special[i], sizeof bits);
            uint32_t first = (bits > 2000 ? bits - 2000 : 0) | sign << 31;
            check_range(k, first, first + 4000ull, 1, &worst);
        }
    print_message("%s: %s within %.2f ulp\n", k->name, at_hand->name, worst);
}

static void within_ulps_everywhere(void **state) {
    for (size_t i = 0; i < N_OF(activations); i++) {
        at_hand = &activations[i];
        for_each_simd_level(check_all_floats);
    }
}

static void check_special(const struct ees__kernels *k) {
    const float x[] = {NAN, -NAN, INFINITY, -INFINITY, -0.0f, -1e30f, 1e30f};
    float y[N_OF(x)];
    run_gelu(k, x, N_OF(x), y);
    assert_true(isnan(y[0]) && isnan(y[1]));
    assert_true(y[2] == INFINITY && y[6] == 1e30f);
    assert_true(y[3] == 0 && y[4] == 0 && y[5] == 0);
}

static void special_values(void **state) {
    for (size_t i = 0; i < N_OF(activations); i++) {
        at_hand = &activations[i];
        check_special(ees__kernels_get("scalar", NULL));
        for_each_simd_level(check_special);
    }
}

/* Spec 11, from PyTorch. */
static void check_known(const struct ees__kernels *k) {
    static const float x[] = {-3, -2, -1, -0.5f, 0, 0.5f, 1, 2, 3};
    static const float known[2][N_OF(x)] = {{-.00404969409f, -.0455002639f, -.158655254f, -.154268769f, 0, .345731231f,
                                             .841344746f, 1.95449974f, 2.99595031f},
                                            {-.00363739208f, -.0454023059f, -.158808009f, -.15428599f, 0, .34571401f,
                                             .841191991f, 1.95459769f, 2.99636261f}};
    for (size_t form = 0; form < 2; form++) {
        float y[N_OF(x)];
        at_hand = &activations[form];
        run_gelu(k, x, N_OF(x), y);
        /* PyTorch's tanh form loses digits where 1 + tanh cancels. */
        for (size_t i = 0; i < N_OF(x); i++)
            check_close(y[i], known[form][i], form ? FLOAT_EPS : 4 * FLOAT_EPS * fabs(known[form][i]), k->name,
                        at_hand->name, i, 0);
    }
}

static void known_answers(void **state) {
    check_known(ees__kernels_get("scalar", NULL));
    for_each_simd_level(check_known);
}

/* Against gelu of the product as it stands: the weight 1 and the only element of a row are exact to an ulp or two. */
static void check_narrow(const struct ees__kernels *k) {
    float x[BATCH], z[BATCH], y[BATCH];
    double worst = 0;
    size_t n = 0;
    for (float at = -20; at < 20; at += 0x1p-6f)
        x[n++] = at;
    for (float at = 32; at < 0x1p+120f && n + 2 <= BATCH; at *= 8) {
        x[n++] = at;
        x[n++] = -at;
    }
    for (enum ees__precision precision = EES__BF16; precision < EES__N_PRECISIONS; precision++) {
        if (!k->products[precision])
            continue;
        run_as(k, precision, EES__POST_NONE, x, n, z);
        run_as(k, precision, EES__POST_GELU, x, n, y);
        for (size_t i = 0; i < n; i++) {
            double exact = exact_gelu(z[i]), error = fabs(y[i] - exact);
            if (!(error <= EES__NARROW_GELU * fmax(1, exact / 4)))
                fail_msg("%s, %s: gelu(%a) is %a, exactly %a", k->name, ees__precision_name(precision), z[i], y[i],
                         exact);
            if (exact < 4 && error > worst)
                worst = error;
        }
    }
    print_message("%s: gelu of narrow products within %.2g below 4\n", k->name, worst);
}

static void of_narrow_products(void **state) { for_each_simd_level(check_narrow); }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(within_ulps_everywhere),
        cmocka_unit_test(special_values),
        cmocka_unit_test(known_answers),
        cmocka_unit_test(of_narrow_products),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
