/* SPDX-License-Identifier: MIT */
/* What a run did, counted from its answers, as text for people and JSON for programs. */
#ifndef EES_CLI_SUMMARY_H
#define EES_CLI_SUMMARY_H

#include <stdio.h>

#include <jansson.h>

#include "eestream/eestream.h"
#include "tools/cli/truth.h"

struct exit_count {
    uint64_t n_frames, n_judged, n_right; /* judged: the true class is known */
};

struct summary {
    const ees_model *model;
    const ees_model_info *info;
    uint64_t n_by_status[EES_STATUS_FAILED + 1];
    uint64_t n_warned, n_unknown_truth, block_sum;
    struct exit_count exits[EES_MAX_EXITS + 1];
    size_t n_inputs;
    /* set by summary_finish() */
    ees_stats stats;
    ees_policy_options policy; /* resolved */
    const char *replay;        /* description, NULL: exits were decided by the policy */
    char plan[512];
    double cpu_s;
    uint64_t max_rss_bytes;
};

void summary_init(struct summary *s, const ees_model *model, const ees_policy_options *resolved, const char *replay,
                  size_t n_inputs);

/* @param class_idx  from truth_of() */
void summary_add(struct summary *s, const ees_result *result, int class_idx);

/* Take the engine's counters and check them against the answers counted here.
 * @return 0; EES_EINTERNAL when frames were lost or doubled */
int summary_finish(struct summary *s, const ees_engine *engine, uint64_t n_pushed, ees_error *err);

uint64_t summary_answered(const struct summary *s);
double summary_mean_block(const struct summary *s); /* 0: no frame answered */
double summary_accuracy(const struct summary *s);   /* 0..1, negative: no truth known */
double summary_fps(const struct summary *s);

void summary_print(FILE *out, const struct summary *s);
void summary_print_exits(FILE *out, const struct summary *s);
json_t *summary_json(const struct summary *s);

/* "confidence, threshold 0.8" */
void policy_text(const ees_policy_options *resolved, char *out, size_t n);

/* CPU seconds of this process so far and its largest resident size. */
double cpu_seconds(void);
uint64_t max_rss_bytes(void);

#endif
