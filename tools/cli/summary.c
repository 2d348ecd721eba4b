/* SPDX-License-Identifier: MIT */
#include <string.h>
#include <sys/resource.h>

#include "tools/cli/fail.h"
#include "tools/cli/plan_text.h"
#include "tools/cli/summary.h"

/* ---- Counting ------------------------------------------------------------------------------------------ */

void summary_init(struct summary *s, const ees_model *model, const ees_policy_options *resolved, const char *replay,
                  size_t n_inputs) {
    *s = (struct summary){
        .model = model, .info = ees_model_get_info(model), .policy = *resolved, .replay = replay, .n_inputs = n_inputs};
}

void summary_add(struct summary *s, const ees_result *result, int class_idx) {
    s->n_by_status[result->status]++;
    s->n_unknown_truth += class_idx == -2;
    if (result->exit_idx < 0)
        return;
    struct exit_count *at = &s->exits[result->exit_idx];
    at->n_frames++;
    at->n_judged += class_idx >= 0;
    at->n_right += class_idx >= 0 && class_idx == result->class_idx;
    s->block_sum += result->block;
    s->n_warned += result->n_warnings > 0;
}

uint64_t summary_answered(const struct summary *s) {
    uint64_t n = 0;
    for (unsigned i = 0; i <= EES_STATUS_FAILED; i++)
        n += s->n_by_status[i];
    return n;
}

static struct exit_count total_of(const struct summary *s) {
    struct exit_count sum = {0};
    for (unsigned e = 0; e <= s->info->n_exits; e++) {
        sum.n_frames += s->exits[e].n_frames;
        sum.n_judged += s->exits[e].n_judged;
        sum.n_right += s->exits[e].n_right;
    }
    return sum;
}

double summary_mean_block(const struct summary *s) {
    uint64_t n = total_of(s).n_frames;
    return n ? (double)s->block_sum / (double)n : 0;
}

double summary_accuracy(const struct summary *s) {
    struct exit_count sum = total_of(s);
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

int summary_finish(struct summary *s, const ees_engine *engine, uint64_t n_pushed, ees_error *err) {
    ees_engine_get_stats(engine, &s->stats);
    ees_plan plan;
    ees_engine_get_plan(engine, &plan);
    plan_to_text(s->model, &plan, s->plan, sizeof s->plan);
    s->cpu_s = cpu_seconds();
    s->max_rss_bytes = max_rss_bytes();
    if (summary_answered(s) != n_pushed || s->stats.n_pushed != n_pushed)
        return CLI_FAIL(err, EES_EINTERNAL,
                        "%llu frames decoded, %llu taken by the engine, %llu answered: please report",
                        (unsigned long long)n_pushed, (unsigned long long)s->stats.n_pushed,
                        (unsigned long long)summary_answered(s));
    return 0;
}

/* ---- Text ---------------------------------------------------------------------------------------------- */

void policy_text(const ees_policy_options *p, char *out, size_t n) {
    int used = snprintf(out, n, "%s", p->name ? p->name : "none");
    for (unsigned i = 0; i < p->n_thresholds && used >= 0 && (size_t)used < n; i++)
        used += snprintf(out + used, n - (size_t)used, i ? " %g" : ", threshold %g", (double)p->thresholds[i]);
    if (p->patience && used >= 0 && (size_t)used < n)
        snprintf(out + used, n - (size_t)used, ", patience %u", p->patience);
}

static void print_bar(FILE *out, double share) {
    char bar[41] = {0};
    memset(bar, '#', (size_t)(share * 40 + 0.5));
    fprintf(out, bar[0] ? "  %s" : "%s", bar);
}

static void print_exit(FILE *out, const struct summary *s, unsigned e, uint64_t n_all, bool judged) {
    const ees_model_info *info = s->info;
    const struct exit_count *at = &s->exits[e];
    bool final = e == info->n_exits;
    double share = n_all ? (double)at->n_frames / (double)n_all : 0;
    fprintf(out, "  %2u %-14s %5u %9llu %5.1f %%", e, final ? "final" : info->exits[e].head,
            final ? info->n_blocks : info->exits[e].after_block, (unsigned long long)at->n_frames, 100 * share);
    if (at->n_judged)
        fprintf(out, " %5.1f %%", 100.0 * (double)at->n_right / (double)at->n_judged);
    else if (judged)
        fprintf(out, "       -");
    print_bar(out, share);
    fputc('\n', out);
}

void summary_print_exits(FILE *out, const struct summary *s) {
    struct exit_count sum = total_of(s);
    fprintf(out, "exit                block    frames   share%s\n", sum.n_judged ? "   right" : "");
    for (unsigned e = 0; e <= s->info->n_exits; e++)
        print_exit(out, s, e, sum.n_frames, sum.n_judged > 0);
}

static void print_counts(FILE *out, const struct summary *s) {
    const uint64_t *n = s->n_by_status;
    fprintf(out, "frames     %llu decoded = %llu emitted + %llu skipped + %llu dropped + %llu failed",
            (unsigned long long)summary_answered(s), (unsigned long long)n[EES_STATUS_OK],
            (unsigned long long)n[EES_STATUS_SKIPPED], (unsigned long long)n[EES_STATUS_DROPPED],
            (unsigned long long)n[EES_STATUS_FAILED]);
    fprintf(out, s->n_inputs > 1 ? ", from %zu inputs\n" : "\n", s->n_inputs);
}

void summary_print(FILE *out, const struct summary *s) {
    const ees_latency *l = &s->stats.latency;
    double wall_s = (double)s->stats.wall_ns * 1e-9, depth = summary_mean_block(s), accuracy = summary_accuracy(s);
    print_counts(out, s);
    fprintf(out, "speed      %.2f fps over %.2f s\n", summary_fps(s), wall_s);
    fprintf(out, "latency    p50 %.2f   p90 %.2f   p99 %.2f ms (push to answer)\n", (double)l->p50_ns * 1e-6,
            (double)l->p90_ns * 1e-6, (double)l->p99_ns * 1e-6);
    summary_print_exits(out, s);
    if (depth > 0)
        fprintf(out, "depth      mean %.2f of %u blocks, block_speedup %.2f\n", depth, s->info->n_blocks,
                s->info->n_blocks / depth);
    if (accuracy >= 0)
        fprintf(out, "accuracy   %.2f %% of %llu frames whose class is known\n", 100 * accuracy,
                (unsigned long long)total_of(s).n_judged);
    if (s->n_unknown_truth)
        fprintf(out, "           %llu frames have a true class the model does not know\n",
                (unsigned long long)s->n_unknown_truth);
    if (s->n_warned)
        fprintf(out, "warnings   %llu frames decoded with warnings\n", (unsigned long long)s->n_warned);
    fprintf(out, "cost       %.2f CPU s, max RSS %.1f MiB\n", s->cpu_s, (double)s->max_rss_bytes / (1 << 20));
    fprintf(out, "plan       %s (%u workers, %u slots, kernels %s)\n", s->plan, s->stats.n_workers, s->stats.n_slots,
            s->info->kernels);
    char policy[640];
    policy_text(&s->policy, policy, sizeof policy);
    fprintf(out, "policy     %s%s%s\n", policy, s->replay ? "; exits replayed: " : "", s->replay ? s->replay : "");
}

/* ---- JSON ---------------------------------------------------------------------------------------------- */

static json_t *exit_json(const struct summary *s, unsigned e) {
    const struct exit_count *at = &s->exits[e];
    bool final = e == s->info->n_exits;
    json_t *o =
        json_pack("{s:i, s:s, s:i, s:I}", "exit", (int)e, "head", final ? "final" : s->info->exits[e].head, "block",
                  (int)(final ? s->info->n_blocks : s->info->exits[e].after_block), "frames", (json_int_t)at->n_frames);
    if (at->n_judged)
        json_object_set_new(o, "accuracy", json_real((double)at->n_right / (double)at->n_judged));
    return o;
}

static json_t *policy_json(const ees_policy_options *p) {
    json_t *o = json_pack("{s:s, s:[]}", "name", p->name ? p->name : "none", "thresholds");
    for (unsigned i = 0; i < p->n_thresholds; i++)
        json_array_append_new(json_object_get(o, "thresholds"), json_real((double)p->thresholds[i]));
    if (p->patience)
        json_object_set_new(o, "patience", json_integer(p->patience));
    return o;
}

json_t *summary_json(const struct summary *s) {
    const uint64_t *n = s->n_by_status;
    const ees_latency *l = &s->stats.latency;
    double depth = summary_mean_block(s), accuracy = summary_accuracy(s);
    json_t *exits = json_array();
    for (unsigned e = 0; e <= s->info->n_exits; e++)
        json_array_append_new(exits, exit_json(s, e));
    json_t *o = json_pack(
        "{s:i, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:{s:f, s:f, s:f, s:f, s:f}, s:o, s:f, s:f, s:s, "
        "s:i, s:i, s:s, s:s, s:o}",
        "v", 1, "type", "summary", "version", ees_version(), "decoded", (json_int_t)summary_answered(s), "emitted",
        (json_int_t)n[EES_STATUS_OK], "skipped", (json_int_t)n[EES_STATUS_SKIPPED], "dropped",
        (json_int_t)n[EES_STATUS_DROPPED], "failed", (json_int_t)n[EES_STATUS_FAILED], "warned",
        (json_int_t)s->n_warned, "wall_s", (double)s->stats.wall_ns * 1e-9, "fps", summary_fps(s), "latency_ms", "p50",
        (double)l->p50_ns * 1e-6, "p90", (double)l->p90_ns * 1e-6, "p99", (double)l->p99_ns * 1e-6, "max",
        (double)l->max_ns * 1e-6, "mean", l->mean_ns * 1e-6, "exits", exits, "cpu_s", s->cpu_s, "max_rss_mib",
        (double)s->max_rss_bytes / (1 << 20), "plan", s->plan, "workers", (int)s->stats.n_workers, "slots",
        (int)s->stats.n_slots, "kernels", s->info->kernels, "model", s->info->name, "policy", policy_json(&s->policy));
    if (depth > 0) {
        json_object_set_new(o, "mean_block", json_real(depth));
        json_object_set_new(o, "block_speedup", json_real(s->info->n_blocks / depth));
    }
    if (accuracy >= 0) {
        json_object_set_new(o, "accuracy", json_real(accuracy));
        json_object_set_new(o, "judged", json_integer((json_int_t)total_of(s).n_judged));
    }
    if (s->replay)
        json_object_set_new(o, "replay", json_string(s->replay));
    return o;
}
