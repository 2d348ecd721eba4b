/* SPDX-License-Identifier: MIT */
/* A model folder written anew: the same names, some tensors in another dtype. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fail.h"
#include "eestream/tensors.h"
#include "stages/family.h"
#include "stages/quantise.h"

enum { MAX_PATH = 4096 };

static int join(const char *dir, const char *file, char path[MAX_PATH], ees_error *err) {
    if (snprintf(path, MAX_PATH, "%s/%s", dir, file) >= MAX_PATH)
        return EES_FAIL(err, EES_EINVAL, "the folder name %.60s... is too long", dir);
    return 0;
}

int ees__rewriter_open(const char *in_dir, const char *out_dir, const char *precision, const ees_model *model,
                       struct ees__rewriter *r, ees_error *err) {
    char path[MAX_PATH];
    *r = (struct ees__rewriter){.in_dir = in_dir, .out_dir = out_dir, .precision = precision};
    r->dtype = strcmp(precision, "int8") == 0   ? EES_DTYPE_I8
               : strcmp(precision, "bf16") == 0 ? EES_DTYPE_BF16
                                                : EES_DTYPE_F16;
    EES_TRY(join(in_dir, "config.json", path, err));
    EES_TRY(ees__json_load(path, &r->config, err));
    EES_TRY(join(in_dir, "model.safetensors", path, err));
    EES_TRY(ees_tensors_open(path, &r->tensors, err));
    EES_TRY(ees__family_find(&r->config, r->tensors, &r->family, err));
    r->names = ees__family_names(r->family, &model->layout);
    r->plan = calloc(ees_tensors_count(r->tensors) + 1, sizeof *r->plan);
    if (!r->plan)
        return EES_FAIL(err, EES_ENOMEM, "no memory to rewrite %s", in_dir);
    for (size_t i = 0; i < ees_tensors_count(r->tensors); i++) {
        const ees_tensor_info *info = ees_tensors_at(r->tensors, i);
        if (info->dtype == EES_DTYPE_I8 && info->rank >= 2)
            return EES_FAIL(err, EES_EINVAL, "%s is quantised already ('%s' is I8): start from the original", in_dir,
                            info->name);
        r->bytes_before += info->n_bytes;
    }
    return 0;
}

void ees__rewriter_close(struct ees__rewriter *r) {
    ees__json_close(&r->config);
    ees_tensors_close(r->tensors);
    free(r->plan);
}

static size_t position(const struct ees__rewriter *r, const char *name) {
    size_t i = 0;
    while (strcmp(ees_tensors_at(r->tensors, i)->name, name))
        i++; /* ends: the tensor is there */
    return i;
}

unsigned ees__rewriter_find(const struct ees__rewriter *r, const char *canonical, size_t positions[EES__MAX_PARTS]) {
    char parts[EES__MAX_PARTS][EES__MAX_TENSOR_NAME];
    bool found;
    unsigned n = ees__names_locate(&r->names, r->tensors, canonical, parts, &found);
    for (unsigned i = 0; found && i < n; i++) {
        if (!ees_tensors_find(r->tensors, parts[i]))
            return 0;
        positions[i] = position(r, parts[i]);
    }
    return found ? n : 0;
}

/* ---- Tensors -------------------------------------------------------------------------------------------- */

/* What a tensor that is kept is stored as. */
static enum ees_dtype kept_dtype(enum ees_dtype dtype) {
    return dtype == EES_DTYPE_F16 || dtype == EES_DTYPE_BF16 ? dtype : EES_DTYPE_F32;
}

static int announce(const struct ees__rewriter *r, ees_tensor_writer *w, size_t i, ees_error *err) {
    ees_tensor_info info = *ees_tensors_at(r->tensors, i);
    char name[EES__MAX_TENSOR_NAME + 8];
    info.dtype = r->plan[i].narrow ? r->dtype : kept_dtype(info.dtype);
    EES_TRY(ees_tensor_writer_add(w, &info, err));
    if (info.dtype != EES_DTYPE_I8)
        return 0;
    snprintf(name, sizeof name, "%s_scale", info.name);
    info.name = name;
    info.rank = 1;
    info.dtype = EES_DTYPE_F32;
    return ees_tensor_writer_add(w, &info, err);
}

/* Rows to q, in place, then their scales; a row of zeros gets the scale 1. */
static int put_int8(ees_tensor_writer *w, const ees_tensor_info *info, float *values, ees_error *err) {
    size_t n = info->shape[0], k = info->n_elements / n;
    int8_t *q = ees__calloc_aligned(k, 1);
    float *scale = ees__calloc_aligned(n, sizeof *scale);
    int rc = q && scale ? 0 : EES_FAIL(err, EES_ENOMEM, "no memory for the rows of '%s'", info->name);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        float of_row = ees__quantise_row(values + i * k, k, q);
        scale[i] = of_row > 0.0f ? of_row : 1.0f;
        for (size_t j = 0; j < k; j++)
            values[i * k + j] = q[j];
    }
    if (rc == 0)
        rc = ees_tensor_writer_put(w, EES_DTYPE_I8, values, info->n_elements, err);
    if (rc == 0)
        rc = ees_tensor_writer_put(w, EES_DTYPE_F32, scale, n, err);
    ees__free(q);
    ees__free(scale);
    return rc;
}

static int check_range(const struct ees__rewriter *r, const ees_tensor_info *info, const float *values,
                       ees_error *err) {
    for (size_t i = 0; r->dtype == EES_DTYPE_F16 && i < info->n_elements; i++)
        if (!(fabsf(values[i]) < 65520.0f))
            return EES_FAIL(err, EES_EMODEL, "tensor '%s' has the value %g at index %zu, beyond fp16: use bf16",
                            info->name, (double)values[i], i);
    return 0;
}

static int rewrite(const struct ees__rewriter *r, ees_tensor_writer *w, size_t i, struct ees__buffer *buffer,
                   ees_error *err) {
    const ees_tensor_info *info = ees_tensors_at(r->tensors, i);
    const struct ees__rewrite *plan = &r->plan[i];
    size_t k = info->rank > 0 && info->shape[0] > 0 ? info->n_elements / info->shape[0] : 1;
    EES_TRY(ees__buffer_reserve(buffer, info->n_elements, info->name, err));
    EES_TRY(ees_tensors_read_f32(r->tensors, info, buffer->data, err));
    for (size_t j = 0; plan->divide && j < info->n_elements; j++)
        buffer->data[j] /= plan->divide[j];
    for (size_t j = 0; plan->multiply && j < info->n_elements; j++)
        buffer->data[j] *= plan->multiply[j % k];
    if (plan->narrow && r->dtype == EES_DTYPE_I8)
        return put_int8(w, info, buffer->data, err);
    if (plan->narrow)
        EES_TRY(check_range(r, info, buffer->data, err));
    return ees_tensor_writer_put(w, plan->narrow ? r->dtype : kept_dtype(info->dtype), buffer->data, info->n_elements,
                                 err);
}

static int write_tensors(struct ees__rewriter *r, ees_error *err) {
    char path[MAX_PATH];
    ees_tensor_writer *w = NULL;
    struct ees__buffer buffer = {0};
    size_t n = ees_tensors_count(r->tensors);
    EES_TRY(join(r->out_dir, "model.safetensors", path, err));
    EES_TRY(ees_tensor_writer_open(path, &w, err));
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++)
        if (!ees__names_unused(&r->names, ees_tensors_at(r->tensors, i)->name))
            rc = announce(r, w, i, err);
    for (size_t i = 0; rc == 0 && i < n; i++)
        if (!ees__names_unused(&r->names, ees_tensors_at(r->tensors, i)->name))
            rc = rewrite(r, w, i, &buffer, err);
    if (rc == 0)
        rc = ees_tensor_writer_finish(w, &r->bytes_after, err);
    ees_tensor_writer_close(w);
    ees__free(buffer.data);
    return rc;
}

/* ---- The other files ------------------------------------------------------------------------------------ */

static int write_config(struct ees__rewriter *r, const struct ees__quantisation *wider, ees_error *err) {
    char path[MAX_PATH];
    json_t *list = json_array();
    for (unsigned i = 0; i < wider->n_wider; i++)
        json_array_append_new(list, json_string(wider->wider[i]));
    json_object_set_new(r->config.root, "quantisation",
                        json_pack("{s:s, s:o}", "precision", r->precision, "wider", list));
    EES_TRY(join(r->out_dir, "config.json", path, err));
    if (json_dump_file(r->config.root, path, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) < 0)
        return EES_FAIL_OS(err, EES_EOUTPUT, errno, "%s cannot be written", path);
    return 0;
}

bool ees__rewriter_has_certificate(const struct ees__rewriter *r) {
    char path[MAX_PATH];
    return join(r->in_dir, "certificate.json", path, NULL) == 0 && access(path, F_OK) == 0;
}

/* Optional. */
static int copy_preprocessor(const struct ees__rewriter *r, ees_error *err) {
    char from[MAX_PATH], to[MAX_PATH];
    struct ees__json json = {0};
    EES_TRY(join(r->in_dir, "preprocessor_config.json", from, err));
    EES_TRY(join(r->out_dir, "preprocessor_config.json", to, err));
    if (access(from, F_OK) != 0)
        return 0;
    EES_TRY(ees__json_load(from, &json, err));
    int failed = json_dump_file(json.root, to, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    ees__json_close(&json);
    return failed < 0 ? EES_FAIL_OS(err, EES_EOUTPUT, errno, "%s cannot be written", to) : 0;
}

int ees__rewriter_write(struct ees__rewriter *r, const struct ees__quantisation *wider, ees_error *err) {
    if (mkdir(r->out_dir, 0777) < 0 && errno != EEXIST)
        return EES_FAIL_OS(err, EES_EOUTPUT, errno, "folder %s cannot be made", r->out_dir);
    EES_TRY(write_tensors(r, err));
    EES_TRY(write_config(r, wider, err));
    return copy_preprocessor(r, err);
}
