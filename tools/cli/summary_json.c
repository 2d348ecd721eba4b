/* SPDX-License-Identifier: MIT */
/* The summary for programs. Fields are only ever added. */
#include <math.h>

#include "tools/cli/file.h"
#include "tools/cli/plan_text.h"
#include "tools/cli/summary.h"

static json_t *latency_json(const ees_latency *l) {
    return json_pack("{s:f, s:f, s:f, s:f, s:f}", "p50", (double)l->p50_ns * 1e-6, "p90", (double)l->p90_ns * 1e-6,
                     "p99", (double)l->p99_ns * 1e-6, "max", (double)l->max_ns * 1e-6, "mean", l->mean_ns * 1e-6);
}

static json_t *exit_json(const struct summary *s, unsigned e) {
    const struct exit_count *at = &s->exits[e];
    bool final = e == s->info->n_exits;
    json_t *o =
        json_pack("{s:i, s:s, s:i, s:I}", "exit", (int)e, "head", final ? "final" : s->info->exits[e].head, "block",
                  (int)(final ? s->info->n_blocks : s->info->exits[e].after_block), "frames", (json_int_t)at->n_frames);
    if (at->n_judged)
        json_object_set_new(o, "accuracy", json_real((double)at->n_right / (double)at->n_judged));
    if (s->stats.latency_by_exit[e].n)
        json_object_set_new(o, "latency_ms", latency_json(&s->stats.latency_by_exit[e]));
    return o;
}

json_t *policy_json(const ees_policy_options *p) {
    json_t *o = json_pack("{s:s, s:[]}", "name", p->name ? p->name : "none", "thresholds");
    for (unsigned i = 0; i < p->n_thresholds; i++)
        json_array_append_new(json_object_get(o, "thresholds"), json_real((double)p->thresholds[i]));
    if (p->n_degraded)
        json_object_set_new(o, "degraded_thresholds", json_array());
    for (unsigned i = 0; i < p->n_degraded; i++)
        json_array_append_new(json_object_get(o, "degraded_thresholds"), json_real((double)p->degraded[i]));
    if (p->patience)
        json_object_set_new(o, "patience", json_integer(p->patience));
    if (p->lag)
        json_object_set_new(o, "lag", json_integer(p->lag));
    if (p->n_weights)
        json_object_set_new(o, "weights", json_array());
    for (unsigned i = 0; i < p->n_weights; i++)
        json_array_append_new(json_object_get(o, "weights"), json_real((double)p->weights[i]));
    if (p->skip_below > 0)
        json_object_set_new(o, "skip_below", json_real((double)p->skip_below));
    return o;
}

static json_t *source_json(const struct source_count *c) {
    const uint64_t *n = c->n_by_status;
    json_t *o =
        json_pack("{s:o, s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "source", json_text(c->uri), "live",
                  (int)c->live, "complete", (int)c->complete, "decoded",
                  (json_int_t)(n[EES_STATUS_OK] + n[EES_STATUS_SKIPPED] + n[EES_STATUS_DROPPED] + n[EES_STATUS_FAILED]),
                  "emitted", (json_int_t)n[EES_STATUS_OK], "skipped", (json_int_t)n[EES_STATUS_SKIPPED], "dropped",
                  (json_int_t)n[EES_STATUS_DROPPED], "failed", (json_int_t)n[EES_STATUS_FAILED], "degraded",
                  (json_int_t)c->n_early[EES_EARLY_DEGRADED], "deadline", (json_int_t)c->n_early[EES_EARLY_DEADLINE]);
    if (c->latency.n)
        json_object_set_new(o, "latency_ms", latency_json(&c->latency));
    return o;
}

/* JSON has no infinity: the prediction of a plan whose frames never get that far. */
static double or_zero(double x) { return isfinite(x) ? x : 0; }

static json_t *replans_json(const struct summary *s) {
    json_t *last = json_array();
    char plan[512];
    for (unsigned i = 0; i < s->n_replans; i++) {
        const ees_replan *r = &s->replans[i];
        plan_to_text(s->model, &r->plan, plan, sizeof plan);
        json_array_append_new(last, json_pack("{s:f, s:s, s:f, s:f}", "at_s", (double)r->at_ns * 1e-9, "plan", plan,
                                              "fps_before", or_zero(r->fps_before), "fps", or_zero(r->plan.fps)));
    }
    return json_pack("{s:I, s:o}", "n", (json_int_t)s->stats.n_replans, "last", last);
}

static json_t *agreement_json(uint64_t n_agreed, uint64_t n_done) {
    json_t *o = json_pack("{s:I, s:I}", "done", (json_int_t)n_done, "agreed", (json_int_t)n_agreed);
    struct agreement a = agreement_of(n_agreed, n_done);
    if (n_done)
        json_object_update_new(o, json_pack("{s:f, s:f, s:f}", "agreement", a.share, "low", a.low, "high", a.high));
    return o;
}

static json_t *audit_json(const struct summary *s) {
    const ees_audit_stats *a = &s->stats.audit;
    json_t *o = agreement_json(a->n_agreed, a->n_done), *exits = json_array();
    for (unsigned e = 0; e < s->info->n_exits; e++) {
        json_t *at = agreement_json(a->n_agreed_by_exit[e], a->n_done_by_exit[e]);
        json_object_set_new(at, "exit", json_integer(e));
        json_array_append_new(exits, at);
    }
    json_object_set_new(o, "exits", exits);
    if (a->n_done_skipped)
        json_object_set_new(o, "skipped", agreement_json(a->n_agreed_skipped, a->n_done_skipped));
    json_object_set_new(o, "missed", json_integer((json_int_t)a->n_missed));
    json_object_set_new(o, "busy_share", json_real(summary_work(s).audit));
    return o;
}

/* How the engine worked, and what only some runs have. */
static void add_work(json_t *o, const struct summary *s) {
    struct work_shares w = summary_work(s);
    json_object_set_new(o, "degraded", json_integer((json_int_t)s->n_early[EES_EARLY_DEGRADED]));
    json_object_set_new(o, "deadline", json_integer((json_int_t)s->n_early[EES_EARLY_DEADLINE]));
    json_object_set_new(o, "nonfinite", json_integer((json_int_t)s->n_nonfinite));
    json_object_set_new(o, "reorder_wait_s", json_real((double)s->stats.reorder_wait_ns * 1e-9));
    json_object_set_new(o, "helped_share", json_real(w.helped));
    json_object_set_new(o, "batched_share", json_real(w.batched));
    json_object_set_new(o, "team_share", json_real(w.team));
    json_object_set_new(o, "replans", replans_json(s));
    if (s->stats.audit.n_done || s->stats.audit.n_missed)
        json_object_set_new(o, "audit", audit_json(s));
    if (s->trace_path)
        json_object_set_new(o, "trace",
                            json_pack("{s:o, s:I, s:I}", "file", json_text(s->trace_path), "events",
                                      (json_int_t)s->n_trace_events, "lost", (json_int_t)s->stats.n_trace_lost));
    if (s->n_inside)
        json_object_set_new(o, "unanswered", json_integer((json_int_t)s->n_inside));
    if (s->n_sources < 2)
        return;
    json_t *sources = json_array();
    for (size_t i = 0; i < s->n_sources; i++)
        json_array_append_new(sources, source_json(&s->sources[i]));
    json_object_set_new(o, "sources", sources);
}

json_t *summary_json(const struct summary *s) {
    const uint64_t *n = s->n_by_status;
    double depth = summary_mean_block(s), accuracy = summary_accuracy(s);
    json_t *exits = json_array();
    for (unsigned e = 0; e <= s->info->n_exits; e++)
        json_array_append_new(exits, exit_json(s, e));
    json_t *o = json_pack(
        "{s:i, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:o, s:o, s:f, s:f, s:s, "
        "s:i, s:i, s:s, s:s, s:o}",
        "v", 1, "type", "summary", "version", ees_version(), "decoded", (json_int_t)summary_answered(s), "emitted",
        (json_int_t)n[EES_STATUS_OK], "skipped", (json_int_t)n[EES_STATUS_SKIPPED], "dropped",
        (json_int_t)n[EES_STATUS_DROPPED], "failed", (json_int_t)n[EES_STATUS_FAILED], "warned",
        (json_int_t)s->n_warned, "wall_s", (double)s->stats.wall_ns * 1e-9, "fps", summary_fps(s), "latency_ms",
        latency_json(&s->stats.latency), "exits", exits, "cpu_s", s->cpu_s, "max_rss_mib",
        (double)s->max_rss_bytes / (1 << 20), "plan", s->plan, "workers", (int)s->stats.n_workers, "slots",
        (int)s->stats.n_slots, "kernels", s->info->kernels, "model", s->info->name, "policy", policy_json(&s->policy));
    if (depth > 0) {
        json_object_set_new(o, "mean_block", json_real(depth));
        json_object_set_new(o, "block_speedup", json_real(s->info->n_blocks / depth));
    }
    if (accuracy >= 0) {
        json_object_set_new(o, "accuracy", json_real(accuracy));
        json_object_set_new(o, "judged", json_integer((json_int_t)summary_judged(s).n_judged));
    }
    if (s->certificate)
        json_object_set_new(o, "certificate",
                            json_pack("{s:o, s:b, s:f, s:f}", "file", json_text(s->certificate->file), "drifted",
                                      (int)s->drifted, "distance", s->drift.distance, "p_value", s->drift.p_value));
    if (s->replay)
        json_object_set_new(o, "replay", json_string(s->replay));
    add_work(o, s);
    return o;
}
