/* SPDX-License-Identifier: MIT */
/* stress_schedules N [SEED]: N random lives of an engine, each checked frame by frame. Chance decides workers, plan, slots,
 * batches, teams, streams and their overload rules; sources pause, break off or are cut short; the puller is slow and gives
 * slots back out of order; signals interrupt every wait; plans are published, cores taken away and given back meanwhile;
 * some engines are closed with frames inside.
 *
 * Checked: every frame that was taken is answered exactly once (or, closed early, at most once), in order where order was
 * promised, with the right answer; nothing is dropped where nothing may be; counts add up; every frame's bytes are given
 * back exactly once. The fake model aborts when a unit is left out or run twice. */
#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/random.h"
#include "eestream/engine.h"
#include "engine/internal.h"
#include "fake_model.h"

enum { MAX_STREAMS = 3, MAX_FRAMES = 120 };

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "schedule %llu: line %d: %s\n", (unsigned long long)schedule_seed, __LINE__, #condition);  \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

static uint64_t schedule_seed;

/* One state a thread. */
static uint64_t draw(uint64_t *state) { return ees__mix64(*state += EES_RANDOM_STEP); }

static unsigned below(uint64_t *state, unsigned n) { return (unsigned)(draw(state) % n); }

static void pause_us(unsigned us) { nanosleep(&(struct timespec){.tv_nsec = us * 1000L}, NULL); }

static struct fake_frame frames[MAX_STREAMS][MAX_FRAMES];
static _Atomic int n_released[MAX_STREAMS][MAX_FRAMES];

static void count_release(void *opaque) {
    ptrdiff_t at = (struct fake_frame *)opaque - &frames[0][0];
    atomic_fetch_add(&(&n_released[0][0])[at], 1);
}

struct source {
    ees_engine *engine;
    unsigned stream, n_frames;
    bool slow;
    uint64_t random;
    ees_stream_options options;
    pthread_t thread;
    unsigned n_pushed; /* valid when the thread has ended */
    /* puller's */
    int n_answered[MAX_FRAMES];
    unsigned n_ok, n_dropped, n_failed, next;
};

struct life {
    ees_engine *engine;
    ees_engine_options options;
    struct source sources[MAX_STREAMS];
    unsigned n_sources;
    bool slow_sink, cut_short, close_early, moves_cores;
    _Atomic bool over;
    uint64_t random;
};

/* ---- Threads ------------------------------------------------------------------------------------------- */

static void *push_frames(void *opaque) {
    struct source *s = opaque;
    for (unsigned i = 0; i < s->n_frames; i++) {
        ees_frame frame = fake_frame(&frames[s->stream][i], i);
        frame.stream = s->stream;
        frame.release = count_release;
        frame.opaque = &frames[s->stream][i];
        int rc = ees_engine_push(s->engine, &frame, -1, NULL);
        if (rc == EES_ECANCELED)
            break;
        CHECK(rc == 0);
        s->n_pushed++;
        if (s->slow && below(&s->random, 4) == 0)
            pause_us(below(&s->random, 300));
    }
    ees_stream_finish(s->engine, s->stream);
    return NULL;
}

/* Give every thread of the process another mask, as taskset -a does. What cannot be had stays as it is. */
static void set_mask(const cpu_set_t *set) {
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *task; tasks && (task = readdir(tasks));)
        if (task->d_name[0] != '.')
            sched_setaffinity(atoi(task->d_name), sizeof *set, set);
    if (tasks)
        closedir(tasks);
}

static cpu_set_t all_cores;

static void move_cores(uint64_t *random) {
    cpu_set_t set = all_cores;
    if (below(random, 2)) { /* only the first of them */
        int first = 0;
        while (!CPU_ISSET(first, &all_cores))
            first++;
        CPU_ZERO(&set);
        CPU_SET(first, &set);
    }
    set_mask(&set);
}

static void *disturb(void *opaque) {
    static const char *const plans[] = {"replicas", "equal:2", "equal:3", "1-block3.attn,block3.mlp-6"};
    struct life *life = opaque;
    uint64_t random = schedule_seed ^ 0x5eed;
    while (!atomic_load(&life->over)) {
        ees_plan plan;
        if (ees_plan_parse(life->engine->model, plans[below(&random, 4)], life->engine->n_workers, &plan, NULL) == 0) {
            memset(plan.batch, (int)(1 + below(&random, life->engine->max_batch)), sizeof plan.batch);
            ees__sched_publish(&life->engine->sched, &plan, NULL, life->engine->max_batch);
        }
        if (life->moves_cores)
            move_cores(&random);
        if (below(&random, 2))
            kill(getpid(), SIGUSR1);
        pause_us(50 + below(&random, 200));
    }
    return NULL;
}

/* All sources have ended: that is the end of the engine's input. */
static void *finish_after_all(void *opaque) {
    struct life *life = opaque;
    for (unsigned i = 0; i < life->n_sources; i++)
        pthread_join(life->sources[i].thread, NULL);
    ees_engine_finish(life->engine);
    return NULL;
}

/* ---- Checking ------------------------------------------------------------------------------------------ */

static void check_answer(struct life *life, const ees_result *r) {
    struct source *s = &life->sources[r->stream];
    const struct fake_frame *f = &frames[r->stream][r->frame_idx];
    CHECK(r->stream < life->n_sources && r->frame_idx < s->n_frames);
    CHECK(++s->n_answered[r->frame_idx] == 1);
    CHECK(life->options.unordered || r->frame_idx == s->next);
    s->next++;
    if (r->status == EES_STATUS_DROPPED) {
        CHECK(s->options.overload != EES_OVERLOAD_BLOCK);
        s->n_dropped++;
    } else if (r->status == EES_STATUS_FAILED) {
        CHECK(f->fails_at != 255 && r->error->code == EES_EDAMAGED);
        s->n_failed++;
    } else {
        CHECK(r->status == EES_STATUS_OK && r->logits[0] == fake_answer(f->number, (unsigned)r->exit_idx));
        CHECK(r->early != EES_EARLY_NONE || (r->exit_idx == f->exit && f->fails_at == 255));
        CHECK(r->early != EES_EARLY_DEADLINE || s->options.deadline_ns);
        s->n_ok++;
    }
}

static void check_counts(struct life *life) {
    ees_stats stats;
    uint64_t pushed = 0, answered = 0;
    ees_engine_get_stats(life->engine, &stats);
    for (unsigned i = 0; i < life->n_sources; i++) {
        struct source *s = &life->sources[i];
        ees_stream_stats stream;
        CHECK(ees_stream_get_stats(life->engine, i, &stream) == 0);
        CHECK(stream.n_pushed == s->n_pushed && stream.n_ok == s->n_ok && stream.n_dropped == s->n_dropped &&
              stream.n_failed == s->n_failed);
        CHECK(s->n_pushed == s->n_ok + s->n_dropped + s->n_failed);
        pushed += s->n_pushed;
        answered += s->n_ok + s->n_dropped + s->n_failed;
    }
    CHECK(stats.n_pushed == pushed && stats.n_ok + stats.n_dropped + stats.n_failed == answered);
}

/* ---- One life ------------------------------------------------------------------------------------------ */

static void choose(struct life *life, uint64_t *random) {
    static const char *const plans[] = {"replicas", "equal:2", "equal:3", "1-2,3-6", "1-block3.attn,block3.mlp-6"};
    ees_engine_options *o = &life->options;
    ees_engine_options_default(o);
    o->n_workers = 1 + below(random, 8);
    o->n_slots = o->n_workers + 1 + below(random, 20);
    o->plan = o->n_workers >= 3 ? plans[below(random, 5)] : "replicas";
    o->max_batch = 1 + below(random, 4);
    o->hint = below(random, 4) == 0 ? EES_HINT_LATENCY : EES_HINT_THROUGHPUT;
    o->take = (enum ees_take)below(random, 3);
    o->unordered = below(random, 3) == 0;
    o->audit_share = below(random, 3) == 0 ? 0.3 : 0;
    o->trace_events = below(random, 4) == 0 ? 64 : 0;
    o->stall_ns = 0;
    life->n_sources = 1 + below(random, MAX_STREAMS);
    life->slow_sink = below(random, 4) == 0;
    life->cut_short = below(random, 5) == 0;
    life->close_early = below(random, 8) == 0;
    life->moves_cores = below(random, 3) == 0;
    life->random = draw(random);
    for (unsigned i = 0; i < life->n_sources; i++) {
        struct source *s = &life->sources[i];
        *s = (struct source){.stream = i,
                             .n_frames = 20 + below(random, MAX_FRAMES - 20),
                             .slow = below(random, 2),
                             .random = draw(random)};
        ees_stream_options_default(&s->options);
        s->options.overload = (enum ees_overload)below(random, 4);
        s->options.backlog = below(random, 5);
        s->options.weight = 1 + below(random, 3);
        s->options.deadline_ns = below(random, 3) == 0 ? 100000 * (1 + below(random, 50)) : 0;
        for (unsigned f = 0; f < s->n_frames; f++) {
            frames[i][f] = (struct fake_frame){.number = f + 1000 * i,
                                               .exit = (uint8_t)below(random, 3),
                                               .held_at = 255,
                                               .degrades = below(random, 4) == 0,
                                               .fails_at = (uint8_t)(below(random, 17) == 0 ? below(random, 5) : 255)};
            atomic_store(&n_released[i][f], 0);
        }
    }
}

static void pull_answers(struct life *life) {
    ees_result held[3];
    unsigned n_held = 0, n_pulled = 0, stop_after = life->close_early ? below(&life->random, 40) : UINT32_MAX;
    for (; n_pulled < stop_after; n_pulled++) {
        ees_result r;
        if (life->cut_short && n_pulled == 15)
            ees_engine_finish(life->engine);
        int rc = ees_engine_pull(life->engine, &r, below(&life->random, 2) ? -1 : 100, NULL);
        if (rc == EES_EOF)
            break;
        if (rc == EES_EAGAIN)
            continue;
        CHECK(rc == 0);
        check_answer(life, &r);
        if (life->slow_sink && below(&life->random, 3) == 0)
            pause_us(below(&life->random, 500));
        /* With every slot of the smallest engine held, nothing could move: hold less than there are. */
        unsigned most = life->options.n_slots > 4 ? 3 : 1;
        held[n_held++] = r;
        if (n_held == most)
            while (n_held > 0) {
                unsigned i = below(&life->random, n_held--);
                ees_engine_release(life->engine, &held[i]);
                held[i] = held[n_held];
            }
    }
    while (n_held > 0)
        ees_engine_release(life->engine, &held[--n_held]);
}

static void live(const struct ees_model *m, uint64_t seed) {
    static struct life life;
    uint64_t random = seed;
    pthread_t disturber, finisher;
    ees_error err = {0};
    memset(&life, 0, sizeof life);
    choose(&life, &random);
    life.options.stream = life.sources[0].options;
    if (ees_engine_open(m, &life.options, &life.engine, &err) != 0) {
        fprintf(stderr, "schedule %llu: %s\n", (unsigned long long)seed, err.message);
        abort();
    }
    for (unsigned i = 0; i < life.n_sources; i++) {
        unsigned stream = 0;
        if (i > 0)
            CHECK(ees_stream_open(life.engine, &life.sources[i].options, &stream, NULL) == 0);
        CHECK(stream == i);
        life.sources[i].engine = life.engine;
    }
    for (unsigned i = 0; i < life.n_sources; i++)
        CHECK(pthread_create(&life.sources[i].thread, NULL, push_frames, &life.sources[i]) == 0);
    CHECK(pthread_create(&disturber, NULL, disturb, &life) == 0);
    CHECK(pthread_create(&finisher, NULL, finish_after_all, &life) == 0);
    pull_answers(&life);
    atomic_store(&life.over, true);
    pthread_join(disturber, NULL);
    ees_engine_finish(life.engine);
    pthread_join(finisher, NULL);
    if (!life.close_early)
        check_counts(&life);
    ees_engine_close(life.engine);
    for (unsigned i = 0; i < life.n_sources; i++)
        for (unsigned f = 0; f < life.sources[i].n_frames; f++)
            CHECK(atomic_load(&n_released[i][f]) == (f < life.sources[i].n_pushed));
}

static void nothing(int number) { (void)number; }

int main(int argc, char **argv) {
    unsigned long n = argc > 1 ? strtoul(argv[1], NULL, 10) : 500, seed = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    struct sigaction act = {.sa_handler = nothing}; /* no SA_RESTART: every wait is interrupted */
    sigaction(SIGUSR1, &act, NULL);
    sched_getaffinity(0, sizeof all_cores, &all_cores);
    struct ees_model *m = fake_model_new(0, true);
    for (unsigned long i = 0; i < n; i++) {
        schedule_seed = seed + i;
        set_mask(&all_cores);
        live(m, schedule_seed);
    }
    fake_model_free(m);
    printf("%lu schedules: every frame answered exactly once, in order, and given back\n", n);
    return 0;
}
