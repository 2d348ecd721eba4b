/* SPDX-License-Identifier: MIT */
/* Common part of the fuzz targets of sources: whatever the bytes, frames are numbered, bounded in number and size, and
 * the source ends with a code that says why. */
#define _GNU_SOURCE
#include "fuzz_source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "eestream/source.h"

static char path[64];

static void remove_file(void) { unlink(path); }

static int open_file(const char *extension) {
    const char *dir = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"; /* in memory: many thousand runs a minute */
    snprintf(path, sizeof path, "%s/eestream-fuzz-XXXXXX%s", dir, extension);
    int fd = mkstemps(path, (int)strlen(extension));
    FUZZ_CHECK(fd >= 0);
    atexit(remove_file);
    return fd;
}

static void check_frame(const ees_frame *f, uint64_t idx, size_t n) {
    FUZZ_CHECK(f->frame_idx == idx);
    FUZZ_CHECK(f->release);
    if (f->error) {
        FUZZ_CHECK(f->error->code == EES_EDAMAGED && f->error->message[0]);
        return;
    }
    FUZZ_CHECK(f->kind == EES_FRAME_JPEG);
    FUZZ_CHECK(f->bytes > 0 && f->bytes <= n + 420); /* 420: Huffman tables put in */
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < f->bytes; i++)
        sum = (uint8_t)(sum + ((const uint8_t *)f->data[0])[i]);
}

static void run(const ees_source_options *options, size_t n, size_t min_frame_bytes) {
    ees_source *s;
    ees_frame f;
    ees_error err = {0};
    int rc = ees_source_open(path, options, &s, &err);
    if (rc < 0) {
        FUZZ_CHECK(err.code == rc && err.message[0]);
        return;
    }
    uint64_t n_frames = 0;
    while ((rc = ees_source_next(s, &f, &err)) == 0) {
        check_frame(&f, n_frames++, n);
        f.release(f.opaque);
    }
    FUZZ_CHECK(n_frames <= n / min_frame_bytes + 1);
    FUZZ_CHECK(rc == EES_EOF || (rc == EES_ESOURCE && err.message[0]));
    ees_source_close(s);
}

void fuzz_source(const char *extension, const uint8_t *data, size_t n, size_t min_frame_bytes) {
    static int fd = -1;
    if (fd < 0)
        fd = open_file(extension);
    FUZZ_CHECK(ftruncate(fd, 0) == 0);
    FUZZ_CHECK(pwrite(fd, data, n, 0) == (ssize_t)n);
    ees_source_options options;
    ees_source_options_default(&options);
    options.io = EES_IO_PREAD;
    options.readahead = 1;
    run(&options, n, min_frame_bytes);
    options.max_frame_bytes = FUZZ_MAX_FRAME_BYTES;
    run(&options, n, min_frame_bytes);
}
