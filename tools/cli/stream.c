/* SPDX-License-Identifier: MIT */
/* Threads: the caller pulls; readers (reader.c) open sources and push; one waits for signals. A source may outlive its
 * reader's interest: answers point into it (true class) until they are released. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tools/cli/fail.h"
#include "tools/cli/progress.h"
#include "tools/cli/stream.h"

/* ---- Inputs -------------------------------------------------------------------------------------------- */

/* Take "live:" away from the front. */
static bool take_live(const char **uri) {
    static const char mark[] = "live:";
    bool live = strncmp(*uri, mark, sizeof mark - 1) == 0;
    *uri += live ? sizeof mark - 1 : 0;
    return live;
}

static int add_input(struct stream *s, const char *uri, bool live, ees_error *err) {
    struct stream_input *bigger = realloc(s->inputs, (s->n_inputs + 1) * sizeof *bigger);
    char *copy = strdup(uri);
    if (bigger)
        s->inputs = bigger;
    if (!bigger || !copy) {
        free(copy);
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for %zu inputs", s->n_inputs + 1);
    }
    s->inputs[s->n_inputs++] = (struct stream_input){.uri = copy, .live = live, .weight = 1, .n_expected = -1};
    s->n_unknown++;
    return 0;
}

static int add_list(struct stream *s, const char *path, bool live, ees_error *err) {
    char **uris;
    size_t n;
    CLI_TRY(ees_source_read_list(path, &uris, &n, err));
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = add_input(s, uris[i], live, err);
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
    *s = (struct stream){.source_options = *options};
    ees_stream_options_default(&s->file_rule);
    ees_stream_options_default(&s->live_rule);
    pthread_mutex_init(&s->lock, NULL);
    s->source_options.stop_fd = s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->stop_fd < 0)
        return CLI_FAIL_OS(err, EES_EINTERNAL, errno, "cannot make an eventfd");
    for (size_t i = 0; i < n_uris; i++) {
        const char *uri = uris[i];
        bool live = take_live(&uri);
        CLI_TRY((ees_source_is_list(uri) ? add_list : add_input)(s, uri, live, err));
    }
    return check_stdin(s, err);
}

/* ---- Stopping ------------------------------------------------------------------------------------------ */

void stream_stop(struct stream *s, bool interrupted) {
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    s->interrupted |= interrupted;
    pthread_mutex_unlock(&s->lock);
    eventfd_write(s->stop_fd, 1); /* fails only where it is readable already, after 2^64 - 2 stops */
}

bool stream_is_stopping(struct stream *s) {
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
    sigaddset(set, SIGUSR1);
}

/* The next signal that asks to stop. */
static void wait_for_stop(struct stream *s, const sigset_t *set) {
    int number;
    while (sigwait(set, &number) == 0 && number == SIGUSR1)
        atomic_store_explicit(&s->report_wanted, true, memory_order_relaxed); /* relaxed: a request, no data */
}

/* Ends by cancellation in stream_fini(): sigwait() is the only place where it can be. */
static void *wait_for_signals(void *opaque) {
    struct stream *s = opaque;
    sigset_t set;
    stop_signals(&set);
    int state;
    wait_for_stop(s, &set);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    if (isatty(STDERR_FILENO))
        console_write("eestream: stopping, frames in flight are finished (again to leave at once)\n");
    stream_stop(s, true);
    pthread_setcancelstate(state, NULL);
    wait_for_stop(s, &set);
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

/* ---- Life of an input ---------------------------------------------------------------------------------- */

int stream_open_input(struct stream *s, struct stream_input *input, ees_error *err) {
    if (input->source) /* by stream_open_first() */
        return 0;
    return ees_source_open(input->uri, &s->source_options, &input->source, err);
}

int stream_open_first(struct stream *s, ees_error *err) {
    int rc = stream_open_input(s, &s->inputs[0], err);
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

void stream_expect(struct stream *s, struct stream_input *input, int64_t n_frames) {
    pthread_mutex_lock(&s->lock);
    s->n_unknown -= input->n_expected < 0;
    s->n_expected -= input->n_expected < 0 ? 0 : input->n_expected;
    input->n_expected = n_frames;
    s->n_unknown += n_frames < 0;
    s->n_expected += n_frames < 0 ? 0 : n_frames;
    pthread_mutex_unlock(&s->lock);
}

int64_t stream_expected(struct stream *s) {
    pthread_mutex_lock(&s->lock);
    int64_t n = s->n_unknown ? -1 : s->n_expected;
    pthread_mutex_unlock(&s->lock);
    return s->limit && n > (int64_t)s->limit ? (int64_t)s->limit : n;
}

/* Under the lock. @return the source, to be closed by the caller without it; NULL: not yet */
static ees_source *take_finished(struct stream_input *input) {
    bool finished = input->read && (!input->pinned || input->n_released == input->n_pushed);
    ees_source *source = finished ? input->source : NULL;
    if (source)
        input->source = NULL;
    return source;
}

void stream_input_read(struct stream *s, struct stream_input *input) {
    stream_expect(s, input, (int64_t)input->n_pushed);
    pthread_mutex_lock(&s->lock);
    input->read = true;
    ees_source *finished = take_finished(input);
    pthread_mutex_unlock(&s->lock);
    ees_source_close(finished);
}

/* An answer was released. */
static void count_released(struct stream *s, struct stream_input *input) {
    pthread_mutex_lock(&s->lock);
    input->n_released++;
    ees_source *finished = take_finished(input);
    pthread_mutex_unlock(&s->lock);
    ees_source_close(finished);
}

ees_stream_options stream_rule(const struct stream *s, size_t input) {
    ees_stream_options rule = s->inputs[input].live ? s->live_rule : s->file_rule;
    rule.weight = s->inputs[input].weight;
    return rule;
}

/* ---- Puller -------------------------------------------------------------------------------------------- */

#define TICK_US 50000

static int take_result(struct stream *s, const struct stream_events *events, ees_result *result, ees_error *err) {
    struct stream_input *input = &s->inputs[result->source_idx];
    int rc = events->result(events->opaque, result, err);
    ees_engine_release(s->engine, result);
    count_released(s, input);
    return rc;
}

static int pull_all(struct stream *s, const struct stream_events *events, ees_error *err) {
    int failure = 0;
    for (;;) {
        ees_result result;
        int rc = ees_engine_pull(s->engine, &result, TICK_US, err);
        if (rc == EES_EOF)
            return failure;
        if (rc < 0 && rc != EES_EAGAIN)
            return rc;
        rc = rc == 0 ? take_result(s, events, &result, err) : 0;
        if (rc == 0 && events->tick)
            rc = events->tick(events->opaque, err);
        if (rc < 0 && !failure) {
            failure = rc;
            stream_stop(s, false);
        }
    }
}

/* Stream 0 is open with the engine. */
static int open_streams(struct stream *s, ees_error *err) {
    for (size_t i = 1; s->concurrent && i < s->n_inputs; i++) {
        ees_stream_options rule = stream_rule(s, i);
        CLI_TRY(ees_stream_open(s->engine, &rule, &s->inputs[i].stream, err));
    }
    return 0;
}

int stream_run(struct stream *s, ees_engine *engine, const struct stream_events *events, ees_error *err) {
    s->engine = engine;
    int rc = open_streams(s, err);
    if (rc == 0)
        rc = readers_start(s, err);
    if (rc == 0)
        rc = pull_all(s, events, err);
    if (rc < 0) { /* also when the engine itself failed: nothing may keep the readers waiting */
        stream_stop(s, false);
        ees_engine_finish(engine);
    }
    if (rc == EES_ESTALLED)
        return rc;
    readers_join(s);
    for (size_t i = 0; i < s->n_inputs; i++)
        s->n_pushed += s->inputs[i].n_pushed;
    return rc;
}

void stream_fini(struct stream *s) {
    if (s->catches_signals) {
        pthread_cancel(s->signal_thread);
        pthread_join(s->signal_thread, NULL);
    }
    for (size_t i = 0; i < s->n_inputs; i++) {
        ees_source_close(s->inputs[i].source);
        free(s->inputs[i].uri);
    }
    free(s->inputs);
    if (s->stop_fd >= 0)
        close(s->stop_fd);
    pthread_mutex_destroy(&s->lock);
}
