/* SPDX-License-Identifier: MIT */
/* JSON files of a model: reading them whole, and typed access to their keys. Called at open only. */
#define _GNU_SOURCE
#include "stages/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_FILE_BYTES = 16 << 20 };

static int read_all(int fd, const char *path, char *buffer, size_t capacity, size_t *n_bytes, ees_error *err) {
    for (*n_bytes = 0; *n_bytes < capacity;) {
        ssize_t n = read(fd, buffer + *n_bytes, capacity - *n_bytes);
        if (n < 0 && errno != EINTR)
            return EES_FAIL_OS(err, EES_EMODEL, errno, "%s: cannot be read", path);
        if (n == 0)
            break;
        *n_bytes += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int load_open_file(int fd, const char *path, struct ees__json *out, ees_error *err) {
    struct stat st;
    size_t n_bytes;
    if (fstat(fd, &st) != 0)
        return EES_FAIL_OS(err, EES_EMODEL, errno, "%s: cannot be read", path);
    if (!S_ISREG(st.st_mode))
        return EES_FAIL(err, EES_EMODEL, "%s: is not a regular file", path);
    if (st.st_size > MAX_FILE_BYTES)
        return EES_FAIL(err, EES_EMODEL, "%s: has %lld bytes, at most %d are read", path, (long long)st.st_size,
                        MAX_FILE_BYTES);
    char *text = malloc((size_t)st.st_size + 1);
    if (!text)
        return EES_FAIL(err, EES_ENOMEM, "%s: out of memory", path);
    int rc = read_all(fd, path, text, (size_t)st.st_size, &n_bytes, err);
    if (rc == 0)
        rc = ees__json_parse(text, n_bytes, path, out, err);
    free(text);
    return rc;
}

int ees__json_load(const char *path, struct ees__json *out, ees_error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hang us: it is refused right after */
    if (fd < 0)
        return EES_FAIL_OS(err, EES_EMODEL, errno, "%s: cannot be opened", path);
    int rc = load_open_file(fd, path, out, err);
    close(fd);
    return rc;
}

int ees__json_parse(const void *text, size_t n_bytes, const char *name, struct ees__json *out, ees_error *err) {
    json_error_t problem;
    json_t *root = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES, &problem);
    if (!root && problem.text[0] == '\0') /* a refusal has a text, memory that ran out mostly none */
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
    char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    const char *shown = text ? text : value ? "?" : "missing";
    ees__fail(err, EES_EMODEL, 0, where, "%s: '%s%s' is %.64s%s, expected %s", json->file, json->prefix, key, shown,
              strlen(shown) > 64 ? "..." : "", expected);
    free(text);
    return EES_EMODEL;
}

int ees__json_size(const struct ees__json *json, const char *key, size_t low, size_t high, size_t fallback, size_t *out,
                   ees_error *err) {
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

int ees__json_real(const struct ees__json *json, const char *key, double low, double high, double fallback, double *out,
                   ees_error *err) {
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

int ees__json_rgb(const struct ees__json *json, const char *key, double low, double out[3], ees_error *err) {
    const json_t *list = ees__json_get(json, key);
    for (size_t c = 0; list && c < 3; c++) {
        const json_t *x = json_array_get(list, c);
        out[c] = json_number_value(x);
        if (json_array_size(list) != 3 || !json_is_number(x) || !(out[c] >= low && out[c] <= 1e6))
            return EES_JSON_REFUSE(json, key, list, err, "three numbers from %g to 1e6", low);
    }
    return 0;
}
