/* SPDX-License-Identifier: MIT */
/* The pictures of a folder, a pattern or a single name, in order. */
#ifndef EES_IO_IMAGE_LIST_H
#define EES_IO_IMAGE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "eestream/error.h"

struct ees__image_entry {
    size_t path, folder; /* offsets into text: path below dir_fd, name of the class subfolder ("" at the top) */
    bool is_jpeg;        /* false: a format that needs libav */
};

struct ees__image_list {
    int dir_fd;         /* paths count from here */
    const char *prefix; /* and this is its name, to be put before a path; NULL: none */
    struct ees__image_entry *entries;
    size_t n, n_allocated;
    char *text;
    size_t n_text, n_text_allocated;
};

/* JPEGs and other pictures of a folder and of its subfolders one level down, in byte order of the names: first the
 * folder's own, then those of each subfolder. Hidden names are passed over.
 * @return 0; EES_ESOURCE (also when there is none); EES_ENOMEM. Call fini in any case. */
int ees__image_list_folder(struct ees__image_list *list, const char *folder, ees_error *err);

/* Pictures whose names match a glob(7) pattern, in byte order. */
int ees__image_list_glob(struct ees__image_list *list, const char *pattern, ees_error *err);

/* One JPEG file. */
int ees__image_list_single(struct ees__image_list *list, const char *path, ees_error *err);

const char *ees__image_path(const struct ees__image_list *list, size_t idx);

/* NULL: not in a class subfolder. */
const char *ees__image_truth(const struct ees__image_list *list, size_t idx);

void ees__image_list_fini(struct ees__image_list *list);

#endif
