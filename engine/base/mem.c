/* SPDX-License-Identifier: MIT */
/* Aligned, size-checked allocation. */
#include "common/mem.h"

#include <stdlib.h>
#include <string.h>

void *ees__calloc_aligned(size_t n, size_t size) {
    size_t bytes, padded;
    if (!ees__mul(n, size, &bytes) || !ees__add(bytes, EES_CACHE_LINE - 1, &padded))
        return NULL;
    padded &= ~(size_t)(EES_CACHE_LINE - 1);
    if (padded == 0)
        padded = EES_CACHE_LINE;
    void *p = aligned_alloc(EES_CACHE_LINE, padded);
    if (p)
        memset(p, 0, padded);
    return p;
}

void ees__free(void *p) { free(p); }
