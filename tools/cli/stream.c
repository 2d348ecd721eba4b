/* SPDX-License-Identifier: MIT */
/* Threads: the caller pulls; one reader opens sources and pushes; one waits for signals. A source is opened by the
 * reader and closed by the puller, because answers point into it (source name, true class) until they are released. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tools/cli/fail.h"
#include "tools/cli/stream.h"

/* ---- Inputs -------------------------------------------------------------------------------------------- */

static int add_input(struct stream *s, const char *uri, ees_error *err) {
    struct stream_input *bigger = realloc(s->inputs, (s->n_inputs + 1) * sizeof *bigger);
    char *copy = strdup(uri);
    if (bigger)
        s->inputs = bigger;
    if (!bigger || !copy) {
        free(copy);
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for %zu inputs", s->n_inputs + 1);
    }
    s->inputs[s->n_inputs++] = (struct stream_input){.uri = copy};
    return 0;
}

static int add_list(struct stream *s, const char *path, ees_error *err) {
    char **uris;
    size_t n;
    CLI_TRY(ees_source_read_list(path, &uris, &n, err));
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = add_input(s, uris[i], err);
    free(uris);
    return rc;
}

static int check_stdin(const struct stream *s, ees_error *err) {
    unsigned n = 0;
    for (size_t i = 0; i < s->n_inputs; i++)
        n += strcmp(s->inputs[i].uri, "-") == 0;
    if (n > 1)
        return CLI_FAIL(err, EES_EINVAL, "stdin (-) is given %u times: it can be read once", n);
    if (n == 1 && isatty(STDIN_FILENO)) {
        CLI_FAIL(err, EES_EINVAL, "stdin (-) is a terminal, frames are expected there");
        return cli_hint(err, "pipe them in: ffmpeg -i video.mp4 -f mjpeg - | eestream run -");
    }
    return 0;
}

int stream_init(struct stream *s, char *const *uris, size_t n_uris, const ees_source_options *options, ees_error *err) {
    *s = (struct stream){.source_options = *options, .n_expected = -1};
    pthread_mutex_init(&s->lock, NULL);
    s->source_options.stop_fd = s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->stop_fd < 0)
        return CLI_FAIL_OS(err, EES_EINTERNAL, errno, "cannot make an eventfd");
    for (size_t i = 0; i < n_uris; i++)
        CLI_TRY((ees_source_is_list(uris[i]) ? add_list : add_input)(s, uris[i], err));
    return check_stdin(s, err);
}

/* ---- Stopping ------------------------------------------------------------------------------------------ */

static void stop(struct stream *s, bool interrupted) {
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    s->interrupted |= interrupted;
    pthread_mutex_unlock(&s->lock);
    eventfd_write(s->stop_fd, 1); /* fails only where it is readable already, after 2^64 - 2 stops */
}

static bool is_stopping(struct stream *s) {
    pthread_mutex_lock(&s->lock);
    bool stopping = s->stopping;
    pthread_mutex_unlock(&s->lock);
    return stopping;
}

bool stream_was_interrupted(struct stream *s) {
    pthread_mutex_lock(&s->lock);
    bool interrupted = s->interrupted;
    pthread_mutex_unlock(&s->lock);
    return interrupted;
}

static void stop_signals(sigset_t *set) {
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
}

/* Ends by cancellation in stream_fini(): sigwait() is the only place where it can be. */
static void *wait_for_signals(void *opaque) {
    struct stream *s = opaque;
    sigset_t set;
    stop_signals(&set);
    int number, state;
    sigwait(&set, &number);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    if (isatty(STDERR_FILENO))
        console_write("eestream: stopping, frames in flight are finished (again to leave at once)\n");
    stop(s, true);
    pthread_setcancelstate(state, NULL);
    sigwait(&set, &number);
    _exit(EXIT_INTERRUPTED);
}

int stream_catch_signals(struct stream *s, ees_error *err) {
    sigset_t set;
    stop_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    int rc = pthread_create(&s->signal_thread, NULL, wait_for_signals, s);
    if (rc)
        return CLI_FAIL_OS(err, EES_ENOMEM, rc, "cannot start a thread");
    s->catches_signals = true;
    return 0;
}

/* ---- Reader -------------------------------------------------------------------------------------------- */

/* Only the last input can tell the total: those after it are not open yet. */
static void expect_frames(struct stream *s, const struct stream_input *input) {
    const ees_source_info *info = ees_source_get_info(input->source);
    bool last = input == &s->inputs[s->n_inputs - 1];
    int64_t n = last && info->n_frames >= 0 ? (int64_t)s->n_pushed + info->n_frames : -1;
    if (s->limit && n > (int64_t)s->limit)
        n = (int64_t)s->limit;
    pthread_mutex_lock(&s->lock);
    s->n_expected = n;
    pthread_mutex_unlock(&s->lock);
}

static int open_input(struct stream *s, struct stream_input *input, ees_error *err) {
    if (input->source) /* by stream_open_first() */
        return 0;
    return ees_source_open(input->uri, &s->source_options, &input->source, err);
}

/* @return EES_EOF at the end of the source or of --limit; EES_ECANCELED; or a failure */
static int push_frames(struct stream *s, struct stream_input *input, ees_error *err) {
    for (;;) {
        if (s->limit && s->n_pushed >= s->limit)
            return EES_ECANCELED;
        ees_frame frame;
        int rc = ees_source_next(input->source, &frame, err);
        if (rc < 0)
            return rc;
        frame.source_idx = (uint32_t)(input - s->inputs);
        if (input->name)
            frame.source = input->name;
        rc = ees_engine_push(s->engine, &frame, -1, err);
        if (rc < 0) {
            frame.release(frame.opaque);
            return rc;
        }
        s->n_pushed++;
    }
}

static int read_input(struct stream *s, struct stream_input *input, ees_error *err) {
    CLI_TRY(open_input(s, input, err));
    uint64_t before = s->n_pushed;
    expect_frames(s, input);
    int rc = push_frames(s, input, err);
    if (rc == EES_EOF && s->n_pushed == before)
        return CLI_FAIL(err, EES_ESOURCE, "%s: holds no frame", input->uri);
    return rc == EES_EOF ? 0 : rc;
}

static void *read_inputs(void *opaque) {
    struct stream *s = opaque;
    for (size_t i = 0; i < s->n_inputs && !is_stopping(s); i++) {
        ees_error err = {0};
        int rc = read_input(s, &s->inputs[i], &err);
        if (rc == EES_ECANCELED)
            break;
        if (rc == 0)
            continue;
        print_error(&err, s->verbose);
        if (!s->source_failure)
            s->source_failure = rc == EES_EUNSUPPORTED ? EES_ESOURCE : rc;
    }
    ees_engine_finish(s->engine);
    return NULL;
}

int stream_open_first(struct stream *s, ees_error *err) {
    int rc = open_input(s, &s->inputs[0], err);
    if (rc == EES_ECANCELED)
        return 0;
    if (rc == EES_EUNSUPPORTED)
        err->code = rc = EES_ESOURCE;
    if (rc < 0 && s->n_inputs > 1) { /* the reader meets it again and goes on to the next */
        *err = (ees_error){0};
        return 0;
    }
    return rc;
}

/* ---- Puller -------------------------------------------------------------------------------------------- */

/* Answers come in push order: when one of input k is here, all before k are released. */
static void close_inputs_before(struct stream *s, size_t k) {
    for (; s->n_closed < k; s->n_closed++) {
        ees_source_close(s->inputs[s->n_closed].source);
        s->inputs[s->n_closed].source = NULL;
    }
}

static int pull_all(struct stream *s, struct progress *progress, unsigned n_exits, stream_result_fn on_result,
                    void *opaque, ees_error *err) {
    bool watched = progress && progress_wanted(progress);
    int failure = 0;
    for (;;) {
        ees_result result;
        int rc = ees_engine_pull(s->engine, &result, watched ? 50000 : -1, err);
        if (rc == EES_EOF)
            return failure;
        if (rc < 0 && rc != EES_EAGAIN)
            return rc;
        if (rc == 0) {
            close_inputs_before(s, result.source_idx);
            rc = on_result(opaque, &result, err);
            if (rc < 0 && !failure) {
                failure = rc;
                stop(s, false);
            }
            ees_engine_release(s->engine, &result);
        }
        if (watched) {
            pthread_mutex_lock(&s->lock);
            int64_t n_expected = s->n_expected;
            pthread_mutex_unlock(&s->lock);
            progress_tick(progress, s->engine, n_exits, n_expected);
        }
    }
}

int stream_run(struct stream *s, ees_engine *engine, struct progress *progress, unsigned n_exits,
               stream_result_fn on_result, void *opaque, ees_error *err) {
    s->engine = engine;
    pthread_t reader;
    int rc = pthread_create(&reader, NULL, read_inputs, s);
    if (rc)
        return CLI_FAIL_OS(err, EES_ENOMEM, rc, "cannot start a thread");
    rc = pull_all(s, progress, n_exits, on_result, opaque, err);
    if (rc < 0) { /* also when the engine itself failed: nothing may keep the reader waiting */
        stop(s, false);
        ees_engine_finish(engine);
    }
    pthread_join(reader, NULL);
    return rc;
}

void stream_fini(struct stream *s) {
    if (s->catches_signals) {
        pthread_cancel(s->signal_thread);
        pthread_join(s->signal_thread, NULL);
    }
    close_inputs_before(s, s->n_inputs);
    for (size_t i = 0; i < s->n_inputs; i++)
        free(s->inputs[i].uri);
    free(s->inputs);
    if (s->stop_fd >= 0)
        close(s->stop_fd);
    pthread_mutex_destroy(&s->lock);
}
