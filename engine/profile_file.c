/* SPDX-License-Identifier: MIT */
/* Profiles as JSON:
 *
 *   {"format": "eestream-profile-1", "key": "...", "batch": 4, "weights_bytes": [...],
 *    "core_types": [{"name": "core", "private_cache_bytes": 1048576, "cold_ns": [...], "warm_ns": [...],
 *                    "batch_ns": [...]}, ...]}
 *
 * with one number a unit in each list. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "eestream/plan.h"
#include "stages/json.h"

static const char format_name[] = "eestream-profile-1";

/* A unit never takes longer on any core: catches numbers that only pass as numbers. */
static const double longest_ns = 1e15;

/* ---- Write --------------------------------------------------------------------------------------------- */

static json_t *reals(const double *x, unsigned n) {
    json_t *list = json_array();
    for (unsigned i = 0; list && i < n; i++)
        json_array_append_new(list, json_real(x[i]));
    return list;
}

static json_t *type_json(const ees_unit_costs *t, unsigned n_units) {
    return json_pack("{s:s, s:I, s:o, s:o, s:o}", "name", t->name, "private_cache_bytes",
                     (json_int_t)t->private_cache_bytes, "cold_ns", reals(t->cold_ns, n_units), "warm_ns",
                     reals(t->warm_ns, n_units), "batch_ns", reals(t->batch_ns, n_units));
}

static json_t *profile_json(const ees_profile *p, const char *key) {
    json_t *weights = json_array(), *types = json_array();
    for (unsigned u = 0; weights && u < p->n_units; u++)
        json_array_append_new(weights, json_integer((json_int_t)p->weights_bytes[u]));
    for (unsigned t = 0; types && t < p->n_types; t++)
        json_array_append_new(types, type_json(&p->types[t], p->n_units));
    return json_pack("{s:s, s:s, s:i, s:o, s:o}", "format", format_name, "key", key, "batch", (int)p->batch,
                     "weights_bytes", weights, "core_types", types);
}

static int write_and_rename(const json_t *json, int fd, const char *temporary, const char *path, ees_error *err) {
    /* 17 digits: what is read back is the same to the last bit. */
    bool good = json_dumpfd(json, fd, JSON_INDENT(1) | JSON_REAL_PRECISION(17)) == 0 && write(fd, "\n", 1) == 1;
    int why = errno;
    if (close(fd) != 0 && good) {
        good = false;
        why = errno;
    }
    if (good && rename(temporary, path) == 0)
        return 0;
    why = good ? errno : why;
    unlink(temporary);
    return EES_FAIL_OS(err, EES_EOUTPUT, why, "profile %s: cannot be written", path);
}

/* A name of its own for each writer: two processes may save the same profile at once. */
static int write_file(const json_t *json, const char *path, ees_error *err) {
    char *temporary;
    if (asprintf(&temporary, "%s.%ld.tmp", path, (long)gettid()) < 0)
        return EES_FAIL(err, EES_ENOMEM, "profile %s: out of memory", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    int rc = fd < 0 ? EES_FAIL_OS(err, EES_EOUTPUT, errno, "profile %s: cannot be written", path)
                    : write_and_rename(json, fd, temporary, path, err);
    free(temporary);
    return rc;
}

int ees_profile_save(const ees_profile *profile, const char *key, const char *path, ees_error *err) {
    json_t *json = profile_json(profile, key);
    if (!json)
        return EES_FAIL(err, EES_ENOMEM, "profile %s: cannot be put into JSON", path);
    int rc = write_file(json, path, err);
    json_decref(json);
    return rc;
}

/* ---- Read ---------------------------------------------------------------------------------------------- */

/* A list of `n` values; n 0: of any length from 1 to `max`. */
static int get_list(const struct ees__json *json, const char *key, size_t n, size_t max, json_t **out, ees_error *err) {
    *out = ees__json_get(json, key);
    size_t have = json_array_size(*out); /* 0 for other types */
    if (!json_is_array(*out) || have == 0 || have > max)
        return EES_JSON_REFUSE(json, key, *out, err, "a list of 1 to %zu", max);
    if (n > 0 && have != n)
        return EES_FAIL(err, EES_EMODEL, "%s: '%s%s' has %zu numbers, expected %zu as in 'weights_bytes'", json->file,
                        json->prefix, key, have, n);
    return 0;
}

static int read_costs(const struct ees__json *json, const char *key, unsigned n_units, double *out, ees_error *err) {
    json_t *list;
    EES_TRY(get_list(json, key, n_units, EES_MAX_UNITS, &list, err));
    for (unsigned u = 0; u < n_units; u++) {
        json_t *value = json_array_get(list, u);
        out[u] = json_number_value(value);
        if (!json_is_number(value) || !(out[u] >= 0 && out[u] <= longest_ns)) {
            char item[48];
            snprintf(item, sizeof item, "%s[%u]", key, u);
            return EES_JSON_REFUSE(json, item, value, err, "nanoseconds from 0 to %g", longest_ns);
        }
    }
    return 0;
}

static int read_type(const struct ees__json *json, unsigned n_units, ees_unit_costs *out, ees_error *err) {
    const char *name;
    EES_TRY(ees__json_text(json, "name", NULL, &name, err));
    if (!name || !*name || strlen(name) >= sizeof out->name)
        return EES_JSON_REFUSE(json, "name", ees__json_get(json, "name"), err, "a name of 1 to %zu letters",
                               sizeof out->name - 1);
    memcpy(out->name, name, strlen(name) + 1);
    EES_TRY(ees__json_size(json, "private_cache_bytes", 0, (size_t)1 << 40, 0, &out->private_cache_bytes, err));
    EES_TRY(read_costs(json, "cold_ns", n_units, out->cold_ns, err));
    EES_TRY(read_costs(json, "warm_ns", n_units, out->warm_ns, err));
    return read_costs(json, "batch_ns", n_units, out->batch_ns, err);
}

static int read_weights(const struct ees__json *json, ees_profile *out, ees_error *err) {
    json_t *list;
    EES_TRY(get_list(json, "weights_bytes", 0, EES_MAX_UNITS, &list, err));
    out->n_units = (unsigned)json_array_size(list);
    for (unsigned u = 0; u < out->n_units; u++) {
        json_t *value = json_array_get(list, u);
        json_int_t bytes = json_integer_value(value);
        if (!json_is_integer(value) || bytes < 0 || (uint64_t)bytes > SIZE_MAX / EES_MAX_UNITS) {
            char item[48];
            snprintf(item, sizeof item, "weights_bytes[%u]", u);
            return EES_JSON_REFUSE(json, item, value, err, "a number of bytes");
        }
        out->weights_bytes[u] = (size_t)bytes;
    }
    return 0;
}

static int read_types(const struct ees__json *json, ees_profile *out, ees_error *err) {
    json_t *list;
    EES_TRY(get_list(json, "core_types", 0, EES_MAX_CORE_TYPES, &list, err));
    out->n_types = (unsigned)json_array_size(list);
    for (unsigned t = 0; t < out->n_types; t++) {
        char item[24];
        json_t *value = json_array_get(list, t);
        snprintf(item, sizeof item, "core_types[%u]", t);
        if (!json_is_object(value))
            return EES_JSON_REFUSE(json, item, value, err, "an object");
        struct ees__json child = ees__json_child(json, item, value);
        EES_TRY(read_type(&child, out->n_units, &out->types[t], err));
    }
    return 0;
}

static int check_key(const struct ees__json *json, const char *key, ees_error *err) {
    const char *stored;
    EES_TRY(ees__json_text(json, "key", NULL, &stored, err));
    if (key && (!stored || strcmp(stored, key) != 0))
        return EES_JSON_REFUSE(json, "key", ees__json_get(json, "key"), err, "'%.100s...'", key);
    return 0;
}

static int read_profile(const struct ees__json *json, const char *key, ees_profile *out, ees_error *err) {
    const char *format;
    size_t batch;
    EES_TRY(ees__json_text(json, "format", NULL, &format, err));
    if (!format || strcmp(format, format_name) != 0)
        return EES_JSON_REFUSE(json, "format", ees__json_get(json, "format"), err, "'%s'", format_name);
    EES_TRY(check_key(json, key, err));
    EES_TRY(ees__json_size(json, "batch", 1, UINT8_MAX, 1, &batch, err));
    out->batch = (unsigned)batch;
    EES_TRY(read_weights(json, out, err));
    return read_types(json, out, err);
}

static int load(const char *path, const char *key, ees_profile *out, ees_error *err) {
    struct ees__json json;
    ees_profile *read = calloc(1, sizeof *read);
    if (!read)
        return EES_FAIL(err, EES_ENOMEM, "profile %s: out of memory", path);
    int rc = ees__json_load(path, &json, err);
    if (rc == 0) {
        rc = read_profile(&json, key, read, err);
        ees__json_close(&json);
    }
    if (rc == 0)
        *out = *read;
    free(read);
    return rc;
}

/* stages/json.h reports what is wrong with a model; here it is an option's value that is. */
int ees_profile_load(const char *path, const char *key, ees_profile *out, ees_error *err) {
    ees_error why = {0};
    int rc = load(path, key, out, &why);
    if (rc == EES_EMODEL)
        rc = EES_EINVAL;
    if (rc < 0)
        return ees__fail(err, rc, 0, why.where, "profile %s", why.message);
    return 0;
}
