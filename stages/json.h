/* SPDX-License-Identifier: MIT */
/* Strict reading of a model's JSON files. Every refusal is one line that names file, key, value and what is allowed. */
#ifndef EES_STAGES_JSON_H
#define EES_STAGES_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/fail.h"

/* An object of a file. A child borrows its parent's tree. */
struct ees__json {
    json_t *root;
    char file[192];  /* as messages name it */
    char prefix[48]; /* "" at the top, "size." inside "size" */
};

/* @return 0; EES_EMODEL unreadable, above 16 MiB, not JSON, not an object, duplicate keys; EES_ENOMEM */
int ees__json_load(const char *path, struct ees__json *out, ees_error *err);
int ees__json_parse(const void *text, size_t n_bytes, const char *name, struct ees__json *out, ees_error *err);
void ees__json_close(struct ees__json *json); /* accepts a zeroed one; not for children */

/* The value of a key; NULL when it is absent or null. */
json_t *ees__json_get(const struct ees__json *json, const char *key);

/* The object under a key whose value is known to be one. */
struct ees__json ees__json_child(const struct ees__json *json, const char *key, json_t *object);

/* Read a key, or take `fallback` when it is absent or null. Bounds are inclusive. @return 0; EES_EMODEL */
int ees__json_size(const struct ees__json *json, const char *key, size_t low, size_t high, size_t fallback, size_t *out,
                   ees_error *err);
int ees__json_real(const struct ees__json *json, const char *key, double low, double high, double fallback, double *out,
                   ees_error *err);
int ees__json_bool(const struct ees__json *json, const char *key, bool fallback, bool *out, ees_error *err);
int ees__json_text(const struct ees__json *json, const char *key, const char *fallback, const char **out,
                   ees_error *err);

/* Three numbers, each from `low` to 1e6; out is unchanged when the key is absent. */
int ees__json_rgb(const struct ees__json *json, const char *key, double low, double out[3], ees_error *err);

/* Report "FILE: 'key' is VALUE, expected ...". @return EES_EMODEL */
__attribute__((format(printf, 6, 7))) int ees__json_refuse(const struct ees__json *json, const char *where,
                                                           const char *key, const json_t *value, ees_error *err,
                                                           const char *format, ...);
#define EES_JSON_REFUSE(json, key, value, err, ...)                                                                    \
    ees__json_refuse((json), EES_HERE, (key), (value), (err), __VA_ARGS__)

#endif
