/* SPDX-License-Identifier: MIT */
/* Checks of a safetensors header. Source of the rules: the format section of the Hugging Face safetensors README and
 * what its loader refuses. What is accepted here, that loader accepts; refused here but read by it are: duplicate
 * keys (the README forbids them), rank above 8, names above 1024 bytes, NUL in a string, element types that
 * tensors.h does not list, negative numbers anywhere, and headers beyond the limits in the header file.
 *
 * The JSON text is scanned once before the parser sees it, so that nesting and the number of values are bounded
 * before anything is allocated for them. */
#include "io/safetensors_header.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/fail.h"
#include "common/mem.h"
#include "io/widen.h"

#define METADATA_KEY "__metadata__"

/* Index of the closing quote of the string that opens at `at`, or `n` when there is none. */
static size_t skip_string(const char *text, size_t n, size_t at) {
    for (at++; at < n && text[at] != '"'; at++)
        if (text[at] == '\\')
            at++;
    return at < n ? at : n;
}

/* Bound what the parser may build: every value is preceded by one of [ { , : */
static int check_text(const char *text, size_t n, const char *file, ees_error *err) {
    size_t depth = 0, n_values = 0;
    for (size_t at = 0; at < n; at++) {
        switch (text[at]) {
        case '"':
            at = skip_string(text, n, at);
            break;
        case '[':
        case '{':
            if (++depth > EES__TENSORS_MAX_DEPTH)
                return EES_FAIL(err, EES_EMODEL, "%s: header nests deeper than %u levels at header byte %zu", file,
                                EES__TENSORS_MAX_DEPTH, at);
            n_values++;
            break;
        case ']':
        case '}':
            depth -= depth > 0;
            break;
        case ',':
        case ':':
            n_values++;
            break;
        case '-': /* -0 too: the parser would take it for 0, the reference loader refuses it */
            return EES_FAIL(err, EES_EMODEL, "%s: negative number in the header at header byte %zu", file, at);
        default:
            break;
        }
        if (n_values > EES__TENSORS_MAX_VALUES)
            return EES_FAIL(err, EES_EMODEL, "%s: header holds more than %u values", file, EES__TENSORS_MAX_VALUES);
    }
    return 0;
}

static int parse_json(const char *text, size_t n, const char *file, json_t **root, ees_error *err) {
    EES_TRY(check_text(text, n, file, err));
    json_error_t report;
    *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &report);
    if (*root && json_is_object(*root))
        return 0;
    if (!*root && json_error_code(&report) == json_error_out_of_memory)
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory for the header", file);
    if (!*root)
        return EES_FAIL(err, EES_EMODEL, "%s: header is not valid JSON at header byte %d: %.160s", file,
                        report.position, report.text);
    json_decref(*root);
    return EES_FAIL(err, EES_EMODEL, "%s: header is not a JSON object", file);
}

static int check_metadata(json_t *metadata, const char *file, ees_error *err) {
    if (!json_is_object(metadata))
        return EES_FAIL(err, EES_EMODEL, "%s: " METADATA_KEY " is not an object of strings", file);
    const char *key;
    json_t *value;
    json_object_foreach(metadata, key, value) {
        if (!json_is_string(value))
            return EES_FAIL(err, EES_EMODEL, "%s: " METADATA_KEY " entry '%.100s' is not a string", file, key);
    }
    return 0;
}

static int read_size(const json_t *value, size_t *out) {
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return -1;
    *out = (size_t)json_integer_value(value);
    return (json_int_t)*out == json_integer_value(value) ? 0 : -1;
}

static int read_dtype(json_t *entry, const char *file, ees_tensor_info *info, ees_error *err) {
    json_t *dtype = json_object_get(entry, "dtype");
    if (!json_is_string(dtype))
        return EES_FAIL(err, EES_EMODEL, "%s: tensor '%.100s' has no dtype string", file, info->name);
    if (ees__dtype_from_name(json_string_value(dtype), &info->dtype) < 0) {
        EES_FAIL(err, EES_EMODEL, "%s: tensor '%.100s' has dtype '%.20s', which is not read", file, info->name,
                 json_string_value(dtype));
        ees__hint(err, "save the model as F32, F16 or BF16");
        return EES_EMODEL;
    }
    return 0;
}

static int read_shape(json_t *entry, const char *file, ees_tensor_info *info, ees_error *err) {
    json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape))
        return EES_FAIL(err, EES_EMODEL, "%s: tensor '%.100s' has no shape array", file, info->name);
    if (json_array_size(shape) > EES_TENSOR_MAX_RANK)
        return EES_FAIL(err, EES_EMODEL, "%s: tensor '%.100s' has %zu dimensions, at most %d are read", file,
                        info->name, json_array_size(shape), EES_TENSOR_MAX_RANK);
    info->rank = (unsigned)json_array_size(shape);
    info->n_elements = 1;
    for (unsigned i = 0; i < info->rank; i++) {
        if (read_size(json_array_get(shape, i), &info->shape[i]) < 0)
            return EES_FAIL(err, EES_EMODEL, "%s: tensor '%.100s': dimension %u is not a count", file, info->name, i);
        if (!ees__mul(info->n_elements, info->shape[i], &info->n_elements))
            return EES_FAIL(err, EES_EMODEL, "%s: tensor '%.100s': its shape overflows", file, info->name);
    }
    if (!ees__mul(info->n_elements, ees__dtype_bytes(info->dtype), &info->n_bytes))
        return EES_FAIL(err, EES_EMODEL, "%s: tensor '%.100s': its size in bytes overflows", file, info->name);
    return 0;
}

static int read_range(json_t *json, const char *file, struct ees__tensor_entry *entry, ees_error *err) {
    json_t *range = json_object_get(json, "data_offsets");
    const char *name = entry->info.name;
    if (!json_is_array(range) || json_array_size(range) != 2 ||
        read_size(json_array_get(range, 0), &entry->begin) < 0 || read_size(json_array_get(range, 1), &entry->end) < 0)
        return EES_FAIL(err, EES_EMODEL, "%s: tensor '%.100s': data_offsets are not two byte positions", file, name);
    if (entry->end < entry->begin)
        return EES_FAIL(err, EES_EMODEL, "%s: tensor '%.100s' ends at byte %zu, before its begin at %zu", file, name,
                        entry->end, entry->begin);
    if (entry->end - entry->begin != entry->info.n_bytes)
        return EES_FAIL(err, EES_EMODEL, "%s: tensor '%.100s' needs %zu bytes by dtype and shape, its range has %zu",
                        file, name, entry->info.n_bytes, entry->end - entry->begin);
    return 0;
}

static int read_entry(json_t *json, const char *file, struct ees__tensor_entry *entry, ees_error *err) {
    if (!json_is_object(json))
        return EES_FAIL(err, EES_EMODEL, "%s: tensor '%.100s' is not described by an object", file, entry->info.name);
    EES_TRY(read_dtype(json, file, &entry->info, err));
    EES_TRY(read_shape(json, file, &entry->info, err));
    return read_range(json, file, entry, err);
}

/* Room for all tensors and their names. */
static int alloc_entries(json_t *root, const char *file, struct ees__tensor_header *header, ees_error *err) {
    const char *key;
    json_t *value;
    size_t names_bytes = 0;
    json_object_foreach(root, key, value) {
        size_t n = strlen(key);
        if (n > EES__TENSORS_MAX_NAME_BYTES)
            return EES_FAIL(err, EES_EMODEL, "%s: tensor name '%.40s...' has %zu bytes, at most %u are read", file, key,
                            n, EES__TENSORS_MAX_NAME_BYTES);
        names_bytes += n + 1;
    }
    header->entries = ees__calloc_aligned(json_object_size(root), sizeof *header->entries);
    header->names = ees__calloc_aligned(names_bytes, 1);
    if (!header->entries || !header->names)
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory for %zu tensors", file, json_object_size(root));
    return 0;
}

static int read_entries(json_t *root, const char *file, struct ees__tensor_header *header, ees_error *err) {
    EES_TRY(alloc_entries(root, file, header, err));
    const char *key;
    json_t *value;
    char *name = header->names;
    json_object_foreach(root, key, value) {
        if (strcmp(key, METADATA_KEY) == 0) {
            EES_TRY(check_metadata(value, file, err));
            header->metadata = json_incref(value);
            continue;
        }
        struct ees__tensor_entry *entry = &header->entries[header->n++];
        entry->info.name = name;
        name = stpcpy(name, key) + 1;
        EES_TRY(read_entry(value, file, entry, err));
    }
    return 0;
}

/* By position; an empty tensor comes before the one that starts at the same byte. Names settle the rest, so that
 * the order does not depend on the parser's hash seed. */
static int compare_position(const void *left, const void *right) {
    const struct ees__tensor_entry *a = left, *b = right;
    if (a->begin != b->begin)
        return a->begin < b->begin ? -1 : 1;
    if (a->end != b->end)
        return a->end < b->end ? -1 : 1;
    return strcmp(a->info.name, b->info.name);
}

/* Tensors must tile the data part: no hole, no overlap, nothing left over. */
static int check_tiling(const struct ees__tensor_header *header, size_t data_bytes, const char *file, ees_error *err) {
    size_t at = 0;
    for (size_t i = 0; i < header->n; i++) {
        const struct ees__tensor_entry *entry = &header->entries[i];
        if (entry->begin != at)
            return EES_FAIL(
                err, EES_EMODEL, "%s: tensor '%.100s' starts at data byte %zu, %s byte %zu", file, entry->info.name,
                entry->begin,
                entry->begin < at ? "inside the one before it, which ends at" : "after a hole that starts at", at);
        at = entry->end;
    }
    if (at == data_bytes)
        return 0;
    if (at > data_bytes) {
        EES_FAIL(err, EES_EMODEL, "%s: tensor '%.100s' ends at data byte %zu, the file has %zu", file,
                 header->entries[header->n - 1].info.name, at, data_bytes);
        ees__hint(err, "truncated download? Fetch the file again");
        return EES_EMODEL;
    }
    return EES_FAIL(err, EES_EMODEL, "%s: %zu bytes after the last tensor belong to none", file, data_bytes - at);
}

int ees__tensor_header_parse(const char *text, size_t n_bytes, size_t data_bytes, const char *file,
                             struct ees__tensor_header *out, ees_error *err) {
    *out = (struct ees__tensor_header){0};
    json_t *root;
    EES_TRY(parse_json(text, n_bytes, file, &root, err));
    int rc = read_entries(root, file, out, err);
    json_decref(root);
    if (rc == 0) {
        qsort(out->entries, out->n, sizeof *out->entries, compare_position);
        rc = check_tiling(out, data_bytes, file, err);
    }
    if (rc < 0)
        ees__tensor_header_fini(out);
    return rc;
}

void ees__tensor_header_fini(struct ees__tensor_header *header) {
    ees__free(header->entries);
    ees__free(header->names);
    json_decref(header->metadata);
    *header = (struct ees__tensor_header){0};
}
