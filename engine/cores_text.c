/* SPDX-License-Identifier: MIT */
/* Cores as people write them: "8", "big=4,little=4", "a=2@1,b=2@0.5". */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fail.h"
#include "eestream/plan.h"

/* Per-core speed on this work, of boards as they are common; whoever knows better says NAME=COUNT@SPEED. */
static const struct {
    const char *name;
    double speed;
} usual_speeds[] = {{"big", 1}, {"mid", 0.75}, {"little", 0.4}};

static const double slowest = 0.001, fastest = 1000;

static int hint(ees_error *err) { return ees__hint(err, "COUNT, or NAME=COUNT[@SPEED],... as in big=4,little=4@0.4"); }

static int parse_count(const char *text, const char *word, size_t n, unsigned *out, ees_error *err) {
    if (n == 0 || n > 4 || strspn(word, "0123456789") < n) {
        EES_FAIL(err, EES_EINVAL, "cores '%.80s': '%.*s' is not a number of cores (1 to %d)", text,
                 (int)(n < 40 ? n : 40), word, EES_MAX_WORKERS);
        return hint(err);
    }
    *out = (unsigned)strtoul(word, NULL, 10);
    if (*out < 1 || *out > EES_MAX_WORKERS)
        return EES_FAIL(err, EES_EINVAL, "cores '%.80s': %u cores: 1 to %d are possible", text, *out, EES_MAX_WORKERS);
    return 0;
}

static int parse_speed(const char *text, const char *word, size_t n, double *out, ees_error *err) {
    char copy[32], *end = copy;
    *out = 0;
    if (n > 0 && n < sizeof copy && word[0] >= '.' && word[0] <= '9') {
        memcpy(copy, word, n);
        copy[n] = '\0';
        *out = strtod(copy, &end);
    }
    if (end == copy || *end || !(*out >= slowest && *out <= fastest))
        return EES_FAIL(err, EES_EINVAL, "cores '%.80s': speed '%.*s': a number from %g to %g is needed", text,
                        (int)(n < 40 ? n : 40), word, slowest, fastest);
    return 0;
}

static int parse_name(const char *text, const char *word, size_t n, ees_core_type *type, ees_error *err) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    if (n == 0 || n >= sizeof type->name || strspn(word, letters) < n)
        return EES_FAIL(err, EES_EINVAL, "cores '%.80s': name '%.*s': 1 to %zu letters, digits, - and _", text,
                        (int)(n < 40 ? n : 40), word, sizeof type->name - 1);
    memcpy(type->name, word, n);
    return 0;
}

static int usual_speed(const char *text, ees_core_type *type, ees_error *err) {
    for (size_t i = 0; i < sizeof usual_speeds / sizeof usual_speeds[0]; i++)
        if (strcmp(usual_speeds[i].name, type->name) == 0) {
            type->capacity = usual_speeds[i].speed;
            return 0;
        }
    EES_FAIL(err, EES_EINVAL, "cores '%.80s': the speed of '%s' is not known (big, mid and little are)", text,
             type->name);
    return ees__hint(err, "%s=%u@SPEED", type->name, type->n_cores);
}

/* "NAME=COUNT[@SPEED]" */
static int parse_type(const char *text, const char *word, size_t n, ees_core_type *out, ees_error *err) {
    const char *equals = memchr(word, '=', n), *at = memchr(word, '@', n), *end = word + n;
    *out = (ees_core_type){0};
    if (!equals || (at && at < equals)) {
        EES_FAIL(err, EES_EINVAL, "cores '%.80s': '%.*s' has no NAME=COUNT", text, (int)(n < 40 ? n : 40), word);
        return hint(err);
    }
    const char *count_end = at ? at : end;
    EES_TRY(parse_name(text, word, (size_t)(equals - word), out, err));
    EES_TRY(parse_count(text, equals + 1, (size_t)(count_end - equals - 1), &out->n_cores, err));
    return at ? parse_speed(text, at + 1, (size_t)(end - at - 1), &out->capacity, err) : usual_speed(text, out, err);
}

static int add_type(const char *text, const ees_core_type *type, ees_cores *out, ees_error *err) {
    if (out->n_types == EES_MAX_CORE_TYPES)
        return EES_FAIL(err, EES_EINVAL, "cores '%.80s': more than %d types", text, EES_MAX_CORE_TYPES);
    for (unsigned t = 0; t < out->n_types; t++)
        if (strcmp(out->types[t].name, type->name) == 0)
            return EES_FAIL(err, EES_EINVAL, "cores '%.80s': type '%s' is given twice", text, type->name);
    if (out->n_cores + type->n_cores > EES_MAX_WORKERS)
        return EES_FAIL(err, EES_EINVAL, "cores '%.80s': %u cores: 1 to %d are possible", text,
                        out->n_cores + type->n_cores, EES_MAX_WORKERS);
    unsigned at = out->n_types++;
    for (; at > 0 && out->types[at - 1].capacity < type->capacity; at--)
        out->types[at] = out->types[at - 1];
    out->types[at] = *type;
    out->n_cores += type->n_cores;
    return 0;
}

static void list_cores(ees_cores *out) {
    double best = out->types[0].capacity;
    unsigned i = 0;
    for (unsigned t = 0; t < out->n_types; t++) {
        out->types[t].capacity /= best;
        for (unsigned c = 0; c < out->types[t].n_cores; c++, i++) {
            out->cpu[i] = -1;
            out->type[i] = (uint8_t)t;
        }
    }
    out->n_workers = out->n_cores;
}

int ees_cores_parse(const char *text, ees_cores *out, ees_error *err) {
    *out = (ees_cores){0};
    ees_core_type type = {.name = "core", .capacity = 1};
    if (!strpbrk(text, "=,@")) {
        EES_TRY(parse_count(text, text, strlen(text), &type.n_cores, err));
        EES_TRY(add_type(text, &type, out, err));
        list_cores(out);
        return 0;
    }
    for (const char *at = text;; at++) {
        size_t n = strcspn(at, ",");
        EES_TRY(parse_type(text, at, n, &type, err));
        EES_TRY(add_type(text, &type, out, err));
        at += n;
        if (!*at)
            break;
    }
    list_cores(out);
    return 0;
}
