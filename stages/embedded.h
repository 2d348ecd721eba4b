/* SPDX-License-Identifier: MIT */
/* The model that is part of the library. */
#ifndef EES_STAGES_EMBEDDED_H
#define EES_STAGES_EMBEDDED_H

#include <stdbool.h>
#include <stddef.h>

struct ees__embedded_file {
    const void *data;
    size_t n_bytes;
};

struct ees__embedded_model {
    struct ees__embedded_file config, preproc, weights;
};

/* false: this build has none. */
bool ees__embedded_get(struct ees__embedded_model *out);

#endif
