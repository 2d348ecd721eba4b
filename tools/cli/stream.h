/* SPDX-License-Identifier: MIT */
/* Inputs through an engine: reader threads push frames, the calling thread pulls the answers.
 *
 *      stream_init, stream_catch_signals -> (open model and engine) -> stream_run -> stream_fini
 *
 *  One reader takes the inputs one after the other; with `concurrent` each input has a reader and a stream of the
 * engine of its own. Several of these may follow each other in one process, not at once: signals belong to the process.
 */
#ifndef EES_CLI_STREAM_H
#define EES_CLI_STREAM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "eestream/eestream.h"

struct stream_input {
    char *uri;
    const char *name; /* shown in results instead of the uri; NULL: the uri */
    bool live;        /* its frames come by their time stamps, and may be dropped */
    double weight;
    unsigned stream; /* of the engine */
    ees_source
        *source;       /* opened by its reader, closed when that is done; `pinned`: once its last answer was released */
    uint64_t n_pushed; /* its reader's, valid once `read` is seen */
    bool complete;     /* its reader's: read to the end */
    bool pinned;       /* its reader's: answers point into the source (true classes) */

    /* guarded by the stream's lock */
    bool read; /* its reader is done with it */
    uint64_t n_released;
    int64_t n_expected; /* frames in total, -1 unknown */
};

struct stream {
    struct stream_input *inputs;
    size_t n_inputs;
    ees_source_options source_options;
    ees_stream_options file_rule, live_rule; /* weights are the inputs' */
    uint64_t limit;                          /* of frames, all inputs together; 0: none */
    bool concurrent, verbose;
    bool hashes;        /* wanted: data_hash, of inputs that are read in turn */
    uint64_t data_hash; /* the reader's: of the frames' bytes so far, valid after stream_run() */
    ees_engine *engine;

    int stop_fd; /* eventfd, readable once stopping: ends whatever a reader waits for, a source's opening too */
    pthread_mutex_t lock; /* guards the next five */
    bool stopping, interrupted;
    int source_failure; /* first EES_E* of a source, 0: none; already printed */
    size_t n_unknown;   /* inputs whose number of frames is not known (yet) */
    int64_t n_expected; /* frames of the others */

    struct reader *readers;
    size_t n_readers;
    _Atomic size_t n_reading;   /* readers that are not done */
    _Atomic uint64_t n_claimed; /* frames that count against the limit */
    uint64_t n_pushed;          /* valid after stream_run() */

    _Atomic bool report_wanted; /* SIGUSR1 came: whoever reports takes it back */
    bool catches_signals;
    pthread_t signal_thread;
};

/* @param uris  "live:" before one makes it live; list files are expanded in place. The strings are copied.
 * @return 0; EES_ESOURCE list unreadable; EES_EINVAL stdin is a terminal or named twice; EES_ENOMEM */
int stream_init(struct stream *s, char *const *uris, size_t n_uris, const ees_source_options *options, ees_error *err);

/* From here SIGINT and SIGTERM stop the sources, those that are still being opened too, and drain; the second one
 * leaves at once with 130. SIGUSR1 sets report_wanted. Call before any thread is started: they must inherit the blocked
 * signals. */
int stream_catch_signals(struct stream *s, ees_error *err);

/* Open the first input now, so that a missing file is told before a model is loaded. Its failure ends the run only
 * when there is no other input, and a stop is no failure: stream_run() then finds nothing to do.
 * @return 0, or the source's error when it is the only one */
int stream_open_first(struct stream *s, ees_error *err);

/* How the engine is to treat an input's frames. The first input's rule is that of stream 0: the engine must be opened
 * with it. */
ees_stream_options stream_rule(const struct stream *s, size_t input);

/* What to do while the frames pass; all on the thread that called stream_run(). */
struct stream_events {
    int (*result)(void *opaque, const ees_result *result, ees_error *err); /* the engine's until it returns */
    int (*tick)(void *opaque, ees_error *err); /* after each answer, and 20 times a second without; may be NULL */
    void *opaque;
};

/* Push everything, tell each answer in order. When an event fails the sources are stopped, the answers still in flight
 * are told, and the first error is returned. Errors of sources are printed as they happen and kept in source_failure.
 * After EES_ESTALLED readers and engine are left as they are: they may hang. */
int stream_run(struct stream *s, ees_engine *engine, const struct stream_events *events, ees_error *err);

bool stream_was_interrupted(struct stream *s);

/* Frames to come in total, -1: unknown. */
int64_t stream_expected(struct stream *s);

/* Also after a failed stream_init(), and on a stream that is zeroed but for a stop_fd of -1. */
void stream_fini(struct stream *s);

/* ---- reader.c ---- */

int readers_start(struct stream *s, ees_error *err);
void readers_join(struct stream *s);

/* ---- stream.c, for the readers ---- */

void stream_stop(struct stream *s, bool interrupted);
bool stream_is_stopping(struct stream *s);
int stream_open_input(struct stream *s, struct stream_input *input, ees_error *err);
void stream_expect(struct stream *s, struct stream_input *input, int64_t n_frames);
/* The reader is done with an input. */
void stream_input_read(struct stream *s, struct stream_input *input);

#endif
