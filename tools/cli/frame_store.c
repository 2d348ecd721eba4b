/* SPDX-License-Identifier: MIT */
#include "tools/cli/frame_store.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli/fail.h"

#define MAX_STORE_BYTES ((size_t)256 << 20)

/* The store outlives every engine: nothing to do when one is done with a frame. */
static void keep(void *opaque) {}

static size_t plane_bytes(const ees_frame *f, int plane) {
    size_t rows = f->height_px;
    if (f->kind == EES_FRAME_JPEG)
        return plane == 0 ? f->bytes : 0;
    if (!f->data[plane])
        return 0;
    if (plane > 0)
        rows = (rows + (1u << f->chroma_shift_y) - 1) >> f->chroma_shift_y;
    return rows * f->stride[plane];
}

static bool copy_frame(const ees_frame *from, ees_frame *to, size_t *used) {
    size_t n[3], total = 0, truth_bytes = from->truth ? strlen(from->truth) + 1 : 0;
    for (int i = 0; i < 3; i++)
        total += n[i] = plane_bytes(from, i);
    unsigned char *block = malloc(total + truth_bytes ? total + truth_bytes : 1);
    if (!block)
        return false;
    *to = *from;
    to->release = keep;
    to->opaque = block;
    to->source = NULL;
    for (int i = 0; i < 3; i++) {
        to->data[i] = n[i] ? block : NULL;
        if (n[i])
            memcpy(block, from->data[i], n[i]);
        block += n[i];
    }
    to->truth = from->truth ? memcpy(block, from->truth, truth_bytes) : NULL;
    *used += total;
    return true;
}

static int read_frames(ees_source *source, size_t max, ees_frame *frames, size_t *n, ees_error *err) {
    size_t used = 0;
    while (*n < max && used < MAX_STORE_BYTES) {
        ees_frame frame;
        int rc = ees_source_next(source, &frame, err);
        if (rc == EES_EOF)
            break;
        CLI_TRY(rc);
        bool good = frame.error || copy_frame(&frame, &frames[*n], &used);
        *n += good && !frame.error;
        frame.release(frame.opaque);
        if (!good)
            return CLI_FAIL(err, EES_ENOMEM, "out of memory for frame %zu", *n);
    }
    return 0;
}

int frame_store_read(const char *uri, const ees_source_options *options, size_t max, ees_frame **frames, size_t *n,
                     ees_error *err) {
    ees_source *source = NULL;
    *n = 0;
    *frames = calloc(max, sizeof **frames);
    if (!*frames)
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for %zu frames", max);
    int rc = ees_source_open(uri, options, &source, err);
    if (rc == 0)
        rc = read_frames(source, max, *frames, n, err);
    ees_source_close(source);
    if (rc == EES_EUNSUPPORTED)
        err->code = rc = EES_ESOURCE;
    if (rc == 0 && *n == 0)
        rc = CLI_FAIL(err, EES_ESOURCE, "%s: holds no frame that can be used", uri);
    return rc;
}

void frame_store_free(ees_frame *frames, size_t n) {
    for (size_t i = 0; i < n; i++)
        free(frames[i].opaque);
    free(frames);
}
