/* SPDX-License-Identifier: MIT */
/* Fuzz target: the AVI demuxer. The first twelve bytes are always those of an AVI. */
#include "fuzz_source.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (n < 12)
        return 0;
    uint8_t *avi = malloc(n);
    FUZZ_CHECK(avi);
    memcpy(avi, data, n);
    memcpy(avi, "RIFF", 4);
    memcpy(avi + 8, "AVI ", 4);
    fuzz_source(".avi", avi, n, 8);
    free(avi);
    return 0;
}
