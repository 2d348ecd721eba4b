/* SPDX-License-Identifier: MIT */
/* Reader threads: open a source, push its frames, go on to the next. Frames of a live input wait here until they are
 * due. */
#define _GNU_SOURCE
#include <poll.h>
#include <stdlib.h>

#include "tools/cli/clock.h"
#include "tools/cli/fail.h"
#include "tools/cli/stream.h"

/* One thread and the inputs it reads. */
struct reader {
    struct stream *s;
    size_t first, end;
    pthread_t thread;
};

/* ---- Pace ---------------------------------------------------------------------------------------------- */

struct pace {
    uint64_t start_ns; /* when the first frame went in; 0: none did */
    int64_t first_pts_ns;
    double frame_ns; /* for frames without a time stamp */
};

static struct pace pace_of(const struct stream *s, const struct stream_input *input) {
    const ees_source_info *info = ees_source_get_info(input->source);
    return (struct pace){.frame_ns = 1e9 / (info->fps > 0 ? info->fps : s->source_options.raw_fps)};
}

/* Wait until a frame is due: its time stamp is counted from the first frame's. Time stamps that go back are due at
 * once.
 * @return false: stopped meanwhile */
static bool wait_until_due(const struct stream *s, struct pace *p, const ees_frame *frame) {
    int64_t pts_ns = frame->pts_ns >= 0 ? frame->pts_ns : (int64_t)((double)frame->frame_idx * p->frame_ns);
    if (p->start_ns == 0) {
        p->start_ns = now_ns();
        p->first_pts_ns = pts_ns;
    }
    uint64_t after_ns = pts_ns > p->first_pts_ns ? (uint64_t)(pts_ns - p->first_pts_ns) : 0;
    for (;;) {
        uint64_t waited_ns = now_ns() - p->start_ns;
        if (waited_ns >= after_ns)
            return true;
        uint64_t rest_ns = after_ns - waited_ns;
        struct timespec rest = {.tv_sec = (time_t)(rest_ns / 1000000000u), .tv_nsec = (long)(rest_ns % 1000000000u)};
        if (ppoll(&(struct pollfd){.fd = s->stop_fd, .events = POLLIN}, 1, &rest, NULL) > 0)
            return false;
    }
}

/* ---- Frames -------------------------------------------------------------------------------------------- */

/* One of the frames that --limit allows. The last one stops the other readers, which may wait for frames of theirs. */
static bool claim_frame(struct stream *s) {
    if (s->limit == 0)
        return true;
    uint64_t n = atomic_fetch_add_explicit(&s->n_claimed, 1, memory_order_relaxed) + 1; /* relaxed: a count */
    if (n >= s->limit)
        stream_stop(s, false);
    return n <= s->limit;
}

static uint64_t hash_plane(const ees_frame *frame, unsigned plane, size_t row_bytes, size_t n_rows, uint64_t hash) {
    const char *row = frame->data[plane];
    for (size_t y = 0; row && y < n_rows; y++, row += frame->stride[plane])
        hash = ees_hash64(row, row_bytes, hash);
    return hash;
}

/* As the source gave it: the compressed bytes, or the pixels without what pads their rows. */
static uint64_t hash_frame(const ees_frame *frame, uint64_t hash) {
    size_t w = frame->width_px, h = frame->height_px;
    size_t cw = (w + (1u << frame->chroma_shift_x) - 1) >> frame->chroma_shift_x;
    size_t ch = (h + (1u << frame->chroma_shift_y) - 1) >> frame->chroma_shift_y;
    if (frame->error)
        return hash;
    if (frame->kind == EES_FRAME_JPEG)
        return ees_hash64(frame->data[0], frame->bytes, hash);
    if (frame->kind == EES_FRAME_RGB24)
        return hash_plane(frame, 0, 3 * w, h, hash);
    hash = hash_plane(frame, 0, w, h, hash);
    return hash_plane(frame, 2, cw, ch, hash_plane(frame, 1, cw, ch, hash));
}

static int push_frame(struct stream *s, struct stream_input *input, ees_frame *frame, ees_error *err) {
    frame->source_idx = (uint32_t)(input - s->inputs);
    frame->stream = input->stream;
    frame->source = input->name ? input->name : input->uri;
    input->pinned |= frame->truth != NULL;
    if (s->hashes)
        s->data_hash = hash_frame(frame, s->data_hash);
    CLI_TRY(ees_engine_push(s->engine, frame, -1, err));
    input->n_pushed++;
    return 0;
}

/* @return EES_EOF at the end of the source; EES_ECANCELED stopped, also by --limit; or a failure */
static int push_frames(struct stream *s, struct stream_input *input, ees_error *err) {
    struct pace pace = pace_of(s, input);
    while (!stream_is_stopping(s)) {
        ees_frame frame;
        CLI_TRY(ees_source_next(input->source, &frame, err));
        bool wanted = (!input->live || wait_until_due(s, &pace, &frame)) && claim_frame(s);
        int rc = wanted ? push_frame(s, input, &frame, err) : EES_ECANCELED;
        if (rc < 0) {
            frame.release(frame.opaque);
            return rc;
        }
    }
    return EES_ECANCELED;
}

/* ---- Inputs -------------------------------------------------------------------------------------------- */

static int read_input(struct stream *s, struct stream_input *input, ees_error *err) {
    CLI_TRY(stream_open_input(s, input, err));
    stream_expect(s, input, ees_source_get_info(input->source)->n_frames);
    int rc = push_frames(s, input, err);
    input->complete = rc == EES_EOF;
    if (rc == EES_EOF && input->n_pushed == 0)
        return CLI_FAIL(err, EES_ESOURCE, "%s: holds no frame", input->uri);
    return rc == EES_EOF ? 0 : rc;
}

static void report_failure(struct stream *s, int code, const ees_error *err) {
    print_error(err, s->verbose);
    pthread_mutex_lock(&s->lock);
    if (!s->source_failure)
        s->source_failure = code == EES_EUNSUPPORTED ? EES_ESOURCE : code;
    pthread_mutex_unlock(&s->lock);
}

static void *read_inputs(void *opaque) {
    const struct reader *r = opaque;
    struct stream *s = r->s;
    for (size_t i = r->first; i < r->end && !stream_is_stopping(s); i++) {
        ees_error err = {0};
        int rc = read_input(s, &s->inputs[i], &err);
        stream_input_read(s, &s->inputs[i]);
        if (rc == EES_ECANCELED || rc == EES_ESTALLED) /* of a stall pull tells */
            break;
        if (rc < 0)
            report_failure(s, rc, &err);
    }
    if (s->concurrent)
        ees_stream_finish(s->engine, s->inputs[r->first].stream);
    /* relaxed: only the last one acts on it, and what the others pushed the engine orders by itself */
    if (atomic_fetch_sub_explicit(&s->n_reading, 1, memory_order_relaxed) == 1)
        ees_engine_finish(s->engine);
    return NULL;
}

/* ---- Threads ------------------------------------------------------------------------------------------- */

int readers_start(struct stream *s, ees_error *err) {
    size_t n = s->concurrent ? s->n_inputs : 1;
    s->readers = calloc(n, sizeof *s->readers);
    if (!s->readers)
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for %zu readers", n);
    atomic_store_explicit(&s->n_reading, n, memory_order_relaxed); /* relaxed: the threads are started after it */
    for (; s->n_readers < n; s->n_readers++) {
        struct reader *r = &s->readers[s->n_readers];
        *r = (struct reader){.s = s, .first = s->n_readers, .end = s->concurrent ? s->n_readers + 1 : s->n_inputs};
        int rc = pthread_create(&r->thread, NULL, read_inputs, r);
        if (rc)
            return CLI_FAIL_OS(err, EES_ENOMEM, rc, "cannot start a thread");
    }
    return 0;
}

void readers_join(struct stream *s) {
    for (size_t i = 0; i < s->n_readers; i++)
        pthread_join(s->readers[i].thread, NULL);
    s->n_readers = 0;
    free(s->readers);
    s->readers = NULL;
}
