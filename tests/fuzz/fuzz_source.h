/* SPDX-License-Identifier: MIT */
/* Runs a source over bytes, through a temporary file of a given extension. */
#ifndef TESTS_FUZZ_FUZZ_SOURCE_H
#define TESTS_FUZZ_FUZZ_SOURCE_H

#include "fuzz.h"

#define FUZZ_MAX_FRAME_BYTES 600

/* Twice: with the default options, and with frames limited to FUZZ_MAX_FRAME_BYTES.
 * @param min_frame_bytes  the fewest bytes of input a frame can take: bounds the number of frames */
void fuzz_source(const char *extension, const uint8_t *data, size_t n, size_t min_frame_bytes);

#endif
