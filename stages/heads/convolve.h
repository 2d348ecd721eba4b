/* SPDX-License-Identifier: MIT */
/* A full 3x3 convolution, stride 1, zero padding 1, on a grid (h, w, n_in): nine products, one a tap, that sum up in
 * place.
 *
 * The grid is copied once, into a frame of zeros: a row of zeros above and below, a column of zeros in front of each
 * row that is also the one behind the row before. In that layout a tap's inputs lie a constant distance behind its
 * outputs, so a tap is one product of all rows at once, at the price of one output a grid row that nobody reads. No tap
 * copies anything. */
#ifndef EES_STAGES_HEADS_CONVOLVE_H
#define EES_STAGES_HEADS_CONVOLVE_H

#include "stages/loader.h"

enum { EES__TAPS = 9 };

struct ees__convolution {
    struct ees__linear taps[EES__TAPS]; /* (n_out, n_in); the bias is the last one's */
    size_t h, w, n_in, n_out;
};

/* Tensor `prefix`.conv (n_out, n_in, 3, 3) with its bias, for the loader's grid. */
int ees__convolution_open(struct ees__loader *loader, const char *prefix, size_t n_in, size_t n_out,
                          struct ees__convolution *out, ees_error *err);
void ees__convolution_close(struct ees__convolution *conv); /* accepts a zeroed one */

/* Outputs of pixel (row, column) are row `row * ees__convolution_pitch() + column` of y. */
static inline size_t ees__convolution_pitch(const struct ees__convolution *conv) { return conv->w + 1; }

/* Floats of the framed grid, of y, and of a part's own scratch. */
size_t ees__convolution_framed_floats(const struct ees__convolution *conv);
size_t ees__convolution_y_floats(const struct ees__convolution *conv);
size_t ees__convolution_scratch_floats(const struct ees__convolution *conv, const struct ees__kernels *kernels);
double ees__convolution_flops(const struct ees__convolution *conv);

/* Frame a grid (h * w, n_in). */
void ees__convolution_frame(const struct ees__convolution *conv, const float *grid, float *framed);

/* y = conv(framed), or gelu of it with `gelu`. `framed` and `y` are shared by a team's parts, `scratch` lies behind
 * them and is a part's own, all in the run's lane. */
void ees__convolution_run(const struct ees__convolution *conv, const struct ees__run *run, const float *framed,
                          bool gelu, float *y, float *scratch);

#endif
