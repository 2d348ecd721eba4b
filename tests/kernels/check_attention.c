/* SPDX-License-Identifier: MIT */
/* Description: attention core of every level against the scalar twin; softmax and its exponential through small cases
 * whose answer is known. */
#include "testing.h"

struct shape {
    size_t t, h, d;
    size_t offset, gap; /* of qkv and out */
    float gain;         /* of the inputs: large gains give large logits */
    unsigned addends;   /* BIAS, MASK */
    enum ees__precision precision;
};

enum { BIAS = 1, MASK = 2 };

/* Rows of `n_values` choices, n (t, ees__score_ld(t)). Behind their t-th element stands what must not matter. */
static float *make_addend(size_t n, size_t t, const float *values, size_t n_values) {
    size_t ld = ees__score_ld(t);
    float *rows = ees__calloc_aligned(n * t * ld, sizeof *rows);
    assert_non_null(rows);
    for (size_t i = 0; i < n * t; i++)
        for (size_t j = 0; j < ld; j++)
            rows[i * ld + j] = j < t ? values[(i * 7 + j * 3 + i * j) % n_values] : 1e30f;
    return rows;
}

static struct ees__attention make_core(const struct shape *s, float scale) {
    static const float biases[] = {-1, .25f, .5f, -.125f, .75f}, masks[] = {0, 0, -100};
    struct ees__attention core = {.t = s->t, .h = s->h, .d = s->d, .scale = scale, .precision = s->precision};
    core.bias = s->addends & BIAS ? make_addend(s->h, s->t, biases, N_OF(biases)) : NULL;
    core.mask = s->addends & MASK ? make_addend(1, s->t, masks, N_OF(masks)) : NULL;
    return core;
}

/* All heads, each packed once; query rows in pieces of 1, 2, ... `longest` rows. */
static void run_pieces(const struct ees__kernels *k, const struct shape *s, const float *qkv, float scale,
                       size_t longest, float *out, float *packed, float *scratch) {
    const struct ees__attention core = make_core(s, scale);
    const struct ees__attention_core *way = ees__attention_core(k, &core);
    size_t c = s->h * s->d;
    for (size_t head = 0; head < s->h; head++) {
        way->pack(&core, qkv, 3 * c + s->gap, head, packed);
        for (size_t first = 0, rows = 1; first < s->t; first += rows, rows = rows % longest + 1) {
            size_t end = longest == s->t ? s->t : first + rows < s->t ? first + rows : s->t;
            way->run(&core, qkv, 3 * c + s->gap, head, first, end, packed, out, c + s->gap, scratch);
            if (end == s->t)
                break;
        }
    }
    ees__free((float *)core.bias);
    ees__free((float *)core.mask);
}

static void run_attention(const struct ees__kernels *k, const struct shape *s, const float *qkv, float scale,
                          float *out) {
    const struct ees__attention_core *core = k->attention[s->precision];
    size_t c = s->h * s->d;
    struct output packed = alloc_output(core->packed_floats(s->t, s->d), 0);
    struct output scratch = alloc_output(core->scratch_floats(s->t, s->d), 0);
    float *aligned = ees__calloc_aligned(packed.n, sizeof(float));
    float *scores = ees__calloc_aligned(scratch.n, sizeof(float));
    assert_true(aligned && scores);
    run_pieces(k, s, qkv, scale, s->t, out, aligned, scores);
    /* Once more in guarded memory and in pieces: the bits are the same and nothing beyond the memory is written. */
    float *again = alloc_input((s->t - 1) * (c + s->gap) + c, 0);
    run_pieces(k, s, qkv, scale, 29, again, packed.data, scratch.data);
    check_guards(&packed, k->name);
    check_guards(&scratch, k->name);
    for (size_t i = 0; i < s->t && rows_are_independent(k); i++)
        if (memcmp(again + i * (c + s->gap), out + i * (c + s->gap), c * sizeof(float)))
            for (size_t j = 0; j < c; j++) /* NaN has many encodings */
                check_close(again[i * (c + s->gap) + j], out[i * (c + s->gap) + j], 0, k->name, "in pieces", i, j);
    free_input(again, 0);
    ees__free(aligned);
    ees__free(scores);
    free_output(&packed);
    free_output(&scratch);
}

/* Scores are off by eps sqrt(d) sum |q k| scale <= eps sqrt(d) d gain^2 scale; each weight by that factor (relative)
 * and 4 ulp more, the sums by sqrt(t) ulp; values are at most `gain`. */
static double tolerance(const struct shape *s, float scale) {
    if (s->precision != EES__F32) /* q, k, weights and v are off by half a unit of 8 bits each, and a score shifts its
                                     weight by as much */
        return 0x1p-8 * s->gain * (2 * (double)s->d * s->gain * s->gain * scale + 2);
    double score = (sqrt((double)s->d) + 2) * (double)s->d * s->gain * s->gain * scale;
    double addend = s->addends ? 4 : 0; /* two more roundings of a score */
    return FLOAT_EPS * s->gain * (2 * score + 4 + addend + sqrt((double)s->t));
}

static void check_shape(const struct ees__kernels *k, const struct shape *s) {
    size_t c = s->h * s->d, ldout = c + s->gap;
    float *qkv = random_input((s->t - 1) * (3 * c + s->gap) + 3 * c, s->offset, 11);
    for (size_t i = 0; i < (s->t - 1) * (3 * c + s->gap) + 3 * c; i++)
        qkv[i] *= s->gain;
    float scale = 1 / sqrtf((float)s->d);
    struct output out = alloc_output((s->t - 1) * ldout + c, s->offset);
    struct shape exact = *s;
    exact.precision = EES__F32;
    float *expected = alloc_input((s->t - 1) * ldout + c, 0);
    run_attention(ees__kernels_get("scalar", NULL), &exact, qkv, scale, expected);
    run_attention(k, s, qkv, scale, out.data);
    check_guards(&out, k->name);
    char what[96];
    snprintf(what, sizeof what, "t %zu h %zu d %zu gain %g", s->t, s->h, s->d, s->gain);
    for (size_t i = 0; i < s->t; i++) {
        for (size_t j = 0; j < c; j++)
            check_close(out.data[i * ldout + j], expected[i * ldout + j], tolerance(s, scale), k->name, what, i, j);
        if (i + 1 < s->t)
            check_untouched(&out, i * ldout + c, s->gap, what);
    }
    free_input(qkv, s->offset);
    free_input(expected, 0);
    free_output(&out);
}

/* float32, and what the level does otherwise. */
#define FOR_CORES(k, precision)                                                                                        \
    for (enum ees__precision precision = EES__F32; precision < EES__N_PRECISIONS; precision++)                         \
        if (precision == EES__F32 || (k)->attention[precision] != (k)->attention[EES__F32])

static void check_shapes_as(const struct ees__kernels *k, enum ees__precision precision) {
    static const size_t depths[] = {1, 2, 5, 8, 12, 31, 32, 33, 64, 96};
    for (size_t t = 1; t <= 35; t++)
        check_shape(k, &(struct shape){t, 1 + t % 3, depths[t % N_OF(depths)], t % 4, t % 3, 1, 0, precision});
    for (size_t i = 0; i < N_OF(depths); i++)
        check_shape(k, &(struct shape){17, 2, depths[i], 1, 5, 1, 0, precision});
    check_shape(k, &(struct shape){65, 12, 8, 0, 0, 1, 0, precision});
    check_shape(k, &(struct shape){49, 8, 96, 0, 0, 1, 0, precision});
    check_shape(k, &(struct shape){197, 3, 64, 0, 0, 1, 0, precision});
    check_shape(k, &(struct shape){198, 2, 64, 0, 0, 3, 0, precision});
    check_shape(k, &(struct shape){401, 1, 32, 0, 0, 1, 0, precision});
}

static void check_shapes(const struct ees__kernels *k) {
    FOR_CORES(k, precision)
    check_shapes_as(k, precision);
}

static void shapes(void **state) { for_each_simd_level(check_shapes); }

/* Windows of a Swin: 49 tokens, 32 channels a head. */
static void check_addends_as(const struct ees__kernels *k, enum ees__precision precision) {
    for (size_t t = 1; t <= 35; t++)
        check_shape(k, &(struct shape){t, 1 + t % 3, 8, t % 4, t % 3, 1, 1 + (unsigned)t % 3, precision});
    for (unsigned addends = 0; addends <= (BIAS | MASK); addends++)
        check_shape(k, &(struct shape){49, 3, 32, 0, 0, 1, addends, precision});
    check_shape(k, &(struct shape){144, 2, 32, 1, 3, 2, BIAS | MASK, precision});
}

static void check_addends(const struct ees__kernels *k) {
    FOR_CORES(k, precision)
    check_addends_as(k, precision);
}

static void addends(void **state) { for_each_simd_level(check_addends); }

/* Three equal keys, one of which is masked: with a bias of ln 3 on the first, the answer is 3/4 of it. */
static void check_known_addends(const struct ees__kernels *k) {
    const float qkv[9] = {0, 0, 8, 0, 0, 4, 0, 0, 1}, ln3 = 1.09861229f;
    float *bias = make_addend(1, 3, (const float[]){0}, 1), *mask = make_addend(1, 3, (const float[]){0}, 1);
    const struct ees__attention core = {.t = 3, .h = 1, .d = 1, .scale = 1, .bias = bias, .mask = mask};
    float *scratch = ees__calloc_aligned(k->attention[EES__F32]->scratch_floats(3, 1), sizeof(float));
    float *packed = ees__calloc_aligned(k->attention[EES__F32]->packed_floats(3, 1), sizeof(float)), out[3];
    assert_true(scratch && packed);
    bias[ees__score_ld(3)] = ln3;
    mask[ees__score_ld(3) + 2] = -100;
    k->attention[EES__F32]->pack(&core, qkv, 3, 0, packed);
    k->attention[EES__F32]->run(&core, qkv, 3, 0, 0, 3, packed, out, 1, scratch);
    check_close(out[0], 13.0f / 3, 1e-6f, k->name, "no addend", 0, 0);
    check_close(out[1], 7, 1e-6f, k->name, "bias and mask", 1, 0);
    ees__free(bias);
    ees__free(mask);
    ees__free(scratch);
    ees__free(packed);
}

static void known_addends(void **state) {
    check_known_addends(ees__kernels_get("scalar", NULL));
    for_each_simd_level(check_known_addends);
}

/* Logits of some thousands: every row is decided, nothing overflows. Key 3 wins for each query. */
static void check_large_logits(const struct ees__kernels *k) {
    enum { T = 37, D = 8, LD = 3 * D };
    float qkv[T * LD], out[T * D];
    for (size_t i = 0; i < T; i++)
        for (size_t j = 0; j < D; j++) {
            qkv[i * LD + j] = 100;
            qkv[i * LD + D + j] = i == 3 ? 100 : -100;
            qkv[i * LD + 2 * D + j] = (float)i;
        }
    run_attention(k, &(struct shape){T, 1, D, 0, 0, 1, 0, EES__F32}, qkv, 1, out);
    for (size_t i = 0; i < T * D; i++)
        assert_true(out[i] == 3);
}

static void large_logits(void **state) { for_each_simd_level(check_large_logits); }

/* A NaN in one query spoils that row alone; in one key or value it spoils every row. Infinite logits give NaN, as in
 * PyTorch. */
static void check_nan_as(const struct ees__kernels *k, enum ees__precision precision) {
    enum { T = 21, D = 4, LD = 3 * D };
    float out[T * D];
    for (int part = 0; part < 3; part++)
        for (size_t row = 0; row < T; row++) {
            float *qkv = random_input(T * LD, 0, 12);
            qkv[row * LD + (size_t)part * D + 2] = NAN;
            run_attention(k, &(struct shape){T, 1, D, 0, 0, 1, 0, precision}, qkv, 0.5f, out);
            for (size_t i = 0; i < T; i++)
                for (size_t j = 0; j < D; j++)
                    assert_int_equal(isnan(out[i * D + j]) != 0, part == 0 ? i == row : part == 1 || j == 2);
            free_input(qkv, 0);
        }
    float *qkv = random_input(T * LD, 0, 12);
    qkv[5 * LD + 1] = INFINITY;
    run_attention(k, &(struct shape){T, 1, D, 0, 0, 1, 0, precision}, qkv, 0.5f, out);
    for (size_t i = 0; i < T; i++)
        assert_int_equal(isnan(out[i * D]) != 0, i == 5);
    free_input(qkv, 0);
}

static void check_nan(const struct ees__kernels *k) {
    FOR_CORES(k, precision)
    check_nan_as(k, precision);
}

static void nan_is_not_lost(void **state) {
    check_nan(ees__kernels_get("scalar", NULL));
    for_each_simd_level(check_nan);
}

/* Two keys with scores 0 and -z, values 0 and 1: the answer is e / (1 + e) with e = exp(-z). 2 ulp for the exponential,
 * 2 for the sum, its inverse and the product. Below 2^-125 the weight may be 0. */
static void check_exponential(const struct ees__kernels *k) {
    double worst = 0;
    const struct ees__attention core = {.t = 2, .h = 1, .d = 1, .scale = 1};
    float *scratch = ees__calloc_aligned(k->attention[EES__F32]->scratch_floats(2, 1), sizeof(float));
    float *packed = ees__calloc_aligned(k->attention[EES__F32]->packed_floats(2, 1), sizeof(float));
    assert_true(scratch && packed);
    for (float z = 0; z < 110; z += 0x1.2p-7f) {
        const float qkv[6] = {1, 0, 0, 1, -z, 1};
        float out[2];
        k->attention[EES__F32]->pack(&core, qkv, 3, 0, packed);
        k->attention[EES__F32]->run(&core, qkv, 3, 0, 0, 2, packed, out, 1, scratch);
        double exact = exp(-(double)z) / (1 + exp(-(double)z));
        double error = exact >= 0x1p-125 ? ulp_error(out[1], exact) : fabs(out[1] - exact) / 0x1p-125;
        worst = fmax(worst, error);
        if (!(error <= 4))
            fail_msg("%s: weight of exp(-%a) is %a, exactly %a: %.2f ulp", k->name, z, out[1], exact, error);
    }
    ees__free(scratch);
    ees__free(packed);
    print_message("%s: exp / (1 + exp) within %.2f ulp\n", k->name, worst);
}

static void exponential_within_2_ulp(void **state) { for_each_simd_level(check_exponential); }

/* softmax of [2 1 .5 -1], spec 11: one query, the keys are the logits, the values pick out the weights. */
static void check_known_softmax(const struct ees__kernels *k) {
    static const float logits[4] = {2, 1, .5f, -1};
    static const float known[4] = {.609460038f, .224207818f, .135988916f, .030343229f};
    for (size_t pick = 0; pick < 4; pick++) {
        float qkv[12], out[4];
        for (size_t i = 0; i < 4; i++) {
            qkv[i * 3] = 1;
            qkv[i * 3 + 1] = logits[i];
            qkv[i * 3 + 2] = i == pick;
        }
        run_attention(k, &(struct shape){4, 1, 1, 0, 0, 1, 0, EES__F32}, qkv, 1, out);
        check_close(out[0], known[pick], 4 * FLOAT_EPS * known[pick], k->name, "known softmax", pick, 0);
    }
}

/* The global aggregation head of spec 11: qkv, two heads, projection. */
static void check_known_head(const struct ees__kernels *k) {
    static const float patches[4][2] = {{.1f, -.1f}, {.3f, -.2f}, {.7f, -.4f}, {.9f, -.5f}};
    static const float w_qkv[12] = {1, 0, 0, 1, .5f, .5f, 1, -1, 2, 0, 0, 3}, w_proj[4] = {1, 1, 0, 1};
    static const float b_proj[2] = {.1f, -.1f};
    static const float known[8] = {.2274861f, -.9775138f, .2598873f, -.9551103f,
                                   .3240963f, -.9108744f, .3557421f, -.8891957f};
    const struct ees__post none = {.op = EES__POST_NONE};
    struct ees__linear qkv_layer, projection;
    float qkv[24], heads[8], y[8];
    assert_int_equal(ees__linear_open(k, w_qkv, NULL, 6, 2, &qkv_layer, NULL), 0);
    assert_int_equal(ees__linear_open(k, w_proj, b_proj, 2, 2, &projection, NULL), 0);
    k->linear(&qkv_layer, patches[0], 2, 4, qkv, 6, &none, NULL);
    run_attention(k, &(struct shape){4, 2, 1, 0, 0, 1, 0, EES__F32}, qkv, 1, heads);
    k->linear(&projection, heads, 2, 4, y, 2, &none, NULL);
    for (size_t i = 0; i < 8; i++)
        check_close(y[i], known[i], 1e-6, k->name, "known head", i / 2, i % 2); /* printed to 7 digits */
    ees__linear_close(&qkv_layer);
    ees__linear_close(&projection);
}

static void known_answers(void **state) {
    check_known_softmax(ees__kernels_get("scalar", NULL));
    for_each_simd_level(check_known_softmax);
    check_known_head(ees__kernels_get("scalar", NULL));
    for_each_simd_level(check_known_head);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes),        cmocka_unit_test(addends),         cmocka_unit_test(known_addends),
        cmocka_unit_test(large_logits),  cmocka_unit_test(nan_is_not_lost), cmocka_unit_test(exponential_within_2_ulp),
        cmocka_unit_test(known_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
