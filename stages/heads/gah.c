/* SPDX-License-Identifier: MIT */
/* LGViT's global aggregation heads, attention_r1 .. attention_r9 (spec 5.4; github falcon-xu/LGViT,
 * models/deit_highway/highway.py): every r-th row and column of the patch grid (the published code subsamples, it does
 * not average), packed qkv without bias, 8 attention heads whatever the backbone has, softmax(Q K^T D^-0.5) V,
 * projection; no LN, no residual. Only the mean of the projection's output is used, so the projection runs once, on the
 * mean of what attention gives. */
#include "stages/heads/gah.h"

#include <math.h>

#include "common/fail.h"
#include "stages/heads/pooled.h"

enum { LGVIT_HEADS = 8 };

struct gah {
    struct ees__linear qkv, proj, classifier;
    size_t ratio, n_heads, n_rows;
    float scale;
};

static void close_gah(void *self) {
    struct gah *g = self;
    if (!g)
        return;
    ees__linear_close(&g->qkv);
    ees__linear_close(&g->proj);
    ees__linear_close(&g->classifier);
    ees__free(g);
}

static size_t count_kept(size_t side, size_t ratio) { return (side - 1) / ratio + 1; }

static void fill_cost(const struct ees__loader *loader, const struct gah *g, struct ees__op_cost *cost) {
    const struct ees__kernels *kernels = loader->kernels;
    size_t n = g->n_rows, c = loader->dims->n_channels, k = loader->dims->n_classes;
    size_t inner = ees__max_size(kernels->linear_scratch_floats(n, 3 * c, c), kernels->linear_scratch_floats(1, c, c));
    inner = ees__max_size(inner, kernels->linear_scratch_floats(1, k, c));
    inner = ees__max_size(inner, kernels->attention_scratch_floats(n, g->n_heads, c / g->n_heads));
    cost->scratch_floats = ees__piece_floats(n * c) + ees__piece_floats(n * 3 * c) + 2 * ees__piece_floats(c) + inner;
    double dn = (double)n, dc = (double)c;
    cost->flops = 2.0 * (3.0 * dn * dc * dc + 2.0 * dn * dn * dc + dc * dc + dc * (double)k);
}

int ees__gah_open(struct ees__loader *loader, const char *prefix, unsigned ratio, size_t n_heads, void **self,
                  struct ees__op_cost *cost, ees_error *err) {
    const struct ees__dims *d = loader->dims;
    size_t c = d->n_channels;
    if (c % n_heads)
        return EES_FAIL(err, EES_EMODEL,
                        "config.json: 'hidden_size' is %zu, expected a multiple of %zu (%s attention_r%u)", c, n_heads,
                        prefix, ratio);
    struct gah *g = ees__calloc_aligned(1, sizeof *g);
    if (!g)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %s", prefix);
    int rc = ees__load_linear(loader, prefix, "attn.qkv", EES_SHAPE(3 * c, c), false, &g->qkv, err);
    if (rc == 0)
        rc = ees__load_linear(loader, prefix, "attn.proj", EES_SHAPE(c, c), true, &g->proj, err);
    if (rc == 0)
        rc = ees__load_classifier(loader, prefix, &g->classifier, err);
    if (rc < 0) {
        close_gah(g);
        return rc;
    }
    g->ratio = ratio;
    g->n_heads = n_heads;
    g->n_rows = count_kept(d->grid_h, ratio) * count_kept(d->grid_w, ratio);
    g->scale = (float)(1.0 / sqrt((double)(c / n_heads)));
    fill_cost(loader, g, cost);
    *self = g;
    return 0;
}

static int open_attention_r(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                            struct ees__op_cost *cost, ees_error *err) {
    return ees__gah_open(loader, prefix, number, LGVIT_HEADS, self, cost, err);
}

/* Rows and columns 0, r, 2r, ... of the grid. */
static void subsample(const struct ees__dims *d, const float *patches, size_t ratio, float *kept) {
    size_t c = d->n_channels;
    for (size_t row = 0; row < d->grid_h; row += ratio)
        for (size_t col = 0; col < d->grid_w; col += ratio, kept += c) {
            const float *patch = patches + (row * d->grid_w + col) * c;
            for (size_t i = 0; i < c; i++)
                kept[i] = patch[i];
        }
}

static void run_gah(const void *self, const struct ees__run *run) {
    const struct gah *g = self;
    const struct ees__dims *d = run->dims;
    const struct ees__kernels *kernels = run->kernels;
    static const struct ees__post store = {.op = EES__POST_NONE};
    size_t n = g->n_rows, c = d->n_channels;
    float *scratch = run->scratch;
    float *rows = ees__cut_piece(&scratch, n * c); /* the kept patches, then what attention gives */
    float *qkv = ees__cut_piece(&scratch, n * 3 * c);
    float *mean = ees__cut_piece(&scratch, c), *pooled = ees__cut_piece(&scratch, c);
    subsample(d, run->state + d->n_special * c, g->ratio, rows);
    kernels->linear(&g->qkv, rows, c, n, qkv, 3 * c, &store, scratch);
    kernels->attention(qkv, 3 * c, n, g->n_heads, c / g->n_heads, g->scale, rows, c, scratch);
    kernels->column_mean(rows, c, n, c, mean);
    kernels->linear(&g->proj, mean, c, 1, pooled, c, &store, scratch);
    ees__classify_pooled(&g->classifier, run, pooled, scratch);
}

const struct ees__op ees__head_attention_r = {
    .name = "attention_r",
    .numbered = true,
    .open = open_attention_r,
    .run = run_gah,
    .close = close_gah,
};
