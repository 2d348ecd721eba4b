/* SPDX-License-Identifier: MIT */
/* Resize weights: computed in double, quantised to 22 bits. The order of the operations is part of the definition: the
 * result has to be the same integers Pillow gets. Built without fused multiply-add (CMakeLists.txt) for that reason. */
#include "stages/ingest/resize_axis.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/fail.h"
#include "common/mem.h"

static double triangle(double x) {
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static double keys_cubic(double x) { /* a = -0.5 */
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    return x < 2.0 ? (((x - 5.0) * x + 8.0) * x - 4.0) * a : 0.0;
}

/* One axis' filter stretched to the scale of the resize. */
struct stretched {
    double (*function)(double x);
    double scale, support, inverse_stretch;
};

static struct stretched stretch_filter(const struct ees__axis_shape *shape) {
    struct stretched s;
    s.function = shape->filter == EES__FILTER_BICUBIC ? keys_cubic : triangle;
    s.scale = shape->length / (double)shape->n_resized;
    double stretch = s.scale < 1.0 ? 1.0 : s.scale;
    s.support = (shape->filter == EES__FILTER_BICUBIC ? 2.0 : 1.0) * stretch;
    s.inverse_stretch = 1.0 / stretch;
    return s;
}

static void set_range(struct ees__axis *axis, unsigned i, double centre, double support) {
    double lo = centre - support + 0.5, hi = centre + support + 0.5;
    double n_in = axis->shape.n_in;
    axis->first[i] = lo < 0.0 ? 0 : (uint32_t)lo;
    axis->count[i] = (uint32_t)(hi > n_in ? n_in : hi) - axis->first[i];
}

static int32_t quantise(double w) {
    double scaled = w * (1 << EES__WEIGHT_BITS);
    return (int32_t)(w < 0 ? scaled - 0.5 : scaled + 0.5);
}

static void set_weights(const struct stretched *s, double centre, uint32_t first, uint32_t count, int32_t *weights) {
    double sum = 0.0;
    for (uint32_t t = 0; t < count; t++)
        sum += s->function((t + first - centre + 0.5) * s->inverse_stretch);
    for (uint32_t t = 0; t < count; t++) {
        double w = s->function((t + first - centre + 0.5) * s->inverse_stretch);
        weights[t] = quantise(sum != 0.0 ? w / sum : w);
    }
}

static int reserve(struct ees__axis *axis, size_t n, size_t n_weights, ees_error *err) {
    if (n > axis->n_capacity) {
        ees__free(axis->first);
        ees__free(axis->count);
        axis->first = ees__calloc_aligned(n, sizeof *axis->first);
        axis->count = ees__calloc_aligned(n, sizeof *axis->count);
        axis->n_capacity = axis->first && axis->count ? n : 0;
    }
    if (n_weights > axis->weights_capacity) {
        ees__free(axis->weights);
        ees__free(axis->digits);
        axis->weights = ees__calloc_aligned(n_weights, sizeof *axis->weights);
        axis->digits = ees__calloc_aligned(n_weights, EES__WEIGHT_DIGITS);
        axis->weights_capacity = axis->weights && axis->digits ? n_weights : 0;
    }
    if (axis->n_capacity < n || axis->weights_capacity < n_weights)
        return EES_FAIL(err, EES_ENOMEM, "no memory to resize %u samples to %zu", axis->shape.n_in, n);
    return 0;
}

static bool is_same_shape(const struct ees__axis_shape *a, const struct ees__axis_shape *b) {
    return a->n_in == b->n_in && a->n == b->n && a->length == b->length && a->n_resized == b->n_resized &&
           a->offset == b->offset && a->filter == b->filter;
}

/* Digits of a number: what is above the lowest one goes on to the next. */
static void set_digits(const int32_t *weights, size_t n, int8_t *digits) {
    for (size_t k = 0; k < n; k++) {
        int8_t *step = digits + k / EES__TAPS * EES__TAPS * EES__WEIGHT_DIGITS + k % EES__TAPS;
        int32_t rest = weights[k];
        for (int d = 0; d < EES__WEIGHT_DIGITS; d++) {
            step[d * EES__TAPS] = (int8_t)rest;
            rest = (rest - (int8_t)rest) / 256;
        }
    }
}

/* Fill ranges and weights; rows of padding positions stay empty. */
static void fill_tables(struct ees__axis *axis, const struct stretched *s) {
    axis->first_in = axis->shape.n_in;
    axis->end_in = axis->max_count = 0;
    memset(axis->weights, 0, (size_t)axis->shape.n * axis->stride * sizeof *axis->weights);
    for (unsigned i = 0; i < axis->shape.n; i++) {
        int64_t position = axis->shape.offset + i;
        axis->first[i] = axis->count[i] = 0;
        if (position < 0 || (uint64_t)position >= axis->shape.n_resized)
            continue;
        double centre = ((double)position + 0.5) * s->scale;
        set_range(axis, i, centre, s->support);
        set_weights(s, centre, axis->first[i], axis->count[i], axis->weights + (size_t)i * axis->stride);
        if (axis->first[i] < axis->first_in)
            axis->first_in = axis->first[i];
        if (axis->first[i] + axis->count[i] > axis->end_in)
            axis->end_in = axis->first[i] + axis->count[i];
        if (axis->count[i] > axis->max_count)
            axis->max_count = axis->count[i];
    }
    set_digits(axis->weights, (size_t)axis->shape.n * axis->stride, axis->digits);
}

int ees__axis_set(struct ees__axis *axis, const struct ees__axis_shape *shape, ees_error *err) {
    if (is_same_shape(&axis->shape, shape))
        return 0;
    struct stretched s = stretch_filter(shape);
    /* A window is at most 2 * support + 1 samples wide, and no wider than the line. */
    size_t width = (size_t)ceil(s.support) * 2 + 1;
    if (width > shape->n_in)
        width = shape->n_in;
    axis->stride = (unsigned)ees__round_up(width, EES__TAPS);
    axis->shape = (struct ees__axis_shape){.n_in = shape->n_in};
    size_t n_weights;
    if (!ees__mul(shape->n, axis->stride, &n_weights))
        return EES_FAIL(err, EES_ENOMEM, "resize tables of %u positions are too large", shape->n);
    EES_TRY(reserve(axis, shape->n, n_weights, err));
    axis->shape = *shape;
    fill_tables(axis, &s);
    return 0;
}

void ees__axis_fini(struct ees__axis *axis) {
    ees__free(axis->first);
    ees__free(axis->count);
    ees__free(axis->weights);
    ees__free(axis->digits);
}
