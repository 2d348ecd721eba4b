/* SPDX-License-Identifier: MIT */
/* What all sources of weights share. */
#include "stages/weights.h"

#include "common/fail.h"
#include "common/mem.h"

size_t ees__tensor_elements(const struct ees__tensor_shape *shape) {
    size_t n = 1;
    for (unsigned i = 0; i < shape->rank; i++)
        n *= shape->dim[i];
    return n;
}

int ees__buffer_reserve(struct ees__buffer *buffer, size_t n, const char *purpose, ees_error *err) {
    if (n <= buffer->capacity)
        return 0;
    ees__free(buffer->data);
    *buffer = (struct ees__buffer){.data = ees__calloc_aligned(n, sizeof(float))};
    if (!buffer->data)
        return EES_FAIL(err, EES_ENOMEM, "no memory for the %zu values of %s", n, purpose);
    buffer->capacity = n;
    return 0;
}
