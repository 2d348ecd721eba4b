/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "fake_model.h"

#include <math.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/fail.h"
#include "eestream/source.h"

struct ees__lane {
    unsigned max_batch;
};

static void add_unit(struct ees_model *m, unsigned block, int exit_idx, const char *name) {
    unsigned u = m->info.n_units++;
    snprintf(m->names[u], sizeof m->names[u], "%s", name);
    m->units[u] =
        (ees_unit_info){.name = m->names[u],
                        .block = block,
                        .exit_idx = exit_idx,
                        .weights_bytes = SIZE_MAX / 1024}; /* never warm: the profile runs each unit in turn only */
}

struct ees_model *fake_model_new(uint64_t unit_work_ns, bool jitter) {
    struct ees_model *m = calloc(1, sizeof *m);
    m->unit_work_ns = unit_work_ns;
    m->jitter = jitter;
    m->info = (ees_model_info){.n_blocks = FAKE_BLOCKS,
                               .n_exits = FAKE_EXITS,
                               .n_classes = FAKE_CLASSES,
                               .state_bytes = 64,
                               .image_height_px = 8,
                               .image_width_px = 8};
    add_unit(m, 0, -1, "ingest");
    add_unit(m, 0, -1, "embed");
    for (unsigned b = 1, e = 0; b <= FAKE_BLOCKS; b++) {
        char name[24];
        snprintf(name, sizeof name, "block%u.attn", b);
        add_unit(m, b, -1, name);
        snprintf(name, sizeof name, "block%u.mlp", b);
        add_unit(m, b, -1, name);
        if (b == 2 || b == 4) {
            snprintf(name, sizeof name, "exit%u", e);
            add_unit(m, b, (int)e++, name);
        }
    }
    add_unit(m, FAKE_BLOCKS, FAKE_EXITS, "final");
    return m;
}

void fake_model_free(struct ees_model *m) { free(m); }

ees_frame fake_frame(const struct fake_frame *bytes, uint64_t idx) {
    return (ees_frame){.kind = EES_FRAME_JPEG, .data = {bytes}, .bytes = sizeof *bytes, .frame_idx = idx, .pts_ns = -1};
}

ees_engine *fake_engine(const struct ees_model *m, const ees_engine_options *options) {
    ees_error err = {0};
    ees_engine *e = NULL;
    if (ees_engine_open(m, options, &e, &err) != 0)
        fail_msg("%s", err.message);
    return e;
}

void fake_model_gate(struct ees_model *m, bool open) { atomic_store(&m->closed, !open); }
unsigned fake_model_held(struct ees_model *m) { return atomic_load(&m->n_held); }

static void wait_at_gate(struct ees_model *m) {
    atomic_fetch_add(&m->n_held, 1);
    while (atomic_load(&m->closed))
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    atomic_fetch_sub(&m->n_held, 1);
}

const ees_model_info *ees_model_get_info(const ees_model *m) { return &m->info; }
const ees_unit_info *ees_model_get_unit(const ees_model *m, unsigned u) {
    return u < m->info.n_units ? &m->units[u] : NULL;
}
const char *ees_model_get_label(const ees_model *m, unsigned c) { return c < m->info.n_classes ? "label" : NULL; }

int ees_policy_resolve(const ees_model *m, const ees_policy_options *o, ees_policy_options *out, ees_error *err) {
    *out = *o;
    out->replay = NULL;
    return 0;
}

static const int a_policy;

int ees__policy_setup(const ees_model *m, const ees_policy_options *o, struct ees__policy_setup *out, ees_error *err) {
    bool none = o->name && strcmp(o->name, "none") == 0;
    *out = (struct ees__policy_setup){.policy = none ? NULL : (const struct ees__policy *)&a_policy,
                                      .replay = o->replay,
                                      .n_replay = o->n_replay,
                                      .lag = o->lag,
                                      .skip_below = o->skip_below};
    return 0;
}

size_t ees__picture_floats(const ees_model *m) { return 1; }
void ees__picture_make(const ees_model *m, const float *patches, float *picture) { picture[0] = patches[6]; }
float ees__picture_change(const ees_model *m, const float *a, const float *b) { return fabsf(a[0] - b[0]); }

double ees__peak_run(const ees_model *m, const char *precision, size_t n) { return 0; }
void ees__read_run(const ees_model *m, const void *from, size_t bytes) {}

struct ees__lane *ees__lane_open(const ees_model *m, unsigned max_batch) {
    struct ees__lane *lane = calloc(1, sizeof *lane);
    if (lane)
        lane->max_batch = max_batch;
    return lane;
}
void ees__lane_close(struct ees__lane *lane) { free(lane); }

/* One step of the chain: the same on floats that hold whole numbers below 2^20, so exact. */
static float step(float x, unsigned unit) { return (float)(((unsigned)x * 31 + unit) % 1048573); }

float fake_answer(uint32_t number, unsigned exit) {
    struct ees_model *m = fake_model_new(0, false);
    float x = (float)number;
    for (unsigned u = 1; u < m->info.n_units; u++) {
        x = step(x, u);
        if (m->units[u].exit_idx == (int)exit)
            break;
    }
    fake_model_free(m);
    return x;
}

/* Work is counted in the thread's own time: one that is preempted does not work meanwhile. */
static void spend_time(const struct ees_model *m, uint64_t seq, unsigned unit) {
    uint64_t start_ns = ees__clock_ns(CLOCK_THREAD_CPUTIME_ID);
    while (m->unit_work_ns && ees__clock_ns(CLOCK_THREAD_CPUTIME_ID) - start_ns < m->unit_work_ns)
        ;
    if (!m->jitter)
        return;
    unsigned dice = (unsigned)((seq * 2654435761u + unit * 40503u) >> 7) % 64;
    if (dice == 0)
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    else if (dice < 8)
        sched_yield();
}

static int run_one(const ees_model *m, const struct ees__policy_setup *policy, unsigned unit, struct ees__item *item) {
    spend_time(m, item->seq, unit);
    if (unit == 1 && m->meeting)
        pthread_barrier_wait(m->meeting);
    if (unit == 0) { /* the frame may be read here only */
        struct fake_frame f;
        memcpy(&f, item->frame->data[0], sizeof f);
        item->state[0] = (float)f.number;
        item->state[1] = f.exit;
        item->state[2] = f.fails_at;
        item->state[3] = 0;
        item->state[4] = f.degrades;
        item->state[5] = f.held_at;
        item->state[6] = f.picture;
    }
    if (item->state[5] == (float)unit)
        wait_at_gate((struct ees_model *)m);
    if (item->state[3] != (float)unit) /* a unit left out or run twice */
        abort();
    item->state[3] += 1;
    if (unit > 0)
        item->state[0] = step(item->state[0], unit);
    if (item->state[2] == (float)unit)
        return EES_FAIL(&item->error, EES_EDAMAGED, "unit %u fails on purpose", unit);
    int exit_idx = m->units[unit].exit_idx;
    if (exit_idx < 0 || (exit_idx < FAKE_EXITS && !policy->policy && !policy->replay))
        return EES__UNIT_NEXT;
    item->exit_idx = exit_idx;
    item->block = m->units[unit].block;
    item->class_idx = (unsigned)item->state[0] % FAKE_CLASSES;
    item->logits[0] = item->state[0];
    item->confidence = 1;
    unsigned want = policy->replay ? policy->replay[item->seq % policy->n_replay] : (unsigned)item->state[1];
    bool leaves = exit_idx == FAKE_EXITS || (unsigned)exit_idx == want ||
                  (policy->lag > 0 && item->reference == item->class_idx + 1);
    item->degraded = !leaves && !policy->replay && item->state[4] != 0 && item->degrade > 0;
    return leaves || item->degraded ? EES__UNIT_DONE : EES__UNIT_NEXT;
}

struct range {
    _Atomic size_t n_done;
};

static void count_range(void *ctx, size_t first, size_t end, struct ees__lane *lane) {
    struct range *r = ctx;
    atomic_fetch_add_explicit(&r->n_done, end - first, memory_order_relaxed); /* relaxed: share() orders the end */
}

int ees__unit_run(const ees_model *m, const struct ees__policy_setup *policy, unsigned unit,
                  struct ees__item *const items[], unsigned n, int rc[], struct ees__lane *lane,
                  struct ees__team *team) {
    int n_next = 0;
    if (n == 0 || n > lane->max_batch)
        abort();
    for (unsigned i = 0; i < n; i++) {
        rc[i] = run_one(m, policy, unit, items[i]);
        n_next += rc[i] == EES__UNIT_NEXT;
    }
    if (team && unit > 0) { /* every piece exactly once, as an op would share it */
        struct range r = {0};
        team->share(team, count_range, &r, FAKE_ROWS, 3, lane);
        if (atomic_load_explicit(&r.n_done, memory_order_relaxed) != FAKE_ROWS) /* relaxed: ordered by share() */
            abort();
    }
    return n_next;
}

/* The engine measures costs on a synthetic frame; here any frame will do. */
static struct fake_frame synthetic = {.number = 7, .exit = FAKE_EXITS, .fails_at = 255};
static void keep(void *opaque) { (void)opaque; }
int ees_source_open(const char *uri, const ees_source_options *o, ees_source **out, ees_error *err) {
    *out = NULL;
    return 0;
}
int ees_source_next(ees_source *s, ees_frame *out, ees_error *err) {
    *out = fake_frame(&synthetic, 0);
    out->release = keep;
    return 0;
}
void ees_source_close(ees_source *s) {}
