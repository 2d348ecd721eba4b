/* SPDX-License-Identifier: MIT */
/* List files: one source a line. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/fail.h"
#include "common/mem.h"
#include "io/source.h"

enum { MAX_LIST_BYTES = 16 << 20 };
#define BLANKS " \t\r"

bool ees_source_is_list(const char *uri) {
    static const char *const extensions[] = {".streams", ".list", ".txt", NULL};
    return ees__has_extension(uri, extensions);
}

/* The whole file with a NUL behind it; NULL on failure. */
static int read_text(const char *path, FILE *f, char **text, ees_error *err) {
    struct stat st;
    *text = NULL;
    if (fstat(fileno(f), &st) < 0 || !S_ISREG(st.st_mode))
        return EES_FAIL(err, EES_ESOURCE, "%s: not a regular file, expected a list of sources", path);
    if (st.st_size > MAX_LIST_BYTES)
        return EES_FAIL(err, EES_ESOURCE, "%s: list of %lld bytes, at most %d are read", path, (long long)st.st_size,
                        MAX_LIST_BYTES);
    *text = malloc((size_t)st.st_size + 1);
    if (!*text)
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory for %lld bytes", path, (long long)st.st_size);
    size_t n = fread(*text, 1, (size_t)st.st_size, f);
    if (ferror(f))
        return EES_FAIL_OS(err, EES_ESOURCE, errno, "%s: cannot read", path);
    (*text)[n] = '\0';
    return strlen(*text) == n ? 0 : EES_FAIL(err, EES_ESOURCE, "%s: not a text file", path);
}

/* The name in a line of `n` bytes: white space at both ends and a comment are left out. A '#' inside a name stays: only
 * one at the start or after a blank begins a comment. @return its length, 0: none */
static size_t find_name(const char *line, size_t n, const char **name) {
    size_t begin = 0, end = 0;
    while (end < n && (line[end] != '#' || (end > 0 && line[end - 1] != ' ' && line[end - 1] != '\t')))
        end++;
    while (begin < end && strchr(BLANKS, line[begin]))
        begin++;
    while (end > begin && strchr(BLANKS, line[end - 1]))
        end--;
    *name = line + begin;
    return end - begin;
}

/* "-", absolute paths and URLs stand for themselves. */
static bool is_relative(const char *name, size_t n) {
    bool stdin_name = n == 1 && name[0] == '-';
    return name[0] != '/' && !stdin_name && !memmem(name, n, "://", 3);
}

/* Go through the lines. Without `uris`, count names and the bytes they need; with it, write them to `to` as well. */
static void split(const char *text, const char *folder, size_t n_folder, char **uris, char *to, size_t *n,
                  size_t *n_bytes) {
    *n = *n_bytes = 0;
    for (const char *line = text; line;) {
        const char *end = strchrnul(line, '\n'), *name;
        size_t n_name = find_name(line, (size_t)(end - line), &name);
        if (n_name) {
            size_t n_prefix = is_relative(name, n_name) ? n_folder : 0;
            if (uris) {
                uris[*n] = to + *n_bytes;
                memcpy(uris[*n], folder, n_prefix);
                memcpy(uris[*n] + n_prefix, name, n_name);
                uris[*n][n_prefix + n_name] = '\0';
            }
            *n_bytes += n_prefix + n_name + 1;
            (*n)++;
        }
        line = *end ? end + 1 : NULL;
    }
}

static int build(const char *path, const char *text, char ***uris, size_t *n_uris, ees_error *err) {
    const char *slash = strrchr(path, '/');
    size_t n_folder = slash ? (size_t)(slash - path) + 1 : 0, n, n_bytes, array_bytes, total;
    split(text, path, n_folder, NULL, NULL, &n, &n_bytes);
    if (n == 0) {
        EES_FAIL(err, EES_ESOURCE, "%s: no source in the list", path);
        ees__hint(err, "one source a line; # starts a comment");
        return EES_ESOURCE;
    }
    char **array = NULL;
    if (ees__mul(n, sizeof *array, &array_bytes) && ees__add(array_bytes, n_bytes, &total))
        array = malloc(total);
    if (!array)
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory for %zu names", path, n);
    split(text, path, n_folder, array, (char *)(array + n), &n, &n_bytes);
    *uris = array;
    *n_uris = n;
    return 0;
}

int ees_source_read_list(const char *path, char ***uris, size_t *n_uris, ees_error *err) {
    char *text = NULL;
    FILE *f = fopen(path, "re");
    if (!f)
        return EES_FAIL_OS(err, EES_ESOURCE, errno, "%s: cannot open", path);
    int rc = read_text(path, f, &text, err);
    fclose(f);
    if (rc == 0)
        rc = build(path, text, uris, n_uris, err);
    free(text);
    return rc;
}
