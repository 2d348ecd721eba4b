/* SPDX-License-Identifier: MIT */
/* The engine's promises on a fake model: each frame answered exactly once, in push order, with the same answer whatever
 * the plan and the number of workers; backpressure; finish, stop and failure paths; no CPU when idle. */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <cmocka.h>

#include "common/clock.h"
#include "eestream/engine.h"
#include "fake_model.h"

enum { N_FRAMES = 400 };

static struct fake_frame frames[N_FRAMES];
static _Atomic int n_released[N_FRAMES];

static void count_release(void *opaque) { atomic_fetch_add(&n_released[(struct fake_frame *)opaque - frames], 1); }

static ees_frame frame_of(uint32_t i, bool owned) {
    ees_frame frame = fake_frame(&frames[i], i);
    frame.release = owned ? count_release : NULL;
    frame.opaque = &frames[i];
    return frame;
}

/* A mix of exits; every 17th frame fails somewhere. */
static int setup(void **state) {
    for (uint32_t i = 0; i < N_FRAMES; i++) {
        frames[i] = (struct fake_frame){.number = i, .exit = (uint8_t)(i * 7 % 5 % 3), .fails_at = 255};
        if (i % 17 == 3)
            frames[i].fails_at = (uint8_t)(i % 5);
        atomic_store(&n_released[i], 0);
    }
    return 0;
}

static ees_engine *open_engine(const ees_model *m, unsigned n_workers, const char *plan, unsigned n_slots) {
    ees_engine_options o;
    ees_engine_options_default(&o);
    o.n_workers = n_workers;
    o.plan = plan;
    o.n_slots = n_slots;
    return fake_engine(m, &o);
}

struct feeder {
    ees_engine *engine;
    uint32_t first, end;
    bool owned;
};

static void *feed(void *arg) {
    struct feeder *f = arg;
    for (uint32_t i = f->first; i < f->end; i++) {
        ees_frame frame = frame_of(i, f->owned);
        if (ees_engine_push(f->engine, &frame, -1, NULL) != 0)
            abort();
    }
    return NULL;
}

static void check_answer(const ees_result *r) {
    const struct fake_frame *f = &frames[r->frame_idx];
    if (f->fails_at != 255) {
        assert_int_equal(r->status, EES_STATUS_FAILED);
        assert_non_null(strstr(r->error->message, "on purpose"));
        assert_int_equal(r->exit_idx, -1);
        assert_null(r->logits);
        return;
    }
    assert_int_equal(r->status, EES_STATUS_OK);
    assert_int_equal(r->exit_idx, f->exit);
    assert_int_equal(r->block, f->exit == 0 ? 2 : f->exit == 1 ? 4 : FAKE_BLOCKS);
    assert_true(r->logits[0] == fake_answer(f->number, f->exit));
}

static void run_all(const ees_model *m, unsigned n_workers, const char *plan, unsigned n_slots, bool owned) {
    setup(NULL);
    ees_engine *e = open_engine(m, n_workers, plan, n_slots);
    struct feeder f = {.engine = e, .end = N_FRAMES, .owned = owned};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, feed, &f), 0);
    ees_result r;
    for (uint32_t i = 0; i < N_FRAMES; i++) {
        assert_int_equal(ees_engine_pull(e, &r, -1, NULL), 0);
        assert_int_equal(r.frame_idx, i);
        check_answer(&r);
        ees_engine_release(e, &r);
    }
    pthread_join(thread, NULL);
    ees_engine_finish(e);
    assert_int_equal(ees_engine_pull(e, &r, -1, NULL), EES_EOF);
    ees_stats stats;
    ees_engine_get_stats(e, &stats);
    assert_int_equal(stats.n_pushed, N_FRAMES);
    assert_int_equal(stats.n_ok + stats.n_failed, N_FRAMES);
    uint64_t by_exit = 0;
    for (unsigned i = 0; i <= FAKE_EXITS; i++)
        by_exit += stats.n_by_exit[i];
    assert_int_equal(by_exit, stats.n_ok);
    ees_engine_close(e);
    for (uint32_t i = 0; owned && i < N_FRAMES; i++)
        assert_int_equal(n_released[i], 1);
}

static void test_every_plan(void **state) {
    static const char *const plans[] = {"replicas", "auto", "equal:2", "1-2,3-6", "1-block3.attn,block3.mlp-6"};
    struct ees_model *m = fake_model_new(0, true);
    for (unsigned w = 1; w <= 8; w = w < 4 ? w + 1 : w * 2)
        for (size_t p = 0; p < sizeof plans / sizeof plans[0]; p++)
            if (w > 1 || p < 2)
                run_all(m, w, plans[p], 0, true);
    run_all(m, 6, "equal:6", 0, true);
    run_all(m, 3, "1-1x1,2-6x2", 0, false);
    fake_model_free(m);
}

static void test_fewest_slots(void **state) {
    struct ees_model *m = fake_model_new(0, true);
    run_all(m, 3, "equal:3", 4, true);
    fake_model_free(m);
}

static void test_backpressure_and_polling(void **state) {
    struct ees_model *m = fake_model_new(0, false);
    ees_engine *e = open_engine(m, 2, "replicas", 3);
    ees_result r[3];
    ees_frame frame = frame_of(1, false);
    assert_int_equal(ees_engine_pull(e, &r[0], 0, NULL), EES_EAGAIN);
    assert_int_equal(ees_engine_pull(e, &r[0], 2000, NULL), EES_EAGAIN);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ees_engine_push(e, &frame, -1, NULL), 0);
    assert_int_equal(ees_engine_push(e, &frame, 0, NULL), EES_EAGAIN); /* answered or not, three slots are held */
    assert_int_equal(ees_engine_push(e, &frame, 2000, NULL), EES_EAGAIN);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ees_engine_pull(e, &r[i], -1, NULL), 0);
    assert_int_equal(ees_engine_push(e, &frame, 0, NULL), EES_EAGAIN);
    ees_engine_release(e, &r[2]); /* out of order */
    ees_engine_release(e, &r[0]);
    assert_int_equal(ees_engine_push(e, &frame, 0, NULL), 0);
    assert_int_equal(ees_engine_pull(e, &r[0], -1, NULL), 0);
    ees_engine_release(e, &r[0]);
    ees_engine_release(e, &r[1]);
    ees_engine_close(e);
    fake_model_free(m);
}

static void test_finish(void **state) {
    struct ees_model *m = fake_model_new(0, false);
    ees_engine *e = open_engine(m, 2, "equal:2", 0);
    ees_result r;
    ees_frame frame = frame_of(1, false);
    assert_int_equal(ees_engine_push(e, &frame, -1, NULL), 0);
    ees_engine_finish(e);
    ees_engine_finish(e);
    assert_int_equal(ees_engine_push(e, &frame, -1, NULL), EES_ECANCELED);
    assert_int_equal(ees_engine_pull(e, &r, -1, NULL), 0); /* what was inside still comes out */
    ees_engine_release(e, &r);
    assert_int_equal(ees_engine_pull(e, &r, -1, NULL), EES_EOF);
    ees_engine_close(e);
    e = open_engine(m, 1, NULL, 0); /* zero frames */
    ees_engine_finish(e);
    assert_int_equal(ees_engine_pull(e, &r, -1, NULL), EES_EOF);
    ees_engine_close(e);
    fake_model_free(m);
}

static void *finish_soon(void *engine) {
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    ees_engine_finish(engine);
    return NULL;
}

/* A pull and a push that sleep are woken by finish. */
static void test_finish_wakes(void **state) {
    struct ees_model *m = fake_model_new(0, false);
    for (int full = 0; full < 2; full++) {
        ees_engine *e = open_engine(m, 1, NULL, 2);
        ees_frame frame = frame_of(1, false);
        for (int i = 0; i < 2 * full; i++)
            assert_int_equal(ees_engine_push(e, &frame, -1, NULL), 0);
        pthread_t thread;
        ees_result r;
        assert_int_equal(pthread_create(&thread, NULL, finish_soon, e), 0);
        if (full)
            assert_int_equal(ees_engine_push(e, &frame, -1, NULL), EES_ECANCELED);
        else
            assert_int_equal(ees_engine_pull(e, &r, -1, NULL), EES_EOF);
        pthread_join(thread, NULL);
        ees_engine_close(e);
    }
    fake_model_free(m);
}

/* Closing with frames in every state gives each one back once. */
static void test_close_in_flight(void **state) {
    struct ees_model *m = fake_model_new(20000, false);
    for (int round = 0; round < 20; round++) {
        setup(NULL);
        ees_engine *e = open_engine(m, 3, "equal:3", 0);
        for (uint32_t i = 0; i < 12; i++) {
            ees_frame frame = frame_of(i, true);
            assert_int_equal(ees_engine_push(e, &frame, -1, NULL), 0);
        }
        ees_engine_close(e);
        for (uint32_t i = 0; i < 12; i++)
            assert_int_equal(n_released[i], 1);
    }
    fake_model_free(m);
}

static void test_damaged_at_source(void **state) {
    struct ees_model *m = fake_model_new(0, false);
    ees_engine *e = open_engine(m, 2, "replicas", 0);
    ees_error damage = {.code = EES_ESOURCE, .message = "frame 5 is cut off"};
    ees_frame frame = {.error = &damage, .frame_idx = 5};
    ees_result r;
    assert_int_equal(ees_engine_push(e, &frame, -1, NULL), 0);
    memset(&damage, 0, sizeof damage); /* no release: the engine has its own copy */
    assert_int_equal(ees_engine_pull(e, &r, -1, NULL), 0);
    assert_int_equal(r.status, EES_STATUS_FAILED);
    assert_string_equal(r.error->message, "frame 5 is cut off");
    ees_engine_release(e, &r);
    ees_engine_close(e);
    fake_model_free(m);
}

/* Several pushing threads: each one's frames keep their order, nothing is lost or doubled. */
static void test_many_feeders(void **state) {
    enum { N_FEEDERS = 4 };
    struct ees_model *m = fake_model_new(0, true);
    setup(NULL);
    ees_engine *e = open_engine(m, 4, "equal:2", 9);
    struct feeder f[N_FEEDERS];
    pthread_t threads[N_FEEDERS];
    uint32_t next[N_FEEDERS];
    for (uint32_t i = 0; i < N_FEEDERS; i++) {
        next[i] = i * N_FRAMES / N_FEEDERS;
        f[i] = (struct feeder){e, next[i], (i + 1) * N_FRAMES / N_FEEDERS, true};
        assert_int_equal(pthread_create(&threads[i], NULL, feed, &f[i]), 0);
    }
    for (uint32_t i = 0; i < N_FRAMES; i++) {
        ees_result r;
        assert_int_equal(ees_engine_pull(e, &r, -1, NULL), 0);
        assert_int_equal(r.frame_idx, next[r.frame_idx * N_FEEDERS / N_FRAMES]++);
        check_answer(&r);
        ees_engine_release(e, &r);
    }
    for (int i = 0; i < N_FEEDERS; i++)
        pthread_join(threads[i], NULL);
    ees_engine_close(e);
    for (uint32_t i = 0; i < N_FRAMES; i++)
        assert_int_equal(n_released[i], 1);
    fake_model_free(m);
}

/* Everybody leaves at the first exit: the second group's worker would idle without helping. Frames go on in pairs, one
 * on each worker, so that how the machine shares out its cores does not matter; a worker that does not help hangs the
 * test. */
static void test_work_conserving(void **state) {
    struct ees_model *m = fake_model_new(0, false);
    ees_engine *e = open_engine(m, 2, "1-2,3-6", 0);
    pthread_barrier_t meeting;
    assert_int_equal(pthread_barrier_init(&meeting, NULL, 2), 0);
    m->meeting = &meeting;
    for (uint32_t i = 0; i < N_FRAMES; i++)
        frames[i] = (struct fake_frame){.number = i, .exit = 0, .fails_at = 255};
    struct feeder f = {.engine = e, .end = N_FRAMES, .owned = true};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, feed, &f), 0);
    for (uint32_t i = 0; i < N_FRAMES; i++) {
        ees_result r;
        assert_int_equal(ees_engine_pull(e, &r, -1, NULL), 0);
        ees_engine_release(e, &r);
    }
    pthread_join(thread, NULL);
    ees_engine_close(e);
    pthread_barrier_destroy(&meeting);
    fake_model_free(m);
}

static double cpu_seconds(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static double cpu_seconds_while_idle(void) {
    double before = cpu_seconds();
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
    return cpu_seconds() - before;
}

/* The first window may still see the workers start, on a busy machine several. */
static void test_idle_costs_nothing(void **state) {
    struct ees_model *m = fake_model_new(0, false);
    ees_engine *e = open_engine(m, 8, "equal:2", 0);
    double used = 1;
    for (int i = 0; i < 20 && used >= 0.003; i++) /* 1 % of one core */
        used = cpu_seconds_while_idle();
    print_message("8 idle workers used %.1f us of CPU in 300 ms\n", used * 1e6);
    assert_true(used < 0.003);
    ees_engine_close(e);
    fake_model_free(m);
}

static void test_replay(void **state) {
    static const uint8_t replay[] = {0, 2, 1};
    struct ees_model *m = fake_model_new(0, false);
    ees_engine_options o;
    ees_engine *e;
    ees_engine_options_default(&o);
    o.n_workers = 2;
    o.policy.replay = replay;
    o.policy.n_replay = 3;
    assert_int_equal(ees_engine_open(m, &o, &e, NULL), 0);
    for (uint32_t i = 0; i < 9; i++) {
        ees_frame frame = frame_of(0, false);
        ees_result r;
        assert_int_equal(ees_engine_push(e, &frame, -1, NULL), 0);
        assert_int_equal(ees_engine_pull(e, &r, -1, NULL), 0);
        assert_int_equal(r.exit_idx, replay[i % 3]);
        ees_engine_release(e, &r);
    }
    ees_engine_close(e);
    static const uint8_t bad[] = {3};
    ees_error err = {0};
    o.policy.replay = bad;
    o.policy.n_replay = 1;
    assert_int_equal(ees_engine_open(m, &o, &e, &err), EES_EINVAL);
    assert_non_null(strstr(err.message, "forced exit 3"));
    fake_model_free(m);
}

static void test_bad_options(void **state) {
    struct ees_model *m = fake_model_new(0, false);
    ees_engine_options o;
    ees_engine *e;
    struct {
        unsigned n_workers, n_slots;
        const char *plan, *says;
    } cases[] = {{4, 4, NULL, "at least 5"},
                 {1000, 0, NULL, "at most 256"},
                 {2, 0, "1-3", "leaves out"},
                 {2, 0, "1-3,5-6", "begins with"},
                 {2, 0, "1-7,8-9", "blocks 1 to 6"},
                 {2, 0, "1-2,3-4,5-6", "more groups"},
                 {2, 0, "nonsense", "no block or unit 'nonsense'"},
                 {2, 0, "equal:9", "more groups"},
                 {3, 0, "1-3x1,4-6x1", "asks for 2 workers"},
                 {3, 0, "3-1x3", "ends before"},
                 {2, 0, "", "no block"},
                 {2, 0, "1-6x9", "asks for 9"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ees_error err = {0};
        ees_engine_options_default(&o);
        o.n_workers = cases[i].n_workers;
        o.n_slots = cases[i].n_slots;
        o.plan = cases[i].plan;
        assert_int_equal(ees_engine_open(m, &o, &e, &err), EES_EINVAL);
        if (!strstr(err.message, cases[i].says))
            fail_msg("'%s' does not say '%s'", err.message, cases[i].says);
    }
    ees_engine_options_default(&o);
    assert_int_equal(ees_engine_open(m, &o, &e, NULL), 0);
    ees_frame bad = {.kind = 99, .data = {&bad}}, empty = {.kind = EES_FRAME_JPEG};
    ees_frame tensor = {.kind = EES_FRAME_TENSOR, .data = {&bad}, .height_px = 7, .width_px = 8};
    assert_int_equal(ees_engine_push(e, &bad, -1, NULL), EES_EINVAL);
    assert_int_equal(ees_engine_push(e, &empty, -1, NULL), EES_EINVAL);
    assert_int_equal(ees_engine_push(e, &tensor, -1, NULL), EES_EINVAL);
    ees_engine_close(e);
    ees_engine_close(NULL);
    fake_model_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_every_plan, setup),
        cmocka_unit_test_setup(test_fewest_slots, setup),
        cmocka_unit_test_setup(test_backpressure_and_polling, setup),
        cmocka_unit_test_setup(test_finish, setup),
        cmocka_unit_test_setup(test_finish_wakes, setup),
        cmocka_unit_test_setup(test_close_in_flight, setup),
        cmocka_unit_test_setup(test_damaged_at_source, setup),
        cmocka_unit_test_setup(test_many_feeders, setup),
        cmocka_unit_test_setup(test_work_conserving, setup),
        cmocka_unit_test_setup(test_idle_costs_nothing, setup),
        cmocka_unit_test_setup(test_replay, setup),
        cmocka_unit_test_setup(test_bad_options, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
