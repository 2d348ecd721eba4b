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
#include "common/random.h"
#include "stages/weights.h"

struct random_weights {
    struct ees__weights base;
    uint64_t seed;
};

static uint64_t hash_name(const char *name, uint64_t seed) {
    uint64_t h = ees__mix64(seed + EES_RANDOM_STEP);
    for (; *name; name++)
        h = ees__mix64(h ^ (unsigned char)*name);
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
        uint64_t bits = ees__mix64(start + (i + 1) * EES_RANDOM_STEP);
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
