/* SPDX-License-Identifier: MIT */
/* LGViT's local perception heads (spec 5.3; github falcon-xu/LGViT, models/deit_highway/highway.py), on the patches:
 *
 *   conv1_1:  a = BN1(gelu(conv1)),  d = BN2(gelu(depthwise 3x3, zero padding)(a)),  Y = BN3(conv2(d)) + patches
 *   conv2_1:  the same without d
 *
 * conv2, with BN3 and the BatchNorm in front of it folded in, and the residual are left to the tail, which may run it
 * once, on a mean. BN1 of conv1_1 cannot be folded (the convolution's
 * padding is zero after it): it is the scale and shift of conv1's gelu. */
#include "common/fail.h"
#include "stages/heads/pooled.h"

struct conv_head {
    struct ees__linear conv1;
    struct ees__tail tail; /* its last layer is conv2 */
    float *scale, *shift;  /* conv1_1: BN1 (C,) */
    float *taps, *dw_bias; /* conv1_1: (9, C) tap-major, and (C,) */
};

static void close_conv(void *self) {
    struct conv_head *h = self;
    if (!h)
        return;
    ees__linear_close(&h->conv1);
    ees__tail_close(&h->tail);
    ees__free(h->scale);
    ees__free(h->shift);
    ees__free(h->taps);
    ees__free(h->dw_bias);
    ees__free(h);
}

/* BN3(conv2(BN(x))) = (s3 W s) x + s3 (b + W t) + t3, in double. */
static void fold(const struct ees__batch_norm *before, const struct ees__batch_norm *after, size_t c, float *w,
                 float *bias) {
    for (size_t o = 0; o < c; o++) {
        double sum = bias[o];
        for (size_t i = 0; i < c; i++) {
            sum += (double)w[o * c + i] * before->shift[i];
            w[o * c + i] = (float)(after->scale[o] * w[o * c + i] * before->scale[i]);
        }
        bias[o] = (float)(after->scale[o] * sum + after->shift[o]);
    }
}

/* conv2 with the norm in front of it ("bn1" or "bn2") and BN3 behind it. */
static int load_conv2(struct ees__loader *loader, const char *prefix, const char *before_name, struct ees__linear *out,
                      ees_error *err) {
    size_t c = loader->dims->n_channels;
    float *w = NULL, *bias = NULL;
    struct ees__batch_norm before = {0}, after = {0};
    int rc = ees__load_batch_norm(loader, prefix, before_name, c, &before, err);
    if (rc == 0)
        rc = ees__load_batch_norm(loader, prefix, "bn3", c, &after, err);
    if (rc == 0)
        rc = ees__load_tensor(loader, prefix, "conv2.bias", EES_SHAPE(c), &bias, err);
    if (rc == 0)
        rc = ees__stage_tensor(loader, prefix, "conv2.weight", EES_SHAPE(c, c, 1, 1), &w, err);
    if (rc == 0) {
        fold(&before, &after, c, w, bias);
        rc = ees__pack_linear(loader, w, bias, c, c, out, err);
    }
    ees__free(bias);
    ees__batch_norm_close(&before);
    ees__batch_norm_close(&after);
    return rc;
}

/* conv1_1's BN1, as floats. */
static int load_affine(struct ees__loader *loader, const char *prefix, struct conv_head *h, ees_error *err) {
    size_t c = loader->dims->n_channels;
    struct ees__batch_norm norm = {0};
    EES_TRY(ees__load_batch_norm(loader, prefix, "bn1", c, &norm, err));
    h->scale = ees__calloc_aligned(c, sizeof(float));
    h->shift = ees__calloc_aligned(c, sizeof(float));
    for (size_t i = 0; h->scale && h->shift && i < c; i++) {
        h->scale[i] = (float)norm.scale[i];
        h->shift[i] = (float)norm.shift[i];
    }
    ees__batch_norm_close(&norm);
    return h->scale && h->shift ? 0 : EES_FAIL(err, EES_ENOMEM, "no memory for %s", prefix);
}

static int load_depthwise(struct ees__loader *loader, const char *prefix, struct conv_head *h, ees_error *err) {
    size_t c = loader->dims->n_channels;
    float *w;
    EES_TRY(load_affine(loader, prefix, h, err));
    EES_TRY(ees__load_tensor(loader, prefix, "dw.bias", EES_SHAPE(c), &h->dw_bias, err));
    EES_TRY(ees__stage_tensor(loader, prefix, "dw.weight", EES_SHAPE(c, 1, 3, 3), &w, err));
    h->taps = ees__calloc_aligned(9 * c, sizeof(float));
    for (size_t tap = 0; h->taps && tap < 9; tap++)
        for (size_t i = 0; i < c; i++)
            h->taps[tap * c + i] = w[i * 9 + tap];
    loader->n_packed_bytes += (9 + 3) * c * sizeof(float);
    return h->taps ? 0 : EES_FAIL(err, EES_ENOMEM, "no memory for %s", prefix);
}

static void fill_cost(const struct ees__loader *loader, const struct conv_head *h, struct ees__op_cost *cost) {
    const struct ees__dims *d = loader->dims;
    size_t n = d->n_patches, c = d->n_channels;
    bool depthwise = h->taps;
    cost->scratch_floats = (depthwise ? 2 : 1) * ees__piece_floats(n * c);
    cost->flops = 2.0 * (double)n * ((double)c * (double)c + (depthwise ? 9.0 * (double)c : 0.0));
    ees__tail_cost(loader, &h->tail, n, loader->kernels->linear_scratch_floats(n, c, c), cost);
}

static int open_head(struct ees__loader *loader, const char *prefix, bool depthwise, void **self,
                     struct ees__op_cost *cost, ees_error *err) {
    size_t c = loader->dims->n_channels;
    struct conv_head *h = ees__calloc_aligned(1, sizeof *h);
    if (!h)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %s", prefix);
    int rc = ees__load_linear(loader, prefix, "conv1", EES_SHAPE(c, c, 1, 1), true, &h->conv1, err);
    if (rc == 0 && depthwise)
        rc = load_depthwise(loader, prefix, h, err);
    if (rc == 0)
        rc = load_conv2(loader, prefix, depthwise ? "bn2" : "bn1", &h->tail.last, err);
    if (rc == 0)
        rc = ees__tail_open(loader, prefix, &h->tail, err);
    if (rc < 0) {
        close_conv(h);
        return rc;
    }
    fill_cost(loader, h, cost);
    *self = h;
    return 0;
}

static int open_conv1_1(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                        struct ees__op_cost *cost, ees_error *err) {
    return open_head(loader, prefix, true, self, cost, err);
}

static int open_conv2_1(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                        struct ees__op_cost *cost, ees_error *err) {
    return open_head(loader, prefix, false, self, cost, err);
}

/* One frame. `a` and `local` are shared by the parts. */
struct frame {
    const struct conv_head *op;
    const struct ees__run *run;
    const float *patches;  /* (N, C) */
    struct ees__post post; /* of conv1 */
    float *a, *local;      /* (N, C); local NULL: no depthwise convolution */
    float *scratch;        /* of conv1's product */
};

static void convolve_points(void *ctx, size_t first, size_t end, struct ees__lane *lane) {
    const struct frame *f = ctx;
    size_t c = f->op->conv1.n;
    f->run->kernels->linear(&f->op->conv1, f->patches + first * c, c, end - first, f->a + first * c, c, &f->post,
                            lane->scratch + (f->scratch - f->run->lane->scratch));
}

static void convolve_grid(void *ctx, size_t first, size_t end, struct ees__lane *lane) {
    const struct frame *f = ctx;
    const struct ees__dims *d = f->run->dims;
    f->run->kernels->depthwise3x3_gelu(f->a, d->grid_h, d->grid_w, d->n_channels, first, end, f->op->taps,
                                       f->op->dw_bias, f->local);
}

/* The rows conv2 reads. */
static const float *run_frame(struct frame *f) {
    const struct ees__dims *d = f->run->dims;
    size_t grain = ees__row_grain(f->run, d->n_patches);
    ees__run_share(f->run, convolve_points, f, d->n_patches, grain);
    if (!f->local)
        return f->a;
    ees__run_share(f->run, convolve_grid, f, d->grid_h, ees__grain(d->grid_h, (grain + d->grid_w - 1) / d->grid_w));
    return f->local;
}

static void run_conv(const void *self, const struct ees__run *run) {
    const struct conv_head *h = self;
    const struct ees__dims *d = run->dims;
    size_t n = d->n_patches, c = d->n_channels;
    float *scratch = run->lane->scratch;
    struct frame f = {.op = h, .run = run, .post = {.op = EES__POST_GELU}};
    f.a = ees__cut_piece(&scratch, n * c);
    if (h->taps) {
        f.local = ees__cut_piece(&scratch, n * c);
        f.post = (struct ees__post){.op = EES__POST_GELU_AFFINE, .scale = h->scale, .shift = h->shift};
    }
    struct ees__tail_run tail = ees__tail_begin(&h->tail, run, n, &scratch);
    f.scratch = scratch;
    for (size_t i = 0; i < run->n; i++) {
        f.patches = run->states[i] + d->n_special * c;
        ees__tail_take(&tail, i, run_frame(&f), f.patches, n);
    }
    ees__tail_end(&tail);
}

const struct ees__op ees__head_conv1_1 = {
    .name = "conv1_1",
    .tokens = EES__HEAD_ANY,
    .open = open_conv1_1,
    .run = run_conv,
    .close = close_conv,
};

const struct ees__op ees__head_conv2_1 = {
    .name = "conv2_1",
    .tokens = EES__HEAD_ANY,
    .open = open_conv2_1,
    .run = run_conv,
    .close = close_conv,
};
