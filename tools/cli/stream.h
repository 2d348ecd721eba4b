/* SPDX-License-Identifier: MIT */
/* Inputs through an engine: one reader thread pushes source after source, the calling thread pulls the answers.
 *
 *      stream_init, stream_catch_signals -> (open model and engine) -> stream_run -> stream_fini
 *
 *  Several streams may follow each other in one process, not at once: signals belong to the process. */
#ifndef EES_CLI_STREAM_H
#define EES_CLI_STREAM_H

#include <pthread.h>
#include <stdbool.h>

#include "eestream/eestream.h"
#include "tools/cli/progress.h"

struct stream_input {
    char *uri;
    const char *name;   /* shown in results instead of the uri; NULL: the uri */
    ees_source *source; /* opened by the reader, closed by the puller once its last answer was handed out */
};

struct stream {
    struct stream_input *inputs;
    size_t n_inputs;
    ees_source_options source_options;
    uint64_t limit; /* 0: none */
    bool verbose;
    ees_engine *engine;

    int stop_fd;          /* eventfd, readable once stopping: ends whatever a source waits for, its opening too */
    pthread_mutex_t lock; /* guards the next three */
    bool stopping, interrupted;
    int64_t n_expected; /* frames in total, -1 unknown */

    size_t n_closed; /* puller's: inputs before this one are closed */
    /* the reader's, valid after stream_run() */
    uint64_t n_pushed;
    int source_failure; /* first EES_E* of a source, 0: none; already printed */

    bool catches_signals;
    pthread_t signal_thread;
};

/* @param uris  list files are expanded in place. The strings are copied.
 * @return 0; EES_ESOURCE list unreadable; EES_EINVAL stdin is a terminal or named twice; EES_ENOMEM */
int stream_init(struct stream *s, char *const *uris, size_t n_uris, const ees_source_options *options, ees_error *err);

/* From here SIGINT and SIGTERM stop the source, one that is still being opened too, and drain; the second one leaves at
 * once with 130. Call before any thread is started: they must inherit the blocked signals. */
int stream_catch_signals(struct stream *s, ees_error *err);

/* Open the first input now, so that a missing file is told before a model is loaded. Its failure ends the run only
 * when there is no other input, and a stop is no failure: stream_run() then finds nothing to do.
 * @return 0, or the source's error when it is the only one */
int stream_open_first(struct stream *s, ees_error *err);

typedef int (*stream_result_fn)(void *opaque, const ees_result *result, ees_error *err);

/* Push everything, call on_result for each answer in order. When on_result fails the source is stopped, on_result gets
 * the answers still in flight, and its first error is returned. Errors of sources are printed as they happen and kept
 * in s->source_failure.
 * @param progress  may be NULL */
int stream_run(struct stream *s, ees_engine *engine, struct progress *progress, unsigned n_exits,
               stream_result_fn on_result, void *opaque, ees_error *err);

bool stream_was_interrupted(struct stream *s);

/* Also after a failed stream_init(), and on a stream that is zeroed but for a stop_fd of -1. */
void stream_fini(struct stream *s);

#endif
