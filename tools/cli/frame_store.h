/* SPDX-License-Identifier: MIT */
/* Frames copied out of a source, to be streamed again and again without reading. */
#ifndef EES_CLI_FRAME_STORE_H
#define EES_CLI_FRAME_STORE_H

#include "eestream/eestream.h"

/* Read up to `max` frames (fewer when the source ends or they would take more than 256 MiB). Damaged frames are left
 * out; their true class comes along. @return 0 and at least one frame; EES_ESOURCE; EES_ENOMEM */
int frame_store_read(const char *uri, const ees_source_options *options, size_t max, ees_frame **frames, size_t *n,
                     ees_error *err);
void frame_store_free(ees_frame *frames, size_t n);

#endif
