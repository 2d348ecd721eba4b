/* SPDX-License-Identifier: MIT */
/* The convolutional branches of Multi-Exit ViT (spec 5.6): a grid of patches, 3x3 convolution, ELU, 2x2 max-pool with
 * stride 2, flattened filter by filter, MLP. They differ in what the class token does to the patches:
 *
 *   cnn_ignore_ee   nothing
 *   cnn_add_ee      patch + class token
 *   cnn_project_ee  gelu(Wr [patch ; class token] + br): Wr's half for the class token is one row a frame
 *
 * ELU rises everywhere, so it follows the pooling, on a quarter of the values. */
#include <math.h>

#include "common/fail.h"
#include "stages/heads/convolve.h"
#include "stages/heads/mlp_list.h"

enum readout { IGNORE, ADD, PROJECT };
enum { DEFAULT_FILTERS = 16 };

struct cnn {
    enum readout readout;
    struct ees__linear patch_half, class_half; /* PROJECT: (n_in, C); the bias is the class token's */
    struct ees__convolution conv;
    struct ees__mlp_list mlp; /* on n_out * pooled_h * pooled_w */
    size_t pooled_h, pooled_w;
};

static void close_cnn(void *self) {
    struct cnn *h = self;
    if (!h)
        return;
    ees__linear_close(&h->patch_half);
    ees__linear_close(&h->class_half);
    ees__convolution_close(&h->conv);
    ees__mlp_list_close(&h->mlp);
    ees__free(h);
}

/* Columns [first, first + c) of w (n, 2c). */
static int pack_half(struct ees__loader *loader, const float *w, const float *bias, size_t n, size_t c, size_t first,
                     struct ees__linear *out, ees_error *err) {
    float *half = ees__calloc_aligned(n * c, sizeof *half);
    if (!half)
        return EES_FAIL(err, EES_ENOMEM, "no memory for a readout");
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < c; j++)
            half[i * c + j] = w[i * 2 * c + first + j];
    int rc = ees__pack_linear(loader, half, bias, n, c, out, err);
    ees__free(half);
    return rc;
}

static int load_readout(struct ees__loader *loader, const char *prefix, size_t n, struct cnn *h, ees_error *err) {
    size_t c = loader->dims->n_channels;
    float *w, *bias = NULL;
    EES_TRY(ees__load_tensor(loader, prefix, "readout.bias", EES_SHAPE(n), &bias, err));
    int rc = ees__stage_tensor(loader, prefix, "readout.weight", EES_SHAPE(n, 2 * c), &w, err);
    if (rc == 0)
        rc = pack_half(loader, w, NULL, n, c, 0, &h->patch_half, err);
    if (rc == 0)
        rc = pack_half(loader, w, bias, n, c, c, &h->class_half, err);
    ees__free(bias);
    return rc;
}

static size_t grid_floats(const struct cnn *h) {
    return h->readout == IGNORE ? 0 : h->conv.h * h->conv.w * h->conv.n_in;
}

static void fill_cost(const struct ees__loader *loader, const struct cnn *h, struct ees__op_cost *cost) {
    const struct ees__kernels *kernels = loader->kernels;
    size_t n_patches = loader->dims->n_patches, c = loader->dims->n_channels, n_in = h->conv.n_in;
    size_t inner =
        ees__max_size(ees__convolution_scratch_floats(&h->conv, kernels), ees__mlp_list_floats(&h->mlp, kernels, 1));
    inner = ees__max_size(inner, kernels->linear_scratch_floats(n_patches, n_in, c));
    cost->item_floats = ees__piece_floats(n_in) + ees__piece_floats(c) + ees__piece_floats(h->mlp.layers[0].k) + inner;
    cost->scratch_floats = ees__piece_floats(grid_floats(h)) +
                           ees__piece_floats(ees__convolution_framed_floats(&h->conv)) +
                           ees__piece_floats(ees__convolution_y_floats(&h->conv)) + cost->item_floats;
    cost->flops = ees__convolution_flops(&h->conv) + ees__mlp_list_flops(&h->mlp);
    if (h->readout == PROJECT)
        cost->flops += 2.0 * (double)(n_patches + 1) * (double)n_in * (double)c;
}

static int load_all(struct ees__loader *loader, const char *prefix, struct cnn *h, ees_error *err) {
    const struct ees__dims *d = loader->dims;
    size_t n_in = d->n_channels, n_filters;
    h->pooled_h = d->grid_h / 2;
    h->pooled_w = d->grid_w / 2;
    if (h->pooled_h == 0 || h->pooled_w == 0)
        return EES_FAIL(err, EES_EMODEL, "head %s pools 2 x 2 patches, an input of %zu x %zu pixels has %zu x %zu",
                        prefix, d->image_h, d->image_w, d->grid_h, d->grid_w);
    if (h->readout == PROJECT) {
        EES_TRY(ees__load_size(loader, prefix, "readout.weight", 0, n_in, &n_in, err));
        EES_TRY(load_readout(loader, prefix, n_in, h, err));
    }
    EES_TRY(ees__load_size(loader, prefix, "conv.weight", 0, DEFAULT_FILTERS, &n_filters, err));
    size_t n_flat = n_filters * h->pooled_h * h->pooled_w;
    EES_TRY(ees__check_input(loader, prefix, "mlp.0.weight", 1, n_flat, "pooled values", err));
    EES_TRY(ees__convolution_open(loader, prefix, n_in, n_filters, &h->conv, err));
    return ees__mlp_list_open(loader, prefix, n_flat, &h->mlp, err);
}

static int open_head(struct ees__loader *loader, const char *prefix, enum readout readout, void **self,
                     struct ees__op_cost *cost, ees_error *err) {
    struct cnn *h = ees__calloc_aligned(1, sizeof *h);
    if (!h)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %s", prefix);
    h->readout = readout;
    int rc = load_all(loader, prefix, h, err);
    if (rc < 0) {
        close_cnn(h);
        return rc;
    }
    fill_cost(loader, h, cost);
    *self = h;
    return 0;
}

static int open_ignore(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                       struct ees__op_cost *cost, ees_error *err) {
    return open_head(loader, prefix, IGNORE, self, cost, err);
}

static int open_add(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                    struct ees__op_cost *cost, ees_error *err) {
    return open_head(loader, prefix, ADD, self, cost, err);
}

static int open_project(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                        struct ees__op_cost *cost, ees_error *err) {
    return open_head(loader, prefix, PROJECT, self, cost, err);
}

/* One frame. All memory but the parts' scratch is shared. */
struct frame {
    const struct cnn *op;
    const struct ees__run *run;
    const float *patches;    /* (N, C) */
    const float *class_part; /* added to every patch: the class token, or what PROJECT makes of it */
    float *grid, *scratch;   /* (N, n_in), and of products */
};

static void read_out(void *ctx, size_t first, size_t end, struct ees__lane *lane) {
    static const struct ees__post add_gelu = {.op = EES__POST_ADD_GELU};
    const struct frame *f = ctx;
    size_t c = f->run->dims->n_channels, n_in = f->op->conv.n_in;
    for (size_t i = first; i < end; i++)
        for (size_t j = 0; j < n_in; j++)
            f->grid[i * n_in + j] = f->class_part[j] + (f->op->readout == ADD ? f->patches[i * c + j] : 0.0f);
    if (f->op->readout == PROJECT)
        f->run->kernels->linear(&f->op->patch_half, f->patches + first * c, c, end - first, f->grid + first * n_in,
                                n_in, &add_gelu, lane->scratch + (f->scratch - f->run->lane->scratch));
}

/* A NaN is larger than anything. */
static float larger(float a, float b) { return isnan(b) || a < b ? b : a; }

static float elu(float x) { return x > 0.0f ? x : expm1f(x); }

/* flat (n_out, pooled_h, pooled_w) = elu(maxpool(y)) */
static void pool_maps(const struct cnn *h, const float *y, float *flat) {
    size_t n = h->conv.n_out, pitch = ees__convolution_pitch(&h->conv) * n;
    for (size_t row = 0; row < h->pooled_h; row++)
        for (size_t column = 0; column < h->pooled_w; column++) {
            const float *upper = y + 2 * row * pitch + 2 * column * n, *lower = upper + pitch;
            for (size_t i = 0; i < n; i++)
                flat[(i * h->pooled_h + row) * h->pooled_w + column] =
                    elu(larger(larger(upper[i], upper[n + i]), larger(lower[i], lower[n + i])));
        }
}

/* What is added to each frame's patches, (n, n_in). `tokens`: (n, C) for the class tokens */
static const float *find_class_parts(const struct cnn *h, const struct ees__run *run, float *tokens, float *parts,
                                     float *scratch) {
    static const struct ees__post store = {.op = EES__POST_NONE};
    size_t c = run->dims->n_channels;
    for (size_t i = 0; i < run->n; i++)
        for (size_t j = 0; j < c; j++)
            tokens[i * c + j] = run->states[i][j];
    if (h->readout != PROJECT)
        return tokens;
    run->kernels->linear(&h->class_half, tokens, c, run->n, parts, h->conv.n_in, &store, scratch);
    return parts;
}

static void run_cnn(const void *self, const struct ees__run *run) {
    const struct cnn *h = self;
    size_t n = run->dims->n_patches, c = run->dims->n_channels, n_in = h->conv.n_in, n_flat = h->mlp.layers[0].k;
    float *scratch = run->lane->scratch;
    float *grid = ees__cut_piece(&scratch, grid_floats(h));
    float *framed = ees__cut_piece(&scratch, ees__convolution_framed_floats(&h->conv));
    float *y = ees__cut_piece(&scratch, ees__convolution_y_floats(&h->conv));
    float *parts = ees__cut_piece(&scratch, run->n * n_in), *tokens = ees__cut_piece(&scratch, run->n * c);
    float *flat = ees__cut_piece(&scratch, run->n * n_flat);
    const float *class_parts = find_class_parts(h, run, tokens, parts, scratch);
    for (size_t i = 0; i < run->n; i++) {
        struct frame f = {.op = h, .run = run, .grid = grid, .scratch = scratch};
        f.patches = run->states[i] + run->dims->n_special * c;
        f.class_part = class_parts + i * n_in;
        if (h->readout != IGNORE)
            ees__run_share(run, read_out, &f, n, ees__row_grain(run, n));
        ees__convolution_frame(&h->conv, h->readout == IGNORE ? f.patches : grid, framed);
        ees__convolution_run(&h->conv, run, framed, false, y, scratch);
        pool_maps(h, y, flat + i * n_flat);
    }
    ees__mlp_list_run(&h->mlp, run, flat, scratch);
}

const struct ees__op ees__head_cnn_ignore_ee = {
    .name = "cnn_ignore_ee",
    .open = open_ignore,
    .run = run_cnn,
    .close = close_cnn,
};

const struct ees__op ees__head_cnn_add_ee = {
    .name = "cnn_add_ee",
    .open = open_add,
    .run = run_cnn,
    .close = close_cnn,
};

const struct ees__op ees__head_cnn_project_ee = {
    .name = "cnn_project_ee",
    .open = open_project,
    .run = run_cnn,
    .close = close_cnn,
};
