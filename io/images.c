/* SPDX-License-Identifier: MIT */
/* One JPEG, a folder of pictures or a pattern. JPEG files are read whole, several ahead of the consumer; pictures
 * of other formats go one by one through libav. A file that cannot be read is one damaged frame, not the end. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "common/fail.h"
#include "io/frame_buf.h"
#include "io/image_list.h"
#include "io/libav.h"
#include "io/readq.h"
#include "io/source.h"

enum { MAX_READAHEAD = 64 };

struct images {
    struct ees__image_list list;
    struct ees__readq *queue;
    unsigned n_slots;
    size_t at, n_started; /* entry i is read in slot i % n_slots; [at, n_started) are under way */
};

static enum ees__match match(const struct ees__probe *probe) {
    static const char *const extensions[] = {".jpg", ".jpeg", ".jpe", ".jfif", NULL};
    if (probe->place == EES__PLACE_FOLDER || probe->place == EES__PLACE_GLOB)
        return EES__MATCH_TOLD;
    if (probe->place != EES__PLACE_FILE || !ees__has_extension(probe->uri, extensions))
        return EES__MATCH_NONE;
    bool jpeg = probe->n_head >= 2 && memcmp(probe->head, "\xff\xd8", 2) == 0;
    return jpeg ? EES__MATCH_CONTENT : EES__MATCH_NAME;
}

static int list_images(ees_source *s, ees_error *err) {
    struct images *im = s->state;
    switch (s->place) {
    case EES__PLACE_FOLDER:
        return ees__image_list_folder(&im->list, s->name, err);
    case EES__PLACE_GLOB:
        return ees__image_list_glob(&im->list, s->name, err);
    default:
        return ees__image_list_single(&im->list, s->name, err);
    }
}

/* Better to say at once that libav is needed than to fail in the middle. */
static int check_formats(ees_source *s, ees_error *err) {
    const struct images *im = s->state;
    for (size_t i = 0; i < im->list.n; i++)
        if (!im->list.entries[i].is_jpeg)
            return ees__libav_load(ees__image_path(&im->list, i), NULL, err);
    return 0;
}

static int open_images(ees_source *s, ees_error *err) {
    struct images *im = s->state;
    im->list.dir_fd = -1;
    EES_TRY(list_images(s, err));
    EES_TRY(check_formats(s, err));
    im->n_slots = s->options.readahead < MAX_READAHEAD ? (unsigned)s->options.readahead : MAX_READAHEAD;
    EES_TRY(ees__readq_open(s->options.io, im->n_slots, &im->queue, err));
    s->info.backend = ees__readq_uses_uring(im->queue) ? "io_uring" : "pread";
    s->info.n_frames = (int64_t)im->list.n;
    s->info.fps = s->options.raw_fps;
    return 0;
}

static void close_images(ees_source *s) {
    struct images *im = s->state;
    ees__readq_close(im->queue);
    ees__image_list_fini(&im->list);
}

static void read_ahead(ees_source *s) {
    struct images *im = s->state;
    for (; im->n_started < im->list.n && im->n_started < im->at + im->n_slots; im->n_started++)
        if (im->list.entries[im->n_started].is_jpeg)
            ees__readq_start_file(im->queue, (unsigned)(im->n_started % im->n_slots), im->list.dir_fd,
                                  ees__image_path(&im->list, im->n_started), s->options.max_frame_bytes);
}

static void report_unread(ees_source *s, size_t idx, int os_errno, ees_error *report) {
    const char *path = ees__image_path(&((struct images *)s->state)->list, idx);
    if (os_errno == EFBIG)
        EES_FAIL(report, EES_EDAMAGED, "%s: more than %zu bytes", path, s->options.max_frame_bytes);
    else if (os_errno == EINVAL)
        EES_FAIL(report, EES_EDAMAGED, "%s: not a regular file", path);
    else
        EES_FAIL_OS(report, EES_EDAMAGED, os_errno, "%s: cannot read", path);
}

/* Copy what the queue has read, or note why it has not. */
static int take_jpeg(ees_source *s, size_t idx, struct ees__frame_buf *buf, ees_error *err) {
    struct images *im = s->state;
    unsigned slot = (unsigned)(idx % im->n_slots);
    int64_t n = ees__readq_wait(im->queue, slot);
    if (n == -ENOMEM || (n > 0 && ees__frame_buf_append(buf, ees__readq_data(im->queue, slot), (size_t)n) < 0))
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory", ees__image_path(&im->list, idx));
    if (n < 0)
        report_unread(s, idx, (int)-n, &buf->error);
    if (n == 0)
        EES_FAIL(&buf->error, EES_EDAMAGED, "%s: empty file", ees__image_path(&im->list, idx));
    return 0;
}

static int next_jpeg(ees_source *s, size_t idx, ees_frame *out, ees_error *err) {
    struct ees__frame_buf *buf = ees__frame_buf_acquire(s->pool);
    if (!buf)
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory for a frame", s->name);
    int rc = take_jpeg(s, idx, buf, err);
    if (rc < 0)
        ees__pool_release(buf);
    else
        ees__frame_buf_hand_out(buf, EES_FRAME_JPEG, out);
    return rc;
}

/* First frame of a picture that libav reads, through a source of its own. */
static int open_and_next(const char *path, const ees_source_options *options, ees_frame *out, ees_error *err) {
    ees_source *picture;
    EES_TRY(ees_source_open(path, options, &picture, err));
    int rc = ees_source_next(picture, out, err);
    if (rc == EES_EOF)
        EES_FAIL(err, EES_ESOURCE, "%s: no picture in it", path);
    ees_source_close(picture);
    return rc;
}

static int next_other(ees_source *s, size_t idx, ees_frame *out, ees_error *err) {
    const struct ees__image_list *list = &((struct images *)s->state)->list;
    char path[PATH_MAX];
    ees_error report = {0};
    int n = snprintf(path, sizeof path, "%s%s%s", list->prefix ? list->prefix : "", list->prefix ? "/" : "",
                     ees__image_path(list, idx));
    int rc = n < (int)sizeof path ? open_and_next(path, &s->options, out, &report)
                                  : EES_FAIL_OS(&report, EES_ESOURCE, ENAMETOOLONG, "%s", s->name);
    if (rc == 0 || rc == EES_ECANCELED)
        return rc;
    struct ees__frame_buf *buf = rc == EES_ENOMEM ? NULL : ees__frame_buf_acquire(s->pool);
    if (!buf)
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory for a frame", s->name);
    buf->error = report;
    buf->error.code = EES_EDAMAGED;
    *out = (ees_frame){.pts_ns = -1};
    ees__frame_buf_hand_out(buf, EES_FRAME_RGB24, out);
    return 0;
}

static int next_image(ees_source *s, ees_frame *out, ees_error *err) {
    struct images *im = s->state;
    if (im->at == im->list.n)
        return EES_EOF;
    read_ahead(s);
    size_t idx = im->at++;
    EES_TRY(im->list.entries[idx].is_jpeg ? next_jpeg(s, idx, out, err) : next_other(s, idx, out, err));
    out->pts_ns = ees__frame_time_at_fps(idx, s->options.raw_fps);
    out->truth = ees__image_truth(&im->list, idx);
    return 0;
}

const struct ees__source_kind ees__source_images = {
    .name = "images",
    .state_bytes = sizeof(struct images),
    .item_bytes = sizeof(struct ees__frame_buf),
    .fini_item = ees__frame_buf_fini,
    .match = match,
    .open = open_images,
    .next = next_image,
    .close = close_images,
};
