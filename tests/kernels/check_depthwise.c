/* SPDX-License-Identifier: MIT */
/* Description: depthwise 3x3 with gelu of every level against the scalar twin, borders and a known head included. */
#include "testing.h"

static void check_grid(const struct ees__kernels *k, size_t h, size_t w, size_t c, size_t offset) {
    float *x = random_input(h * w * c, offset, 31), *weight = random_input(9 * c, offset, 32);
    float *bias = random_input(c, offset, 33), *expected = alloc_input(h * w * c, 0);
    struct output y = alloc_output(h * w * c, offset);
    ees__kernels_get("scalar", NULL)->depthwise3x3_gelu(x, h, w, c, 0, h, weight, bias, expected);
    k->depthwise3x3_gelu(x, h, w, c, 0, h, weight, bias, y.data);
    check_guards(&y, k->name);
    /* In two ranges of rows: the bits are the same, each range writes its own rows only. */
    struct output parts = alloc_output(h * w * c, offset);
    k->depthwise3x3_gelu(x, h, w, c, h / 2, h, weight, bias, parts.data);
    check_untouched(&parts, 0, h / 2 * w * c, k->name);
    k->depthwise3x3_gelu(x, h, w, c, 0, h / 2, weight, bias, parts.data);
    check_guards(&parts, k->name);
    assert_memory_equal(parts.data, y.data, h * w * c * sizeof(float));
    free_output(&parts);
    char what[64];
    snprintf(what, sizeof what, "grid %zu x %zu x %zu", h, w, c);
    /* Ten terms of at most 1, each rounded once; gelu's slope 1.13 and its 5 ulp of a result of at most 10. */
    for (size_t i = 0; i < h * w; i++)
        for (size_t j = 0; j < c; j++)
            check_close(y.data[i * c + j], expected[i * c + j], FLOAT_EPS * (1.13 * 10 + 5 * fabs(expected[i * c + j])),
                        k->name, what, i, j);
    free_input(x, offset);
    free_input(weight, offset);
    free_input(bias, offset);
    free_input(expected, 0);
    free_output(&y);
}

static void check_grids(const struct ees__kernels *k) {
    for (size_t h = 1; h <= 4; h++)
        for (size_t w = 1; w <= 5; w++)
            for (size_t c = 1; c <= 37; c += 4)
                check_grid(k, h, w, c, (h + w) % 4);
    check_grid(k, 14, 14, 96, 0);
    check_grid(k, 14, 14, 192, 0);
    check_grid(k, 8, 8, 768, 0);
}

static void grids(void **state) { for_each_simd_level(check_grids); }

/* A NaN reaches its neighbours and nobody else. */
static void check_nan(const struct ees__kernels *k) {
    enum { SIDE = 5, C = 19 };
    float *x = random_input(SIDE * SIDE * C, 0, 34), *weight = random_input(9 * C, 0, 35), bias[C] = {0};
    float y[SIDE * SIDE * C];
    x[(1 * SIDE + 1) * C + 18] = NAN;
    k->depthwise3x3_gelu(x, SIDE, SIDE, C, 0, SIDE, weight, bias, y);
    for (size_t row = 0; row < SIDE; row++)
        for (size_t column = 0; column < SIDE; column++)
            for (size_t j = 0; j < C; j++)
                assert_int_equal(isnan(y[(row * SIDE + column) * C + j]) != 0, row <= 2 && column <= 2 && j == 18);
    free_input(x, 0);
    free_input(weight, 0);
}

static void nan_reaches_its_neighbours(void **state) {
    check_nan(ees__kernels_get("scalar", NULL));
    for_each_simd_level(check_nan);
}

enum { CELLS = 9 };

/* BN as s x + t (spec 5.3). */
static void fold_bn(const float *gamma, const float *beta, const float *mean, const float *var, float *s, float *t) {
    for (size_t j = 0; j < 2; j++) {
        s[j] = gamma[j] / sqrtf(var[j] + 1e-5f);
        t[j] = beta[j] - s[j] * mean[j];
    }
}

/* The local perception head of spec 11 up to BN2. */
static void check_known_head(const struct ees__kernels *k) {
    static const float conv1[4] = {1, .5f, -.5f, 1}, bias1[2] = {.1f, -.1f}, dw_bias[2] = {0, .1f};
    static const float dw[18] = {0, 1, 1, 0, 0, -1, 1, 2, 2, 0, 1, -2, 0, 1, 1, 0, 0, -1};
    static const float bn1[4][2] = {{1, 2}, {.5f, -.5f}, {.1f, .2f}, {.25f, 4}};
    static const float bn2[4][2] = {{1.5f, .5f}, {0, .25f}, {1, -1}, {1, 2}};
    static const float after_bn1[CELLS] = {.4678859f, .5650534f,  .6707434f,  .7846216f, .9062722f,
                                           1.0352081f, 1.1708828f, 1.3127026f, 1.4600398f};
    static const float after_bn2[2][CELLS] = {{1.8899597f, 3.2589283f, 2.9054074f, 4.6712831f, 6.7651611f, 6.1611754f,
                                               5.158579f, 7.7438613f, 6.4019528f},
                                              {1.5264489f, .6451888f, .596941f, 1.8494941f, .6337544f, .6030325f,
                                               1.5521553f, .6190376f, .5979648f}};
    float patches[CELLS * 2], a[CELLS * 2], d[CELLS * 2], s[2], t[2];
    for (size_t i = 0; i < CELLS; i++) {
        patches[2 * i] = .1f * (float)(i + 1);
        patches[2 * i + 1] = -.1f * (float)(i + 1) + .05f * (float)i;
    }
    fold_bn(bn1[0], bn1[1], bn1[2], bn1[3], s, t);
    const struct ees__post post = {.op = EES__POST_GELU_AFFINE, .scale = s, .shift = t};
    struct ees__linear layer;
    assert_int_equal(ees__linear_open(k, conv1, bias1, 2, 2, &layer, NULL), 0);
    k->linear(&layer, patches, 2, CELLS, a, 2, &post, NULL);
    ees__linear_close(&layer);
    k->depthwise3x3_gelu(a, 3, 3, 2, 0, 3, dw, dw_bias, d);
    fold_bn(bn2[0], bn2[1], bn2[2], bn2[3], s, t);
    for (size_t i = 0; i < CELLS; i++) { /* printed to 7 decimals */
        check_close(a[2 * i], after_bn1[i], 1e-6, k->name, "known BN1", i, 0);
        for (size_t j = 0; j < 2; j++)
            check_close(d[2 * i + j] * s[j] + t[j], after_bn2[j][i], 4e-6, k->name, "known BN2", i, j);
    }
}

static void known_answers(void **state) {
    check_known_head(ees__kernels_get("scalar", NULL));
    for_each_simd_level(check_known_head);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grids),
        cmocka_unit_test(nan_reaches_its_neighbours),
        cmocka_unit_test(known_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
