/* SPDX-License-Identifier: MIT */
/* True classes of frames: from the names of class folders (in each result) or from a CSV table. */
#ifndef EES_CLI_TRUTH_H
#define EES_CLI_TRUTH_H

#include "eestream/eestream.h"

struct truth_row {
    uint64_t frame_idx;
    int class_idx;
};

struct truth {
    struct truth_row *rows; /* sorted by frame; NULL: no table */
    size_t n_rows;
};

/* Parse CSV: a header line naming the columns `frame` and `class` (index) and/or `label`, in any order.
 * @param name  stands in messages
 * @return 0; EES_EINVAL naming the line; EES_ENOMEM */
int truth_parse(struct truth *t, const char *name, const char *text, size_t n, const ees_model *model, ees_error *err);
int truth_open(struct truth *t, const char *path, const ees_model *model, ees_error *err);

/* Class of the frame: the table's, else the result's folder label. -1: unknown; -2: a label the model lacks. */
int truth_of(const struct truth *t, const ees_result *result, const ees_model *model);

void truth_close(struct truth *t);

#endif
