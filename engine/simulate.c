/* SPDX-License-Identifier: MIT */
/* The what-if simulator. Frames, workers and time are made up here; where frames wait, who takes which, how far a visit goes and
 * what runs together is the engine's own sched.c, plans are the planner's, and plans change as replanner.c says.
 *
 * What it takes for granted: a unit takes its measured time however many cores work (no shared memory bandwidth or power limit),
 * hand-overs and wake-ups take none, and whoever reads the answers is always ready. */
#include <math.h>
#include <string.h>

#include "common/fail.h"
#include "common/mem.h"
#include "common/random.h"
#include "eestream/simulate.h"
#include "engine/histogram.h"
#include "engine/plan_costs.h"
#include "engine/relaxed.h"
#include "engine/replanner.h"
#include "engine/sched.h"
#include "engine/sim_events.h"

static const uint64_t look_ns = 1000000000;

enum { NO_GROUP = UINT16_MAX };

struct sim_frame {
    uint64_t number, due_ns, done_ns;
    uint8_t exit;
};

struct sim_worker {
    bool is_busy;
    uint8_t type;
    unsigned warm_group;     /* whose weights its cache holds: where its last visit was */
    unsigned end;            /* of the visit */
    struct ees__taken taken; /* what is left of it */
    uint64_t busy_ns;
};

struct simulation {
    const ees_model *model;
    const ees_model_info *info;
    const ees_simulation_options *o;
    const ees_profile *profile;
    ees_plan plan;
    unsigned n_workers, n_slots, max_batch, n_idle, n_free;
    uint64_t n_frames, n_arrived, n_entered, n_left;
    uint64_t now_ns, random;
    struct ees__sched sched;
    struct ees__entry entry;
    struct ees__sim_events events;
    struct sim_worker *workers;
    struct sim_frame *frames;      /* by slot */
    uint32_t *free_slots, *window; /* window: slot + 1 of frame `number` at [number % n_slots], 0: not answered */
    bool fits[EES_MAX_CORE_TYPES][EES_MAX_GROUPS]; /* a group's weights, a core's private cache */
    struct ees__replanner *replanner;
    double (*runs)[EES_MAX_UNITS], (*ns)[EES_MAX_UNITS]; /* since the last look, by core type */
    struct ees__histogram latency;
    uint64_t reorder_wait_ns, n_replans, n_helped, n_visits;
};

void ees_simulation_options_default(ees_simulation_options *options) { *options = (ees_simulation_options){0}; }

/* ---- Time ---------------------------------------------------------------------------------------------- */

/* A number in (0, 1). */
static double uniform(struct simulation *s) {
    s->random += EES_RANDOM_STEP;
    return ((double)(ees__mix64(s->random) >> 11) + 0.5) * 0x1p-53;
}

/* Log-normal with mean 1 and the standard deviation asked for: never negative, and the tail is on the slow side. */
static double jitter(struct simulation *s) {
    double sd = s->o->jitter;
    if (sd == 0)
        return 1;
    double variance = log1p(sd * sd);
    double normal = sqrt(-2 * log(uniform(s))) * cos(6.283185307179586 * uniform(s));
    return exp(sqrt(variance) * normal - variance / 2);
}

/* n frames through a unit in one product. A measured batch has `profile.batch` frames; in between, each further frame costs
 * the same. */
static double together_ns(const ees_profile *p, unsigned type, unsigned unit, unsigned n) {
    double alone = p->types[type].cold_ns[unit], whole = p->batch * p->types[type].batch_ns[unit];
    return n == 1 || p->batch < 2 ? n * alone : alone + (n - 1) * (whole - alone) / (p->batch - 1);
}

/* What a unit takes on n frames of one visit, which runs as many together as the plan says. */
static double unit_ns(struct simulation *s, const struct sim_worker *w, bool warm, unsigned unit, unsigned n) {
    const ees_unit_info *info = ees_model_get_unit(s->model, unit);
    if (!s->o->exits && info->exit_idx >= 0 && (unsigned)info->exit_idx < s->info->n_exits)
        return 0; /* full depth passes early heads over */
    if (warm)
        return n * s->profile->types[w->type].warm_ns[unit];
    double ns = 0;
    unsigned step = LOAD(s->sched.batch_of[unit]);
    for (unsigned i = 0; i < n; i += step)
        ns += together_ns(s->profile, w->type, unit, n - i < step ? n - i : step);
    return ns;
}

/* ---- Visits -------------------------------------------------------------------------------------------- */

static bool leaves_at(const struct simulation *s, uint32_t slot, unsigned unit) {
    return ees_model_get_unit(s->model, unit)->exit_idx == s->frames[slot].exit || unit + 1 == s->info->n_units;
}

/* Run the visit's frames through its units; those that exit leave on the way, the others close up. */
static uint64_t run_units(struct simulation *s, struct sim_worker *w, bool warm, unsigned unit) {
    struct ees__taken *t = &w->taken;
    double ns = 0;
    for (; unit < w->end && t->n > 0; unit++) {
        unsigned n_kept = 0;
        double spent = unit_ns(s, w, warm, unit, t->n);
        spent = spent > 0 ? spent * jitter(s) : 0;
        s->runs[w->type][unit] += t->n;
        s->ns[w->type][unit] += spent;
        ns += spent;
        for (unsigned i = 0; i < t->n; i++)
            if (leaves_at(s, t->slots[i], unit))
                ees__sim_events_add(&s->events, s->now_ns + (uint64_t)llround(ns), EES__SIM_ANSWER, t->slots[i]);
            else
                t->slots[n_kept++] = t->slots[i];
        t->n = n_kept;
    }
    return (uint64_t)llround(ns);
}

/* @return false: nothing for this worker to do */
static bool begin_visit(struct simulation *s, unsigned idx) {
    struct sim_worker *w = &s->workers[idx];
    if (!ees__sched_take(&s->sched, idx, &w->taken))
        return false;
    unsigned group = w->taken.group, unit = s->sched.slots[w->taken.slots[0]].unit;
    bool warm = w->warm_group == group && s->fits[w->type][group];
    s->n_visits += w->taken.n;
    s->n_helped += group == LOAD(s->sched.home[idx]) ? 0 : w->taken.n;
    w->warm_group = group;
    w->end = ees__sched_end(&s->sched, unit);
    uint64_t ns = run_units(s, w, warm, unit);
    w->is_busy = true;
    w->busy_ns += ns;
    s->n_idle--;
    ees__sim_events_add(&s->events, s->now_ns + ns, EES__SIM_VISIT_END, idx);
    return true;
}

/* A frame came into a queue: one idle worker looks, of that group if there is one, as ees__event_notify() does it. */
static void wake(struct simulation *s, unsigned group) {
    if (s->n_idle == 0)
        return;
    for (unsigned w = 0; w < s->n_workers; w++)
        if (!s->workers[w].is_busy && LOAD(s->sched.home[w]) == group && begin_visit(s, w))
            return;
    for (unsigned w = 0; w < s->n_workers && !s->o->no_help; w++)
        if (!s->workers[w].is_busy && begin_visit(s, w))
            return;
}

static void end_visit(struct simulation *s, unsigned idx) {
    struct sim_worker *w = &s->workers[idx];
    for (unsigned i = 0; i < w->taken.n; i++) {
        s->sched.slots[w->taken.slots[i]].unit = (uint16_t)w->end;
        wake(s, ees__sched_put(&s->sched, w->taken.slots[i]));
    }
    w->is_busy = false;
    s->n_idle++;
    begin_visit(s, idx);
}

/* ---- Frames in and out --------------------------------------------------------------------------------- */

static uint64_t due_ns(const struct simulation *s, uint64_t number) {
    return s->o->rate_hz > 0 ? (uint64_t)llround((double)number * 1e9 / s->o->rate_hz) : s->now_ns;
}

/* As many frames as there are and slots are free. */
static void admit(struct simulation *s) {
    uint64_t n_there = s->o->rate_hz > 0 ? s->n_arrived : s->n_frames;
    while (s->n_free > 0 && s->n_entered < n_there) {
        uint32_t slot = s->free_slots[--s->n_free];
        uint64_t number = s->n_entered++;
        s->frames[slot] = (struct sim_frame){.number = number,
                                             .due_ns = due_ns(s, number),
                                             .exit = s->o->exits ? s->o->exits[number % s->o->n_exits_given]
                                                                 : (uint8_t)s->info->n_exits};
        ees__sched_admit(&s->sched, 0, slot);
        wake(s, 0);
    }
}

static void arrive(struct simulation *s) {
    s->n_arrived++;
    if (s->n_arrived < s->n_frames)
        ees__sim_events_add(&s->events, due_ns(s, s->n_arrived), EES__SIM_ARRIVAL, 0);
    admit(s);
}

static void leave(struct simulation *s, uint32_t slot) {
    const struct sim_frame *f = &s->frames[slot];
    ees__histogram_add(&s->latency, s->now_ns - f->due_ns);
    s->reorder_wait_ns += s->now_ns - f->done_ns;
    s->free_slots[s->n_free++] = slot;
    s->n_left++;
}

/* Answers leave in order, each with its slot; unanswered frames inside have a slot each, so two never meet in the window. */
static void answer(struct simulation *s, uint32_t slot) {
    struct sim_frame *f = &s->frames[slot];
    f->done_ns = s->now_ns;
    if (s->o->unordered) {
        leave(s, slot);
    } else {
        s->window[f->number % s->n_slots] = slot + 1;
        for (uint32_t *at; *(at = &s->window[s->n_left % s->n_slots]) != 0;) {
            uint32_t next = *at - 1;
            *at = 0;
            leave(s, next);
        }
    }
    admit(s);
}

/* ---- Plans --------------------------------------------------------------------------------------------- */

static void publish(struct simulation *s) {
    ees__sched_publish(&s->sched, &s->plan, s->o->cores->type, s->max_batch);
    for (unsigned g = 0; g < s->plan.n_groups; g++)
        for (unsigned t = 0; t < s->profile->n_types; t++)
            s->fits[t][g] = ees__group_fits(s->profile, t, &s->plan.groups[g]);
    for (unsigned w = 0; w < s->n_workers; w++)
        s->workers[w].warm_group = NO_GROUP;
}

static void look(struct simulation *s) {
    double fps_before;
    ees__sim_events_add(&s->events, s->now_ns + look_ns, EES__SIM_LOOK, 0);
    ees__replanner_add(s->replanner, (double)look_ns, s->runs, s->ns);
    memset(s->runs, 0, EES_MAX_CORE_TYPES * sizeof *s->runs);
    memset(s->ns, 0, EES_MAX_CORE_TYPES * sizeof *s->ns);
    if (!ees__replanner_propose(s->replanner, &s->plan, &s->plan, &fps_before))
        return;
    s->n_replans++;
    publish(s);
}

/* ---- Opening ------------------------------------------------------------------------------------------- */

static int check_profile(const struct simulation *s, ees_error *err) {
    const ees_simulation_options *o = s->o;
    if (!o->cores || !o->profile)
        return EES_FAIL(err, EES_EINVAL, "a simulation needs cores and a profile");
    if (o->cores->n_cores == 0 || o->cores->n_cores > EES_MAX_WORKERS)
        return EES_FAIL(err, EES_EINVAL, "%u cores: 1 to %d", o->cores->n_cores, EES_MAX_WORKERS);
    if (o->profile->n_units != s->info->n_units || o->profile->n_types != o->cores->n_types)
        return EES_FAIL(err, EES_EINVAL, "profile of %u units and %u core types: the model has %u, the cores %u",
                        o->profile->n_units, o->profile->n_types, s->info->n_units, o->cores->n_types);
    return 0;
}

static int check_load(const struct simulation *s, ees_error *err) {
    const ees_simulation_options *o = s->o;
    if (!(o->rate_hz >= 0) || !isfinite(o->rate_hz) || (o->rate_hz > 0 && o->rate_hz < 1e-3))
        return EES_FAIL(err, EES_EINVAL, "%g frames a second: 0 (always one there), or at least 0.001", o->rate_hz);
    if (!(o->jitter >= 0) || o->jitter > 10)
        return EES_FAIL(err, EES_EINVAL, "jitter %g: 0 to 10", o->jitter);
    if (o->exits && o->n_exits_given == 0)
        return EES_FAIL(err, EES_EINVAL, "an exit mix without frames");
    for (size_t i = 0; o->exits && i < o->n_exits_given; i++)
        if (o->exits[i] > s->info->n_exits)
            return EES_FAIL(err, EES_EINVAL, "exit %u at position %zu: the model has exits 0 to %u (%u: final)",
                            o->exits[i], i, s->info->n_exits, s->info->n_exits);
    if ((unsigned)o->take > EES_TAKE_UPSTREAM)
        return EES_FAIL(err, EES_EINVAL, "take order %d is unknown", (int)o->take);
    /* Frames that wait for a group that is gone would wait for ever. */
    if (o->no_help && o->replan)
        return EES_FAIL(err, EES_EINVAL, "plans change only where workers help each other");
    return 0;
}

static int check_plan(const struct simulation *s, ees_error *err) {
    unsigned at = 0, n_workers = 0;
    for (unsigned g = 0; g < s->plan.n_groups; g++) {
        if (s->plan.groups[g].first_unit != at)
            return EES_FAIL(err, EES_EINVAL, "group %u of the plan begins at unit %u, expected %u", g,
                            s->plan.groups[g].first_unit, at);
        at = s->plan.groups[g].end_unit;
        n_workers += s->plan.groups[g].n_workers;
    }
    if (at != s->info->n_units || n_workers != s->n_workers)
        return EES_FAIL(err, EES_EINVAL,
                        "a plan of %u units and %u workers: the model has %u units, there are %u cores", at, n_workers,
                        s->info->n_units, s->n_workers);
    return 0;
}

static int open_plan(struct simulation *s, ees_error *err) {
    double share[EES_MAX_EXITS + 1] = {0}, reach[EES_MAX_UNITS];
    unsigned n_of_type[EES_MAX_CORE_TYPES];
    for (size_t i = 0; s->o->exits && i < s->o->n_exits_given; i++)
        share[s->o->exits[i]] += 1;
    EES_TRY(ees_plan_reach(s->model, s->o->exits ? share : NULL, reach, err));
    ees_cores_count(s->o->cores, s->n_workers, n_of_type);
    if (s->o->plan) {
        s->plan = *s->o->plan;
        EES_TRY(check_plan(s, err));
        EES_TRY(ees_plan_predict(s->profile, reach, n_of_type, &s->plan, err));
    } else {
        EES_TRY(ees_plan_solve(s->profile, reach, n_of_type, &s->plan, err));
    }
    s->max_batch = ees__largest_batch(&s->plan, s->o->replan ? s->profile : NULL);
    return s->o->replan ? ees__replanner_open(s->profile, n_of_type, &s->replanner, err) : 0;
}

static int make_room(struct simulation *s, ees_error *err) {
    s->n_slots = s->o->n_slots ? s->o->n_slots : ees__default_slots(s->n_workers, s->max_batch);
    if (s->n_slots < s->n_workers + 1 || s->n_slots > 65536)
        return EES_FAIL(err, EES_EINVAL, "%u slots for %u workers: %u to 65536", s->n_slots, s->n_workers,
                        s->n_workers + 1);
    size_t n_events = (size_t)s->n_slots + s->n_workers + 2; /* an answer a slot, an end a worker, an arrival, a look */
    s->events.heap = ees__calloc_aligned(n_events, sizeof *s->events.heap);
    s->workers = ees__calloc_aligned(s->n_workers, sizeof *s->workers);
    s->frames = ees__calloc_aligned(s->n_slots, sizeof *s->frames);
    s->free_slots = ees__calloc_aligned(s->n_slots, sizeof *s->free_slots);
    s->window = ees__calloc_aligned(s->n_slots, sizeof *s->window);
    s->runs = ees__calloc_aligned(EES_MAX_CORE_TYPES, sizeof *s->runs);
    s->ns = ees__calloc_aligned(EES_MAX_CORE_TYPES, sizeof *s->ns);
    if (!s->events.heap || !s->workers || !s->frames || !s->free_slots || !s->window || !s->runs || !s->ns ||
        !ees__sched_init(&s->sched, s->info->n_units, s->n_workers, s->n_slots, s->o->take) ||
        !ees__entry_init(&s->entry, 1, s->n_slots))
        return EES_FAIL(err, EES_ENOMEM, "no memory to simulate %u workers and %u frames inside", s->n_workers,
                        s->n_slots);
    return 0;
}

static int open_simulation(struct simulation *s, ees_error *err) {
    EES_TRY(check_profile(s, err));
    EES_TRY(check_load(s, err));
    s->profile = s->o->profile;
    s->n_workers = s->n_idle = s->o->cores->n_cores;
    s->n_frames = s->o->n_frames ? s->o->n_frames : 10000;
    s->random = s->o->seed;
    EES_TRY(open_plan(s, err));
    EES_TRY(make_room(s, err));
    s->sched.no_help = s->o->no_help;
    ees__sched_add_entry(&s->sched, &s->entry);
    for (unsigned w = 0; w < s->n_workers; w++)
        s->workers[w].type = s->o->cores->type[w];
    for (uint32_t slot = s->n_slots; slot-- > 0;)
        s->free_slots[s->n_free++] = slot;
    ees__histogram_init(&s->latency);
    publish(s);
    return 0;
}

static void close_simulation(struct simulation *s) {
    ees__sched_fini(&s->sched);
    ees__entry_fini(&s->entry);
    ees__replanner_close(s->replanner);
    ees__free(s->events.heap);
    ees__free(s->workers);
    ees__free(s->frames);
    ees__free(s->free_slots);
    ees__free(s->window);
    ees__free(s->runs);
    ees__free(s->ns);
    ees__free(s);
}

/* ---- Running ------------------------------------------------------------------------------------------- */

static void run_events(struct simulation *s) {
    if (s->replanner)
        ees__sim_events_add(&s->events, look_ns, EES__SIM_LOOK, 0);
    if (s->o->rate_hz > 0)
        ees__sim_events_add(&s->events, 0, EES__SIM_ARRIVAL, 0);
    else
        admit(s);
    while (s->n_left < s->n_frames && s->events.n > 0) {
        struct ees__sim_event event = ees__sim_events_take(&s->events);
        s->now_ns = event.at_ns;
        switch (event.kind) {
        case EES__SIM_ARRIVAL:
            arrive(s);
            break;
        case EES__SIM_ANSWER:
            answer(s, event.idx);
            break;
        case EES__SIM_VISIT_END:
            end_visit(s, event.idx);
            break;
        case EES__SIM_LOOK:
            look(s);
            break;
        }
    }
}

static void report(const struct simulation *s, ees_simulation *out) {
    double wall_ns = (double)s->now_ns, busy_ns = 0;
    *out = (ees_simulation){.plan = s->plan,
                            .n_frames = s->n_left,
                            .reorder_wait_ns = s->reorder_wait_ns,
                            .n_replans = s->n_replans,
                            .n_helped = s->n_helped,
                            .n_visits = s->n_visits};
    for (unsigned w = 0; w < s->n_workers; w++) {
        busy_ns += (double)s->workers[w].busy_ns;
        out->busy[w] = wall_ns > 0 ? (double)s->workers[w].busy_ns / wall_ns : 0;
    }
    out->fps = wall_ns > 0 ? (double)s->n_left * 1e9 / wall_ns : 0;
    out->busy_share = wall_ns > 0 ? busy_ns / (wall_ns * s->n_workers) : 0;
    ees__histogram_read(&s->latency, &out->latency);
}

int ees_simulate(const ees_model *model, const ees_simulation_options *options, ees_simulation *out, ees_error *err) {
    struct simulation *s = ees__calloc_aligned(1, sizeof *s);
    if (!s)
        return EES_FAIL(err, EES_ENOMEM, "no memory for a simulation");
    s->model = model;
    s->info = ees_model_get_info(model);
    s->o = options;
    int rc = open_simulation(s, err);
    if (rc == 0) {
        run_events(s);
        if (s->n_left == s->n_frames)
            report(s, out);
        else
            rc = EES_FAIL(err, EES_EINTERNAL, "the simulation came to rest with %llu of %llu frames done",
                          (unsigned long long)s->n_left, (unsigned long long)s->n_frames);
    }
    close_simulation(s);
    return rc;
}
