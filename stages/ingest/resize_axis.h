/* SPDX-License-Identifier: MIT */
/* Weights of Pillow's resize along one axis (spec 2.2), for the positions a crop keeps. */
#ifndef EES_INGEST_RESIZE_AXIS_H
#define EES_INGEST_RESIZE_AXIS_H

#include <stddef.h>
#include <stdint.h>

#include "stages/ingest/ingest.h"

enum {
    EES__WEIGHT_BITS = 22,
    EES__WEIGHT_DIGITS = 3, /* of base 256 */
    EES__TAPS = 4,          /* weights come in steps of so many */
    EES__MAX_SIDE =
        65535, /* a picture's side, JPEG's own limit: bounds the tables, and sums of weights stay in int32 */
};

/* What is asked for: `n_in` samples are resized to `n_resized`, of which `n` positions from `offset` on are kept.
 * Positions outside the resized line (offset < 0 or too far) are padding and come out as 0. `length` is n_in, or less
 * when the picture ends within the last sample, as one decoded at a smaller scale does. */
struct ees__axis_shape {
    unsigned n_in, n;
    double length;
    uint64_t n_resized;
    int64_t offset;
    enum ees__filter filter;
};

/* Position i of the result is clip(sum of weights[i * stride + t] * in[first[i] + t], t < count[i]). Zero weights fill
 * each row up to stride, a multiple of EES__TAPS: a loop over steps may read samples past the last one used. */
struct ees__axis {
    struct ees__axis_shape shape;
    uint32_t *first, *count;
    int32_t *weights;
    int8_t *digits; /* of the weights, -128 to 127, least first; a step of taps has EES__TAPS of each, one after the
                       other */
    size_t n_capacity, weights_capacity;
    unsigned stride;
    unsigned max_count;
    unsigned first_in, end_in; /* samples any position reads */
};

/* Make the tables fit `shape`; nothing is done when they already do. Buffers only grow.
 * @return 0; EES_ENOMEM. The axis is left without a shape on failure. */
int ees__axis_set(struct ees__axis *axis, const struct ees__axis_shape *shape, ees_error *err);
void ees__axis_fini(struct ees__axis *axis);

#endif
