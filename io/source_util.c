/* SPDX-License-Identifier: MIT */
/* Small helpers of several kinds of sources. */
#include <string.h>
#include <strings.h>

#include "io/source.h"

bool ees__has_extension(const char *name, const char *const extensions[]) {
    const char *dot = strrchr(name, '.');
    for (; dot && *extensions; extensions++)
        if (strcasecmp(dot, *extensions) == 0)
            return true;
    return false;
}

int64_t ees__frame_time_ns(uint64_t idx, uint64_t scale, uint64_t rate) {
    if (rate == 0 || scale == 0)
        return -1;
    unsigned __int128 ns = (unsigned __int128)idx * scale * 1000000000u / rate;
    return ns <= INT64_MAX ? (int64_t)ns : -1;
}

int64_t ees__frame_time_at_fps(uint64_t idx, double fps) {
    double ns = (double)idx * 1e9 / fps;
    return ns < 0x1p63 ? (int64_t)ns : -1;
}
