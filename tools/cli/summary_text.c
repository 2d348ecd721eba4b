/* SPDX-License-Identifier: MIT */
/* The summary for people: a line where there is something to say, none where not. */
#include <string.h>

#include "tools/cli/plan_text.h"
#include "tools/cli/summary.h"
#include "tools/cli/text.h"

#define SHOWN_SOURCES 16
#define SHOWN_REPLANS 3

void policy_text(const ees_policy_options *p, char *out, size_t n) {
    struct text t = text_in(out, n);
    text_add(&t, "%s", p->name ? p->name : "none");
    for (unsigned i = 0; i < p->n_thresholds; i++)
        text_add(&t, i ? " %g" : ", threshold %g", (double)p->thresholds[i]);
    for (unsigned i = 0; i < p->n_degraded; i++)
        text_add(&t, i ? " %g" : ", under overload %g", (double)p->degraded[i]);
    if (p->patience)
        text_add(&t, ", patience %u", p->patience);
    if (p->lag)
        text_add(&t, ", lag %u", p->lag);
    for (unsigned i = 0; i < p->n_weights; i++)
        text_add(&t, i ? " %g" : ", weights %g", (double)p->weights[i]);
    if (p->skip_below > 0)
        text_add(&t, ", frames skipped below a change of %g", (double)p->skip_below);
}

/* ---- Exits --------------------------------------------------------------------------------------------- */

static void print_bar(FILE *out, double share) {
    char bar[31] = {0};
    memset(bar, '#', (size_t)(share * 30 + 0.5));
    fprintf(out, bar[0] ? "  %s" : "%s", bar);
}

static void print_exit(FILE *out, const struct summary *s, unsigned e, uint64_t n_all, bool judged) {
    const ees_model_info *info = s->info;
    const struct exit_count *at = &s->exits[e];
    const ees_latency *l = &s->stats.latency_by_exit[e];
    bool final = e == info->n_exits;
    double share = n_all ? (double)at->n_frames / (double)n_all : 0;
    fprintf(out, "  %2u %-14s %5u %9llu %5.1f %%", e, final ? "final" : info->exits[e].head,
            final ? info->n_blocks : info->exits[e].after_block, (unsigned long long)at->n_frames, 100 * share);
    if (at->n_judged)
        fprintf(out, " %5.1f %%", 100.0 * (double)at->n_right / (double)at->n_judged);
    else if (judged)
        fprintf(out, "       -");
    if (l->n)
        fprintf(out, " %8.2f %8.2f", (double)l->p50_ns * 1e-6, (double)l->p99_ns * 1e-6);
    else
        fprintf(out, " %8s %8s", "-", "-");
    print_bar(out, share);
    fputc('\n', out);
}

void summary_print_exits(FILE *out, const struct summary *s) {
    struct exit_count sum = summary_total(s);
    fprintf(out, "exit                block    frames   share%s   p50 ms   p99 ms\n", sum.n_judged ? "   right" : "");
    for (unsigned e = 0; e <= s->info->n_exits; e++)
        print_exit(out, s, e, sum.n_frames, sum.n_judged > 0);
}

/* ---- Frames and inputs --------------------------------------------------------------------------------- */

static void print_counts(FILE *out, const struct summary *s) {
    const uint64_t *n = s->n_by_status;
    fprintf(out, "frames     %llu decoded = %llu emitted + %llu skipped + %llu dropped + %llu failed",
            (unsigned long long)summary_answered(s), (unsigned long long)n[EES_STATUS_OK],
            (unsigned long long)n[EES_STATUS_SKIPPED], (unsigned long long)n[EES_STATUS_DROPPED],
            (unsigned long long)n[EES_STATUS_FAILED]);
    if (s->n_inside)
        fprintf(out, ", %llu more without an answer", (unsigned long long)s->n_inside);
    fprintf(out, s->n_sources > 1 ? ", from %zu inputs\n" : "\n", s->n_sources);
    if (s->n_early[EES_EARLY_DEGRADED] || s->n_early[EES_EARLY_DEADLINE])
        fprintf(out, "early      %llu answers by thresholds that overload had moved, %llu at the deadline\n",
                (unsigned long long)s->n_early[EES_EARLY_DEGRADED], (unsigned long long)s->n_early[EES_EARLY_DEADLINE]);
    if (s->n_warned)
        fprintf(out, "warnings   %llu frames decoded with warnings\n", (unsigned long long)s->n_warned);
    if (s->n_nonfinite)
        fprintf(out, "warnings   %llu frames passed an exit head that gave NaN or infinite logits\n",
                (unsigned long long)s->n_nonfinite);
}

static void print_source(FILE *out, const struct source_count *c) {
    uint64_t decoded = 0;
    for (unsigned i = 0; i <= EES_STATUS_FAILED; i++)
        decoded += c->n_by_status[i];
    fprintf(out, "%9llu %9llu %9llu %8llu %9llu %9llu", (unsigned long long)decoded,
            (unsigned long long)c->n_by_status[EES_STATUS_OK], (unsigned long long)c->n_by_status[EES_STATUS_DROPPED],
            (unsigned long long)c->n_by_status[EES_STATUS_FAILED], (unsigned long long)c->n_early[EES_EARLY_DEGRADED],
            (unsigned long long)c->n_early[EES_EARLY_DEADLINE]);
    if (c->latency.n)
        fprintf(out, " %8.2f %8.2f", (double)c->latency.p50_ns * 1e-6, (double)c->latency.p99_ns * 1e-6);
    else
        fprintf(out, " %8s %8s", "-", "-");
    fprintf(out, "  %s%s%s\n", c->uri, c->live ? " (live)" : "", c->complete ? "" : " (not read to its end)");
}

static void print_sources(FILE *out, const struct summary *s) {
    size_t n_shown = s->n_sources <= SHOWN_SOURCES ? s->n_sources : SHOWN_SOURCES;
    if (s->n_sources < 2)
        return;
    fprintf(out, "  decoded   emitted   dropped   failed  degraded  deadline   p50 ms   p99 ms  input\n");
    for (size_t i = 0; i < n_shown; i++)
        print_source(out, &s->sources[i]);
    if (n_shown < s->n_sources)
        fprintf(out, "  and %zu more: all are in --summary FILE\n", s->n_sources - n_shown);
}

/* ---- How the engine worked ----------------------------------------------------------------------------- */

/* Shares below half a per cent are noise. */
static void add_share(FILE *out, const char **before, double share, const char *what) {
    if (share < 0.005)
        return;
    fprintf(out, "%s%.0f %% of %s", *before, 100 * share, what);
    *before = ", ";
}

static void print_work(FILE *out, const struct summary *s) {
    struct work_shares w = summary_work(s);
    const char *before = "work       ";
    add_share(out, &before, w.helped, "visits helped another group");
    add_share(out, &before, w.batched, "visits in micro-batches");
    add_share(out, &before, w.team, "busy time in teams");
    if (before[0] == ',')
        fputc('\n', out);
    if (w.order >= 0.005 && !s->unordered)
        fprintf(out, "order      answers waited %.2f ms for earlier frames on average, %.0f %% of their time\n",
                (double)s->stats.reorder_wait_ns * 1e-6 / (double)summary_answered(s), 100 * w.order);
}

static void print_replans(FILE *out, const struct summary *s) {
    char plan[512];
    if (s->stats.n_replans == 0)
        return;
    fprintf(out, "re-plans   %llu while running\n", (unsigned long long)s->stats.n_replans);
    for (unsigned i = s->n_replans > SHOWN_REPLANS ? s->n_replans - SHOWN_REPLANS : 0; i < s->n_replans; i++) {
        const ees_replan *r = &s->replans[i];
        plan_to_text(s->model, &r->plan, plan, sizeof plan);
        fprintf(out, "           at %.2f s: %s, %.1f to %.1f fps predicted\n", (double)r->at_ns * 1e-9, plan,
                r->fps_before, r->plan.fps);
    }
}

static void print_agreement(FILE *out, uint64_t n_agreed, uint64_t n_done) {
    struct agreement a = agreement_of(n_agreed, n_done);
    fprintf(out, "%.1f %% of %llu agree (95 %% confidence: %.1f to %.1f %%)", 100 * a.share, (unsigned long long)n_done,
            100 * a.low, 100 * a.high);
}

static void print_audit(FILE *out, const struct summary *s) {
    const ees_audit_stats *a = &s->stats.audit;
    if (a->n_done == 0 && a->n_missed == 0)
        return;
    fprintf(out, "audit      ");
    if (a->n_done)
        print_agreement(out, a->n_agreed, a->n_done);
    if (a->n_missed)
        fprintf(out, "%s%llu without finite logits at full depth", a->n_done ? ", " : "",
                (unsigned long long)a->n_missed);
    fprintf(out, "; it cost %.1f %% of the busy time\n", 100 * summary_work(s).audit);
    for (unsigned e = 0; e < s->info->n_exits; e++)
        if (a->n_done_by_exit[e]) {
            fprintf(out, "           exit %u: ", e);
            print_agreement(out, a->n_agreed_by_exit[e], a->n_done_by_exit[e]);
            fputc('\n', out);
        }
    if (a->n_done_skipped) {
        fprintf(out, "           skipped: ");
        print_agreement(out, a->n_agreed_skipped, a->n_done_skipped);
        fputc('\n', out);
    }
}

static void print_certificate(FILE *out, const struct summary *s) {
    if (!s->certificate)
        return;
    fprintf(out, "           by %s\n", s->certificate->file);
    if (s->drifted)
        fprintf(
            out,
            "warning    the exits have drifted: %.0f %% of the frames leave elsewhere than the certificate expects (p "
            "%.1g); calibrate again on frames like these\n",
            100 * s->drift.distance, s->drift.p_value);
}

static void print_trace(FILE *out, const struct summary *s) {
    if (!s->trace_path)
        return;
    fprintf(out, "trace      %s: %llu events", s->trace_path, (unsigned long long)s->n_trace_events);
    if (s->stats.n_trace_lost)
        fprintf(out, ", %llu more were lost: nobody took them in time", (unsigned long long)s->stats.n_trace_lost);
    fputc('\n', out);
}

/* ---- All of it ----------------------------------------------------------------------------------------- */

static void print_results(FILE *out, const struct summary *s) {
    double depth = summary_mean_block(s), accuracy = summary_accuracy(s);
    if (depth > 0)
        fprintf(out, "depth      mean %.2f of %u blocks, block_speedup %.2f\n", depth, s->info->n_blocks,
                s->info->n_blocks / depth);
    if (accuracy >= 0)
        fprintf(out, "accuracy   %.2f %% of %llu frames whose class is known\n", 100 * accuracy,
                (unsigned long long)summary_judged(s).n_judged);
    if (s->n_unknown_truth)
        fprintf(out, "           %llu frames have a true class the model does not know\n",
                (unsigned long long)s->n_unknown_truth);
}

static void print_speed(FILE *out, const struct summary *s) {
    const ees_latency *l = &s->stats.latency;
    if (summary_answered(s))
        fprintf(out, "speed      %.2f fps over %.2f s\n", summary_fps(s), (double)s->stats.wall_ns * 1e-9);
    if (l->n)
        fprintf(out, "latency    p50 %.2f   p90 %.2f   p99 %.2f ms (push to answer)\n", (double)l->p50_ns * 1e-6,
                (double)l->p90_ns * 1e-6, (double)l->p99_ns * 1e-6);
    if (summary_total(s).n_frames)
        summary_print_exits(out, s);
}

void summary_print(FILE *out, const struct summary *s) {
    char policy[1280];
    print_counts(out, s);
    print_sources(out, s);
    print_speed(out, s);
    print_results(out, s);
    print_audit(out, s);
    print_work(out, s);
    fprintf(out, "cost       %.2f CPU s, max RSS %.1f MiB\n", s->cpu_s, (double)s->max_rss_bytes / (1 << 20));
    fprintf(out, "plan       %s (%u workers, %u slots, kernels %s)\n", s->plan, s->stats.n_workers, s->stats.n_slots,
            s->info->kernels);
    print_replans(out, s);
    policy_text(&s->policy, policy, sizeof policy);
    fprintf(out, "policy     %s%s%s\n", policy, s->replay ? "; exits replayed: " : "", s->replay ? s->replay : "");
    print_certificate(out, s);
    print_trace(out, s);
}
