/* SPDX-License-Identifier: MIT */
/* Results as lines of JSON or CSV. Lines gather in a buffer and leave it whole; when the output breaks off, a regular
 * file is cut back behind the last whole line, and the sink keeps reporting the same failure. One thread at a time.
 *
 * The signals a failing write sends (SIGPIPE, SIGXFSZ) are held back in this thread while it writes and taken away
 * afterwards: the process' own handling of them is left as it is. */
#define _GNU_SOURCE
#include "eestream/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/fail.h"
#include "common/mem.h"
#include "io/text.h"

enum {
    BUFFER_BYTES = 64 << 10,
    FIXED_LINE_BYTES = 704,  /* names, punctuation and numbers of a line, all strings, logits and visits left out */
    FIXED_VISIT_BYTES = 192, /* of a visit, names of units left out */
};

struct ees_sink {
    ees_sink_options options;
    int fd; /* -1: nothing is written */
    bool owns_fd, is_regular;
    char *name; /* for messages */
    char *buffer;
    size_t capacity, used; /* `used` bytes are whole lines */
    size_t longest_unit;   /* bytes of the longest name */
    ees_error failure;     /* first failure; nothing is written after it */
};

/* ---- Writing out --------------------------------------------------------------------------------------- */

/* write() that raises no signal in this process. */
static ssize_t write_quietly(int fd, const void *data, size_t n) {
    sigset_t held, before, pending;
    sigemptyset(&held);
    sigaddset(&held, SIGPIPE);
    sigaddset(&held, SIGXFSZ);
    sigpending(&pending);
    /* One that waits already is somebody else's: it is left waiting. */
    if (sigismember(&pending, SIGPIPE))
        sigdelset(&held, SIGPIPE);
    if (sigismember(&pending, SIGXFSZ))
        sigdelset(&held, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &held, &before);
    ssize_t rc = write(fd, data, n);
    int error = errno;
    if (rc < 0 && (error == EPIPE || error == EFBIG)) {
        const struct timespec at_once = {0};
        while (sigtimedwait(&held, NULL, &at_once) < 0 && errno == EINTR)
            ;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return rc;
}

/* All of `n` bytes, or as many as go out before a failure. @return 0 or the errno */
static int write_all(int fd, const char *data, size_t n, size_t *n_written) {
    for (*n_written = 0; *n_written < n;) {
        ssize_t rc = write_quietly(fd, data + *n_written, n - *n_written);
        if (rc >= 0)
            *n_written += (size_t)rc;
        else if (errno == EAGAIN)
            poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
        else if (errno != EINTR)
            return errno;
    }
    return 0;
}

static const char *get_hint(int error) {
    switch (error) {
    case ENOSPC:
    case EDQUOT:
        return "make room on its file system, or write elsewhere";
    case EPIPE:
        return "the program reading it has ended";
    case EFBIG:
        return "the limit of file sizes is reached (ulimit -f)";
    case EACCES:
    case EPERM:
    case EROFS:
        return "choose a place that may be written to";
    case ENOENT:
        return "create its folder first";
    default:
        return "check the device it is on";
    }
}

static int report(const struct ees_sink *sink, ees_error *err) {
    if (err && !err->code)
        *err = sink->failure;
    return sink->failure.code;
}

static int fail_output(struct ees_sink *sink, int error, ees_error *err) {
    EES_FAIL_OS(&sink->failure, EES_EOUTPUT, error, "%s: cannot write results", sink->name);
    ees__hint(&sink->failure, "%s", get_hint(error));
    return report(sink, err);
}

/* Take the part of a line at the end of a file away: `n` bytes of the buffer were written, the last perhaps mid-line.
 */
static void cut_to_whole_line(const struct ees_sink *sink, size_t n) {
    const char *newline = n ? memrchr(sink->buffer, '\n', n) : NULL;
    size_t partial = newline ? n - (size_t)(newline + 1 - sink->buffer) : n;
    off_t end = lseek(sink->fd, 0, SEEK_CUR);
    if (partial == 0 || end < (off_t)partial)
        return;
    /* Should this fail too, the first failure is the one to report. */
    if (ftruncate(sink->fd, end - (off_t)partial) == 0)
        lseek(sink->fd, end - (off_t)partial, SEEK_SET);
}

int ees_sink_flush(ees_sink *sink, ees_error *err) {
    if (sink->failure.code)
        return report(sink, err);
    size_t n_written;
    int error = write_all(sink->fd, sink->buffer, sink->used, &n_written);
    if (error && sink->is_regular)
        cut_to_whole_line(sink, n_written);
    sink->used = 0;
    return error ? fail_output(sink, error, err) : 0;
}

/* ---- Lines --------------------------------------------------------------------------------------------- */

static char *put_json_string(char *out, const char *s) {
    return s ? ees__text_json(out, s) : ees__text_put(out, "null");
}

static char *put_json_float(char *out, float x) {
    return isfinite(x) ? ees__text_float(out, x) : ees__text_put(out, "null");
}

static char *put_json_answer(char *out, const ees_result *r) {
    if (r->exit_idx < 0)
        return ees__text_put(out, ",\"exit\":null,\"block\":null,\"class\":null,\"label\":null,\"confidence\":null,"
                                  "\"entropy\":null");
    out = ees__text_i64(ees__text_put(out, ",\"exit\":"), r->exit_idx);
    out = ees__text_u64(ees__text_put(out, ",\"block\":"), r->block);
    out = ees__text_i64(ees__text_put(out, ",\"class\":"), r->class_idx);
    out = put_json_string(ees__text_put(out, ",\"label\":"), r->label);
    out = put_json_float(ees__text_put(out, ",\"confidence\":"), r->confidence);
    return put_json_float(ees__text_put(out, ",\"entropy\":"), r->entropy);
}

static char *put_json_logits(char *out, const ees_result *r) {
    if (!r->logits)
        return ees__text_put(out, ",\"logits\":null");
    out = ees__text_put(out, ",\"logits\":[");
    for (unsigned i = 0; i < r->n_classes; i++) {
        if (i)
            *out++ = ',';
        out = put_json_float(out, r->logits[i]);
    }
    *out++ = ']';
    return out;
}

/* "first-last", as in a plan; empty when no unit was run. */
static char *put_json_units(char *out, const ees_sink_options *o, const ees_visit *visit) {
    if (visit->first_unit >= visit->end_unit || visit->end_unit > o->n_units)
        return ees__text_put(out, "\"\"");
    out = ees__text_json(out, o->unit_names[visit->first_unit]);
    if (visit->end_unit - visit->first_unit == 1)
        return out;
    out[-1] = '-'; /* the second string goes on inside the first one's quotes */
    char *second = ees__text_json(out, o->unit_names[visit->end_unit - 1]);
    memmove(out, out + 1, (size_t)(second - out - 1));
    return second - 1;
}

static char *put_json_visits(char *out, const ees_sink_options *o, const ees_result *r) {
    out = ees__text_put(out, ",\"visits\":[");
    for (unsigned i = 0; i < r->n_visits; i++) {
        const ees_visit *visit = &r->visits[i];
        out = ees__text_u64(ees__text_put(out, i ? ",{\"worker\":" : "{\"worker\":"), visit->worker);
        out = ees__text_u64(ees__text_put(out, ",\"group\":"), visit->group);
        out = put_json_units(ees__text_put(out, ",\"units\":"), o, visit);
        out = ees__text_u64(ees__text_put(out, ",\"batch\":"), visit->n_batch);
        out = ees__text_ns(ees__text_put(out, ",\"wait_ms\":"), visit->wait_ns, 6, 3);
        out = ees__text_put(ees__text_ns(ees__text_put(out, ",\"run_ms\":"), visit->run_ns, 6, 3), "}");
    }
    *out++ = ']';
    return out;
}

/* Of frames that may be skipped; a stream's first has nothing to compare with. */
static bool has_change(const ees_result *r) {
    return r->status == EES_STATUS_SKIPPED || (r->change > 0 && isfinite(r->change));
}

static char *put_json_line(char *out, const ees_result *r, const ees_sink_options *o) {
    out = put_json_string(ees__text_put(out, "{\"v\":1,\"source\":"), r->source);
    out = ees__text_u64(ees__text_put(out, ",\"frame\":"), r->frame_idx);
    out = ees__text_put(out, ",\"pts_s\":");
    out = r->pts_ns < 0 ? ees__text_put(out, "null") : ees__text_ns(out, (uint64_t)r->pts_ns, 9, 6);
    out = put_json_string(ees__text_put(out, ",\"status\":"), ees_status_name(r->status));
    out = put_json_answer(out, r);
    out = ees__text_ns(ees__text_put(out, ",\"latency_ms\":"), r->latency_ns, 6, 3);
    if (r->status == EES_STATUS_SKIPPED)
        out = ees__text_u64(ees__text_put(out, ",\"same_as\":"), r->same_as);
    if (has_change(r))
        out = put_json_float(ees__text_put(out, ",\"change\":"), r->change);
    if (r->early != EES_EARLY_NONE)
        out = put_json_string(ees__text_put(out, ",\"early\":"), ees_early_name(r->early));
    if (r->n_nonfinite)
        out = ees__text_u64(ees__text_put(out, ",\"nonfinite\":"), r->n_nonfinite);
    if (r->n_warnings)
        out = ees__text_u64(ees__text_put(out, ",\"warnings\":"), r->n_warnings);
    if (r->truth)
        out = put_json_string(ees__text_put(out, ",\"truth\":"), r->truth);
    if (r->error)
        out = put_json_string(ees__text_put(out, ",\"error\":"), r->error->message);
    if (o->logits)
        out = put_json_logits(out, r);
    if (o->unit_names)
        out = put_json_visits(out, o, r);
    return ees__text_put(out, "}\n");
}

static const char csv_header[] = "source,frame,pts_s,status,exit,block,class,label,confidence,entropy,latency_ms,"
                                 "warnings,truth,error,early,nonfinite,wait_ms,run_ms,same_as,change\n";

static char *put_csv_string(char *out, const char *s) {
    if (s)
        out = ees__text_csv(out, s);
    *out++ = ',';
    return out;
}

static char *put_csv_float(char *out, float x) {
    if (isfinite(x))
        out = ees__text_float(out, x);
    *out++ = ',';
    return out;
}

static char *put_csv_answer(char *out, const ees_result *r) {
    if (r->exit_idx < 0)
        return ees__text_put(out, ",,,,,,");
    out = ees__text_i64(out, r->exit_idx);
    out = ees__text_u64(ees__text_put(out, ","), r->block);
    out = ees__text_i64(ees__text_put(out, ","), r->class_idx);
    out = put_csv_string(ees__text_put(out, ","), r->label);
    out = put_csv_float(out, r->confidence);
    return put_csv_float(out, r->entropy);
}

/* Sums over the visits. */
static char *put_csv_times(char *out, const ees_result *r) {
    uint64_t wait_ns = 0, run_ns = 0;
    for (unsigned i = 0; i < r->n_visits; i++) {
        wait_ns += r->visits[i].wait_ns;
        run_ns += r->visits[i].run_ns;
    }
    out = ees__text_put(ees__text_ns(out, wait_ns, 6, 3), ",");
    return ees__text_put(ees__text_ns(out, run_ns, 6, 3), ",");
}

/* What the picture was compared with, and the end of the line. */
static char *put_csv_change(char *out, const ees_result *r) {
    if (r->status == EES_STATUS_SKIPPED)
        out = ees__text_u64(out, r->same_as);
    *out++ = ',';
    if (has_change(r))
        out = ees__text_float(out, r->change);
    *out++ = '\n';
    return out;
}

static char *put_csv_line(char *out, const ees_result *r) {
    out = put_csv_string(out, r->source);
    out = ees__text_put(ees__text_u64(out, r->frame_idx), ",");
    if (r->pts_ns >= 0)
        out = ees__text_ns(out, (uint64_t)r->pts_ns, 9, 6);
    out = put_csv_string(ees__text_put(out, ","), ees_status_name(r->status));
    out = put_csv_answer(out, r);
    out = ees__text_put(ees__text_ns(out, r->latency_ns, 6, 3), ",");
    out = ees__text_put(ees__text_u64(out, r->n_warnings), ",");
    out = put_csv_string(out, r->truth);
    out = put_csv_string(out, r->error ? r->error->message : NULL);
    out = put_csv_string(out, r->early != EES_EARLY_NONE ? ees_early_name(r->early) : NULL);
    out = ees__text_put(ees__text_u64(out, r->n_nonfinite), ",");
    return put_csv_change(put_csv_times(out, r), r);
}

/* Most bytes a result's line can take. */
static size_t bound_line(const struct ees_sink *sink, const ees_result *r) {
    size_t n = (r->source ? strlen(r->source) : 0) + (r->label ? strlen(r->label) : 0) +
               (r->truth ? strlen(r->truth) : 0) + (r->error ? strlen(r->error->message) : 0);
    n = n * EES__TEXT_ESCAPE_BYTES + FIXED_LINE_BYTES;
    if (sink->options.unit_names)
        n += r->n_visits * (FIXED_VISIT_BYTES + 2 * sink->longest_unit * EES__TEXT_ESCAPE_BYTES);
    return sink->options.logits ? n + (size_t)r->n_classes * EES__TEXT_NUMBER_BYTES : n;
}

/* Room for a line of `n` bytes. The buffer grows when a line is longer than any before, so in the steady state not. */
static int reserve_line(struct ees_sink *sink, size_t n, ees_error *err) {
    if (n <= sink->capacity - sink->used)
        return 0;
    EES_TRY(ees_sink_flush(sink, err));
    if (n <= sink->capacity)
        return 0;
    char *larger = realloc(sink->buffer, n);
    if (!larger)
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory for a line of %zu bytes", sink->name, n);
    sink->buffer = larger;
    sink->capacity = n;
    return 0;
}

int ees_sink_write(ees_sink *sink, const ees_result *result, ees_error *err) {
    if (sink->failure.code)
        return report(sink, err);
    if (sink->options.format == EES_SINK_NULL)
        return 0;
    EES_TRY(reserve_line(sink, bound_line(sink, result), err));
    char *out = sink->buffer + sink->used;
    out = sink->options.format == EES_SINK_CSV ? put_csv_line(out, result) : put_json_line(out, result, &sink->options);
    sink->used = (size_t)(out - sink->buffer);
    return sink->options.flush ? ees_sink_flush(sink, err) : 0;
}

/* ---- Open and close ------------------------------------------------------------------------------------ */

static int open_file(struct ees_sink *sink, const char *path, ees_error *err) {
    if (strcmp(path, "-") == 0) {
        sink->fd = STDOUT_FILENO;
    } else {
        sink->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        sink->owns_fd = sink->fd >= 0;
    }
    struct stat st;
    if (sink->fd < 0 || fstat(sink->fd, &st) < 0)
        return fail_output(sink, errno, err);
    sink->is_regular = S_ISREG(st.st_mode);
    return 0;
}

static int open_output(struct ees_sink *sink, const char *path, ees_error *err) {
    sink->name = strdup(strcmp(path, "-") == 0 ? "stdout" : path);
    sink->buffer = malloc(BUFFER_BYTES);
    if (!sink->name || !sink->buffer)
        return EES_FAIL(err, EES_ENOMEM, "no memory to write results");
    sink->capacity = BUFFER_BYTES;
    EES_TRY(open_file(sink, path, err));
    if (sink->options.format == EES_SINK_CSV)
        sink->used = (size_t)(ees__text_put(sink->buffer, csv_header) - sink->buffer);
    return 0;
}

static int close_output(struct ees_sink *sink, ees_error *err) {
    int rc = sink->failure.code ? report(sink, err) : sink->used ? ees_sink_flush(sink, err) : 0;
    if (sink->owns_fd && close(sink->fd) < 0 && errno != EINTR && rc == 0)
        rc = fail_output(sink, errno, err); /* some file systems only tell now */
    return rc;
}

int ees_sink_open(const char *path, const ees_sink_options *options, ees_sink **out, ees_error *err) {
    struct ees_sink *sink = ees__calloc_aligned(1, sizeof *sink);
    if (!sink)
        return EES_FAIL(err, EES_ENOMEM, "no memory to write results");
    sink->fd = -1;
    if (options)
        sink->options = *options;
    for (unsigned i = 0; sink->options.unit_names && i < sink->options.n_units; i++) {
        size_t n = strlen(sink->options.unit_names[i]);
        sink->longest_unit = n > sink->longest_unit ? n : sink->longest_unit;
    }
    int rc = sink->options.format == EES_SINK_NULL ? 0 : open_output(sink, path, err);
    if (rc < 0)
        ees_sink_close(sink, NULL);
    else
        *out = sink;
    return rc;
}

int ees_sink_close(ees_sink *sink, ees_error *err) {
    if (!sink)
        return 0;
    int rc = close_output(sink, err);
    free(sink->name);
    free(sink->buffer);
    ees__free(sink);
    return rc;
}
