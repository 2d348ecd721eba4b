/* SPDX-License-Identifier: MIT */
/* Weights from safetensors. Shapes are compared before memory is taken, so a config that lies about sizes costs an
 * error and no memory; every tensor of the file must have been read, or be known to be unused, in the end. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fail.h"
#include "common/mem.h"
#include "stages/family.h"
#include "stages/weights.h"

struct file_weights {
    struct ees__weights base;
    const char *file;
    const ees_tensors *tensors;
    const struct ees__family *family;
    const ees_model_options *options;
    bool *used; /* by position in the file */
};

static void print_shape(const size_t *dim, unsigned rank, char text[96]) {
    size_t at = (size_t)snprintf(text, 96, "(");
    for (unsigned i = 0; i < rank && at < 80; i++)
        at += (size_t)snprintf(text + at, 96 - at, "%s%zu", i ? "," : "", dim[i]);
    snprintf(text + at, 96 - at, ")");
}

static bool is_float(enum ees_dtype dtype) {
    return dtype == EES_DTYPE_F32 || dtype == EES_DTYPE_F16 || dtype == EES_DTYPE_BF16 || dtype == EES_DTYPE_F64;
}

/* All spellings of a name that the file does not have. */
static int refuse_missing(const struct file_weights *w, const struct ees__names *names, const char *canonical,
                          const char *part, ees_error *err) {
    char spellings[EES__MAX_PARTS][EES__MAX_TENSOR_NAME], others[200] = "";
    size_t at = 0;
    for (unsigned i = 1; at < sizeof others && ees__names_expand(names, canonical, i, spellings); i++)
        at += (size_t)snprintf(others + at, sizeof others - at, "%s'%s'", i == 1 ? ", also spelled " : ", ",
                               spellings[0]);
    EES_FAIL(err, EES_EMODEL, "%s: tensor '%s'%s is missing", w->file, part, others);
    return ees__hint(err, "config.json makes this a %s model; do the two files belong together?", w->family->name);
}

/* Of an int8 matrix: the scales of its rows, (n,) float32 named "<matrix>_scale". */
static int find_scale(const struct file_weights *w, const ees_tensor_info *info, const ees_tensor_info **out,
                      ees_error *err) {
    char name[EES__MAX_TENSOR_NAME + 8];
    snprintf(name, sizeof name, "%s_scale", info->name);
    const ees_tensor_info *scale = ees_tensors_find(w->tensors, name);
    if (!scale)
        return EES_FAIL(err, EES_EMODEL, "%s: tensor '%s' holds integers and '%s' is missing", w->file, info->name,
                        name);
    if (scale->dtype != EES_DTYPE_F32 || scale->rank != 1 || scale->shape[0] != info->shape[0]) {
        char is[96];
        print_shape(scale->shape, scale->rank, is);
        return EES_FAIL(err, EES_EMODEL, "%s: tensor '%s' is %s, expected (%zu) in F32", w->file, name, is,
                        info->shape[0]);
    }
    *out = scale;
    return 0;
}

static int find_tensor(struct file_weights *w, const char *name, const struct ees__tensor_shape *shape,
                       const ees_tensor_info **out, ees_error *err) {
    const ees_tensor_info *info = ees_tensors_find(w->tensors, name);
    bool same = info->rank == shape->rank && memcmp(info->shape, shape->dim, shape->rank * sizeof *shape->dim) == 0;
    if (!same) {
        char is[96], expected[96];
        print_shape(info->shape, info->rank, is);
        print_shape(shape->dim, shape->rank, expected);
        return EES_FAIL(err, EES_EMODEL, "%s: tensor '%s' is %s, expected %s", w->file, name, is, expected);
    }
    bool is_int8 = info->dtype == EES_DTYPE_I8 && info->rank >= 2;
    if (is_int8) {
        const ees_tensor_info *scale;
        EES_TRY(find_scale(w, info, &scale, err));
    } else if (!is_float(info->dtype))
        return EES_FAIL(err, EES_EMODEL, "%s: tensor '%s' holds integers, expected F32, F16, BF16 or F64", w->file,
                        name);
    *out = info;
    return 0;
}

static bool is_variance(const char *name) {
    size_t n = strlen(name), n_end = strlen(".running_var");
    return n > n_end && strcmp(name + n - n_end, ".running_var") == 0;
}

/* Is any of them NaN or infinite? By their bits, which the compiler makes vector code of: carried into the sign, one is
 * added to an exponent of all ones. */
static bool has_nonfinite(const float *x, size_t n) {
    uint32_t carried = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        carried |= (bits & 0x7fffffffu) + 0x00800000u;
    }
    return carried & 0x80000000u;
}

static int check_finite(const struct file_weights *w, const ees_tensor_info *info, const float *x, ees_error *err) {
    if (w->options->allow_nonfinite || !has_nonfinite(x, info->n_elements))
        return 0;
    size_t i = 0;
    while (isfinite(x[i]))
        i++;
    return EES_FAIL(err, EES_EMODEL, "%s: tensor '%s' has the value %g at index %zu", w->file, info->name, (double)x[i],
                    i);
}

static int check_values(const struct file_weights *w, const ees_tensor_info *info, const float *x, ees_error *err) {
    EES_TRY(check_finite(w, info, x, err));
    for (size_t i = 0; is_variance(info->name) && i < info->n_elements; i++)
        if (x[i] < 0.0f)
            return EES_FAIL(err, EES_EMODEL, "%s: tensor '%s' has the negative variance %g at index %zu", w->file,
                            info->name, (double)x[i], i);
    return 0;
}

static void mark_used(struct file_weights *w, const ees_tensor_info *info) {
    for (size_t i = 0; i < ees_tensors_count(w->tensors); i++)
        if (ees_tensors_at(w->tensors, i) == info)
            w->used[i] = true;
}

/* Rows of q in `dst` times their scales. */
static int scale_rows(struct file_weights *w, const ees_tensor_info *info, float *dst, ees_error *err) {
    const ees_tensor_info *scale;
    EES_TRY(find_scale(w, info, &scale, err));
    size_t n = info->shape[0], k = n ? info->n_elements / n : 0;
    struct ees__buffer values = {0};
    int rc = ees__buffer_reserve(&values, n, scale->name, err);
    if (rc == 0)
        rc = ees_tensors_read_f32(w->tensors, scale, values.data, err);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        if (!(values.data[i] > 0.0f && isfinite(values.data[i])))
            rc = EES_FAIL(err, EES_EMODEL, "%s: tensor '%s' has the value %g at index %zu, expected scales above 0",
                          w->file, scale->name, (double)values.data[i], i);
        for (size_t j = 0; j < k; j++)
            dst[i * k + j] *= values.data[i];
    }
    ees__free(values.data);
    if (rc == 0)
        mark_used(w, scale);
    return rc;
}

static int read_part(struct file_weights *w, const ees_tensor_info *info, float *dst, ees_error *err) {
    EES_TRY(ees_tensors_read_f32(w->tensors, info, dst, err));
    if (info->dtype == EES_DTYPE_I8)
        EES_TRY(scale_rows(w, info, dst, err));
    EES_TRY(check_values(w, info, dst, err));
    mark_used(w, info);
    return 0;
}

static void tell(const struct file_weights *w, const char *name, const struct ees__tensor_shape *shape,
                 const ees_tensor_info *const infos[], unsigned n_parts) {
    const char *parts[EES__MAX_PARTS];
    for (unsigned i = 0; i < n_parts; i++)
        parts[i] = infos[i]->name;
    const ees_tensor_use use = {
        .name = name, .rank = shape->rank, .shape = shape->dim, .n_parts = n_parts, .parts = parts};
    if (w->options->on_tensor)
        w->options->on_tensor(w->options->on_tensor_opaque, &use);
}

static int read_file(struct ees__weights *base, const char *name, const struct ees__tensor_shape *shape,
                     struct ees__buffer *buffer, ees_error *err) {
    struct file_weights *w = (struct file_weights *)base;
    char parts[EES__MAX_PARTS][EES__MAX_TENSOR_NAME];
    const ees_tensor_info *infos[EES__MAX_PARTS];
    const struct ees__names names = ees__family_names(w->family, base->layout);
    bool found;
    unsigned n_parts = ees__names_locate(&names, w->tensors, name, parts, &found);
    if (n_parts == 0)
        return EES_FAIL(err, EES_EINTERNAL, "tensor '%s' has no name in family %s", name, w->family->name);
    struct ees__tensor_shape part = *shape;
    part.dim[0] /= n_parts;
    for (unsigned i = 0; i < n_parts; i++) {
        if (!ees_tensors_find(w->tensors, parts[i]))
            return refuse_missing(w, &names, name, parts[i], err);
        EES_TRY(find_tensor(w, parts[i], &part, &infos[i], err));
    }
    EES_TRY(ees__buffer_reserve(buffer, ees__tensor_elements(shape), parts[0], err));
    for (unsigned i = 0; i < n_parts; i++)
        EES_TRY(read_part(w, infos[i], buffer->data + i * ees__tensor_elements(&part), err));
    tell(w, name, shape, infos, n_parts);
    return 0;
}

/* Of a stack of parts, which are alike. */
static bool find_file(struct ees__weights *base, const char *name, struct ees__tensor_shape *shape) {
    struct file_weights *w = (struct file_weights *)base;
    char parts[EES__MAX_PARTS][EES__MAX_TENSOR_NAME];
    const struct ees__names names = ees__family_names(w->family, base->layout);
    bool found;
    unsigned n_parts = ees__names_locate(&names, w->tensors, name, parts, &found);
    const ees_tensor_info *info = found ? ees_tensors_find(w->tensors, parts[0]) : NULL;
    if (!info || info->rank < 1 || info->rank > sizeof shape->dim / sizeof *shape->dim)
        return false;
    shape->rank = info->rank;
    memcpy(shape->dim, info->shape, info->rank * sizeof *shape->dim);
    shape->dim[0] *= n_parts;
    return true;
}

static int check_buffer(struct ees__weights *base, const char *name, const float *expected, size_t n, ees_error *err) {
    struct file_weights *w = (struct file_weights *)base;
    char parts[EES__MAX_PARTS][EES__MAX_TENSOR_NAME];
    const struct ees__names names = ees__family_names(w->family, base->layout);
    struct ees__buffer values = {0};
    bool found;
    ees__names_locate(&names, w->tensors, name, parts, &found);
    if (!found)
        return 0;
    const ees_tensor_info *info = ees_tensors_find(w->tensors, parts[0]);
    if (info->n_elements != n)
        return EES_FAIL(err, EES_EMODEL, "%s: tensor '%s' has %zu elements, expected %zu", w->file, info->name,
                        info->n_elements, n);
    mark_used(w, info);
    int rc = ees__buffer_reserve(&values, n, info->name, err);
    if (rc == 0)
        rc = ees_tensors_read_f32(w->tensors, info, values.data, err);
    for (size_t i = 0; rc == 0 && i < n; i++)
        if (!(values.data[i] == expected[i]))
            rc = EES_FAIL(err, EES_EMODEL, "%s: tensor '%s' has the value %.0f at index %zu, expected %.0f", w->file,
                          info->name, (double)values.data[i], i, (double)expected[i]);
    ees__free(values.data);
    return rc;
}

static int check_rest(struct ees__weights *base, ees_error *err) {
    struct file_weights *w = (struct file_weights *)base;
    const char *first = NULL;
    size_t n_unknown = 0;
    const struct ees__names names = ees__family_names(w->family, base->layout);
    for (size_t i = 0; i < ees_tensors_count(w->tensors); i++) {
        const ees_tensor_info *info = ees_tensors_at(w->tensors, i);
        const char *name = info->name;
        if (w->used[i] || info->n_elements == 0 || ees__names_unused(&names, name))
            continue;
        first = first ? first : name;
        n_unknown++;
    }
    if (!first)
        return 0;
    return EES_FAIL(err, EES_EMODEL, "%s: tensor '%s' is not part of a %s model of this config (%zu such tensors)",
                    w->file, first, w->family->name, n_unknown);
}

static void close_file(struct ees__weights *base) {
    struct file_weights *w = (struct file_weights *)base;
    free(w->used);
    free(w);
}

int ees__weights_open_file(const char *file, const ees_tensors *tensors, const struct ees__family *family,
                           const ees_model_options *options, struct ees__weights **out, ees_error *err) {
    struct file_weights *w = calloc(1, sizeof *w);
    bool *used = calloc(ees_tensors_count(tensors) + 1, sizeof *used);
    if (!w || !used) {
        free(w);
        free(used);
        return EES_FAIL(err, EES_ENOMEM, "%s: out of memory", file);
    }
    *w = (struct file_weights){
        .base = {.read = read_file,
                 .find = find_file,
                 .check_buffer = check_buffer,
                 .check_rest = check_rest,
                 .close = close_file},
        .file = file,
        .tensors = tensors,
        .family = family,
        .options = options,
        .used = used,
    };
    *out = &w->base;
    return 0;
}
