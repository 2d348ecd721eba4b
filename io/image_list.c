/* SPDX-License-Identifier: MIT */
/* Lists the pictures of an image source once, when it is opened. All names lie in one growing text. */
#define _GNU_SOURCE
#include "io/image_list.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fail.h"
#include "common/mem.h"
#include "io/source.h"

static const char *const jpeg_extensions[] = {".jpg", ".jpeg", ".jpe", ".jfif", NULL};
static const char *const libav_extensions[] = {".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", NULL};

/* *p has room for `n` objects of `size` bytes, with some to spare. */
static int grow(void **p, size_t *n_allocated, size_t n, size_t size) {
    size_t bytes;
    if (n <= *n_allocated)
        return 0;
    if (!ees__mul(n + n / 2 + 64, size, &bytes))
        return EES_ENOMEM;
    void *bigger = realloc(*p, bytes);
    if (!bigger)
        return EES_ENOMEM;
    *p = bigger;
    *n_allocated = n + n / 2 + 64;
    return 0;
}

/* Append "folder/name" (or "name") and return where it lies. */
static int add_text(struct ees__image_list *list, const char *folder, const char *name, size_t *at) {
    size_t n_folder = strlen(folder), n_name = strlen(name);
    if (grow((void **)&list->text, &list->n_text_allocated, list->n_text + n_folder + n_name + 2, 1) < 0)
        return EES_ENOMEM;
    *at = list->n_text;
    char *to = list->text + *at;
    if (n_folder) {
        memcpy(to, folder, n_folder);
        to[n_folder] = '/';
        to += n_folder + 1;
    }
    memcpy(to, name, n_name + 1);
    list->n_text = (size_t)(to - list->text) + n_name + 1;
    return 0;
}

static int add_entry(struct ees__image_list *list, const char *folder, const char *name, bool is_jpeg) {
    struct ees__image_entry entry = {.is_jpeg = is_jpeg};
    if (grow((void **)&list->entries, &list->n_allocated, list->n + 1, sizeof *list->entries) < 0 ||
        add_text(list, folder, name, &entry.path) < 0 || add_text(list, "", folder, &entry.folder) < 0)
        return EES_ENOMEM;
    list->entries[list->n++] = entry;
    return 0;
}

/* Add the file if it is a picture by its name. */
static int add_file(struct ees__image_list *list, const char *folder, const char *name, ees_error *err) {
    bool is_jpeg = ees__has_extension(name, jpeg_extensions);
    if (!is_jpeg && !ees__has_extension(name, libav_extensions))
        return 0;
    if (add_entry(list, folder, name, is_jpeg) < 0)
        return EES_FAIL(err, EES_ENOMEM, "no memory for a list of %zu pictures", list->n);
    return 0;
}

static int compare_entries(const void *left, const void *right, void *text) {
    const struct ees__image_entry *a = left, *b = right;
    int by_folder = strcmp((char *)text + a->folder, (char *)text + b->folder);
    return by_folder ? by_folder : strcmp((char *)text + a->path, (char *)text + b->path);
}

static int finish(struct ees__image_list *list, const char *name, ees_error *err) {
    if (list->n == 0) {
        EES_FAIL(err, EES_ESOURCE, "%s: no pictures in it", name);
        ees__hint(err,
                  "expected .jpg files, or .png, .webp, .bmp, .tif with libav; also one level down, a folder a class");
        return EES_ESOURCE;
    }
    qsort_r(list->entries, list->n, sizeof *list->entries, compare_entries, list->text);
    return 0;
}

static void init(struct ees__image_list *list) { *list = (struct ees__image_list){.dir_fd = AT_FDCWD}; }

/* ---- folders ---- */

/* S_IFREG, S_IFDIR or something else, links followed. */
static mode_t type_of(int dir_fd, const struct dirent *d) {
    struct stat st;
    if (d->d_type == DT_REG)
        return S_IFREG;
    if (d->d_type == DT_DIR)
        return S_IFDIR;
    return fstatat(dir_fd, d->d_name, &st, 0) == 0 ? st.st_mode & S_IFMT : 0;
}

static int scan_folder(struct ees__image_list *list, int fd, const char *folder, bool top, ees_error *err);

static int scan_subfolder(struct ees__image_list *list, int dir_fd, const char *folder, ees_error *err) {
    int fd = openat(dir_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return EES_FAIL_OS(err, EES_ESOURCE, errno, "%s/%s: cannot open", list->prefix, folder);
    return scan_folder(list, fd, folder, false, err);
}

static int scan_entry(struct ees__image_list *list, int dir_fd, const struct dirent *d, const char *folder, bool top,
                      ees_error *err) {
    if (d->d_name[0] == '.')
        return 0;
    mode_t type = type_of(dir_fd, d);
    if (type == S_IFREG)
        return add_file(list, folder, d->d_name, err);
    return type == S_IFDIR && top ? scan_subfolder(list, dir_fd, d->d_name, err) : 0;
}

/* Takes over `fd`. */
static int scan_folder(struct ees__image_list *list, int fd, const char *folder, bool top, ees_error *err) {
    DIR *dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return EES_FAIL_OS(err, EES_ESOURCE, errno, "%s/%s: cannot list", list->prefix, folder);
    }
    int rc = 0;
    const struct dirent *d;
    for (errno = 0; rc == 0 && (d = readdir(dir)) != NULL; errno = 0)
        rc = scan_entry(list, dirfd(dir), d, folder, top, err);
    if (rc == 0 && errno)
        rc = EES_FAIL_OS(err, EES_ESOURCE, errno, "%s/%s: cannot list", list->prefix, folder);
    closedir(dir);
    return rc;
}

int ees__image_list_folder(struct ees__image_list *list, const char *folder, ees_error *err) {
    init(list);
    list->prefix = folder;
    list->dir_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fd = list->dir_fd < 0 ? -1 : openat(list->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return EES_FAIL_OS(err, EES_ESOURCE, errno, "%s: cannot open", folder);
    EES_TRY(scan_folder(list, fd, "", true, err));
    return finish(list, folder, err);
}

/* ---- patterns and single files ---- */

static int add_matches(struct ees__image_list *list, const glob_t *found, ees_error *err) {
    struct stat st;
    for (size_t i = 0; i < found->gl_pathc; i++)
        if (stat(found->gl_pathv[i], &st) < 0 || S_ISREG(st.st_mode))
            EES_TRY(add_file(list, "", found->gl_pathv[i], err));
    return 0;
}

int ees__image_list_glob(struct ees__image_list *list, const char *pattern, ees_error *err) {
    glob_t found;
    init(list);
    int rc = glob(pattern, GLOB_NOSORT, NULL, &found);
    if (rc == GLOB_NOMATCH)
        return EES_FAIL(err, EES_ESOURCE, "%s: no file matches", pattern);
    if (rc != 0)
        return EES_FAIL(err, rc == GLOB_NOSPACE ? EES_ENOMEM : EES_ESOURCE, "%s: cannot be searched", pattern);
    rc = add_matches(list, &found, err);
    globfree(&found);
    return rc < 0 ? rc : finish(list, pattern, err);
}

int ees__image_list_single(struct ees__image_list *list, const char *path, ees_error *err) {
    init(list);
    return add_entry(list, "", path, true) < 0 ? EES_FAIL(err, EES_ENOMEM, "%s: no memory", path) : 0;
}

/* ---- access ---- */

const char *ees__image_path(const struct ees__image_list *list, size_t idx) {
    return list->text + list->entries[idx].path;
}

const char *ees__image_truth(const struct ees__image_list *list, size_t idx) {
    const char *folder = list->text + list->entries[idx].folder;
    return *folder ? folder : NULL;
}

void ees__image_list_fini(struct ees__image_list *list) {
    if (list->dir_fd >= 0)
        close(list->dir_fd);
    free(list->entries);
    free(list->text);
    init(list);
}
