/* SPDX-License-Identifier: MIT */
/* Loading of the pieces every op is made of. */
#include "stages/loader.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fail.h"

void ees__loader_fini(struct ees__loader *loader) {
    ees__free(loader->staging.data);
    free(loader->large);
    loader->staging = (struct ees__buffer){0};
    loader->large = NULL;
}

enum { MAX_NAME = 128 };

static void join_name(const char *prefix, const char *leaf, char name[MAX_NAME]) {
    snprintf(name, MAX_NAME, "%s%s%s", prefix, *prefix ? "." : "", leaf);
}

static int read_tensor(struct ees__loader *loader, const char *prefix, const char *leaf,
                       const struct ees__tensor_shape *shape, struct ees__buffer *buffer, ees_error *err) {
    char name[MAX_NAME];
    join_name(prefix, leaf, name);
    EES_TRY(loader->weights->read(loader->weights, name, shape, buffer, err));
    if (!strstr(leaf, ".running_"))
        loader->n_params += ees__tensor_elements(shape);
    return 0;
}

int ees__load_tensor(struct ees__loader *loader, const char *prefix, const char *leaf,
                     const struct ees__tensor_shape *shape, float **out, ees_error *err) {
    struct ees__buffer buffer = {0};
    int rc = read_tensor(loader, prefix, leaf, shape, &buffer, err);
    if (rc < 0)
        ees__free(buffer.data);
    else
        *out = buffer.data;
    return rc;
}

int ees__stage_tensor(struct ees__loader *loader, const char *prefix, const char *leaf,
                      const struct ees__tensor_shape *shape, float **out, ees_error *err) {
    EES_TRY(read_tensor(loader, prefix, leaf, shape, &loader->staging, err));
    *out = loader->staging.data;
    return 0;
}

int ees__load_size(struct ees__loader *loader, const char *prefix, const char *leaf, unsigned axis, size_t fallback,
                   size_t *out, ees_error *err) {
    char name[MAX_NAME];
    struct ees__tensor_shape shape;
    join_name(prefix, leaf, name);
    bool found = loader->weights->find && loader->weights->find(loader->weights, name, &shape);
    *out = found && axis < shape.rank ? shape.dim[axis] : fallback;
    if (found && (*out < 1 || *out > EES__MAX_WIDTH))
        return EES_FAIL(err, EES_EMODEL, "model.safetensors: tensor '%s' has %zu for axis %u, expected 1 to %d", name,
                        *out, axis, EES__MAX_WIDTH);
    return 0;
}

int ees__check_input(struct ees__loader *loader, const char *prefix, const char *leaf, unsigned axis, size_t expected,
                     const char *what, ees_error *err) {
    size_t size;
    EES_TRY(ees__load_size(loader, prefix, leaf, axis, expected, &size, err));
    if (size == expected)
        return 0;
    EES_FAIL(err, EES_EMODEL, "model.safetensors: tensor '%s.%s' is for %zu %s, an input of %zu x %zu pixels makes %zu",
             prefix, leaf, size, what, loader->dims->image_h, loader->dims->image_w, expected);
    return ees__hint(err, "this head runs at the size of input it was trained with only");
}

int ees__check_buffer(struct ees__loader *loader, const char *prefix, const char *leaf, const float *expected, size_t n,
                      ees_error *err) {
    char name[MAX_NAME];
    join_name(prefix, leaf, name);
    return loader->weights->check_buffer ? loader->weights->check_buffer(loader->weights, name, expected, n, err) : 0;
}

static int pack_linear(struct ees__loader *loader, enum ees__precision precision, const float *w, const float *bias,
                       size_t n, size_t k, struct ees__linear *out, ees_error *err) {
    EES_TRY(ees__linear_open_as(loader->kernels, precision, w, bias, n, k, out, err));
    loader->n_packed_bytes += ees__linear_bytes(out);
    return 0;
}

int ees__pack_linear(struct ees__loader *loader, const float *w, const float *bias, size_t n, size_t k,
                     struct ees__linear *out, ees_error *err) {
    return pack_linear(loader, EES__F32, w, bias, n, k, out, err);
}

/* Rows of w (n, k) and of the bias times the factors. */
static int scale_rows(struct ees__loader *loader, const char *prefix, const char *factors, size_t n, size_t k, float *w,
                      float *bias, ees_error *err) {
    float *factor = NULL;
    EES_TRY(ees__load_tensor(loader, prefix, factors, EES_SHAPE(n), &factor, err));
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < k; j++)
            w[i * k + j] *= factor[i];
        if (bias)
            bias[i] *= factor[i];
    }
    ees__free(factor);
    return 0;
}

/* A matrix and its bias from the file, packed in `precision`. */
static int load_linear(struct ees__loader *loader, const char *prefix, const char *leaf, const char *factors,
                       const struct ees__tensor_shape *shape, bool has_bias, enum ees__precision precision,
                       struct ees__linear *out, ees_error *err) {
    char name[64];
    float *w = NULL, *bias = NULL;
    size_t n = shape->dim[0], k = ees__tensor_elements(shape) / n;
    snprintf(name, sizeof name, "%s.weight", leaf);
    int rc = ees__stage_tensor(loader, prefix, name, shape, &w, err);
    snprintf(name, sizeof name, "%s.bias", leaf);
    if (rc == 0 && has_bias)
        rc = ees__load_tensor(loader, prefix, name, EES_SHAPE(n), &bias, err);
    if (rc == 0 && factors)
        rc = scale_rows(loader, prefix, factors, n, k, w, bias, err);
    if (rc == 0)
        rc = pack_linear(loader, precision, w, bias, n, k, out, err);
    ees__free(bias);
    return rc;
}

static int note_large(struct ees__loader *loader, const char *prefix, const char *leaf, ees_error *err) {
    struct ees__large_matrix *list = realloc(loader->large, (loader->n_large + 1) * sizeof *list);
    if (!list)
        return EES_FAIL(err, EES_ENOMEM, "no memory to load %s", prefix);
    loader->large = list;
    list += loader->n_large++;
    *list = (struct ees__large_matrix){.unit = loader->unit};
    snprintf(list->name, sizeof list->name, "%s.%s.weight", prefix, leaf);
    return 0;
}

int ees__load_scaled_linear(struct ees__loader *loader, const char *prefix, const char *leaf, const char *factors,
                            const struct ees__tensor_shape *shape, bool has_bias, struct ees__linear *out,
                            ees_error *err) {
    EES_TRY(note_large(loader, prefix, leaf, err));
    return load_linear(loader, prefix, leaf, factors, shape, has_bias, loader->precision, out, err);
}

int ees__load_linear(struct ees__loader *loader, const char *prefix, const char *leaf,
                     const struct ees__tensor_shape *shape, bool has_bias, struct ees__linear *out, ees_error *err) {
    return ees__load_scaled_linear(loader, prefix, leaf, NULL, shape, has_bias, out, err);
}

int ees__load_f32_linear(struct ees__loader *loader, const char *prefix, const char *leaf,
                         const struct ees__tensor_shape *shape, bool has_bias, struct ees__linear *out,
                         ees_error *err) {
    return load_linear(loader, prefix, leaf, NULL, shape, has_bias, EES__F32, out, err);
}

/* Half of a classifier into its columns of w (K, 2c), and onto the bias. */
static int load_half(struct ees__loader *loader, const char *prefix, const char *leaf, size_t c, float *w, float *bias,
                     ees_error *err) {
    size_t k = loader->dims->n_classes;
    char name[64];
    float *half;
    snprintf(name, sizeof name, "%s.weight", leaf);
    EES_TRY(ees__stage_tensor(loader, prefix, name, EES_SHAPE(k, c), &half, err));
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < c; j++)
            w[i * 2 * c + j] = half[i * c + j] / 2.0f;
    snprintf(name, sizeof name, "%s.bias", leaf);
    EES_TRY(ees__stage_tensor(loader, prefix, name, EES_SHAPE(k), &half, err));
    for (size_t i = 0; i < k; i++)
        bias[i] += half[i] / 2.0f;
    return 0;
}

int ees__load_classifier(struct ees__loader *loader, const char *prefix, size_t n_inputs, struct ees__linear *out,
                         ees_error *err) {
    size_t k = loader->dims->n_classes, c = n_inputs;
    loader->n_pooled = ees__is_distilled(loader->dims) ? 2 * c : c;
    if (!ees__is_distilled(loader->dims))
        return ees__load_f32_linear(loader, prefix, "head.cls", EES_SHAPE(k, c), true, out, err);
    float *w = ees__calloc_aligned(2 * k * c, sizeof *w), *bias = ees__calloc_aligned(k, sizeof *bias);
    int rc = w && bias ? load_half(loader, prefix, "head.cls", c, w, bias, err)
                       : EES_FAIL(err, EES_ENOMEM, "no memory for %s.head", prefix);
    if (rc == 0)
        rc = load_half(loader, prefix, "head.dist", c, w + c, bias, err);
    if (rc == 0)
        rc = ees__pack_linear(loader, w, bias, k, 2 * c, out, err);
    ees__free(w);
    ees__free(bias);
    return rc;
}

int ees__load_norm(struct ees__loader *loader, const char *prefix, const char *leaf, size_t n, struct ees__norm *out,
                   ees_error *err) {
    char name[64];
    float *gamma = NULL, *beta = NULL;
    snprintf(name, sizeof name, "%s.weight", leaf);
    int rc = ees__load_tensor(loader, prefix, name, EES_SHAPE(n), &gamma, err);
    snprintf(name, sizeof name, "%s.bias", leaf);
    if (rc == 0)
        rc = ees__load_tensor(loader, prefix, name, EES_SHAPE(n), &beta, err);
    if (rc < 0) {
        ees__free(gamma);
        return rc;
    }
    *out = (struct ees__norm){gamma, beta};
    loader->n_packed_bytes += 2 * n * sizeof(float);
    return 0;
}

void ees__norm_close(struct ees__norm *norm) {
    ees__free(norm->gamma);
    ees__free(norm->beta);
}

int ees__load_batch_norm(struct ees__loader *loader, const char *prefix, const char *leaf, size_t n,
                         struct ees__batch_norm *out, ees_error *err) {
    static const char *const endings[] = {"weight", "bias", "running_mean", "running_var"};
    enum { GAMMA, BETA, MEAN, VARIANCE, N_PARTS };
    const double eps = 1e-5; /* PyTorch's default, in all of these models */
    float *part[N_PARTS] = {0};
    double *values = NULL;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < N_PARTS; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s.%s", leaf, endings[i]);
        rc = ees__load_tensor(loader, prefix, name, EES_SHAPE(n), &part[i], err);
    }
    if (rc == 0 && !(values = ees__calloc_aligned(2 * n, sizeof *values)))
        rc = EES_FAIL(err, EES_ENOMEM, "no memory to fold %s.%s", prefix, leaf);
    if (rc == 0) {
        *out = (struct ees__batch_norm){values, values + n};
        for (size_t i = 0; i < n; i++) {
            out->scale[i] = part[GAMMA][i] / sqrt((double)part[VARIANCE][i] + eps);
            out->shift[i] = part[BETA][i] - out->scale[i] * part[MEAN][i];
        }
    }
    for (size_t i = 0; i < N_PARTS; i++)
        ees__free(part[i]);
    return rc;
}

void ees__batch_norm_close(struct ees__batch_norm *norm) { ees__free(norm->scale); }
