/* SPDX-License-Identifier: MIT */
/* The log as a safetensors file: tensors in the order of `fields`, everything else as strings of the metadata. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/cli/calibrate/log.h"
#include "tools/cli/fail.h"
#include "tools/cli/file.h"

#define FORMAT  "eestream-log"
#define VERSION "1"

/* A tensor as it stands in the file and in the log. */
struct field {
    const char *name, *dtype;
    const void *data;
    size_t shape[3], size; /* of an element, bytes */
    unsigned rank;
};

enum { N_FIELDS = 8 };

static void list_fields(const struct log *l, struct field out[N_FIELDS]) {
    const struct field fields[N_FIELDS] = {
        {"frames", "I64", l->frames, {l->n}, 8, 1},
        {"logits", "F32", l->logits, {l->n, l->n_exits + 1, l->n_classes}, 4, 3},
        {"gates", "F32", l->gates, {l->n, l->n_exits}, 4, 2},
        {"labels", "I32", l->labels, {l->n}, 4, 1},
        {"inputs", "I32", l->inputs, {l->n}, 4, 1},
        {"unit_ns", "F32", l->unit_ns, {l->n_units}, 4, 1},
        {"unit_exit", "I32", l->unit_exit, {l->n_units}, 4, 1},
        {"unit_block", "I32", l->unit_block, {l->n_units}, 4, 1},
    };
    memcpy(out, fields, sizeof fields);
}

static size_t n_bytes(const struct field *f) {
    size_t n = f->size;
    for (unsigned i = 0; i < f->rank; i++)
        n *= f->shape[i];
    return n;
}

/* ---- Writing ------------------------------------------------------------------------------------------- */

static json_t *metadata_json(const struct log *l) {
    char numbers[3][32], date[32];
    time_t now = time(NULL);
    struct tm utc;
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    snprintf(numbers[0], sizeof numbers[0], "%u", l->n_blocks);
    snprintf(numbers[1], sizeof numbers[1], "%.17g", l->n_cores);
    snprintf(numbers[2], sizeof numbers[2], "%zu", l->n_failed);
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "format", FORMAT,
                     "version", VERSION, "date", date, "written_by", ees_version(), "model", json_text(l->model_name),
                     "model_hash", l->model_hash, "data_hash", l->data_hash, "kernels", l->kernels, "precision",
                     l->precision, "input", l->input, "heads", l->heads, "blocks", numbers[0], "cores", numbers[1],
                     "failed", numbers[2]);
}

/* @return header text to free(), padded so that the tensors begin at a multiple of 8; NULL: no memory */
static char *header_text(const struct log *l, const struct field *fields, size_t *n) {
    json_t *header = json_pack("{s:o}", "__metadata__", metadata_json(l));
    size_t at = 0;
    for (unsigned i = 0; i < N_FIELDS; i++) {
        json_t *shape = json_array();
        for (unsigned k = 0; k < fields[i].rank; k++)
            json_array_append_new(shape, json_integer((json_int_t)fields[i].shape[k]));
        json_object_set_new(header, fields[i].name,
                            json_pack("{s:s, s:o, s:[II]}", "dtype", fields[i].dtype, "shape", shape, "data_offsets",
                                      (json_int_t)at, (json_int_t)(at + n_bytes(&fields[i]))));
        at += n_bytes(&fields[i]);
    }
    char *text = json_dumps(header, JSON_COMPACT), *padded = NULL;
    json_decref(header);
    size_t used = text ? strlen(text) : 0;
    *n = (used + 7) / 8 * 8;
    if (text && (padded = realloc(text, *n + 1)))
        memset(padded + used, ' ', *n - used);
    else
        free(text);
    return padded;
}

static int write_fields(FILE *f, const char *header, size_t n, const struct field *fields) {
    unsigned char length[8];
    for (unsigned i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)n >> (8 * i));
    errno = 0;
    bool good = fwrite(length, 1, 8, f) == 8 && fwrite(header, 1, n, f) == n;
    for (unsigned i = 0; i < N_FIELDS && good; i++)
        good = fwrite(fields[i].data, 1, n_bytes(&fields[i]), f) == n_bytes(&fields[i]);
    good = good && fflush(f) == 0;
    return good ? 0 : errno ? errno : EIO;
}

/* Written beside, then renamed. @return errno */
static int write_beside(const char *path, const char *beside, const char *header, size_t n,
                        const struct field *fields) {
    FILE *f = fopen(beside, "wbe");
    if (!f)
        return errno;
    int error = write_fields(f, header, n, fields);
    if (fclose(f) != 0 && !error)
        error = errno;
    if (!error && rename(beside, path) < 0)
        error = errno;
    if (error)
        unlink(beside);
    return error;
}

int log_save(const struct log *l, const char *path, ees_error *err) {
    struct field fields[N_FIELDS];
    size_t n;
    list_fields(l, fields);
    char *header = header_text(l, fields, &n), *beside = NULL;
    if (!header || asprintf(&beside, "%s.new", path) < 0) {
        free(header);
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for %s", path);
    }
    int error = write_beside(path, beside, header, n, fields);
    free(header);
    free(beside);
    return error ? CLI_FAIL_OS(err, EES_EOUTPUT, error, "%s: cannot be written", path) : 0;
}

/* ---- Reading ------------------------------------------------------------------------------------------- */

struct reading {
    struct log *l;
    const char *path;
    ees_tensors *file;
};

static int refuse(const struct reading *r, const char *what, const char *expected, ees_error *err) {
    CLI_FAIL(err, EES_EINVAL, "%s: %s is missing or not %s", r->path, what, expected);
    return cli_hint(err, "eestream calibrate INPUT --log FILE records a log");
}

static int read_text(const struct reading *r, const char *key, char *out, size_t n, ees_error *err) {
    const char *text = ees_tensors_get_metadata(r->file, key);
    if (!text || !*text || strlen(text) >= n)
        return refuse(r, key, "a short text", err);
    memcpy(out, text, strlen(text) + 1);
    return 0;
}

static int read_number(const struct reading *r, const char *key, double low, double high, double *out, ees_error *err) {
    char text[40], *end;
    CLI_TRY(read_text(r, key, text, sizeof text, err));
    *out = strtod(text, &end);
    return *end || !(*out >= low && *out <= high) ? refuse(r, key, "a number in its range", err) : 0;
}

static int read_metadata(const struct reading *r, ees_error *err) {
    struct log *l = r->l;
    const char *format = ees_tensors_get_metadata(r->file, "format");
    const char *version = ees_tensors_get_metadata(r->file, "version");
    double blocks, failed;
    if (!format || strcmp(format, FORMAT) != 0 || !version || strcmp(version, VERSION) != 0)
        return refuse(r, "format " FORMAT " of version " VERSION, "there", err);
    CLI_TRY(read_text(r, "model", l->model_name, sizeof l->model_name, err));
    CLI_TRY(read_text(r, "model_hash", l->model_hash, sizeof l->model_hash, err));
    CLI_TRY(read_text(r, "data_hash", l->data_hash, sizeof l->data_hash, err));
    CLI_TRY(read_text(r, "kernels", l->kernels, sizeof l->kernels, err));
    CLI_TRY(read_text(r, "precision", l->precision, sizeof l->precision, err));
    CLI_TRY(read_text(r, "input", l->input, sizeof l->input, err));
    CLI_TRY(read_text(r, "heads", l->heads, sizeof l->heads, err));
    CLI_TRY(read_number(r, "blocks", 1, 100000, &blocks, err));
    CLI_TRY(read_number(r, "cores", 1e-3, 1e6, &l->n_cores, err));
    CLI_TRY(read_number(r, "failed", 0, 1e15, &failed, err));
    l->n_blocks = (unsigned)blocks;
    l->n_failed = (size_t)failed;
    return 0;
}

/* Shapes, then memory. */
static int read_shapes(const struct reading *r, ees_error *err) {
    struct log *l = r->l;
    const ees_tensor_info *logits = ees_tensors_find(r->file, "logits"), *units = ees_tensors_find(r->file, "unit_ns"),
                          *gates = ees_tensors_find(r->file, "gates");
    if (!logits || logits->rank != 3 || logits->shape[0] < 1 || logits->shape[1] < 2 ||
        logits->shape[1] > EES_MAX_EXITS + 1 || logits->shape[2] < 1)
        return refuse(r, "tensor logits", "(frames, exits + 1, classes)", err);
    if (!gates || gates->n_elements != logits->shape[0] * (logits->shape[1] - 1))
        return refuse(r, "tensor gates", "(frames, exits)", err);
    if (!units || units->rank != 1 || units->shape[0] < 1 || units->shape[0] > EES_MAX_UNITS)
        return refuse(r, "tensor unit_ns", "(units,)", err);
    l->n = l->room = logits->shape[0];
    l->n_exits = (unsigned)logits->shape[1] - 1;
    l->n_classes = (unsigned)logits->shape[2];
    l->n_units = (unsigned)units->shape[0];
    l->logits = malloc(logits->n_elements * sizeof *l->logits);
    l->gates = malloc(gates->n_elements * sizeof *l->gates);
    l->labels = malloc(l->n * sizeof *l->labels);
    l->inputs = malloc(l->n * sizeof *l->inputs);
    return l->logits && l->gates && l->labels && l->inputs
               ? 0
               : CLI_FAIL(err, EES_ENOMEM, "%s: out of memory for %zu frames", r->path, l->n);
}

/* A tensor of `n` whole numbers from `low` to `high`; float32 holds them exactly. */
static int read_whole(const struct reading *r, const char *name, size_t n, double low, double high, int32_t *out,
                      ees_error *err) {
    const ees_tensor_info *info = ees_tensors_find(r->file, name);
    float *values = malloc(n * sizeof *values);
    int rc = !values ? CLI_FAIL(err, EES_ENOMEM, "%s: out of memory", r->path) : 0;
    if (rc == 0 && (!info || info->rank != 1 || info->shape[0] != n))
        rc = refuse(r, name, "one number each", err);
    if (rc == 0)
        rc = ees_tensors_read_f32(r->file, info, values, err);
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (!((double)values[i] >= low && (double)values[i] <= high))
            rc = CLI_FAIL(err, EES_EINVAL, "%s: %s[%zu] is %g, expected %g to %g", r->path, name, i, (double)values[i],
                          low, high);
        out[i] = rc == 0 ? (int32_t)values[i] : 0;
    }
    free(values);
    return rc;
}

/* Each exit after a block of its own, the final classifier last; costs that can be. */
static int check_units(const struct reading *r, ees_error *err) {
    const struct log *l = r->l;
    int next = 0;
    for (unsigned u = 0; u < l->n_units; u++) {
        if (!(l->unit_ns[u] >= 0 && l->unit_ns[u] < 1e15f))
            return CLI_FAIL(err, EES_EINVAL, "%s: unit_ns[%u] is %g, expected nanoseconds", r->path, u,
                            (double)l->unit_ns[u]);
        next += l->unit_exit[u] == next;
    }
    return next == (int)l->n_exits + 1 ? 0 : refuse(r, "tensor unit_exit", "each exit once, in order", err);
}

static int read_tensors(const struct reading *r, ees_error *err) {
    struct log *l = r->l;
    CLI_TRY(read_shapes(r, err));
    CLI_TRY(ees_tensors_read_f32(r->file, ees_tensors_find(r->file, "logits"), l->logits, err));
    CLI_TRY(ees_tensors_read_f32(r->file, ees_tensors_find(r->file, "gates"), l->gates, err));
    CLI_TRY(ees_tensors_read_f32(r->file, ees_tensors_find(r->file, "unit_ns"), l->unit_ns, err));
    CLI_TRY(read_whole(r, "labels", l->n, -1, l->n_classes - 1, l->labels, err));
    CLI_TRY(read_whole(r, "inputs", l->n, 0, 16777216, l->inputs, err));
    CLI_TRY(read_whole(r, "unit_exit", l->n_units, -1, l->n_exits, l->unit_exit, err));
    CLI_TRY(read_whole(r, "unit_block", l->n_units, 0, l->n_blocks, l->unit_block, err));
    CLI_TRY(check_units(r, err));
    for (size_t i = 0; i < l->n; i++)
        l->n_labels += l->labels[i] >= 0;
    log_sum_costs(l);
    return 0;
}

int log_load(struct log *l, const char *path, ees_error *err) {
    struct reading r = {.l = l, .path = path};
    *l = (struct log){0};
    int rc = ees_tensors_open(path, &r.file, err);
    if (rc == 0)
        rc = read_metadata(&r, err);
    if (rc == 0)
        rc = read_tensors(&r, err);
    ees_tensors_close(r.file);
    if (err->code == EES_EMODEL) /* the log is what the user gave, not a model */
        err->code = rc = EES_EINVAL;
    if (rc < 0)
        log_fini(l);
    return rc;
}
