/* SPDX-License-Identifier: MIT */
/* Reads the arguments of a verb by the option table, and prints that table as help. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli/fail.h"
#include "tools/cli/option_table.h"
#include "tools/cli/verbs.h"

/* ---- Near misses --------------------------------------------------------------------------------------- */

/* Edits (insert, delete, replace, swap of neighbours) from a to b; words above 31 letters count as far away. */
static unsigned edit_distance(const char *a, const char *b) {
    enum { MAX = 32 };
    size_t na = strlen(a), nb = strlen(b);
    if (na >= MAX || nb >= MAX)
        return MAX;
    unsigned d[MAX][MAX];
    for (size_t i = 0; i <= na; i++) {
        for (size_t j = 0; j <= nb; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = (unsigned)(i + j);
                continue;
            }
            unsigned best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            best = d[i - 1][j] + 1 < best ? d[i - 1][j] + 1 : best;
            best = d[i][j - 1] + 1 < best ? d[i][j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    }
    return d[na][nb];
}

struct near_name {
    const char *word, *best;
    unsigned distance;
};

static void consider(struct near_name *near, const char *name) {
    unsigned distance = edit_distance(near->word, name);
    size_t n = strlen(near->word);
    bool starts_with = n >= 3 && strncmp(near->word, name, n) == 0;
    if (starts_with)
        distance = 1;
    if (distance < near->distance && distance <= 1 + n / 4) {
        near->distance = distance;
        near->best = name;
    }
}

const char *nearest_name(const char *word, const char *const *names) {
    struct near_name near = {.word = word, .distance = ~0u};
    for (; *names; names++)
        consider(&near, *names);
    return near.best;
}

/* ---- Values -------------------------------------------------------------------------------------------- */

static int parse_double(const char *name, const char *text, double *out, ees_error *err) {
    char *end;
    errno = 0;
    *out = strtod(text, &end);
    if (end == text || *end || !isfinite(*out) || errno == ERANGE)
        return CLI_FAIL(err, EES_EINVAL, "--%s '%s': not a number", name, text);
    return 0;
}

static int parse_ranged(const struct option_row *row, const char *text, double *out, ees_error *err) {
    CLI_TRY(parse_double(row->name, text, out, err));
    if (*out < row->min || *out > row->max)
        return CLI_FAIL(err, EES_EINVAL, "--%s %s: allowed are %.10g to %.10g", row->name, text, row->min, row->max);
    return 0;
}

static int parse_count(const struct option_row *row, const char *text, unsigned *out, ees_error *err) {
    if (!*text || strspn(text, "0123456789") != strlen(text))
        return CLI_FAIL(err, EES_EINVAL, "--%s '%s': not a whole number (allowed are %.10g to %.10g)", row->name, text,
                        row->min, row->max);
    double value;
    CLI_TRY(parse_ranged(row, text, &value, err));
    *out = (unsigned)value;
    return 0;
}

static int parse_numbers(const struct option_row *row, const char *text, struct number_list *out, ees_error *err) {
    unsigned max = (unsigned)row->max;
    out->n = 0;
    for (;;) {
        char word[64];
        size_t n = strcspn(text, ",");
        if (out->n == max)
            return CLI_FAIL(err, EES_EINVAL, "--%s: more than %u numbers", row->name, max);
        if (n >= sizeof word)
            return CLI_FAIL(err, EES_EINVAL, "--%s '%.20s...': not a number", row->name, text);
        memcpy(word, text, n);
        word[n] = '\0';
        CLI_TRY(parse_double(row->name, word, &out->values[out->n++], err));
        if (!text[n])
            return 0;
        text += n + 1;
    }
}

static int parse_choice(const struct option_row *row, const char *text, int *out, ees_error *err) {
    size_t n = strlen(text);
    int position = 0;
    for (const char *word = row->value;; word += strcspn(word, "|") + 1, position++) {
        size_t length = strcspn(word, "|");
        if (length == n && memcmp(word, text, n) == 0) {
            *out = position;
            return 0;
        }
        if (!word[length])
            return CLI_FAIL(err, EES_EINVAL, "--%s '%s': allowed are %s", row->name, text, row->value);
    }
}

static int set_value(struct options *o, const struct option_row *row, const char *text, ees_error *err) {
    void *target = (char *)o + row->target;
    switch (row->kind) {
    case OPTION_FLAG:
        *(bool *)target = true;
        return 0;
    case OPTION_COUNT:
        return parse_count(row, text, target, err);
    case OPTION_NUMBER:
        return parse_ranged(row, text, target, err);
    case OPTION_NUMBERS:
        return parse_numbers(row, text, target, err);
    case OPTION_TEXT:
        if (!*text)
            return CLI_FAIL(err, EES_EINVAL, "--%s needs a value: %s", row->name, row->value);
        *(const char **)target = text;
        return 0;
    case OPTION_CHOICE:
        return parse_choice(row, text, target, err);
    }
    return CLI_FAIL(err, EES_EINTERNAL, "option --%s has no kind", row->name);
}

static int set_defaults(struct options *o, ees_error *err) {
    for (const struct option_row *row = option_table; row < option_table + option_table_length; row++)
        if (row->name && (row->verbs & o->verb) && row->fallback)
            CLI_TRY(set_value(o, row, row->fallback, err));
    return 0;
}

/* ---- Arguments ----------------------------------------------------------------------------------------- */

static const struct option_row *find_long(enum verb_id verb, const char *name, size_t n) {
    for (const struct option_row *row = option_table; row < option_table + option_table_length; row++)
        if (row->name && (row->verbs & verb) && strlen(row->name) == n && memcmp(row->name, name, n) == 0)
            return row;
    return NULL;
}

static const struct option_row *find_short(enum verb_id verb, char name) {
    for (const struct option_row *row = option_table; row < option_table + option_table_length; row++)
        if (row->name && (row->verbs & verb) && row->short_name == name)
            return row;
    return NULL;
}

static int unknown_option(enum verb_id verb, const char *arg, size_t n, ees_error *err) {
    char word[64];
    snprintf(word, sizeof word, "%.*s", (int)(n < sizeof word ? n : sizeof word - 1), arg);
    CLI_FAIL(err, EES_EINVAL, "unknown option --%s", word);
    struct near_name near = {.word = word, .distance = ~0u};
    for (const struct option_row *row = option_table; row < option_table + option_table_length; row++)
        if (row->name && (row->verbs & verb))
            consider(&near, row->name);
    if (near.best)
        return cli_hint(err, "did you mean --%s?", near.best);
    return cli_hint(err, "eestream help %s lists all", verb_name(verb));
}

/* "--name", "--name=value", "--name value". @return how many arguments were used */
static int take_long(struct options *o, char **args, int n_args, ees_error *err) {
    const char *name = args[0] + 2;
    size_t n = strcspn(name, "=");
    const struct option_row *row = find_long(o->verb, name, n);
    if (!row)
        return unknown_option(o->verb, name, n, err);
    bool has_value = name[n] == '=';
    if (row->kind == OPTION_FLAG && has_value)
        return CLI_FAIL(err, EES_EINVAL, "--%s takes no value", row->name);
    if (row->kind != OPTION_FLAG && !has_value && n_args < 2)
        return CLI_FAIL(err, EES_EINVAL, "--%s needs a value: %s", row->name, row->value);
    bool separate = row->kind != OPTION_FLAG && !has_value;
    CLI_TRY(set_value(o, row, has_value ? name + n + 1 : args[separate], err));
    return 1 + separate;
}

/* "-q", "-qv", "-oFILE", "-o FILE". @return how many arguments were used */
static int take_short(struct options *o, char **args, int n_args, ees_error *err) {
    for (const char *c = args[0] + 1; *c; c++) {
        const struct option_row *row = find_short(o->verb, *c);
        if (!row) {
            CLI_FAIL(err, EES_EINVAL, "unknown option -%c", *c);
            return cli_hint(err, "eestream help %s lists all", verb_name(o->verb));
        }
        if (row->kind == OPTION_FLAG) {
            CLI_TRY(set_value(o, row, "", err));
            continue;
        }
        if (!c[1] && n_args < 2)
            return CLI_FAIL(err, EES_EINVAL, "-%c needs a value: %s", *c, row->value);
        CLI_TRY(set_value(o, row, c[1] ? c + 1 : args[1], err));
        return c[1] ? 1 : 2;
    }
    return 1;
}

int options_parse(struct options *o, enum verb_id verb, int argc, char **argv, ees_error *err) {
    *o = (struct options){.verb = verb};
    CLI_TRY(set_defaults(o, err));
    o->inputs = calloc((size_t)argc + 1, sizeof *o->inputs);
    if (!o->inputs)
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for %d arguments", argc);
    bool only_inputs = false;
    for (int i = 0; i < argc;) {
        char *arg = argv[i];
        if (only_inputs || arg[0] != '-' || !arg[1]) {
            o->inputs[o->n_inputs++] = arg;
            i++;
        } else if (strcmp(arg, "--") == 0) {
            only_inputs = true;
            i++;
        } else {
            int n = (arg[1] == '-' ? take_long : take_short)(o, argv + i, argc - i, err);
            CLI_TRY(n);
            i += n;
        }
    }
    return 0;
}

void options_fini(struct options *o) { free(o->inputs); }

/* ---- Help ---------------------------------------------------------------------------------------------- */

static void print_row(FILE *out, const struct option_row *row) {
    char left[80];
    snprintf(left, sizeof left, "%s%c%s --%s%s%s", row->short_name ? "-" : " ", row->short_name ? row->short_name : ' ',
             row->short_name ? "," : " ", row->name, row->value ? " " : "", row->value ? row->value : "");
    bool fits = strlen(left) < 28; /* else the text begins on a line of its own */
    fprintf(out, "  %-28s%s", left, fits ? " " : "\n                               ");
    fprintf(out, "%s%s%s%s\n", row->help, row->fallback ? " (default " : "", row->fallback ? row->fallback : "",
            row->fallback ? ")" : "");
}

void options_print_help(FILE *out, enum verb_id verb) {
    const char *section = NULL;
    for (const struct option_row *row = option_table; row < option_table + option_table_length; row++) {
        if (row->section) {
            section = row->section;
        } else if (row->verbs & verb) {
            if (section)
                fprintf(out, "\n%s\n", section);
            section = NULL;
            print_row(out, row);
        }
    }
}

/* ---- What verbs share ---------------------------------------------------------------------------------- */

/* "224" or "320x240", width first as everywhere on the command line. */
static int parse_image_size(const char *text, ees_model_options *out, ees_error *err) {
    unsigned w, h;
    char rest;
    int n = sscanf(text, "%5ux%5u%c", &w, &h, &rest);
    if (n == 1 && strspn(text, "0123456789") == strlen(text)) {
        h = w;
        n = 2;
    }
    if (n != 2 || text[0] < '0' || text[0] > '9' || w == 0 || h == 0)
        return CLI_FAIL(err, EES_EINVAL, "--image-size %s: expected a side or WxH in pixels", text);
    out->image_width_px = w;
    out->image_height_px = h;
    return 0;
}

int options_open_model(const struct options *o, const char *arch, ees_model **out, ees_error *err) {
    if (o->model_dir && arch)
        return CLI_FAIL(err, EES_EINVAL, "--model %s and --arch %s: give one of the two", o->model_dir, arch);
    ees_model_options m;
    ees_model_options_default(&m);
    m.kernels = o->kernels;
    m.precision = o->precision;
    m.allow_nonfinite = o->allow_nonfinite;
    m.decode = (enum ees_decode)o->decode;
    m.max_pixels = o->max_pixels;
    m.on_tensor = o->on_tensor;
    m.on_tensor_opaque = o->on_tensor_opaque;
    m.certificate = o->certificate;
    if (o->image_size)
        CLI_TRY(parse_image_size(o->image_size, &m, err));
    return arch ? ees_model_open_random(arch, 1, &m, out, err) : ees_model_open(o->model_dir, &m, out, err);
}

int options_policy(const struct options *o, ees_policy_options *out, ees_error *err) {
    *out = (ees_policy_options){.name = o->policy,
                                .patience = o->patience,
                                .lag = o->lag,
                                .n_thresholds = o->thresholds.n,
                                .n_weights = o->exit_weights.n};
    if (o->full_depth &&
        (o->policy || o->thresholds.n || o->degraded.n || o->patience || o->lag || o->exit_weights.n || o->replay_path))
        return CLI_FAIL(err, EES_EINVAL,
                        "--full-depth takes no early exit: drop --policy, --threshold, --degrade-thresholds, "
                        "--patience, --lag, --exit-weights and --replay-exits");
    if (o->skip_below.n)
        out->skip_below = o->skip_below.values[0] > 0 ? (float)o->skip_below.values[0] : -1.0f;
    for (unsigned i = 0; i < o->exit_weights.n; i++)
        out->weights[i] = (float)o->exit_weights.values[i];
    if (o->full_depth)
        out->name = "none";
    for (unsigned i = 0; i < o->thresholds.n; i++)
        out->thresholds[i] = (float)o->thresholds.values[i];
    out->n_degraded = o->degraded.n;
    for (unsigned i = 0; i < o->degraded.n; i++)
        out->degraded[i] = (float)o->degraded.values[i];
    return 0;
}

const char *take_name(const struct options *o) {
    static const char *const names[] = {"deepest", "oldest", "upstream"};
    return names[o->take];
}

void options_source(const struct options *o, ees_source_options *out) {
    ees_source_options_default(out);
    out->io = (enum ees_io_backend)o->io;
    out->raw = o->raw;
    if (o->raw_fps > 0)
        out->raw_fps = o->raw_fps;
}
