/* SPDX-License-Identifier: MIT */
/* The writer behind eestream/tensors.h. */
#define _GNU_SOURCE

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fail.h"
#include "common/mem.h"
#include "eestream/tensors.h"
#include "io/widen.h"

struct ees_tensor_writer {
    char *path, *part; /* where it goes, and where it is written */
    FILE *file;
    json_t *header; /* NULL: written */
    size_t data_bytes;
};

int ees_tensor_writer_open(const char *path, ees_tensor_writer **out, ees_error *err) {
    ees_tensor_writer *w = calloc(1, sizeof *w);
    if (!w || !(w->path = strdup(path)) || asprintf(&w->part, "%s.part", path) < 0 || !(w->header = json_object())) {
        ees_tensor_writer_close(w);
        return EES_FAIL(err, EES_ENOMEM, "no memory to write %s", path);
    }
    w->file = fopen(w->part, "wbe");
    if (!w->file) {
        EES_FAIL_OS(err, EES_EOUTPUT, errno, "%s cannot be written", w->part);
        ees_tensor_writer_close(w);
        return EES_EOUTPUT;
    }
    *out = w;
    return 0;
}

int ees_tensor_writer_add(ees_tensor_writer *w, const ees_tensor_info *info, ees_error *err) {
    size_t n = 1;
    json_t *shape = json_array();
    for (unsigned i = 0; i < info->rank; i++) {
        json_array_append_new(shape, json_integer((json_int_t)info->shape[i]));
        n *= info->shape[i]; /* a tensor in memory: no overflow */
    }
    size_t end = w->data_bytes + n * ees__dtype_bytes(info->dtype);
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", ees__dtype_name(info->dtype), "shape", shape,
                              "data_offsets", (json_int_t)w->data_bytes, (json_int_t)end);
    if (json_object_set_new(w->header, info->name, entry) < 0)
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory for tensor '%s'", w->path, info->name);
    w->data_bytes = end;
    return 0;
}

static int put_bytes(ees_tensor_writer *w, const void *bytes, size_t n, ees_error *err) {
    if (fwrite(bytes, 1, n, w->file) != n)
        return EES_FAIL_OS(err, EES_EOUTPUT, errno, "%s cannot be written", w->part);
    return 0;
}

/* Length, JSON, and spaces so that the data starts at a multiple of 8, as the format asks for. */
static int put_header(ees_tensor_writer *w, ees_error *err) {
    char *text = json_dumps(w->header, JSON_COMPACT);
    if (!text)
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory for the header", w->path);
    size_t n = strlen(text);
    uint64_t padded = ees__round_up(n, 8);
    int rc = put_bytes(w, &padded, sizeof padded, err);
    if (rc == 0)
        rc = put_bytes(w, text, n, err);
    if (rc == 0)
        rc = put_bytes(w, "        ", padded - n, err);
    free(text);
    json_decref(w->header);
    w->header = NULL;
    return rc;
}

/* IEEE 754 binary16 to nearest even; beyond its range infinite. */
static uint16_t half_from_float(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    if (isnan(x))
        return sign | 0x7e00;
    float magnitude = fabsf(x);
    if (magnitude >= 65520.0f)
        return sign | 0x7c00;
    if (magnitude < 0x1p-14f) /* subnormal: whole multiples of 2^-24 */
        return (uint16_t)(sign | (uint16_t)rintf(magnitude * 0x1p24f));
    bits &= 0x7fffffff;
    bits += 0xfff + (bits >> 13 & 1);
    return (uint16_t)(sign | (bits - (112u << 23)) >> 13);
}

static uint16_t bfloat_from_float(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)(isnan(x) ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

enum { CHUNK = 4096 };

static int put_chunk(ees_tensor_writer *w, enum ees_dtype dtype, const float *values, size_t n, ees_error *err) {
    union {
        uint16_t halves[CHUNK];
        int8_t bytes[CHUNK];
    } out;
    for (size_t i = 0; i < n; i++) {
        if (dtype == EES_DTYPE_I8)
            out.bytes[i] = (int8_t)values[i];
        else
            out.halves[i] = dtype == EES_DTYPE_F16 ? half_from_float(values[i]) : bfloat_from_float(values[i]);
    }
    return put_bytes(w, &out, n * ees__dtype_bytes(dtype), err);
}

int ees_tensor_writer_put(ees_tensor_writer *w, enum ees_dtype dtype, const float *values, size_t n, ees_error *err) {
    if (w->header)
        EES_TRY(put_header(w, err));
    if (dtype == EES_DTYPE_F32)
        return put_bytes(w, values, n * sizeof *values, err);
    for (size_t i = 0; i < n; i += CHUNK)
        EES_TRY(put_chunk(w, dtype, values + i, n - i < CHUNK ? n - i : CHUNK, err));
    return 0;
}

int ees_tensor_writer_finish(ees_tensor_writer *w, size_t *n_bytes, ees_error *err) {
    if (w->header)
        EES_TRY(put_header(w, err));
    *n_bytes = (size_t)ftell(w->file);
    int failed = fflush(w->file) != 0 || fsync(fileno(w->file)) < 0;
    failed |= fclose(w->file) != 0;
    w->file = NULL;
    if (failed || rename(w->part, w->path) < 0)
        return EES_FAIL_OS(err, EES_EOUTPUT, errno, "%s cannot be written", w->path);
    free(w->part);
    w->part = NULL;
    return 0;
}

void ees_tensor_writer_close(ees_tensor_writer *w) {
    if (!w)
        return;
    if (w->file)
        fclose(w->file);
    if (w->part)
        unlink(w->part);
    json_decref(w->header);
    free(w->path);
    free(w->part);
    free(w);
}
