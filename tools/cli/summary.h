/* SPDX-License-Identifier: MIT */
/* What a run did, counted from its answers, as text for people and JSON for programs. */
#ifndef EES_CLI_SUMMARY_H
#define EES_CLI_SUMMARY_H

#include <stdio.h>

#include <jansson.h>

#include "eestream/eestream.h"
#include "tools/cli/statistics.h"
#include "tools/cli/stream.h"
#include "tools/cli/truth.h"

#define MAX_REPLANS 16 /* as many as the engine keeps */

struct exit_count {
    uint64_t n_frames, n_judged, n_right; /* judged: the true class is known */
};

/* One input's frames. */
struct source_count {
    const char *uri;
    bool live, complete;
    uint64_t n_by_status[EES_STATUS_FAILED + 1], n_early[EES_EARLY_DEADLINE + 1];
    ees_latency latency; /* n 0: the input had no stream of its own */
};

struct summary {
    const ees_model *model;
    const ees_model_info *info;
    uint64_t n_by_status[EES_STATUS_FAILED + 1];
    uint64_t n_early[EES_EARLY_DEADLINE + 1];
    uint64_t n_warned, n_nonfinite, n_unknown_truth, block_sum;
    struct exit_count exits[EES_MAX_EXITS + 1]; /* frames that were computed */
    struct exit_count repeated;                 /* frames that were skipped */
    struct source_count *sources;               /* NULL: not counted apart */
    size_t n_sources;
    bool unordered;
    const ees_certificate *certificate; /* whose thresholds are used; NULL: others are */
    /* set by summary_finish() */
    ees_stats stats;
    ees_policy_options policy; /* resolved */
    const char *replay;        /* description, NULL: exits were decided by the policy */
    char plan[512];
    ees_replan replans[MAX_REPLANS];
    unsigned n_replans; /* of them here; stats.n_replans in all */
    uint64_t n_inside;  /* frames without an answer: only after a stall */
    double cpu_s;
    uint64_t max_rss_bytes;
    const char *trace_path; /* NULL: none */
    uint64_t n_trace_events;
    struct drift drift; /* from the certificate's exits */
    bool drifted;
};

void summary_init(struct summary *s, const ees_model *model, const ees_policy_options *resolved, const char *replay);

/* Count the frames of each input of the stream apart. */
int summary_count_sources(struct summary *s, const struct stream *stream, ees_error *err);

/* @param class_idx  from truth_of() */
void summary_add(struct summary *s, const ees_result *result, int class_idx);

/* Take the engine's counters. @param stream  NULL: it still runs (a stall); what is inside is counted as such */
void summary_finish(struct summary *s, const ees_engine *engine, const struct stream *stream);

/* Do the readers, the engine and the answers agree? @return 0; EES_EINTERNAL when frames were lost or doubled */
int summary_check(const struct summary *s, const struct stream *stream, ees_error *err);

void summary_fini(struct summary *s);

uint64_t summary_answered(const struct summary *s);
double summary_mean_block(const struct summary *s); /* of computed frames; 0: none */
double summary_accuracy(const struct summary *s);   /* 0..1, negative: no truth known */
double summary_fps(const struct summary *s);

/* Early answers that full depth agreed with, and where the true share lies with 95 % confidence (Wilson's interval). */
struct agreement {
    double share, low, high;
};
struct agreement agreement_of(uint64_t n_agreed, uint64_t n_done);

struct work_shares {
    double helped, batched; /* of the visits */
    double team, audit;     /* of the time workers were busy */
    double order;           /* of the latency: answers that waited for an earlier frame's */
};
struct work_shares summary_work(const struct summary *s);

struct exit_count summary_total(const struct summary *s);  /* of computed frames, */
struct exit_count summary_judged(const struct summary *s); /* and of all that have an answer */

/* ---- summary_text.c, summary_json.c ---- */

void summary_print(FILE *out, const struct summary *s);
void summary_print_exits(FILE *out, const struct summary *s);
json_t *summary_json(const struct summary *s);

json_t *policy_json(const ees_policy_options *resolved);

/* "confidence, threshold 0.8" */
void policy_text(const ees_policy_options *resolved, char *out, size_t n);

/* CPU seconds of this process so far and its largest resident size. */
double cpu_seconds(void);
uint64_t max_rss_bytes(void);

#endif
