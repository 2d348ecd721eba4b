/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli/fail.h"
#include "tools/cli/file.h"

#define MAX_JSON_BYTES ((size_t)64 << 20)

static int read_stream(FILE *f, const char *path, size_t max, int code, char **text, size_t *n, ees_error *err) {
    size_t room = 1 << 16, used = 0;
    char *buffer = malloc(room + 1);
    while (buffer) {
        used += fread(buffer + used, 1, room - used, f);
        if (used < room)
            break;
        room *= 2;
        char *bigger = room <= 2 * max ? realloc(buffer, room + 1) : NULL;
        if (!bigger)
            free(buffer);
        buffer = bigger;
    }
    if (!buffer || used > max) {
        free(buffer);
        return CLI_FAIL(err, code, "%s: larger than %zu MiB", path, max >> 20);
    }
    if (ferror(f)) {
        free(buffer);
        return CLI_FAIL_OS(err, code, errno, "%s", path);
    }
    buffer[used] = '\0';
    *text = buffer;
    *n = used;
    return 0;
}

int file_read(const char *path, size_t max, int code, char **text, size_t *n, ees_error *err) {
    FILE *f = fopen(path, "rbe");
    if (!f)
        return CLI_FAIL_OS(err, code, errno, "%s", path);
    int rc = read_stream(f, path, max, code, text, n, err);
    fclose(f);
    return rc;
}

int file_read_json(const char *path, int code, json_t **out, ees_error *err) {
    char *text;
    size_t n;
    CLI_TRY(file_read(path, MAX_JSON_BYTES, code, &text, &n, err));
    json_error_t where;
    *out = json_loadb(text, n, JSON_REJECT_DUPLICATES, &where);
    free(text);
    if (!*out)
        return CLI_FAIL(err, code, "%s: line %d, column %d: %s", path, where.line, where.column, where.text);
    return 0;
}

int file_write_json(const char *path, const json_t *json, ees_error *err) {
    bool to_stdout = strcmp(path, "-") == 0;
    FILE *f = to_stdout ? stdout : fopen(path, "we");
    if (!f)
        return CLI_FAIL_OS(err, EES_EOUTPUT, errno, "%s", path);
    errno = 0;
    bool good = json && json_dumpf(json, f, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0 && fputc('\n', f) != EOF &&
                fflush(f) == 0;
    int why = errno;
    if (!to_stdout && fclose(f) != 0)
        good = false;
    return good ? 0 : CLI_FAIL_OS(err, EES_EOUTPUT, why, "%s: cannot be written", to_stdout ? "stdout" : path);
}
