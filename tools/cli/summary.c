/* SPDX-License-Identifier: MIT */
/* Counting. What the figures look like is said in summary_text.c and summary_json.c. */
#include <math.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "tools/cli/fail.h"
#include "tools/cli/plan_text.h"
#include "tools/cli/summary.h"

/* ---- Counting ------------------------------------------------------------------------------------------ */

void summary_init(struct summary *s, const ees_model *model, const ees_policy_options *resolved, const char *replay) {
    *s = (struct summary){.model = model, .info = ees_model_get_info(model), .policy = *resolved, .replay = replay};
}

int summary_count_sources(struct summary *s, const struct stream *stream, ees_error *err) {
    s->sources = calloc(stream->n_inputs, sizeof *s->sources);
    if (!s->sources)
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for %zu inputs", stream->n_inputs);
    s->n_sources = stream->n_inputs;
    for (size_t i = 0; i < s->n_sources; i++)
        s->sources[i] = (struct source_count){.uri = stream->inputs[i].uri, .live = stream->inputs[i].live};
    return 0;
}

void summary_fini(struct summary *s) {
    free(s->sources);
    s->sources = NULL;
    s->n_sources = 0;
}

void summary_add(struct summary *s, const ees_result *result, int class_idx) {
    s->n_by_status[result->status]++;
    s->n_early[result->early]++;
    if (s->sources) {
        s->sources[result->source_idx].n_by_status[result->status]++;
        s->sources[result->source_idx].n_early[result->early]++;
    }
    s->n_unknown_truth += class_idx == -2;
    if (result->exit_idx < 0)
        return;
    bool computed = result->status == EES_STATUS_OK;
    struct exit_count *at = computed ? &s->exits[result->exit_idx] : &s->repeated;
    at->n_frames++;
    at->n_judged += class_idx >= 0;
    at->n_right += class_idx >= 0 && class_idx == result->class_idx;
    s->block_sum += computed ? result->block : 0;
    s->n_warned += result->n_warnings > 0;
    s->n_nonfinite += result->n_nonfinite > 0;
}

static uint64_t sum_statuses(const uint64_t *n_by_status) {
    uint64_t n = 0;
    for (unsigned i = 0; i <= EES_STATUS_FAILED; i++)
        n += n_by_status[i];
    return n;
}

uint64_t summary_answered(const struct summary *s) { return sum_statuses(s->n_by_status); }

struct exit_count summary_total(const struct summary *s) {
    struct exit_count sum = {0};
    for (unsigned e = 0; e <= s->info->n_exits; e++) {
        sum.n_frames += s->exits[e].n_frames;
        sum.n_judged += s->exits[e].n_judged;
        sum.n_right += s->exits[e].n_right;
    }
    return sum;
}

double summary_mean_block(const struct summary *s) {
    uint64_t n = summary_total(s).n_frames;
    return n ? (double)s->block_sum / (double)n : 0;
}

struct exit_count summary_judged(const struct summary *s) {
    struct exit_count sum = summary_total(s);
    sum.n_frames += s->repeated.n_frames;
    sum.n_judged += s->repeated.n_judged;
    sum.n_right += s->repeated.n_right;
    return sum;
}

double summary_accuracy(const struct summary *s) {
    struct exit_count sum = summary_judged(s);
    return sum.n_judged ? (double)sum.n_right / (double)sum.n_judged : -1;
}

double summary_fps(const struct summary *s) {
    return s->stats.wall_ns ? 1e9 * (double)summary_answered(s) / (double)s->stats.wall_ns : 0;
}

double cpu_seconds(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

uint64_t max_rss_bytes(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (uint64_t)u.ru_maxrss * 1024u;
}

static void finish_sources(struct summary *s, const ees_engine *engine, const struct stream *stream) {
    for (size_t i = 0; i < s->n_sources; i++) {
        ees_stream_stats stats;
        s->sources[i].complete = stream->inputs[i].complete;
        if (stream->concurrent && ees_stream_get_stats(engine, stream->inputs[i].stream, &stats) == 0)
            s->sources[i].latency = stats.latency;
    }
}

/* A difference that chance hardly makes, and large enough to matter: one frame in ten leaves elsewhere. Answers that
 * overload or a deadline made early say nothing about the frames. */
static void find_drift(struct summary *s) {
    uint64_t n[EES_MAX_EXITS + 1];
    const unsigned least_frames = 100;
    const double least_distance = 0.1, most_p = 0.001;
    for (unsigned e = 0; e <= s->info->n_exits; e++)
        n[e] = s->exits[e].n_frames;
    s->drift = mix_drift(n, s->certificate->exit_frames, s->info->n_exits + 1);
    s->drifted = summary_total(s).n_frames >= least_frames && s->drift.p_value < most_p &&
                 s->drift.distance >= least_distance && !s->n_early[EES_EARLY_DEGRADED] &&
                 !s->n_early[EES_EARLY_DEADLINE];
}

void summary_finish(struct summary *s, const ees_engine *engine, const struct stream *stream) {
    ees_plan plan;
    ees_engine_get_stats(engine, &s->stats);
    ees_engine_get_plan(engine, &plan);
    plan_to_text(s->model, &plan, s->plan, sizeof s->plan);
    s->n_replans = ees_engine_get_replans(engine, s->replans, MAX_REPLANS);
    if (s->certificate)
        find_drift(s);
    s->cpu_s = cpu_seconds();
    s->max_rss_bytes = max_rss_bytes();
    if (stream)
        finish_sources(s, engine, stream);
    else
        s->n_inside = s->stats.n_pushed - summary_answered(s);
}

int summary_check(const struct summary *s, const struct stream *stream, ees_error *err) {
    uint64_t n_answered = summary_answered(s);
    if (n_answered != stream->n_pushed || s->stats.n_pushed != stream->n_pushed)
        return CLI_FAIL(err, EES_EINTERNAL,
                        "%llu frames decoded, %llu taken by the engine, %llu answered: please report",
                        (unsigned long long)stream->n_pushed, (unsigned long long)s->stats.n_pushed,
                        (unsigned long long)n_answered);
    for (size_t i = 0; i < s->n_sources; i++)
        if (sum_statuses(s->sources[i].n_by_status) != stream->inputs[i].n_pushed)
            return CLI_FAIL(err, EES_EINTERNAL, "%s: %llu frames decoded, %llu answered: please report",
                            s->sources[i].uri, (unsigned long long)stream->inputs[i].n_pushed,
                            (unsigned long long)sum_statuses(s->sources[i].n_by_status));
    return 0;
}

/* ---- Figures ------------------------------------------------------------------------------------------- */

/* E. B. Wilson, "Probable inference, the law of succession, and statistical inference", J. Am. Stat. Assoc. 22 (1927).
 */
struct agreement agreement_of(uint64_t n_agreed, uint64_t n_done) {
    const double z = 1.959963985; /* 97.5 % point of the normal distribution */
    double n = (double)n_done, p = (double)n_agreed / n;
    double middle = (p + z * z / (2 * n)) / (1 + z * z / n);
    double half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n));
    return (struct agreement){.share = p, .low = fmax(0, middle - half), .high = fmin(1, middle + half)};
}

static double ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }

struct work_shares summary_work(const struct summary *s) {
    double runs = 0, helped = 0, batched = 0, busy_ns = 0, team_ns = 0;
    for (unsigned w = 0; w < s->stats.n_workers; w++) {
        const ees_worker_stats *worker = &s->stats.workers[w];
        runs += (double)worker->n_runs;
        helped += (double)worker->n_helped;
        batched += (double)worker->n_batched;
        busy_ns += (double)worker->busy_ns;
        team_ns += (double)worker->team_ns;
    }
    double latency_ns = s->stats.latency.mean_ns * (double)s->stats.latency.n;
    return (struct work_shares){
        .helped = ratio(helped, runs),
        .batched = ratio(batched, runs),
        .team = ratio(team_ns, busy_ns),
        .audit = ratio((double)s->stats.audit.busy_ns, busy_ns),
        .order = ratio((double)s->stats.reorder_wait_ns, (double)s->stats.reorder_wait_ns + latency_ns)};
}
