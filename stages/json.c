/* SPDX-License-Identifier: MIT */
/* JSON files of a model: reading them whole, and typed access to their keys. Called at open only. */
#include "stages/json.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_FILE_BYTES = 16 << 20 };

static int read_open_file(FILE *file, const char *path, char **text, size_t *n_bytes, ees_error *err) {
    struct stat st;
    if (fstat(fileno(file), &st) != 0)
        return EES_FAIL_OS(err, EES_EMODEL, errno, "%s: cannot be read", path);
    if (!S_ISREG(st.st_mode))
        return EES_FAIL(err, EES_EMODEL, "%s: is not a regular file", path);
    if (st.st_size > MAX_FILE_BYTES)
        return EES_FAIL(err, EES_EMODEL, "%s: has %lld bytes, at most %d are read", path, (long long)st.st_size,
                        MAX_FILE_BYTES);
    char *buffer = malloc((size_t)st.st_size + 1);
    if (!buffer)
        return EES_FAIL(err, EES_ENOMEM, "%s: out of memory", path);
    size_t n = fread(buffer, 1, (size_t)st.st_size, file);
    if (ferror(file)) {
        free(buffer);
        return EES_FAIL_OS(err, EES_EMODEL, errno, "%s: cannot be read", path);
    }
    *text = buffer;
    *n_bytes = n;
    return 0;
}

int ees__json_load(const char *path, struct ees__json *out, ees_error *err) {
    FILE *file = fopen(path, "rbe");
    if (!file)
        return EES_FAIL_OS(err, EES_EMODEL, errno, "%s: cannot be opened", path);
    char *text = NULL;
    size_t n_bytes = 0;
    int rc = read_open_file(file, path, &text, &n_bytes, err);
    fclose(file);
    if (rc == 0)
        rc = ees__json_parse(text, n_bytes, path, out, err);
    free(text);
    return rc;
}

int ees__json_parse(const void *text, size_t n_bytes, const char *name, struct ees__json *out, ees_error *err) {
    json_error_t problem;
    json_t *root = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES, &problem);
    if (!root && json_error_code(&problem) == json_error_out_of_memory)
        return EES_FAIL(err, EES_ENOMEM, "%s: out of memory", name);
    if (!root)
        return EES_FAIL(err, EES_EMODEL, "%s: is not valid JSON: line %d, column %d: %s", name, problem.line,
                        problem.column, problem.text);
    if (!json_is_object(root)) {
        json_decref(root);
        return EES_FAIL(err, EES_EMODEL, "%s: holds no JSON object", name);
    }
    out->root = root;
    out->prefix[0] = '\0';
    /* A long path keeps its end: that is where the file's own name stands. */
    size_t n = strlen(name), keep = sizeof out->file - 1;
    snprintf(out->file, sizeof out->file, "%s", n > keep ? name + (n - keep) : name);
    return 0;
}

void ees__json_close(struct ees__json *json) {
    json_decref(json->root);
    json->root = NULL;
}

json_t *ees__json_get(const struct ees__json *json, const char *key) {
    json_t *value = json_object_get(json->root, key);
    return json_is_null(value) ? NULL : value;
}

struct ees__json ees__json_child(const struct ees__json *json, const char *key, json_t *object) {
    struct ees__json child = *json;
    child.root = object;
    snprintf(child.prefix, sizeof child.prefix, "%.20s%.20s.", json->prefix, key);
    return child;
}

int ees__json_refuse(const struct ees__json *json, const char *where, const char *key, const json_t *value,
                     ees_error *err, const char *format, ...) {
    char expected[200];
    va_list args;
    va_start(args, format);
    vsnprintf(expected, sizeof expected, format, args);
    va_end(args);
    char *shown = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    ees__fail(err, EES_EMODEL, 0, where, "%s: '%s%s' is %.64s%s, expected %s", json->file, json->prefix, key,
              shown ? shown : "missing", shown && strlen(shown) > 64 ? "..." : "", expected);
    free(shown);
    return EES_EMODEL;
}

int ees__json_size(const struct ees__json *json, const char *key, size_t low, size_t high, size_t fallback,
                   size_t *out, ees_error *err) {
    const json_t *value = ees__json_get(json, key);
    if (!value) {
        *out = fallback;
        return 0;
    }
    json_int_t n = json_integer_value(value); /* 0 for other types */
    if (!json_is_integer(value) || n < 0 || (uint64_t)n < low || (uint64_t)n > high)
        return EES_JSON_REFUSE(json, key, value, err, "an integer from %zu to %zu", low, high);
    *out = (size_t)n;
    return 0;
}

int ees__json_real(const struct ees__json *json, const char *key, double low, double high, double fallback,
                   double *out, ees_error *err) {
    const json_t *value = ees__json_get(json, key);
    if (!value) {
        *out = fallback;
        return 0;
    }
    double x = json_number_value(value);
    if (!json_is_number(value) || !(x >= low && x <= high))
        return EES_JSON_REFUSE(json, key, value, err, "a number from %g to %g", low, high);
    *out = x;
    return 0;
}

int ees__json_bool(const struct ees__json *json, const char *key, bool fallback, bool *out, ees_error *err) {
    const json_t *value = ees__json_get(json, key);
    if (value && !json_is_boolean(value))
        return EES_JSON_REFUSE(json, key, value, err, "true or false");
    *out = value ? json_is_true(value) : fallback;
    return 0;
}

int ees__json_text(const struct ees__json *json, const char *key, const char *fallback, const char **out,
                   ees_error *err) {
    const json_t *value = ees__json_get(json, key);
    if (value && !json_is_string(value))
        return EES_JSON_REFUSE(json, key, value, err, "a string");
    *out = value ? json_string_value(value) : fallback;
    return 0;
}
