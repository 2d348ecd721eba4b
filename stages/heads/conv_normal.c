/* SPDX-License-Identifier: MIT */
/* LGViT's baseline `conv_normal` (spec 5.3): Y = BN(gelu(conv 3x3 of the patches)), no residual. Only the mean of Y is
 * used, so the BatchNorm is a scale and a shift of a mean. */
#include "common/fail.h"
#include "stages/heads/convolve.h"
#include "stages/heads/pooled.h"

struct conv_normal {
    struct ees__convolution conv;
    struct ees__batch_norm norm;
    struct ees__linear classifier;
};

static void close_conv_normal(void *self) {
    struct conv_normal *h = self;
    if (!h)
        return;
    ees__convolution_close(&h->conv);
    ees__batch_norm_close(&h->norm);
    ees__linear_close(&h->classifier);
    ees__free(h);
}

/* Floats of the framed grid, of the convolution's output and of the means of its grid rows. */
static size_t grid_floats(const struct conv_normal *h) {
    return ees__piece_floats(ees__convolution_framed_floats(&h->conv)) +
           ees__piece_floats(ees__convolution_y_floats(&h->conv)) + ees__piece_floats(h->conv.h * h->conv.n_out);
}

static void fill_cost(const struct ees__loader *loader, const struct conv_normal *h, struct ees__op_cost *cost) {
    const struct ees__kernels *kernels = loader->kernels;
    size_t k = h->classifier.n, ld = h->classifier.k;
    cost->item_floats = ees__piece_floats(ld) + ees__max_size(ees__classify_floats(kernels, 1, k, ld),
                                                              ees__convolution_scratch_floats(&h->conv, kernels));
    cost->scratch_floats = grid_floats(h) + cost->item_floats;
    cost->flops = ees__convolution_flops(&h->conv) + 2.0 * (double)ld * (double)k;
}

static int open_conv_normal(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                            struct ees__op_cost *cost, ees_error *err) {
    size_t c = loader->dims->n_channels;
    struct conv_normal *h = ees__calloc_aligned(1, sizeof *h);
    if (!h)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %s", prefix);
    int rc = ees__convolution_open(loader, prefix, c, c, &h->conv, err);
    if (rc == 0)
        rc = ees__load_batch_norm(loader, prefix, "bn1", c, &h->norm, err);
    if (rc == 0)
        rc = ees__load_classifier(loader, prefix, c, &h->classifier, err);
    if (rc < 0) {
        close_conv_normal(h);
        return rc;
    }
    fill_cost(loader, h, cost);
    *self = h;
    return 0;
}

/* Mean of y over the pixels, first along each grid row: what lies between the rows is none of them. */
static void pool_grid(const struct conv_normal *h, const struct ees__run *run, const float *y, float *row_means,
                      float *pooled) {
    const struct ees__convolution *conv = &h->conv;
    size_t c = conv->n_out;
    for (size_t row = 0; row < conv->h; row++)
        run->kernels->column_mean(y + row * ees__convolution_pitch(conv) * c, c, conv->w, c, row_means + row * c);
    run->kernels->column_mean(row_means, c, conv->h, c, pooled);
    for (size_t i = 0; i < c; i++)
        pooled[i] = (float)(h->norm.scale[i] * pooled[i] + h->norm.shift[i]);
}

static void run_conv_normal(const void *self, const struct ees__run *run) {
    const struct conv_normal *h = self;
    size_t c = h->conv.n_out, ld = h->classifier.k;
    float *scratch = run->lane->scratch;
    float *framed = ees__cut_piece(&scratch, ees__convolution_framed_floats(&h->conv));
    float *y = ees__cut_piece(&scratch, ees__convolution_y_floats(&h->conv));
    float *row_means = ees__cut_piece(&scratch, h->conv.h * c);
    float *pooled = ees__cut_piece(&scratch, run->n * ld);
    for (size_t i = 0; i < run->n; i++) {
        ees__convolution_frame(&h->conv, run->states[i] + run->dims->n_special * c, framed);
        ees__convolution_run(&h->conv, run, framed, true, y, scratch);
        pool_grid(h, run, y, row_means, pooled + i * ld);
    }
    ees__classify_pooled(&h->classifier, run, pooled, scratch);
}

const struct ees__op ees__head_conv_normal = {
    .name = "conv_normal",
    .open = open_conv_normal,
    .run = run_conv_normal,
    .close = close_conv_normal,
};
