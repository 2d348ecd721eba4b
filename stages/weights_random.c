/* SPDX-License-Identifier: MIT */
/* Seeded weights for benchmarks. Each tensor has its own stream, started from seed and name, so a model does not
 * depend on the order in which its tensors are read.
 *
 * Values are uniform. A matrix has variance 1/fan_in, which keeps a layer's output as large as its input; the residual
 * stream then grows linearly with depth. Norm weights and running variances stay near 1. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/fail.h"
#include "stages/weights.h"

struct random_weights {
    struct ees__weights base;
    uint64_t seed;
};

/* splitmix64 (Steele, Lea, Flood 2014): a counter through a bijective mixer. */
static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t hash_name(const char *name, uint64_t seed) {
    uint64_t h = mix(seed + 0x9e3779b97f4a7c15u);
    for (; *name; name++)
        h = mix(h ^ (unsigned char)*name);
    return h;
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), n_end = strlen(end);
    return n >= n_end && strcmp(text + n - n_end, end) == 0;
}

/* Values lie in centre +- spread. */
static void choose_range(const char *name, const struct ees__tensor_shape *shape, float *centre, float *spread) {
    bool is_norm = shape->rank == 1 && ends_with(name, ".weight");
    *centre = is_norm || ends_with(name, ".running_var") ? 1.0f : 0.0f;
    *spread = 0.1f;
    if (shape->rank > 1 && ends_with(name, ".weight")) {
        size_t fan_in = ees__tensor_elements(shape) / shape->dim[0];
        *spread = sqrtf(3.0f / (float)fan_in);
    }
}

static int read_random(struct ees__weights *base, const char *name, const struct ees__tensor_shape *shape,
                       struct ees__buffer *buffer, ees_error *err) {
    size_t n = ees__tensor_elements(shape);
    EES_TRY(ees__buffer_reserve(buffer, n, name, err));
    float centre, spread;
    choose_range(name, shape, &centre, &spread);
    uint64_t start = hash_name(name, ((struct random_weights *)base)->seed);
    for (size_t i = 0; i < n; i++) {
        uint64_t bits = mix(start + (i + 1) * 0x9e3779b97f4a7c15u);
        float unit = (float)(bits >> 40) * 0x1p-23f - 1.0f; /* [-1, 1) in 2^24 steps */
        buffer->data[i] = centre + spread * unit;
    }
    return 0;
}

static void close_random(struct ees__weights *base) { free(base); }

int ees__weights_open_random(uint64_t seed, struct ees__weights **out, ees_error *err) {
    struct random_weights *w = calloc(1, sizeof *w);
    if (!w)
        return EES_FAIL(err, EES_ENOMEM, "out of memory");
    w->base = (struct ees__weights){.read = read_random, .close = close_random};
    w->seed = seed;
    *out = &w->base;
    return 0;
}
