/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli/fail.h"
#include "tools/cli/file.h"
#include "tools/cli/truth.h"

#define MAX_TRUTH_BYTES ((size_t)256 << 20)
#define MAX_FIELD       256
#define MAX_COLUMNS     64

struct csv {
    const char *at, *end, *name;
    const ees_model *model;
    size_t line;
    int frame_column, class_column, label_column;
};

struct row {
    char fields[3][MAX_FIELD]; /* frame, class, label */
};

/* One RFC 4180 field at c->at, quotes undone; longer than `n` - 1 is cut. Stops before the separator. */
static void read_field(struct csv *c, char *out, size_t n) {
    size_t length = 0;
    bool quoted = c->at < c->end && *c->at == '"';
    if (quoted)
        c->at++;
    for (; c->at < c->end; c->at++) {
        if (quoted && *c->at == '"') {
            if (c->at + 1 < c->end && c->at[1] == '"')
                c->at++;
            else {
                quoted = false;
                continue;
            }
        } else if (!quoted && (*c->at == ',' || *c->at == '\n')) {
            break;
        }
        if (*c->at != '\r' && length + 1 < n)
            out[length++] = *c->at;
    }
    out[length] = '\0';
}

/* After a field: true when another one follows on this line. */
static bool next_field(struct csv *c) {
    if (c->at < c->end && *c->at == ',') {
        c->at++;
        return true;
    }
    if (c->at < c->end)
        c->at++; /* the newline */
    c->line++;
    return false;
}

static int read_header(struct csv *c, ees_error *err) {
    char field[MAX_FIELD];
    int column = 0;
    c->frame_column = c->class_column = c->label_column = -1;
    do {
        read_field(c, field, sizeof field);
        if (strcmp(field, "frame") == 0)
            c->frame_column = column;
        else if (strcmp(field, "class") == 0)
            c->class_column = column;
        else if (strcmp(field, "label") == 0)
            c->label_column = column;
        column++;
    } while (next_field(c) && column < MAX_COLUMNS);
    if (c->frame_column < 0 || (c->class_column < 0 && c->label_column < 0))
        return CLI_FAIL(err, EES_EINVAL, "%s: line 1 must name the columns frame and class or label", c->name);
    return 0;
}

static void read_row(struct csv *c, struct row *row) {
    char other[MAX_FIELD];
    int column = 0;
    memset(row, 0, sizeof *row);
    do {
        char *field = column == c->frame_column   ? row->fields[0]
                      : column == c->class_column ? row->fields[1]
                      : column == c->label_column ? row->fields[2]
                                                  : other;
        read_field(c, field, MAX_FIELD);
        column++;
    } while (next_field(c));
}

static bool parse_index(const char *text, unsigned long long *out) {
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && !*end && errno == 0;
}

/* A label wins over the index: indices differ between models, names do not. */
static int parse_row(const struct csv *c, const struct row *row, size_t line, struct truth_row *out, ees_error *err) {
    unsigned long long frame, class_idx;
    unsigned n_classes = ees_model_get_info(c->model)->n_classes;
    if (!parse_index(row->fields[0], &frame))
        return CLI_FAIL(err, EES_EINVAL, "%s: line %zu: frame '%.40s' is not a number", c->name, line, row->fields[0]);
    *out = (struct truth_row){.frame_idx = frame, .class_idx = -1};
    if (row->fields[2][0])
        out->class_idx = ees_model_find_label(c->model, row->fields[2]);
    if (out->class_idx >= 0)
        return 0;
    if (row->fields[1][0] && parse_index(row->fields[1], &class_idx) && class_idx < n_classes) {
        out->class_idx = (int)class_idx;
        return 0;
    }
    return CLI_FAIL(err, EES_EINVAL, "%s: line %zu: class '%.40s' label '%.40s': the model has neither (%u classes)",
                    c->name, line, row->fields[1], row->fields[2], n_classes);
}

static int by_frame(const void *a, const void *b) {
    uint64_t x = ((const struct truth_row *)a)->frame_idx, y = ((const struct truth_row *)b)->frame_idx;
    return (x > y) - (x < y);
}

static int read_rows(struct truth *t, struct csv *c, ees_error *err) {
    size_t room = 0;
    struct row row;
    while (c->at < c->end) {
        size_t line = c->line;
        if (*c->at == '\n' || *c->at == '\r') {
            c->at++;
            c->line += c->at[-1] == '\n';
            continue;
        }
        read_row(c, &row);
        if (t->n_rows == room) {
            room = room ? 2 * room : 1024;
            struct truth_row *bigger = realloc(t->rows, room * sizeof *bigger);
            if (!bigger)
                return CLI_FAIL(err, EES_ENOMEM, "%s: out of memory", c->name);
            t->rows = bigger;
        }
        CLI_TRY(parse_row(c, &row, line, &t->rows[t->n_rows++], err));
    }
    if (t->n_rows == 0)
        return CLI_FAIL(err, EES_EINVAL, "%s: no rows after the header", c->name);
    qsort(t->rows, t->n_rows, sizeof *t->rows, by_frame);
    return 0;
}

int truth_parse(struct truth *t, const char *name, const char *text, size_t n, const ees_model *model, ees_error *err) {
    struct csv c = {.at = text, .end = text + n, .name = name, .model = model, .line = 1};
    *t = (struct truth){0};
    int rc = read_header(&c, err);
    if (rc == 0)
        rc = read_rows(t, &c, err);
    if (rc < 0)
        truth_close(t);
    return rc;
}

int truth_open(struct truth *t, const char *path, const ees_model *model, ees_error *err) {
    char *text;
    size_t n;
    CLI_TRY(file_read(path, MAX_TRUTH_BYTES, EES_EINVAL, &text, &n, err));
    int rc = truth_parse(t, path, text, n, model, err);
    free(text);
    return rc;
}

int truth_of(const struct truth *t, const ees_result *result, const ees_model *model) {
    if (t->rows) {
        struct truth_row key = {.frame_idx = result->frame_idx};
        const struct truth_row *row = bsearch(&key, t->rows, t->n_rows, sizeof key, by_frame);
        return row ? row->class_idx : -1;
    }
    if (!result->truth)
        return -1;
    int class_idx = ees_model_find_label(model, result->truth);
    return class_idx >= 0 ? class_idx : -2;
}

void truth_close(struct truth *t) {
    free(t->rows);
    *t = (struct truth){0};
}
