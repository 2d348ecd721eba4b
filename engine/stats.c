/* SPDX-License-Identifier: MIT */
/* Snapshots of an engine's counters. All loads are relaxed: each counter is right by itself, no order between them is
 * promised. */
#include <inttypes.h>
#include <string.h>

#include "common/clock.h"
#include "common/print.h"
#include "engine/internal.h"
#include "engine/relaxed.h"

static void read_worker(struct ees_engine *e, struct ees__worker *w, ees_stats *out) {
    uint64_t since_ns = LOAD(w->since_ns), now_ns = ees__now_ns();
    unsigned unit = LOAD(w->unit);
    out->workers[w->idx] =
        (ees_worker_stats){.cpu = LOAD(w->cpu),
                           .group = LOAD(e->sched.home[w->idx]),
                           .busy_ns = LOAD(w->busy_ns),
                           .n_runs = LOAD(w->n_runs),
                           .n_helped = LOAD(w->n_helped),
                           .n_batched = LOAD(w->n_batched),
                           .team_ns = LOAD(w->team_ns),
                           .unit = unit,
                           .unit_ns = unit < e->info->n_units && now_ns > since_ns ? now_ns - since_ns : 0};
    for (unsigned u = 0; u < out->n_units; u++) {
        out->units[u].n_runs += LOAD(w->unit_runs[u]);
        out->units[u].total_ns += LOAD(w->unit_ns[u]);
    }
    out->n_trace_lost += LOAD(w->trace.n_lost);
}

/* The first group's queue is its streams' entries. */
static void read_group(struct ees_engine *e, unsigned group, const ees_plan_group *plan, ees_group_stats *out) {
    uint64_t n = 0, sum = 0;
    *out = (ees_group_stats){.plan = *plan};
    struct ees__queue *queues[EES_MAX_STREAMS + 1] = {&e->sched.queues[group]};
    unsigned n_queues = 1;
    for (unsigned i = 0, n_streams = ees__stream_count(e); group == 0 && i < n_streams; i++)
        queues[n_queues++] = &ees__stream_at(e, i)->entry.queue;
    for (unsigned q = 0; q < n_queues; q++) {
        n += LOAD(queues[q]->n_arrivals);
        sum += LOAD(queues[q]->depth_sum);
        out->queue_now += ees__ring_count(&queues[q]->ring);
        out->queue_max = LOAD(queues[q]->depth_max) > out->queue_max ? LOAD(queues[q]->depth_max) : out->queue_max;
    }
    out->queue_mean = n ? (double)sum / (double)n : 0;
}

static void read_stream(struct ees__stream *s, ees_stats *out) {
    out->n_pushed += LOAD(s->tickets) & ~EES__FINISHED;
    out->n_ok += LOAD(s->n_ok);
    out->n_skipped += LOAD(s->n_skipped);
    out->n_dropped += LOAD(s->n_dropped);
    out->n_failed += LOAD(s->n_failed);
    out->n_degraded += LOAD(s->n_degraded);
    out->n_deadline += LOAD(s->n_deadline);
    double degrade = (double)LOAD(s->degrade_permille) * 1e-3;
    out->degrade = degrade > out->degrade ? degrade : out->degrade;
}

void ees_engine_get_stats(const ees_engine *engine, ees_stats *out) {
    struct ees_engine *e = (struct ees_engine *)engine; /* atomic loads take a non-const object before C23 */
    ees_plan plan;
    ees_engine_get_plan(e, &plan);
    memset(out, 0, sizeof *out);
    out->n_workers = e->n_workers;
    out->n_groups = plan.n_groups;
    out->n_units = e->info->n_units;
    out->n_slots = e->n_slots;
    out->n_streams = ees__stream_count(e);
    for (unsigned i = 0; i < out->n_streams; i++)
        read_stream(ees__stream_at(e, i), out);
    out->n_warned = LOAD(e->n_warned);
    out->n_nonfinite = LOAD(e->n_nonfinite);
    for (unsigned i = 0; i <= e->info->n_exits; i++) {
        out->n_by_exit[i] = LOAD(e->n_by_exit[i]);
        ees__histogram_read(&e->latency_by_exit[i], &out->latency_by_exit[i]);
    }
    ees__histogram_read_sum(e->latency_by_exit, e->info->n_exits + 1, &out->latency);
    uint64_t first = LOAD(e->first_push_ns), last = LOAD(e->last_done_ns);
    out->wall_ns = last > first ? last - first : 0;
    out->reorder_wait_ns = LOAD(e->reorder_wait_ns);
    ees__audits_read(&e->audits, &out->audit);
    for (unsigned i = 0; i < e->n_workers; i++)
        read_worker(e, &e->workers[i], out);
    for (unsigned g = 0; g < plan.n_groups; g++)
        read_group(e, g, &plan.groups[g], &out->groups[g]);
    out->n_replans = ees__governor_n_replans(e);
    out->n_trace_lost += LOAD(ees__governor_trace(e)->n_lost);
}

/* ---- For people ---------------------------------------------------------------------------------------- */

static void describe_worker(struct ees_engine *e, struct ees__worker *w, struct ees__printer *t) {
    const ees_unit_info *unit = ees_model_get_unit(e->model, LOAD(w->unit));
    double ms = unit ? 1e-6 * (double)(ees__now_ns() - LOAD(w->since_ns)) : 0;
    ees__print(t, "%6u %4d %6u %-20s %12.1f %9" PRIu64 "\n", w->idx, LOAD(w->cpu), LOAD(e->sched.home[w->idx]),
               unit ? unit->name : "-", ms, LOAD(w->n_runs));
}

size_t ees_engine_describe(const ees_engine *engine, char *out, size_t n) {
    struct ees_engine *e = (struct ees_engine *)engine;
    struct ees__printer t = ees__printer_on(out, n);
    ees__print(&t, "worker  cpu  group in unit                for, ms    visits\n");
    for (unsigned i = 0; i < e->n_workers; i++)
        describe_worker(e, &e->workers[i], &t);
    ees__print(&t, "queue                waiting\n");
    for (unsigned i = 0, n_streams = ees__stream_count(e); i < n_streams; i++)
        ees__print(&t, "entry of stream %-4u %7u   %u slots held, %" PRIu64 " frames pushed\n", i,
                   ees__ring_count(&ees__stream_at(e, i)->entry.queue.ring), LOAD(ees__stream_at(e, i)->n_inside),
                   LOAD(ees__stream_at(e, i)->tickets) & ~EES__FINISHED);
    for (unsigned g = 0, n_groups = LOAD(e->sched.n_groups); g < n_groups; g++)
        ees__print(&t, "group %-14u %7u\n", g, ees__ring_count(&e->sched.queues[g].ring));
    ees__print(&t, "free slots           %7u of %u\n", ees__ring_count(&e->free_slots), e->n_slots);
    return t.length;
}
