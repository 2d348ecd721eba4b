/* SPDX-License-Identifier: MIT */
/* What the engine tells about itself, and the ways of running that must not change answers: audits, traces, visits,
 * micro-batches, teams, plans published while frames run. */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "eestream/engine.h"
#include "engine/internal.h"
#include "fake_model.h"

enum { N_FRAMES = 300 };

static struct fake_frame frames[N_FRAMES];

static int setup(void **state) {
    for (uint32_t i = 0; i < N_FRAMES; i++)
        frames[i] = (struct fake_frame){.number = i, .exit = (uint8_t)(i * 7 % 5 % 3), .fails_at = 255, .held_at = 255};
    return 0;
}

static void *feed(void *engine) {
    for (uint32_t i = 0; i < N_FRAMES; i++) {
        ees_frame frame = fake_frame(&frames[i], i);
        if (ees_engine_push(engine, &frame, -1, NULL) != 0)
            abort();
    }
    ees_engine_finish(engine);
    return NULL;
}

static void check_visits(const ees_result *r, unsigned n_workers) {
    unsigned at = 0;
    assert_in_range(r->n_visits, 1, EES_MAX_VISITS);
    for (unsigned i = 0; i < r->n_visits; i++) {
        assert_int_equal(r->visits[i].first_unit, at);
        assert_true(r->visits[i].end_unit > at);
        assert_true(r->visits[i].worker < n_workers);
        assert_true(r->visits[i].n_batch >= 1);
        at = r->visits[i].end_unit;
    }
}

/* All frames through an engine: right answers in order, complete visits. `on_result` may be NULL. */
static void run_all(ees_engine *e, void (*between)(ees_engine *e, uint32_t i)) {
    pthread_t thread;
    ees_result r;
    ees_stats stats;
    ees_engine_get_stats(e, &stats);
    assert_int_equal(pthread_create(&thread, NULL, feed, e), 0);
    for (uint32_t i = 0; i < N_FRAMES; i++) {
        assert_int_equal(ees_engine_pull(e, &r, -1, NULL), 0);
        assert_int_equal(r.frame_idx, i);
        assert_int_equal(r.status, EES_STATUS_OK);
        assert_int_equal(r.exit_idx, frames[i].exit);
        assert_true(r.logits[0] == fake_answer(frames[i].number, frames[i].exit));
        check_visits(&r, stats.n_workers);
        ees_engine_release(e, &r);
        if (between)
            between(e, i);
    }
    assert_int_equal(ees_engine_pull(e, &r, -1, NULL), EES_EOF);
    pthread_join(thread, NULL);
}

/* Every early answer, or a chosen share of them, is compared with full depth; which ones does not depend on workers. */
static void test_audit(void **state) {
    struct ees_model *m = fake_model_new(0, true);
    uint64_t n_done[3][2] = {{0}};
    static const double shares[] = {1, 0.3, 0};
    for (int s = 0; s < 3; s++)
        for (int wide = 0; wide < 2; wide++) {
            ees_engine_options o;
            ees_stats stats;
            uint64_t n_early = 0, n_agree = 0;
            ees_engine_options_default(&o);
            o.n_workers = wide ? 4 : 1;
            o.plan = "replicas";
            o.max_batch = wide ? 3 : 1;
            o.audit_share = shares[s];
            o.audit_seed = 7;
            ees_engine *e = fake_engine(m, &o);
            run_all(e, NULL);
            ees_engine_get_stats(e, &stats);
            for (uint32_t i = 0; i < N_FRAMES; i++) {
                bool early = frames[i].exit < FAKE_EXITS;
                n_early += early;
                n_agree += early && (unsigned)fake_answer(i, frames[i].exit) % FAKE_CLASSES ==
                                        (unsigned)fake_answer(i, FAKE_EXITS) % FAKE_CLASSES;
            }
            n_done[s][wide] = stats.audit.n_done;
            assert_int_equal(stats.audit.n_missed, 0);
            assert_true(stats.audit.n_agreed <= stats.audit.n_done);
            if (s == 0) {
                assert_int_equal(stats.audit.n_done, n_early);
                assert_int_equal(stats.audit.n_agreed, n_agree);
                assert_true(stats.audit.busy_ns > 0);
                assert_int_equal(stats.audit.n_done_by_exit[0] + stats.audit.n_done_by_exit[1], n_early);
            }
            ees_engine_close(e);
        }
    assert_int_equal(n_done[1][0], n_done[1][1]);
    assert_in_range(n_done[1][0], 30, 90); /* 0.3 of the 200 or so that leave early */
    assert_int_equal(n_done[2][0], 0);
    ees_engine_options o;
    ees_engine *e;
    ees_engine_options_default(&o);
    o.audit_share = 1.5;
    assert_int_equal(ees_engine_open(m, &o, &e, NULL), EES_EINVAL);
    fake_model_free(m);
}

static ees_trace_event events[200000];
static size_t n_events;

static void read_trace(ees_engine *e, uint32_t i) {
    n_events += ees_engine_read_trace(e, events + n_events, sizeof events / sizeof *events - n_events);
}

/* On each worker's track events end one after the other, and units lie inside the visit that follows them. */
static void check_nesting(unsigned worker, uint64_t *n_frames_seen, uint64_t *n_units_seen) {
    uint64_t last_end = 0, first_unit_ns = UINT64_MAX;
    for (size_t i = 0; i < n_events; i++) {
        const ees_trace_event *v = &events[i];
        if (v->worker != worker || v->kind > EES_TRACE_TEAM)
            continue;
        uint64_t end = v->start_ns + v->length_ns;
        assert_true(end >= last_end);
        last_end = end;
        if (v->kind == EES_TRACE_UNIT) {
            first_unit_ns = v->start_ns < first_unit_ns ? v->start_ns : first_unit_ns;
            *n_units_seen += v->n_batch;
        } else if (v->kind == EES_TRACE_VISIT) {
            assert_true(v->start_ns <= first_unit_ns);
            first_unit_ns = UINT64_MAX;
            *n_frames_seen += v->n_batch;
        }
    }
}

static void test_trace(void **state) {
    struct ees_model *m = fake_model_new(1000, false);
    ees_engine_options o;
    ees_stats stats;
    ees_engine_options_default(&o);
    o.n_workers = 3;
    o.plan = "1-2x1,3-6x2";
    o.max_batch = 2;
    o.trace_events = 20000;
    o.audit_share = 0.1;
    n_events = 0;
    ees_engine *e = fake_engine(m, &o);
    run_all(e, read_trace);
    read_trace(e, 0);
    ees_engine_get_stats(e, &stats);
    uint64_t visits = 0, units = 0, want_visits = 0, want_units = 0;
    for (unsigned w = 0; w < 3; w++) {
        check_nesting(w, &visits, &units);
        want_visits += stats.workers[w].n_runs;
    }
    for (unsigned u = 0; u < stats.n_units; u++)
        want_units += stats.units[u].n_runs;
    assert_int_equal(stats.n_trace_lost, 0);
    assert_int_equal(visits, want_visits);
    assert_int_equal(units, want_units);
    ees_engine_close(e);
    /* Nobody reads: the engine goes on, and says what was lost. */
    o.trace_events = 8;
    e = fake_engine(m, &o);
    run_all(e, NULL);
    ees_engine_get_stats(e, &stats);
    assert_true(stats.n_trace_lost > 0);
    assert_in_range(ees_engine_read_trace(e, events, 1000), 8, 32);
    ees_engine_close(e);
    fake_model_free(m);
}

static const struct timespec a_moment = {.tv_nsec = 1000000};

/* While the one worker is held, frames gather; then they run together. */
static void test_micro_batch(void **state) {
    struct ees_model *m = fake_model_new(0, false);
    ees_engine_options o;
    ees_stats stats;
    ees_engine_options_default(&o);
    o.n_workers = 1;
    o.n_slots = 40;
    o.plan = "replicas";
    o.max_batch = 5;
    ees_engine *e = fake_engine(m, &o);
    fake_model_gate(m, false);
    frames[0].held_at = 3;
    for (uint32_t i = 0; i < 31; i++) {
        ees_frame frame = fake_frame(&frames[i], i);
        assert_int_equal(ees_engine_push(e, &frame, -1, NULL), 0);
        while (i == 0 && fake_model_held(m) == 0)
            nanosleep(&a_moment, NULL);
    }
    fake_model_gate(m, true);
    for (uint32_t i = 0; i < 31; i++) {
        ees_result r;
        assert_int_equal(ees_engine_pull(e, &r, -1, NULL), 0);
        assert_int_equal(r.frame_idx, i);
        assert_true(r.logits[0] == fake_answer(frames[i].number, frames[i].exit));
        assert_int_equal(r.visits[0].n_batch, i == 0 ? 1 : 5);
        ees_engine_release(e, &r);
    }
    ees_engine_get_stats(e, &stats);
    assert_int_equal(stats.workers[0].n_batched, 30);
    ees_engine_close(e);
    o.max_batch = 17;
    assert_int_equal(ees_engine_open(m, &o, &e, NULL), EES_EINVAL);
    fake_model_free(m);
}

static void test_same_in_batches(void **state) {
    struct ees_model *m = fake_model_new(0, true);
    static const char *const plans[] = {"replicas", "equal:2", "1-2x1,3-6x3"};
    for (unsigned batch = 2; batch <= 16; batch *= 2)
        for (int p = 0; p < 3; p++) {
            ees_engine_options o;
            ees_engine_options_default(&o);
            o.n_workers = 4;
            o.plan = plans[p];
            o.max_batch = batch;
            ees_engine *e = fake_engine(m, &o);
            run_all(e, NULL);
            ees_engine_close(e);
        }
    fake_model_free(m);
}

static void test_same_in_teams(void **state) {
    struct ees_model *m = fake_model_new(0, true);
    for (unsigned n_workers = 1; n_workers <= 8; n_workers *= 2)
        for (unsigned n_slots = 9; n_slots <= 12; n_slots += 3) {
            ees_engine_options o;
            ees_engine_options_default(&o);
            o.n_workers = n_workers;
            o.n_slots = n_slots;
            o.plan = "replicas";
            o.hint = EES_HINT_LATENCY;
            ees_engine *e = fake_engine(m, &o);
            run_all(e, NULL);
            ees_engine_close(e);
        }
    fake_model_free(m);
}

/* One frame inside, workers idle: they work in its units, and rest when it is done. */
static void test_team_helps(void **state) {
    struct ees_model *m = fake_model_new(2000, false);
    ees_engine_options o;
    ees_stats stats;
    ees_engine_options_default(&o);
    o.n_workers = 2;
    o.plan = "replicas";
    o.hint = EES_HINT_LATENCY;
    ees_engine *e = fake_engine(m, &o);
    ees_frame frame = fake_frame(&frames[0], 0);
    do {
        ees_result r;
        assert_int_equal(ees_engine_push(e, &frame, -1, NULL), 0);
        assert_int_equal(ees_engine_pull(e, &r, -1, NULL), 0);
        assert_true(r.logits[0] == fake_answer(0, 0));
        ees_engine_release(e, &r);
        ees_engine_get_stats(e, &stats);
    } while (stats.workers[0].team_ns == 0 && stats.workers[1].team_ns == 0);
    ees_engine_close(e);
    fake_model_free(m);
}

struct storm {
    ees_engine *engine;
    _Atomic bool over;
};

/* Publish one plan after the other, as fast as can be. */
static void *publish_plans(void *opaque) {
    static const char *const plans[] = {"replicas", "equal:2", "equal:3", "1-2x1,3-6x2",
                                        "1-block3.attnx2,block3.mlp-6x1"};
    struct storm *s = opaque;
    for (unsigned i = 0; !atomic_load(&s->over); i++) {
        ees_plan plan;
        ees_plan_parse(s->engine->model, plans[i % 5], 3, &plan, NULL);
        memset(plan.batch, (int)(1 + i % 4), sizeof plan.batch);
        ees__sched_publish(&s->engine->sched, &plan, NULL, 4);
    }
    return NULL;
}

/* Any mixture of plans is a right schedule: nothing is lost, doubled, left out or run twice (the fake model aborts). */
static void test_plans_published_while_running(void **state) {
    struct ees_model *m = fake_model_new(0, true);
    for (int round = 0; round < 10; round++) {
        ees_engine_options o;
        ees_engine_options_default(&o);
        o.n_workers = 3;
        o.plan = "replicas";
        o.max_batch = 4;
        o.take = (enum ees_take)(round % 3);
        ees_engine *e = fake_engine(m, &o);
        struct storm storm = {.engine = e};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, publish_plans, &storm), 0);
        run_all(e, NULL);
        atomic_store(&storm.over, true);
        pthread_join(thread, NULL);
        ees_engine_close(e);
    }
    fake_model_free(m);
}

/* Costs that make two groups of an early mix, and other two of a late one: a group whose weights fit the cache runs four times
 * as fast. Half of the units fit. */
static void make_profile(ees_profile *p) {
    ees_cores cores;
    assert_int_equal(ees_cores_detect(&cores, NULL), 0);
    size_t cache = cores.types[0].private_cache_bytes ? cores.types[0].private_cache_bytes : 1000000;
    *p = (ees_profile){.n_units = FAKE_UNITS, .n_types = 1, .batch = 1};
    snprintf(p->types[0].name, sizeof p->types[0].name, "%s", cores.types[0].name);
    p->types[0].private_cache_bytes = cache;
    for (unsigned u = 0; u < FAKE_UNITS; u++) {
        p->weights_bytes[u] = cache / (FAKE_UNITS - 4);
        p->types[0].cold_ns[u] = p->types[0].batch_ns[u] = 100000;
        p->types[0].warm_ns[u] = 25000;
    }
}

/* The stream is planned for frames that leave early; then all go to the end, and the plan follows. */
static void test_replan(void **state) {
    struct ees_model *m = fake_model_new(20000, false);
    static ees_profile profile;
    static ees_replan replans[16];
    static const double early[] = {1, 0, 0};
    ees_engine_options o;
    ees_plan first;
    ees_stats stats;
    make_profile(&profile);
    ees_engine_options_default(&o);
    o.n_workers = 2;
    o.profile = &profile;
    o.exit_share = early;
    o.trace_events = 100000;
    ees_engine *e = fake_engine(m, &o);
    ees_engine_get_plan(e, &first);
    assert_int_equal(ees_engine_get_replans(e, replans, 16), 0);
    for (uint32_t i = 0; i < N_FRAMES; i++)
        frames[i].exit = FAKE_EXITS;
    n_events = 0;
    for (uint32_t i = 0; ees_engine_get_replans(e, replans, 16) == 0; i++) {
        ees_frame frame = fake_frame(&frames[i % N_FRAMES], 0);
        ees_result r;
        while (ees_engine_push(e, &frame, 0, NULL) == 0)
            ;
        assert_int_equal(ees_engine_pull(e, &r, -1, NULL), 0);
        ees_engine_release(e, &r);
        n_events = 0;
        read_trace(e, 0);
    }
    const ees_plan *next = &replans[0].plan;
    assert_true(first.n_groups != next->n_groups || first.groups[0].end_unit != next->groups[0].end_unit);
    assert_true(next->fps > replans[0].fps_before);
    ees_engine_get_stats(e, &stats);
    assert_true(stats.n_replans >= 1);
    ees_engine_close(e);
    fake_model_free(m);
}

static void test_take_orders(void **state) {
    struct ees_model *m = fake_model_new(0, true);
    for (int take = 0; take < 3; take++) {
        ees_engine_options o;
        ees_engine_options_default(&o);
        o.n_workers = 4;
        o.plan = "equal:3";
        o.take = (enum ees_take)take;
        ees_engine *e = fake_engine(m, &o);
        run_all(e, NULL);
        ees_engine_close(e);
    }
    fake_model_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_audit, setup),
        cmocka_unit_test_setup(test_trace, setup),
        cmocka_unit_test_setup(test_micro_batch, setup),
        cmocka_unit_test_setup(test_same_in_batches, setup),
        cmocka_unit_test_setup(test_same_in_teams, setup),
        cmocka_unit_test_setup(test_team_helps, setup),
        cmocka_unit_test_setup(test_plans_published_while_running, setup),
        cmocka_unit_test_setup(test_replan, setup),
        cmocka_unit_test_setup(test_take_orders, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
