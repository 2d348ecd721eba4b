/* SPDX-License-Identifier: MIT */
/* Format: "Trace Event Format" of Chromium's catapult project. Times are microseconds with three decimals from the
 * moment the file was opened, so nothing is rounded and what nests in the engine nests in the file. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/cli/clock.h"
#include "tools/cli/fail.h"
#include "tools/cli/file.h"
#include "tools/cli/plan_text.h"
#include "tools/cli/trace_file.h"

enum {
    TAKEN = 2048, /* events at a time */
    BUFFER_BYTES = 1 << 18,
    EVENT_BYTES = 1024, /* more than one event's text */
    MAX_ROUNDS = 64,    /* of TAKEN events a drain: a slow disk must not keep the answers */
    DRAIN_NS = 20000000,
    FLUSH_NS = 1000000000, /* what a killed process may lose */
};

/* Units a worker ran in the visit it has not ended yet. A visit is told after its units; in the file it comes first, as
 * readers expect where both begin at the same instant. */
struct open_visit {
    ees_trace_event *units; /* n_units */
    unsigned n;
};

struct trace_file {
    char *path;
    int fd;
    bool is_regular, any;
    off_t end; /* of the events, in a regular file */
    char *buffer;
    size_t used;
    ees_error failure;
    uint64_t start_ns, drained_ns, flushed_ns;

    const ees_model *model;
    ees_engine *engine;
    unsigned n_workers, n_units, n_groups;
    struct open_visit *open;
    uint64_t n_events, n_lost;
    ees_stats stats;
    ees_trace_event taken[TAKEN];
};

/* ---- Text out ------------------------------------------------------------------------------------------ */

static int fail_write(struct trace_file *t, int error, ees_error *err) {
    if (!t->failure.code)
        CLI_FAIL_OS(&t->failure, EES_EOUTPUT, error, "--trace %s: cannot be written", t->path);
    if (!err->code)
        *err = t->failure;
    return t->failure.code;
}

static int pwrite_all(int fd, const char *text, size_t n, off_t at) {
    while (n > 0) {
        ssize_t done = pwrite(fd, text, n, at);
        if (done < 0 && errno != EINTR)
            return errno;
        text += done > 0 ? done : 0;
        at += done > 0 ? done : 0;
        n -= done > 0 ? (size_t)done : 0;
    }
    return 0;
}

static size_t put_tail(const struct trace_file *t, char *out, size_t n) {
    return (size_t)snprintf(out, n, "\n],\"otherData\":{\"version\":\"eestream %s\",\"lost_events\":%llu}}\n",
                            ees_version(), (unsigned long long)t->n_lost);
}

/* A regular file gets the tail behind every piece, and the next piece over it. When the disk is full, what was there
 * before is closed again. */
static int flush_regular(struct trace_file *t) {
    size_t n_tail = put_tail(t, t->buffer + t->used, EVENT_BYTES);
    int error = pwrite_all(t->fd, t->buffer, t->used + n_tail, t->end);
    if (error) {
        n_tail = put_tail(t, t->buffer, EVENT_BYTES);
        if (pwrite_all(t->fd, t->buffer, n_tail, t->end) == 0 && ftruncate(t->fd, t->end + (off_t)n_tail) < 0)
            error = errno;
    } else {
        t->end += (off_t)t->used;
    }
    return error;
}

static int flush(struct trace_file *t, ees_error *err) {
    if (t->failure.code)
        return fail_write(t, 0, err);
    int error = t->is_regular ? flush_regular(t) : file_write_all(t->fd, t->buffer, t->used);
    t->used = 0;
    return error ? fail_write(t, error, err) : 0;
}

/* Begin an event: at most EVENT_BYTES of put() follow. */
static int begin_event(struct trace_file *t, ees_error *err) {
    if (t->used + 3 * EVENT_BYTES > BUFFER_BYTES)
        CLI_TRY(flush(t, err));
    memcpy(t->buffer + t->used, t->any ? ",\n" : "\n", 2);
    t->used += t->any ? 2 : 1;
    t->any = true;
    return 0;
}

__attribute__((format(printf, 2, 3))) static void put(struct trace_file *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(t->buffer + t->used, EVENT_BYTES, format, args);
    va_end(args);
    t->used += n > 0 ? (size_t)(n < EVENT_BYTES ? n : EVENT_BYTES - 1) : 0;
}

static void put_us(struct trace_file *t, const char *name, uint64_t ns) {
    put(t, ",\"%s\":%llu.%03u", name, (unsigned long long)(ns / 1000), (unsigned)(ns % 1000));
}

/* ---- Events -------------------------------------------------------------------------------------------- */

static void put_time(struct trace_file *t, const ees_trace_event *e) {
    put_us(t, "ts", e->start_ns > t->start_ns ? e->start_ns - t->start_ns : 0);
}

static int write_slice(struct trace_file *t, const ees_trace_event *e, const char *kind, const char *name,
                       ees_error *err) {
    CLI_TRY(begin_event(t, err));
    put(t, "{\"ph\":\"X\",\"pid\":1,\"tid\":%u", e->worker);
    put_time(t, e);
    put_us(t, "dur", e->length_ns);
    put(t, ",\"cat\":\"%s\",\"name\":\"%s\"", kind, name);
    if (e->kind != EES_TRACE_TEAM)
        put(t, ",\"args\":{\"stream\":%u,\"frame\":%llu,\"batch\":%u}", e->stream, (unsigned long long)e->seq,
            e->n_batch);
    put(t, "}");
    t->n_events++;
    return 0;
}

static int write_unit(struct trace_file *t, const ees_trace_event *e, ees_error *err) {
    const ees_unit_info *unit = ees_model_get_unit(t->model, e->unit);
    return write_slice(t, e, "unit", unit ? unit->name : "?", err);
}

static int keep_unit(struct trace_file *t, const ees_trace_event *e, ees_error *err) {
    struct open_visit *open = &t->open[e->worker];
    if (open->n == t->n_units) { /* their visit was lost */
        for (unsigned i = 0; i < open->n; i++)
            CLI_TRY(write_unit(t, &open->units[i], err));
        open->n = 0;
    }
    open->units[open->n++] = *e;
    return 0;
}

/* What was kept of visits that were lost comes before, this visit's own units behind it. */
static int write_visit(struct trace_file *t, const ees_trace_event *e, ees_error *err) {
    struct open_visit *open = &t->open[e->worker];
    char name[32];
    unsigned i = 0;
    for (; i < open->n && open->units[i].start_ns < e->start_ns; i++)
        CLI_TRY(write_unit(t, &open->units[i], err));
    snprintf(name, sizeof name, "group %u", e->group);
    CLI_TRY(write_slice(t, e, "visit", name, err));
    for (; i < open->n; i++)
        CLI_TRY(write_unit(t, &open->units[i], err));
    open->n = 0;
    return 0;
}

static int write_counter(struct trace_file *t, const ees_trace_event *e, const char *name, uint64_t value,
                         ees_error *err) {
    CLI_TRY(begin_event(t, err));
    put(t, "{\"ph\":\"C\",\"pid\":1");
    put_time(t, e);
    put(t, ",\"name\":\"%s\",\"args\":{\"frames\":%llu}}", name, (unsigned long long)value);
    t->n_events++;
    return 0;
}

static int write_queue(struct trace_file *t, const ees_trace_event *e, ees_error *err) {
    char name[64] = "frames not yet begun";
    if (e->group < t->n_groups)
        snprintf(name, sizeof name, "frames waiting for group %u", e->group);
    return write_counter(t, e, name, e->value, err);
}

static int write_instant(struct trace_file *t, const ees_trace_event *e, const char *name, const char *key,
                         const char *value, ees_error *err) {
    CLI_TRY(begin_event(t, err));
    put(t, "{\"ph\":\"i\",\"s\":\"g\",\"pid\":1,\"tid\":0");
    put_time(t, e);
    put(t, ",\"name\":\"%s\",\"args\":{\"%s\":\"%s\"}}", name, key, value);
    t->n_events++;
    return 0;
}

/* The text of re-plan `number`, when the engine still knows it and makes no further one while it is asked. */
static void find_plan(struct trace_file *t, uint64_t number, char *out, size_t n) {
    static ees_replan replans[16];
    ees_engine_get_stats(t->engine, &t->stats);
    uint64_t last = t->stats.n_replans;
    unsigned n_kept = ees_engine_get_replans(t->engine, replans, 16);
    ees_engine_get_stats(t->engine, &t->stats);
    snprintf(out, n, "unknown");
    if (t->stats.n_replans == last && number <= last && last - number < n_kept)
        plan_to_text(t->model, &replans[n_kept - 1 - (last - number)].plan, out, n);
}

/* Queues that the new plan does not have hold nothing any more. */
static int write_replan(struct trace_file *t, const ees_trace_event *e, ees_error *err) {
    char name[64], plan[512];
    for (unsigned g = e->group; g < t->n_groups; g++) {
        snprintf(name, sizeof name, "frames waiting for group %u", g);
        CLI_TRY(write_counter(t, e, name, 0, err));
    }
    t->n_groups = e->group;
    snprintf(name, sizeof name, "re-plan %llu", (unsigned long long)e->value);
    find_plan(t, e->value, plan, sizeof plan);
    return write_instant(t, e, name, "plan", plan, err);
}

static int write_change(struct trace_file *t, const ees_trace_event *e, ees_error *err) {
    char name[64], value[32];
    if (e->kind == EES_TRACE_CORES) {
        snprintf(name, sizeof name, "%llu cores", (unsigned long long)e->value);
        snprintf(value, sizeof value, "%llu", (unsigned long long)e->value);
        return write_instant(t, e, name, "cores", value, err);
    }
    snprintf(name, sizeof name, "stream %u degraded by %.1f %%", e->stream, 0.1 * (double)e->value);
    snprintf(value, sizeof value, "%.3f", 0.001 * (double)e->value);
    return write_instant(t, e, name, "level", value, err);
}

static int write_event(struct trace_file *t, const ees_trace_event *e, ees_error *err) {
    switch ((enum ees_trace_kind)e->kind) {
    case EES_TRACE_VISIT:
        return write_visit(t, e, err);
    case EES_TRACE_UNIT:
        return keep_unit(t, e, err);
    case EES_TRACE_AUDIT:
        return write_slice(t, e, "audit", "audit", err);
    case EES_TRACE_TEAM:
        return write_slice(t, e, "team", "another worker's unit", err);
    case EES_TRACE_QUEUES:
        return write_queue(t, e, err);
    case EES_TRACE_REPLAN:
        return write_replan(t, e, err);
    case EES_TRACE_DEGRADE:
    case EES_TRACE_CORES:
        return write_change(t, e, err);
    }
    return 0;
}

/* ---- Life ---------------------------------------------------------------------------------------------- */

int trace_file_open(const char *path, struct trace_file **out, ees_error *err) {
    struct trace_file *t = *out = calloc(1, sizeof *t);
    struct stat st;
    if (!t)
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for --trace");
    *t = (struct trace_file){.fd = -1, .path = strdup(path), .buffer = malloc(BUFFER_BYTES), .start_ns = now_ns()};
    if (!t->path || !t->buffer)
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for --trace");
    t->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (t->fd < 0 || fstat(t->fd, &st) < 0)
        return fail_write(t, errno, err);
    t->is_regular = S_ISREG(st.st_mode);
    put(t, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[");
    return flush(t, err);
}

static int write_name(struct trace_file *t, unsigned worker, ees_error *err) {
    int cpu = t->stats.workers[worker].cpu;
    CLI_TRY(begin_event(t, err));
    put(t, "{\"ph\":\"M\",\"pid\":1,\"tid\":%u,\"name\":\"thread_name\",\"args\":{\"name\":\"worker %u", worker,
        worker);
    if (cpu >= 0)
        put(t, " (cpu %d)", cpu);
    put(t, "\"}}");
    return 0;
}

int trace_file_start(struct trace_file *t, const ees_model *model, ees_engine *engine, ees_error *err) {
    t->model = model;
    t->engine = engine;
    ees_engine_get_stats(engine, &t->stats);
    t->n_workers = t->stats.n_workers;
    t->n_units = t->stats.n_units;
    t->n_groups = t->stats.n_groups;
    t->open = calloc(t->n_workers, sizeof *t->open);
    for (unsigned w = 0; t->open && w < t->n_workers; w++)
        if (!(t->open[w].units = calloc(t->n_units, sizeof *t->open[w].units)))
            return CLI_FAIL(err, EES_ENOMEM, "out of memory for --trace");
    if (!t->open)
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for --trace");
    CLI_TRY(begin_event(t, err));
    put(t, "{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\",\"args\":{\"name\":\"eestream\"}}");
    for (unsigned w = 0; w < t->n_workers; w++)
        CLI_TRY(write_name(t, w, err));
    return flush(t, err);
}

static int take_all(struct trace_file *t, ees_error *err) {
    size_t n = TAKEN;
    for (unsigned round = 0; round < MAX_ROUNDS && n == TAKEN; round++) {
        n = ees_engine_read_trace(t->engine, t->taken, TAKEN);
        for (size_t i = 0; i < n; i++)
            CLI_TRY(write_event(t, &t->taken[i], err));
    }
    return 0;
}

int trace_file_drain(struct trace_file *t, ees_error *err) {
    if (!t)
        return 0;
    uint64_t now = now_ns();
    if (now - t->drained_ns < DRAIN_NS)
        return 0;
    t->drained_ns = now;
    CLI_TRY(take_all(t, err));
    if (now - t->flushed_ns < FLUSH_NS)
        return 0;
    t->flushed_ns = now;
    return flush(t, err);
}

/* A worker tells its visit before the last answer of it is out: who has pulled all answers finds all visits here. */
static int write_rest(struct trace_file *t, ees_error *err) {
    CLI_TRY(take_all(t, err));
    ees_engine_get_stats(t->engine, &t->stats);
    t->n_lost = t->stats.n_trace_lost;
    for (unsigned w = 0; w < t->n_workers; w++)
        for (unsigned i = 0; i < t->open[w].n; i++)
            CLI_TRY(write_unit(t, &t->open[w].units[i], err));
    return 0;
}

int trace_file_finish(struct trace_file *t, ees_error *err) {
    if (!t)
        return 0;
    CLI_TRY(write_rest(t, err));
    if (!t->is_regular)
        t->used += put_tail(t, t->buffer + t->used, EVENT_BYTES);
    CLI_TRY(flush(t, err));
    int fd = t->fd;
    t->fd = -1;
    return close(fd) < 0 && errno != EINTR ? fail_write(t, errno, err) : 0;
}

uint64_t trace_file_events(const struct trace_file *t) { return t ? t->n_events : 0; }

void trace_file_close(struct trace_file *t) {
    if (!t)
        return;
    if (t->fd >= 0)
        close(t->fd);
    for (unsigned w = 0; t->open && w < t->n_workers; w++)
        free(t->open[w].units);
    free(t->open);
    free(t->buffer);
    free(t->path);
    free(t);
}
