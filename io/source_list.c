/* SPDX-License-Identifier: MIT */
/* All kinds of sources. A new one is a file with its struct and a line here. */
#include "io/source.h"

extern const struct ees__source_kind ees__source_raw, ees__source_avi, ees__source_y4m, ees__source_images,
    ees__source_mjpeg, ees__source_synthetic;

const struct ees__source_kind *const ees__source_list[] = {
    &ees__source_raw,       &ees__source_avi,
    &ees__source_y4m,       &ees__source_images, /* before mjpeg: x.jpg is one picture */
    &ees__source_mjpeg,     &ees__source_libav,
    &ees__source_synthetic, NULL,
};
