/* SPDX-License-Identifier: MIT */
/* Snapshots of an engine's counters. All loads are relaxed: each counter is right by itself, no order between them is
 * promised. */
#include <string.h>

#include "engine/internal.h"

#define LOAD(x) atomic_load_explicit(&(x), memory_order_relaxed)

static void read_worker(struct ees__worker *w, ees_stats *out) {
    out->workers[w->idx] = (ees_worker_stats){.cpu = LOAD(w->cpu),
                                              .group = w->group,
                                              .busy_ns = LOAD(w->busy_ns),
                                              .n_runs = LOAD(w->n_runs),
                                              .n_helped = LOAD(w->n_helped)};
    for (unsigned u = 0; u < out->n_units; u++) {
        out->units[u].n_runs += LOAD(w->unit_runs[u]);
        out->units[u].total_ns += LOAD(w->unit_ns[u]);
    }
}

static void read_group(struct ees__queue *q, const ees_plan_group *plan, ees_group_stats *out) {
    uint64_t n = LOAD(q->n_arrivals);
    *out = (ees_group_stats){
        .plan = *plan, .queue_mean = n ? (double)LOAD(q->depth_sum) / (double)n : 0, .queue_max = LOAD(q->depth_max)};
}

void ees_engine_get_stats(const ees_engine *engine, ees_stats *out) {
    struct ees_engine *e = (struct ees_engine *)engine; /* atomic loads take a non-const object before C23 */
    memset(out, 0, sizeof *out);
    out->n_workers = e->n_workers;
    out->n_groups = e->plan.n_groups;
    out->n_units = e->info->n_units;
    out->n_slots = e->n_slots;
    out->n_pushed = LOAD(e->tickets) & ~EES__FINISHED;
    out->n_ok = LOAD(e->n_ok);
    out->n_failed = LOAD(e->n_failed);
    out->n_warned = LOAD(e->n_warned);
    for (unsigned i = 0; i <= e->info->n_exits; i++)
        out->n_by_exit[i] = LOAD(e->n_by_exit[i]);
    uint64_t first = LOAD(e->first_push_ns), last = LOAD(e->last_done_ns);
    out->wall_ns = last > first ? last - first : 0;
    out->reorder_wait_ns = LOAD(e->reorder_wait_ns);
    ees__histogram_read(&e->latency, &out->latency);
    for (unsigned i = 0; i < e->n_workers; i++)
        read_worker(&e->workers[i], out);
    for (unsigned g = 0; g < e->plan.n_groups; g++)
        read_group(&e->queues[g], &e->plan.groups[g], &out->groups[g]);
}
