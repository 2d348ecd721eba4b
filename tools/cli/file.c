/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

int file_write_json(const char *path, json_t *json, ees_error *err) {
    bool to_stdout = strcmp(path, "-") == 0;
    FILE *f = to_stdout ? stdout : fopen(path, "we");
    if (!f) {
        int why = errno;
        json_decref(json);
        return CLI_FAIL_OS(err, EES_EOUTPUT, why, "%s", path);
    }
    errno = 0;
    bool good = json && json_dumpf(json, f, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0 && fputc('\n', f) != EOF &&
                fflush(f) == 0;
    int why = errno;
    if (!to_stdout && fclose(f) != 0)
        good = false;
    json_decref(json);
    return good ? 0 : CLI_FAIL_OS(err, EES_EOUTPUT, why, "%s: cannot be written", to_stdout ? "stdout" : path);
}

int file_finish_stdout(ees_error *err) {
    bool good = fflush(stdout) == 0 && !ferror(stdout);
    return good ? 0 : CLI_FAIL(err, EES_EOUTPUT, "stdout cannot be written");
}

int file_write_all(int fd, const char *text, size_t n) {
    while (n > 0) {
        ssize_t done = write(fd, text, n);
        if (done < 0 && errno != EINTR)
            return errno;
        text += done > 0 ? done : 0;
        n -= done > 0 ? (size_t)done : 0;
    }
    return 0;
}

static int write_new(const char *path, int flags, const char *text, size_t n) {
    int fd = open(path, O_WRONLY | O_CLOEXEC | flags, 0666);
    if (fd < 0)
        return errno;
    int error = file_write_all(fd, text, n);
    if (close(fd) < 0 && error == 0)
        error = errno;
    return error;
}

int file_replace(const char *path, const char *text, size_t n, ees_error *err) {
    struct stat st;
    char *beside = NULL;
    int error;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
        error = write_new(path, 0, text, n);
    } else if (asprintf(&beside, "%s.new", path) < 0) {
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for %s", path);
    } else {
        error = write_new(beside, O_CREAT | O_TRUNC, text, n);
        if (error == 0 && rename(beside, path) < 0)
            error = errno;
        if (error)
            unlink(beside);
        free(beside);
    }
    return error ? CLI_FAIL_OS(err, EES_EOUTPUT, error, "%s: cannot be written", path) : 0;
}

json_t *json_text(const char *name) {
    json_t *text = json_string(name);
    char *shown = text ? NULL : strdup(name);
    for (char *c = shown; c && *c; c++)
        *c = (unsigned char)*c < 128 ? *c : '?';
    if (shown)
        text = json_string(shown);
    free(shown);
    return text;
}
