/* SPDX-License-Identifier: MIT */
/* One thread that looks at the engine ten times a second while frames are inside, twice a second otherwise. It
 *
 *   - follows the stream's exits and costs, and publishes another plan where that is predicted to be faster (replanner.c);
 *   - follows the affinity mask: its own thread is not pinned, so a change of the process' mask shows there;
 *   - finds workers that are stuck in a unit;
 *   - sets how far overload moves the thresholds of each stream that may degrade;
 *   - samples queue depths for the trace.
 *
 * It only reads counters and stores advice: nothing waits for it, and frames flow without it. */
#define _GNU_SOURCE
#include <string.h>

#include "common/clock.h"
#include "common/fail.h"
#include "engine/affinity.h"
#include "engine/internal.h"
#include "engine/relaxed.h"
#include "engine/replanner.h"

enum { KEPT_REPLANS = 16 };

static const uint64_t busy_tick_ns = 100000000, idle_tick_ns = 500000000, trace_tick_ns = 10000000;

/* A look that comes later than this was not late by our doing. */
static const uint64_t longest_look_ns = 1000000000;

struct ees__governor {
    struct ees_engine *engine;
    pthread_t thread;
    bool started;
    struct ees__trace trace;
    uint64_t looked_ns; /* at everything but queue depths */
    int cpus[EES_MAX_WORKERS];
    unsigned n_cpus;       /* of the mask in force */
    ees_cores first_cores; /* at open */

    struct ees__replanner *replanner; /* NULL: the plan stays */
    uint64_t seen_runs[EES_MAX_CORE_TYPES][EES_MAX_UNITS], seen_ns[EES_MAX_CORE_TYPES][EES_MAX_UNITS];
    uint64_t awake_ns; /* time in which stalls count */
    uint64_t watched_since_ns[EES_MAX_WORKERS],
        watched_from_ns[EES_MAX_WORKERS]; /* start of a worker's unit, when first seen */
    uint64_t seen_late[EES_MAX_STREAMS];  /* frames dropped or answered at their deadline */

    /* guarded by the engine's lock */
    ees_replan replans[KEPT_REPLANS]; /* number i at [i % KEPT_REPLANS] */
    uint64_t n_replans;
};

static void tell(struct ees__governor *g, enum ees_trace_kind kind, unsigned group, unsigned stream, uint64_t value) {
    if (ees__trace_is_on(&g->trace))
        ees__trace_tell(&g->trace, &(ees_trace_event){.kind = (uint8_t)kind,
                                                      .worker = (uint16_t)g->engine->n_workers,
                                                      .group = (uint16_t)group,
                                                      .stream = stream,
                                                      .value = value,
                                                      .start_ns = ees__now_ns()});
}

/* ---- Cores --------------------------------------------------------------------------------------------- */

static void pin_workers(struct ees_engine *e) {
    for (unsigned i = 0; i < e->n_workers; i++) {
        struct ees__worker *w = &e->workers[i];
        unsigned core = i % e->cores.n_cores;
        w->type = e->cores.type[core];
        STORE(w->cpu, e->options.pin ? ees__affinity_pin(w->thread, e->cores.cpu[core]) : -1);
    }
    STORE(e->spin_ns, e->n_workers > e->cores.n_cores ? 0 : e->options.spin_ns);
}

static void publish(struct ees_engine *e) {
    uint8_t types[EES_MAX_WORKERS];
    for (unsigned w = 0; w < e->n_workers; w++)
        types[w] = e->workers[w].type;
    ees__sched_publish(&e->sched, &e->plan, types, e->max_batch);
}

static void count_types(const struct ees_engine *e, unsigned n_of_type[EES_MAX_CORE_TYPES]) {
    memset(n_of_type, 0, EES_MAX_CORE_TYPES * sizeof *n_of_type);
    for (unsigned w = 0; w < e->n_workers; w++)
        n_of_type[e->workers[w].type]++;
}

/* Give cores the types they had before: the profile knows them by those numbers. One that was not there runs as the first. */
static void keep_types(const ees_cores *before, ees_cores *now) {
    for (unsigned i = 0; i < now->n_cores; i++) {
        now->type[i] = 0;
        for (unsigned b = 0; b < before->n_cores; b++)
            if (before->cpu[b] == now->cpu[i])
                now->type[i] = before->type[b];
    }
}

/* Cores were taken away or given back: workers move to those there are. With fewer cores than workers they share. */
static void follow_mask(struct ees__governor *g) {
    struct ees_engine *e = g->engine;
    int cpus[EES_MAX_WORKERS];
    unsigned n = ees__affinity_cpus(cpus, EES_MAX_WORKERS);
    if (n == g->n_cpus && memcmp(cpus, g->cpus, n * sizeof *cpus) == 0)
        return;
    ees_cores cores;
    if (ees_cores_detect(&cores, NULL) < 0)
        return;
    memcpy(g->cpus, cpus, n * sizeof *cpus);
    g->n_cpus = n;
    keep_types(&g->first_cores, &cores);
    e->cores = cores;
    pin_workers(e);
    if (g->replanner) {
        unsigned n_of_type[EES_MAX_CORE_TYPES];
        count_types(e, n_of_type);
        ees__replanner_set_cores(g->replanner, n_of_type);
    }
    publish(e);
    tell(g, EES_TRACE_CORES, 0, 0, n);
}

/* ---- Re-planning --------------------------------------------------------------------------------------- */

/* What all workers of each core type have done since the last look. */
static void read_counters(struct ees__governor *g, double runs[][EES_MAX_UNITS], double ns[][EES_MAX_UNITS]) {
    struct ees_engine *e = g->engine;
    static const unsigned n_types = EES_MAX_CORE_TYPES;
    for (unsigned t = 0; t < n_types; t++)
        for (unsigned u = 0; u < e->info->n_units; u++) {
            uint64_t n = 0, spent = 0;
            for (unsigned w = 0; w < e->n_workers; w++)
                if (e->workers[w].type == t) {
                    n += LOAD(e->workers[w].unit_runs[u]);
                    spent += LOAD(e->workers[w].unit_ns[u]);
                }
            runs[t][u] = n > g->seen_runs[t][u] ? (double)(n - g->seen_runs[t][u]) : 0; /* types may have moved */
            ns[t][u] = spent > g->seen_ns[t][u] ? (double)(spent - g->seen_ns[t][u]) : 0;
            g->seen_runs[t][u] = n;
            g->seen_ns[t][u] = spent;
        }
}

static void keep_replan(struct ees__governor *g, double fps_before) {
    struct ees_engine *e = g->engine;
    uint64_t first_ns = LOAD(e->first_push_ns);
    ees_replan *at = &g->replans[g->n_replans++ % KEPT_REPLANS];
    *at = (ees_replan){.at_ns = ees__now_ns() - first_ns, .fps_before = fps_before, .plan = e->plan};
}

static void consider_plan(struct ees__governor *g, uint64_t dt_ns) {
    struct ees_engine *e = g->engine;
    double runs[EES_MAX_CORE_TYPES][EES_MAX_UNITS], ns[EES_MAX_CORE_TYPES][EES_MAX_UNITS];
    ees_plan plan;
    double fps_before;
    if (!g->replanner)
        return;
    read_counters(g, runs, ns);
    ees__replanner_add(g->replanner, (double)dt_ns, runs, ns);
    if (!ees__replanner_propose(g->replanner, &e->plan, &plan, &fps_before))
        return;
    pthread_mutex_lock(&e->lock);
    e->plan = plan;
    keep_replan(g, fps_before);
    pthread_mutex_unlock(&e->lock);
    publish(e);
    tell(g, EES_TRACE_REPLAN, plan.n_groups, 0, g->n_replans);
}

unsigned ees_engine_get_replans(const ees_engine *engine, ees_replan *out, unsigned max) {
    struct ees_engine *e = (struct ees_engine *)engine;
    struct ees__governor *g = e->governor;
    pthread_mutex_lock(&e->lock);
    uint64_t n = g->n_replans < KEPT_REPLANS ? g->n_replans : KEPT_REPLANS;
    n = n < max ? n : max;
    for (uint64_t i = 0; i < n; i++)
        out[i] = g->replans[(g->n_replans - n + i) % KEPT_REPLANS];
    pthread_mutex_unlock(&e->lock);
    return (unsigned)n;
}

uint64_t ees__governor_n_replans(struct ees_engine *e) {
    pthread_mutex_lock(&e->lock);
    uint64_t n = e->governor->n_replans;
    pthread_mutex_unlock(&e->lock);
    return n;
}

/* ---- Stalls -------------------------------------------------------------------------------------------- */

/* Time is what the governor was awake for: a process that was stopped (Ctrl-Z, a suspended machine) or starved of its cores
 * as a whole has not stalled. */
static bool is_stuck(struct ees__governor *g, unsigned idx) {
    const struct ees__worker *w = &g->engine->workers[idx];
    uint64_t since_ns = LOAD(w->since_ns);
    bool inside = LOAD(w->unit) < g->engine->info->n_units;
    if (!inside || since_ns != g->watched_since_ns[idx]) {
        g->watched_since_ns[idx] = inside ? since_ns : 0;
        g->watched_from_ns[idx] = g->awake_ns;
        return false;
    }
    return g->awake_ns - g->watched_from_ns[idx] > g->engine->options.stall_ns;
}

static void find_stalls(struct ees__governor *g, uint64_t dt_ns) {
    struct ees_engine *e = g->engine;
    uint32_t stalled = 0;
    g->awake_ns += dt_ns < longest_look_ns ? dt_ns : longest_look_ns;
    for (unsigned i = 0; i < e->n_workers && e->options.stall_ns; i++)
        if (is_stuck(g, i) && !stalled)
            stalled = i + 1;
    if (stalled == LOAD(e->stalled))
        return;
    STORE(e->stalled, stalled); /* relaxed: the notifications order it for those who sleep */
    ees__event_notify_all(&e->answered);
    ees__event_notify_all(&e->room);
}

/* ---- Overload ------------------------------------------------------------------------------------------ */

/* Up quickly when frames wait or were late, down slowly when nothing waits: a level that just keeps up is held. */
enum { UP_LATE = 250, UP_WAITING = 125, DOWN = 50, FULL = 1000 };

static void steer_stream(struct ees__governor *g, unsigned idx) {
    struct ees__stream *s = ees__stream_at(g->engine, idx);
    if (s->options.overload != EES_OVERLOAD_DEGRADE)
        return;
    uint64_t late = LOAD(s->n_dropped) + LOAD(s->n_deadline);
    uint32_t waiting = ees__ring_count(&s->entry.queue.ring), level = LOAD(s->degrade_permille), before = level;
    if (late > g->seen_late[idx])
        level += UP_LATE;
    else if (waiting * 2 > s->options.backlog)
        level += UP_WAITING;
    else if (waiting == 0)
        level = level > DOWN ? level - DOWN : 0;
    level = level < FULL ? level : FULL;
    g->seen_late[idx] = late;
    STORE(s->degrade_permille, level);
    if (level != before)
        tell(g, EES_TRACE_DEGRADE, 0, idx, level);
}

/* ---- Thread -------------------------------------------------------------------------------------------- */

static void sample_queues(struct ees__governor *g) {
    struct ees_engine *e = g->engine;
    unsigned n_groups = LOAD(e->sched.n_groups), fresh = 0;
    if (!ees__trace_is_on(&g->trace))
        return;
    for (unsigned q = 0; q < n_groups; q++)
        tell(g, EES_TRACE_QUEUES, q, 0, ees__ring_count(&e->sched.queues[q].ring));
    for (unsigned i = 0, n = ees__stream_count(e); i < n; i++)
        fresh += ees__ring_count(&ees__stream_at(e, i)->entry.queue.ring);
    tell(g, EES_TRACE_QUEUES, n_groups, 0, fresh);
}

static bool is_busy(struct ees_engine *e) {
    for (unsigned i = 0; i < e->n_workers; i++)
        if (LOAD(e->workers[i].unit) < e->info->n_units)
            return true;
    return ees__sched_waiting(&e->sched) > 0;
}

static void look(struct ees__governor *g, uint64_t dt_ns) {
    follow_mask(g);
    consider_plan(g, dt_ns);
    find_stalls(g, dt_ns);
    for (unsigned i = 0, n = ees__stream_count(g->engine); i < n; i++)
        steer_stream(g, i);
}

static void *govern(void *opaque) {
    struct ees__governor *g = opaque;
    struct ees_engine *e = g->engine;
    while (!LOAD(e->stop)) {
        uint64_t now_ns = ees__now_ns();
        bool busy = is_busy(e);
        uint64_t tick_ns = !busy ? idle_tick_ns : ees__trace_is_on(&g->trace) ? trace_tick_ns : busy_tick_ns;
        if (busy)
            sample_queues(g);
        if (now_ns - g->looked_ns >= busy_tick_ns) {
            look(g, now_ns - g->looked_ns);
            g->looked_ns = now_ns;
        }
        uint32_t key = ees__event_prepare(&e->tick);
        if (LOAD(e->stop)) /* relaxed: prepare has ordered it after the notification of a stop that came before */
            ees__event_cancel(&e->tick);
        else
            ees__event_wait(&e->tick, key, 0, now_ns + tick_ns);
    }
    return NULL;
}

static int start_replanner(struct ees__governor *g, ees_error *err) {
    struct ees_engine *e = g->engine;
    unsigned n_of_type[EES_MAX_CORE_TYPES];
    if (!e->options.replan || !e->profile)
        return 0;
    count_types(e, n_of_type);
    return ees__replanner_open(e->profile, n_of_type, &g->replanner, err);
}

int ees__governor_start(struct ees_engine *e, ees_error *err) {
    struct ees__governor *g = e->governor = ees__calloc_aligned(1, sizeof *g);
    if (!g || !ees__trace_init(&g->trace, e->options.trace_events))
        return EES_FAIL(err, EES_ENOMEM, "no memory for the governor");
    g->engine = e;
    g->looked_ns = ees__now_ns();
    g->first_cores = e->cores;
    g->n_cpus = ees__affinity_cpus(g->cpus, EES_MAX_WORKERS);
    pin_workers(e);
    EES_TRY(start_replanner(g, err));
    int error = ees__thread_start(&g->thread, govern, g);
    if (error)
        return EES_FAIL_OS(err, EES_ENOMEM, error, "the governor's thread cannot be started");
    g->started = true;
    return 0;
}

void ees__governor_stop(struct ees_engine *e) {
    struct ees__governor *g = e->governor;
    if (!g)
        return;
    STORE(e->stop, true); /* relaxed: as in stop_workers(); workers are stopped next by the same flag */
    ees__event_notify_all(&e->tick);
    if (g->started)
        pthread_join(g->thread, NULL);
    ees__replanner_close(g->replanner);
    ees__trace_fini(&g->trace);
    ees__free(g);
    e->governor = NULL;
}

struct ees__trace *ees__governor_trace(struct ees_engine *e) {
    return &e->governor->trace;
}
