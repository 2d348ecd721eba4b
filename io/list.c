/* SPDX-License-Identifier: MIT */
/* List files: one source a line. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/fail.h"
#include "common/mem.h"
#include "io/source.h"

enum { MAX_LIST_BYTES = 16 << 20 };

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

/* Cut white space from both ends and the comment away. An empty result is no source. A '#' inside a name stays: only one
 * at the start or after a blank begins a comment. */
static char *trim(char *line) {
    line += strspn(line, " \t\r");
    for (char *c = line; *c; c++)
        if (*c == '#' && (c == line || c[-1] == ' ' || c[-1] == '\t')) {
            *c = '\0';
            break;
        }
    size_t n = strlen(line);
    while (n > 0 && strchr(" \t\r", line[n - 1]))
        line[--n] = '\0';
    return line;
}

/* "-", absolute paths and URLs stand for themselves. */
static bool is_relative(const char *uri) { return uri[0] != '/' && strcmp(uri, "-") != 0 && !strstr(uri, "://"); }

/* Split `text` in place. First pass (uris NULL): count names and the bytes they need; second pass: write them to `to`. */
static void split(char *text, const char *folder, size_t n_folder, char **uris, char *to, size_t *n, size_t *n_bytes) {
    *n = *n_bytes = 0;
    for (char *line = text, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        char *uri = trim(line);
        if (*uri) {
            size_t n_prefix = is_relative(uri) ? n_folder : 0, n_uri = strlen(uri) + 1;
            if (uris) {
                uris[*n] = to + *n_bytes;
                memcpy(uris[*n], folder, n_prefix);
                memcpy(uris[*n] + n_prefix, uri, n_uri);
            }
            *n_bytes += n_prefix + n_uri;
            (*n)++;
        }
        if (next)
            next[-1] = '\n';
    }
}

static int build(const char *path, char *text, char ***uris, size_t *n_uris, ees_error *err) {
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
