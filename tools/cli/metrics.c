/* SPDX-License-Identifier: MIT */
/* Format: https://prometheus.io/docs/instrumenting/exposition_formats/, text version 0.0.4. Base units: seconds. */
#define _GNU_SOURCE
#include "tools/cli/metrics.h"

#include <stdio.h>
#include <stdlib.h>

#include "tools/cli/clock.h"
#include "tools/cli/fail.h"
#include "tools/cli/file.h"
#include "tools/cli/progress.h"
#include "tools/cli/summary.h"

#define PERIOD_NS 1000000000u

static void head(FILE *f, const char *name, const char *type, const char *help) {
    fprintf(f, "# HELP eestream_%s %s\n# TYPE eestream_%s %s\n", name, help, name, type);
}

static void count(FILE *f, const char *name, const char *help, uint64_t value) {
    head(f, name, "counter", help);
    fprintf(f, "eestream_%s %llu\n", name, (unsigned long long)value);
}

static void seconds(FILE *f, const char *name, const char *help, double ns) {
    head(f, name, "counter", help);
    fprintf(f, "eestream_%s %.9f\n", name, ns * 1e-9);
}

/* ---- Frames -------------------------------------------------------------------------------------------- */

static void put_frames(FILE *f, const ees_stats *s, unsigned n_exits) {
    count(f, "frames_pushed_total", "Frames handed to the engine.", s->n_pushed);
    head(f, "frames_total", "counter", "Frames answered, by outcome.");
    const uint64_t n[] = {s->n_ok, s->n_skipped, s->n_dropped, s->n_failed};
    for (unsigned i = 0; i <= EES_STATUS_FAILED; i++)
        fprintf(f, "eestream_frames_total{status=\"%s\"} %llu\n", ees_status_name((enum ees_status)i),
                (unsigned long long)n[i]);
    head(f, "early_total", "counter", "Answers made early by overload (degraded) or at the deadline.");
    fprintf(f, "eestream_early_total{how=\"degraded\"} %llu\neestream_early_total{how=\"deadline\"} %llu\n",
            (unsigned long long)s->n_degraded, (unsigned long long)s->n_deadline);
    head(f, "exits_total", "counter", "Answers by exit; the last is the final classifier.");
    for (unsigned i = 0; i <= n_exits; i++)
        fprintf(f, "eestream_exits_total{exit=\"%u\"} %llu\n", i, (unsigned long long)s->n_by_exit[i]);
    count(f, "warned_total", "Frames used although their JPEG decoded with warnings.", s->n_warned);
    count(f, "nonfinite_total", "Frames that passed an exit head with NaN or infinite logits.", s->n_nonfinite);
}

static void put_summary(FILE *f, const char *labels, const ees_latency *l) {
    const double quantiles[] = {0.5, 0.9, 0.99, 0.999};
    const uint64_t ns[] = {l->p50_ns, l->p90_ns, l->p99_ns, l->p999_ns};
    for (unsigned i = 0; i < 4; i++)
        fprintf(f, "eestream_latency_seconds{%s%squantile=\"%g\"} %.9f\n", labels, labels[0] ? "," : "", quantiles[i],
                (double)ns[i] * 1e-9);
    const char *left = labels[0] ? "{" : "", *right = labels[0] ? "}" : "";
    fprintf(f, "eestream_latency_seconds_sum%s%s%s %.9f\n", left, labels, right, l->mean_ns * (double)l->n * 1e-9);
    fprintf(f, "eestream_latency_seconds_count%s%s%s %llu\n", left, labels, right, (unsigned long long)l->n);
}

static void put_latency(FILE *f, const ees_stats *s, unsigned n_exits) {
    head(f, "latency_seconds", "summary", "From push to answer since the start, by exit.");
    for (unsigned e = 0; e <= n_exits; e++) {
        char labels[32];
        snprintf(labels, sizeof labels, "exit=\"%u\"", e);
        if (s->latency_by_exit[e].n)
            put_summary(f, labels, &s->latency_by_exit[e]);
    }
    seconds(f, "reorder_wait_seconds_total", "Answers waiting for an earlier frame's.", (double)s->reorder_wait_ns);
}

/* A label's value: backslash, quote and newline are escaped, what is no ASCII is shown as it is. */
static void put_label(FILE *f, const char *text) {
    for (; *text; text++)
        if (*text == '\n')
            fputs("\\n", f);
        else
            fprintf(f, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
}

/* The inputs of --concurrent. */
static void put_streams(FILE *f, const struct metrics *m, const ees_stats *s) {
    head(f, "stream_frames_total", "counter", "Frames answered, by input.");
    for (size_t i = 0; i < m->stream->n_inputs; i++) {
        const struct stream_input *input = &m->stream->inputs[i];
        ees_stream_stats one;
        if (input->stream >= s->n_streams || ees_stream_get_stats(m->engine, input->stream, &one) < 0)
            continue;
        const uint64_t n[] = {one.n_ok, 0, one.n_dropped, one.n_failed};
        for (unsigned k = 0; k <= EES_STATUS_FAILED; k++) {
            fprintf(f, "eestream_stream_frames_total{stream=\"%u\",input=\"", input->stream);
            put_label(f, input->uri);
            fprintf(f, "\",status=\"%s\"} %llu\n", ees_status_name((enum ees_status)k), (unsigned long long)n[k]);
        }
    }
}

/* ---- Work ---------------------------------------------------------------------------------------------- */

static void put_worker_counts(FILE *f, const ees_stats *s, const char *name, const char *help, size_t field) {
    head(f, name, "counter", help);
    for (unsigned w = 0; w < s->n_workers; w++) {
        const uint64_t *value = (const uint64_t *)((const char *)&s->workers[w] + field);
        fprintf(f, "eestream_%s{worker=\"%u\"} %llu\n", name, w, (unsigned long long)*value);
    }
}

static void put_worker_times(FILE *f, const ees_stats *s, const char *name, const char *help, size_t field) {
    head(f, name, "counter", help);
    for (unsigned w = 0; w < s->n_workers; w++) {
        const uint64_t *ns = (const uint64_t *)((const char *)&s->workers[w] + field);
        fprintf(f, "eestream_%s{worker=\"%u\"} %.9f\n", name, w, (double)*ns * 1e-9);
    }
}

static void put_workers(FILE *f, const ees_stats *s) {
    put_worker_times(f, s, "worker_busy_seconds_total", "Time a worker computed.", offsetof(ees_worker_stats, busy_ns));
    put_worker_times(f, s, "worker_team_seconds_total", "Of it, inside other workers' units.",
                     offsetof(ees_worker_stats, team_ns));
    put_worker_counts(f, s, "worker_visits_total", "Frames a worker took.", offsetof(ees_worker_stats, n_runs));
    put_worker_counts(f, s, "worker_helped_total", "Of these, from another group's queue.",
                      offsetof(ees_worker_stats, n_helped));
    put_worker_counts(f, s, "worker_batched_total", "Of these, in micro-batches.",
                      offsetof(ees_worker_stats, n_batched));
    head(f, "queue_frames", "gauge", "Frames waiting for a group of the plan.");
    for (unsigned g = 0; g < s->n_groups; g++)
        fprintf(f, "eestream_queue_frames{group=\"%u\"} %u\n", g, s->groups[g].queue_now);
    head(f, "degrade_ratio", "gauge", "How far overload has moved the thresholds, 0 to 1.");
    fprintf(f, "eestream_degrade_ratio %.3f\n", s->degrade);
    count(f, "replans_total", "Plans published while running.", s->n_replans);
    count(f, "trace_events_lost_total", "Trace events nobody took in time.", s->n_trace_lost);
}

static void put_audit(FILE *f, const ees_audit_stats *a) {
    head(f, "audit_frames_total", "counter",
         "Early and repeated answers run on to full depth, by whether the class stayed.");
    fprintf(f,
            "eestream_audit_frames_total{agreed=\"true\"} %llu\neestream_audit_frames_total{agreed=\"false\"} %llu\n",
            (unsigned long long)a->n_agreed, (unsigned long long)(a->n_done - a->n_agreed));
    seconds(f, "audit_busy_seconds_total", "Time workers spent on audits.", (double)a->busy_ns);
}

/* ---- Out ----------------------------------------------------------------------------------------------- */

/* @return text to free(), NULL: no memory */
static char *make_text(const struct metrics *m, size_t *n) {
    static ees_stats stats; /* one thread reports */
    unsigned n_exits = ees_model_get_info(m->model)->n_exits;
    char *text = NULL;
    FILE *f = open_memstream(&text, n);
    if (!f)
        return NULL;
    ees_engine_get_stats(m->engine, &stats);
    head(f, "info", "gauge", "The version that runs.");
    fprintf(f, "eestream_info{version=\"%s\"} 1\n", ees_version());
    put_frames(f, &stats, n_exits);
    put_latency(f, &stats, n_exits);
    if (m->stream->concurrent)
        put_streams(f, m, &stats);
    put_workers(f, &stats);
    put_audit(f, &stats.audit);
    seconds(f, "cpu_seconds_total", "CPU time of the process.", cpu_seconds() * 1e9);
    head(f, "max_resident_bytes", "gauge", "Largest resident size of the process.");
    fprintf(f, "eestream_max_resident_bytes %llu\n", (unsigned long long)max_rss_bytes());
    if (fclose(f) == 0)
        return text;
    free(text);
    return NULL;
}

int metrics_write(const struct metrics *m, ees_error *err) {
    size_t n;
    if (!m->path)
        return 0;
    char *text = make_text(m, &n);
    if (!text)
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for --metrics");
    int rc = file_replace(m->path, text, n, err);
    free(text);
    return rc;
}

int metrics_tick(struct metrics *m, ees_error *err) {
    uint64_t now = m->path ? now_ns() : 0;
    if (!m->path || now < m->next_ns)
        return 0;
    m->next_ns = now + PERIOD_NS;
    return metrics_write(m, err);
}

void metrics_print(const struct metrics *m) {
    size_t n;
    char *text = make_text(m, &n);
    if (text)
        console_write(text);
    free(text);
}
