/* SPDX-License-Identifier: MIT */
/* Fuzz target: concatenated JPEGs. */
#include "fuzz_source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    fuzz_source(".mjpeg", data, n, 3);
    return 0;
}
