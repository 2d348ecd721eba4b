/* SPDX-License-Identifier: MIT */
/* LGViT's baseline `conv_normal` (spec 5.3): Y = BN(gelu(conv 3x3 of the patches)), no residual. The BatchNorm is a
 * scale and a shift behind the gelu. */
#include "common/fail.h"
#include "stages/heads/convolve.h"
#include "stages/heads/pooled.h"

struct conv_normal {
    struct ees__convolution conv;
    struct ees__batch_norm norm;
    struct ees__tail tail; /* without a last layer */
};

static void close_conv_normal(void *self) {
    struct conv_normal *h = self;
    if (!h)
        return;
    ees__convolution_close(&h->conv);
    ees__batch_norm_close(&h->norm);
    ees__tail_close(&h->tail);
    ees__free(h);
}

static void fill_cost(const struct ees__loader *loader, const struct conv_normal *h, struct ees__op_cost *cost) {
    cost->scratch_floats = ees__piece_floats(ees__convolution_framed_floats(&h->conv)) +
                           ees__piece_floats(ees__convolution_y_floats(&h->conv));
    cost->flops = ees__convolution_flops(&h->conv);
    ees__tail_cost(loader, &h->tail, loader->dims->n_patches,
                   ees__convolution_scratch_floats(&h->conv, loader->kernels), cost);
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
        rc = ees__tail_open(loader, prefix, &h->tail, err);
    if (rc < 0) {
        close_conv_normal(h);
        return rc;
    }
    fill_cost(loader, h, cost);
    *self = h;
    return 0;
}

/* Y in place of y: normed, without what lies between the grid rows. */
static void norm_pixels(const struct conv_normal *h, float *y) {
    const struct ees__convolution *conv = &h->conv;
    size_t c = conv->n_out;
    for (size_t pixel = 0; pixel < conv->h * conv->w; pixel++) {
        const float *from = y + (pixel / conv->w * ees__convolution_pitch(conv) + pixel % conv->w) * c;
        float *to = y + pixel * c;
        for (size_t i = 0; i < c; i++)
            to[i] = (float)(h->norm.scale[i] * from[i] + h->norm.shift[i]);
    }
}

static void run_conv_normal(const void *self, const struct ees__run *run) {
    const struct conv_normal *h = self;
    size_t n = run->dims->n_patches, c = h->conv.n_out;
    float *scratch = run->lane->scratch;
    float *framed = ees__cut_piece(&scratch, ees__convolution_framed_floats(&h->conv));
    float *y = ees__cut_piece(&scratch, ees__convolution_y_floats(&h->conv));
    struct ees__tail_run tail = ees__tail_begin(&h->tail, run, n, &scratch);
    for (size_t i = 0; i < run->n; i++) {
        ees__convolution_frame(&h->conv, run->states[i] + run->dims->n_special * c, framed);
        ees__convolution_run(&h->conv, run, framed, true, y, scratch);
        norm_pixels(h, y);
        ees__tail_take(&tail, i, y, NULL, n);
    }
    ees__tail_end(&tail);
}

const struct ees__op ees__head_conv_normal = {
    .name = "conv_normal",
    .tokens = EES__HEAD_ANY,
    .open = open_conv_normal,
    .run = run_conv_normal,
    .close = close_conv_normal,
};
