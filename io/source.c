/* SPDX-License-Identifier: MIT */
/* Opens a source by its name and its first bytes, and hands out frames in order. What is common to all kinds lives
 * here: choosing the kind, numbering, stopping, and staying ended once ended. One thread at a time, but for
 * ees_source_stop() and the release of frames. */
#define _GNU_SOURCE
#include "io/source.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fail.h"
#include "common/mem.h"

#define EXPECTED "expected MJPEG in AVI, JPEG, MJPEG, Y4M, a folder of images, or a video that libav reads"

void ees_source_options_default(ees_source_options *options) {
    *options = (ees_source_options){
        .io = EES_IO_AUTO,
        .raw_fps = 30,
        .max_frame_bytes = (size_t)64 << 20,
        .readahead = 4,
        .stop_fd = -1,
    };
}

static int check_options(const ees_source_options *options, ees_error *err) {
    if (options->io != EES_IO_AUTO && options->io != EES_IO_URING && options->io != EES_IO_PREAD)
        return EES_FAIL(err, EES_EINVAL, "io backend %d is not one of auto, io_uring, pread", (int)options->io);
    if (!(options->raw_fps > 0) || isinf(options->raw_fps))
        return EES_FAIL(err, EES_EINVAL, "raw_fps is %g, must be above 0", options->raw_fps);
    if (options->max_frame_bytes == 0)
        return EES_FAIL(err, EES_EINVAL, "max_frame_bytes is 0");
    if (options->readahead == 0)
        return EES_FAIL(err, EES_EINVAL, "readahead is 0, must be at least 1");
    if (options->stop_fd >= 0 && fcntl(options->stop_fd, F_GETFD) < 0)
        return EES_FAIL(err, EES_EINVAL, "stop_fd is %d, which is no open descriptor", options->stop_fd);
    return 0;
}

/* ---- choosing ---- */

static bool is_glob(const char *uri) { return strpbrk(uri, "*?[") != NULL; }

static bool is_url(const char *uri) {
    const char *colon = strstr(uri, "://");
    return colon && colon > uri && strcspn(uri, "/") > (size_t)(colon - uri);
}

/* The name is not that of an existing file. */
static int refuse_missing(const char *uri, int os_errno, ees_error *err) {
    if (is_url(uri)) {
        EES_FAIL(err, EES_EUNSUPPORTED, "%s: network sources are not read", uri);
        ees__hint(err, "pipe it in: ffmpeg -i URL -c:v mjpeg -f mjpeg - | ... -");
        return EES_EUNSUPPORTED;
    }
    EES_FAIL_OS(err, EES_ESOURCE, os_errno, "%s: cannot open", uri);
    if (os_errno == ENOENT)
        ees__hint(err, "check the path; a pattern needs quotes, '-' is stdin");
    return EES_ESOURCE;
}

/* Find out what the name stands for; *fd is -1 for what is not one file. */
static int locate(ees_source *s, int *fd, ees_error *err) {
    struct stat st;
    *fd = -1;
    if (strncmp(s->name, "synthetic:", 10) == 0) {
        s->place = EES__PLACE_MADE_UP;
        return 0;
    }
    if (strcmp(s->name, "-") == 0) {
        *fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    } else if (stat(s->name, &st) == 0 && S_ISDIR(st.st_mode)) {
        s->place = EES__PLACE_FOLDER;
        return 0;
    } else {
        *fd = open(s->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO waits for its writer in poll(), not here */
        if (*fd < 0 && errno == ENOENT && is_glob(s->name)) {
            s->place = EES__PLACE_GLOB;
            return 0;
        }
    }
    if (*fd < 0)
        return refuse_missing(s->name, errno, err);
    return 0;
}

static int open_reader(ees_source *s, int fd, struct ees__probe *probe, ees_error *err) {
    EES_TRY(ees__reader_open(fd, s->name, s->options.io, s->options.readahead, &s->stop, &s->reader, err));
    s->place = ees__reader_can_seek(s->reader) ? EES__PLACE_FILE : EES__PLACE_STREAM;
    s->info.backend = ees__reader_backend(s->reader);
    EES_TRY(ees__reader_head(s->reader, EES__PROBE_BYTES, &probe->head, &probe->n_head, err));
    if (probe->n_head > 0)
        return 0;
    return EES_FAIL(err, EES_ESOURCE, "%s: holds no bytes, " EXPECTED, s->name);
}

static const struct ees__source_kind *choose(const struct ees__probe *probe) {
    const struct ees__source_kind *best = NULL;
    enum ees__match best_match = EES__MATCH_NONE;
    for (const struct ees__source_kind *const *kind = ees__source_list; *kind; kind++) {
        enum ees__match match = (*kind)->match(probe);
        if (match > best_match) {
            best = *kind;
            best_match = match;
        }
    }
    return best;
}

/* ---- opening ---- */

static void end_kind(ees_source *s) {
    if (s->kind && s->kind->close)
        s->kind->close(s);
    s->kind = NULL;
    ees__pool_close(s->pool);
    ees__free(s->state);
    s->pool = NULL;
    s->state = NULL;
}

int ees__source_begin(ees_source *s, const struct ees__source_kind *kind, ees_error *err) {
    end_kind(s);
    s->state = ees__calloc_aligned(1, kind->state_bytes);
    s->pool = ees__pool_open(kind->item_bytes, kind->fini_item);
    if (!s->state || !s->pool)
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory", s->name);
    s->kind = kind;
    s->info.kind = kind->name;
    return kind->open(s, err);
}

static int begin_elsewhere(ees_source *s, uint64_t begin, ees_error *err) {
    if (!ees__reader_can_seek(s->reader)) {
        EES_FAIL(err, EES_EUNSUPPORTED, "%s: its codec is read from files only, not from a pipe", s->name);
        ees__hint(err, "pipe MJPEG or Y4M instead");
        return EES_EUNSUPPORTED;
    }
    ees__reader_seek(s->reader, begin);
    return ees__source_begin(s, &ees__source_libav, err);
}

static int open_located(ees_source *s, ees_error *err) {
    struct ees__probe probe = {.uri = s->name, .raw = s->options.raw};
    int fd;
    if (ees__stop_wanted(&s->stop))
        return EES_ECANCELED;
    EES_TRY(locate(s, &fd, err));
    if (fd >= 0)
        EES_TRY(open_reader(s, fd, &probe, err));
    probe.place = s->place;
    uint64_t begin = s->reader ? ees__reader_position(s->reader) : 0;
    const struct ees__source_kind *kind = choose(&probe);
    if (!kind)
        return EES_FAIL(err, EES_ESOURCE, "%s: not a video, " EXPECTED, s->name);
    int rc = ees__source_begin(s, kind, err);
    return rc == EES__OPEN_ELSEWHERE ? begin_elsewhere(s, begin, err) : rc;
}

static int alloc_source(const char *uri, const ees_source_options *options, ees_source **out, ees_error *err) {
    ees_source *s = ees__calloc_aligned(1, sizeof *s);
    if (!s)
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory", uri);
    *out = s;
    s->options = *options;
    s->stop.fd = -1;
    s->name = strdup(uri);
    if (!s->name)
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory", uri);
    s->info = (ees_source_info){.name = s->name, .n_frames = -1};
    if (ees__stop_init(&s->stop, options->stop_fd) < 0)
        return EES_FAIL_OS(err, EES_ESOURCE, errno, "%s: cannot make an eventfd", uri);
    return 0;
}

int ees_source_open(const char *uri, const ees_source_options *options, ees_source **out, ees_error *err) {
    ees_source *s = NULL;
    ees_source_options defaults;
    ees_source_options_default(&defaults);
    if (!options)
        options = &defaults;
    EES_TRY(check_options(options, err));
    int rc = alloc_source(uri, options, &s, err);
    if (rc == 0) {
        rc = open_located(s, err);
        s->options.raw = NULL; /* the caller's string was needed for opening only */
    }
    if (rc < 0)
        ees_source_close(s);
    else
        *out = s;
    return rc;
}

const ees_source_info *ees_source_get_info(const ees_source *source) { return &source->info; }

/* ---- running ---- */

/* The stream is over: every later call says so again. */
static int end_stream(ees_source *s, int code, ees_error *err) {
    s->end = code;
    if (err && !err->code && s->end_error.code)
        *err = s->end_error;
    return code;
}

int ees_source_next(ees_source *s, ees_frame *out, ees_error *err) {
    if (ees__stop_wanted(&s->stop))
        return EES_ECANCELED;
    if (s->end)
        return end_stream(s, s->end, err);
    ees_frame frame = {.pts_ns = -1};
    int rc = s->kind->next(s, &frame, &s->end_error);
    if (rc == EES_ECANCELED)
        return rc;
    if (rc < 0)
        return end_stream(s, rc, err);
    frame.frame_idx = s->n_frames++;
    frame.source = s->name;
    *out = frame;
    return 0;
}

void ees_source_stop(ees_source *source) { ees__stop_request(&source->stop); }

void ees_source_close(ees_source *source) {
    if (!source)
        return;
    end_kind(source);
    ees__reader_close(source->reader);
    ees__stop_fini(&source->stop);
    free(source->name);
    ees__free(source);
}
