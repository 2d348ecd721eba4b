/* SPDX-License-Identifier: MIT */
/* The JSON header of a safetensors file, checked in full before any tensor byte is read. */
#ifndef EES_IO_SAFETENSORS_HEADER_H
#define EES_IO_SAFETENSORS_HEADER_H

#include <jansson.h>

#include "eestream/tensors.h"

/* Limits of a header. The first is the format's own; the others keep a hostile header from costing more memory or
 * stack than any real model needs (the largest published ones have some 100,000 tensors, 8 values each). */
#define EES__TENSORS_MAX_HEADER_BYTES 100000000u
#define EES__TENSORS_MAX_VALUES       2000000u
#define EES__TENSORS_MAX_DEPTH        64u
#define EES__TENSORS_MAX_NAME_BYTES   1024u

struct ees__tensor_entry {
    ees_tensor_info info; /* info.name lives in ees__tensor_header.names */
    size_t begin, end;    /* byte range in the data part */
};

struct ees__tensor_header {
    struct ees__tensor_entry *entries; /* by position in the file, gap-free from 0 to the end of the data part */
    size_t n;
    char *names;
    json_t *metadata; /* an object of strings; NULL: the header has none */
};

/* Parse `n_bytes` of JSON for a file whose data part has `data_bytes`. `file` stands in messages.
 * @return 0; EES_EMODEL; EES_ENOMEM. On failure nothing is left to release. */
int ees__tensor_header_parse(const char *text, size_t n_bytes, size_t data_bytes, const char *file,
                             struct ees__tensor_header *out, ees_error *err);

void ees__tensor_header_fini(struct ees__tensor_header *header);

#endif
