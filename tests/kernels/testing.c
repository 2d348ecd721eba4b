/* SPDX-License-Identifier: MIT */
#include "testing.h"

enum { GUARD = 64 };
static const uint32_t PATTERN = 0x7fc0dead;

float next_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return (float)(int32_t)(*state & 0xffffff00u) * 0x1p-31f;
}

float *alloc_input(size_t n, size_t offset) {
    float *p = malloc((n + offset) * sizeof(float));
    assert_non_null(p);
    return p + offset;
}

float *random_input(size_t n, size_t offset, uint32_t seed) {
    float *p = alloc_input(n, offset);
    for (size_t i = 0; i < n; i++)
        p[i] = next_random(&seed);
    return p;
}

void free_input(float *p, size_t offset) { free(p - offset); }

struct output alloc_output(size_t n, size_t offset) {
    struct output out = {.n = n, .block = malloc((n + offset + 2 * GUARD) * sizeof(uint32_t))};
    assert_non_null(out.block);
    out.data = (float *)out.block + GUARD + offset;
    reset_output(&out);
    return out;
}

void reset_output(struct output *out) {
    size_t n = (size_t)(out->data - (float *)out->block) + out->n + GUARD;
    for (size_t i = 0; i < n; i++)
        out->block[i] = PATTERN;
}

static void check_pattern(const uint32_t *words, size_t n, const char *what) {
    for (size_t i = 0; i < n; i++)
        if (words[i] != PATTERN)
            fail_msg("%s: wrote outside its output (word %zu of %zu)", what, i, n);
}

void check_guards(const struct output *out, const char *what) {
    const uint32_t *data = (const uint32_t *)out->data;
    check_pattern(out->block, (size_t)(data - out->block), what);
    check_pattern(data + out->n, GUARD, what);
}

void check_untouched(const struct output *out, size_t first, size_t n, const char *what) {
    check_pattern((const uint32_t *)out->data + first, n, what);
}

void free_output(struct output *out) { free(out->block); }

void check_close(float got, float expected, double tolerance, const char *level, const char *what, size_t i, size_t j) {
    if (isnan(expected) ? isnan(got) : got == expected)
        return;
    if (isfinite(expected) && fabs((double)got - expected) <= tolerance)
        return;
    fail_msg("%s, %s: [%zu, %zu] is %.9g, expected %.9g within %.3g", level, what, i, j, got, expected, tolerance);
}

double ulp_error(float got, double exact) {
    float nearest = (float)exact;
    int exponent = 0;
    frexp(fmax(fabs((double)nearest), 0x1p-126), &exponent);
    return fabs(got - exact) / ldexp(1, exponent - 24);
}

void for_each_simd_level(void (*run)(const struct ees__kernels *k)) {
    size_t n;
    const struct ees__kernels *const *list = ees__kernels_list(&n);
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i]->name, "scalar"))
            run(list[i]);
}

bool rows_are_independent(const struct ees__kernels *k) { return strcmp(k->name, "blas") != 0; }
