/* SPDX-License-Identifier: MIT */
/* Several streams in one engine: order, shares, weights; live streams: what is dropped, degraded, cut short, and that each
 * outcome is labelled and counted. The fake model's gate holds workers inside a unit, so that nothing here depends on
 * speed. */
#define _GNU_SOURCE
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "common/clock.h"
#include "eestream/engine.h"
#include "fake_model.h"

enum { GATE_UNIT = 2, AFTER_EXIT_0 = 7 }; /* block1.attn; block3.attn */

static const struct timespec a_moment = {.tv_nsec = 1000000};

static struct fake_frame plain(uint32_t number) {
    return (struct fake_frame){.number = number, .exit = FAKE_EXITS, .fails_at = 255, .held_at = 255};
}

static ees_frame frame_for(unsigned stream, uint64_t idx, const struct fake_frame *f) {
    ees_frame frame = fake_frame(f, idx);
    frame.stream = stream;
    return frame;
}

static void push(ees_engine *e, unsigned stream, uint64_t idx, struct fake_frame f) {
    ees_error err = {0};
    ees_frame frame = frame_for(stream, idx, &f);
    if (ees_engine_push(e, &frame, -1, &err) != 0)
        fail_msg("push: %s", err.message);
}

static ees_engine_options one_worker(void) {
    ees_engine_options o;
    ees_engine_options_default(&o);
    o.n_workers = 1;
    o.n_slots = 64;
    o.plan = "replicas";
    return o;
}

/* The one worker is inside the gate with frame 0 of stream 0. */
static void close_gate(struct ees_model *m, ees_engine *e) {
    struct fake_frame f = plain(0);
    f.held_at = GATE_UNIT;
    fake_model_gate(m, false);
    push(e, 0, 0, f);
    while (fake_model_held(m) == 0)
        nanosleep(&a_moment, NULL);
}

static ees_result pull(ees_engine *e) {
    ees_result r;
    ees_error err = {0};
    int rc = ees_engine_pull(e, &r, -1, &err);
    if (rc != 0)
        fail_msg("pull: %d %s", rc, err.message);
    return r;
}

static void expect(ees_engine *e, unsigned stream, uint64_t idx, enum ees_status status, enum ees_early early) {
    ees_result r = pull(e);
    assert_int_equal(r.stream, stream);
    assert_int_equal(r.frame_idx, idx);
    assert_int_equal(r.status, status);
    assert_int_equal(r.early, early);
    if (status == EES_STATUS_DROPPED) {
        assert_int_equal(r.exit_idx, -1);
        assert_null(r.logits);
        assert_null(r.error);
    }
    ees_engine_release(e, &r);
}

static unsigned open_stream(ees_engine *e, double weight, enum ees_overload overload, unsigned backlog) {
    ees_stream_options o;
    unsigned stream;
    ees_stream_options_default(&o);
    o.weight = weight;
    o.overload = overload;
    o.backlog = backlog;
    assert_int_equal(ees_stream_open(e, &o, &stream, NULL), 0);
    return stream;
}

/* Each stream keeps its own order, whatever the other does; the end comes when all have ended. */
static void test_order_of_each(void **state) {
    struct ees_model *m = fake_model_new(0, true);
    ees_engine_options o = one_worker();
    o.n_workers = 4;
    ees_engine *e = fake_engine(m, &o);
    assert_int_equal(open_stream(e, 1, EES_OVERLOAD_BLOCK, 0), 1);
    assert_int_equal(open_stream(e, 2, EES_OVERLOAD_BLOCK, 0), 2);
    uint64_t next[3] = {0}, pushed[3] = {0};
    ees_result r;
    for (unsigned i = 0; i < 600; i++) {
        unsigned stream = i * 7 % 3;
        struct fake_frame f = plain(i);
        ees_frame frame = frame_for(stream, pushed[stream], &f);
        while (ees_engine_push(e, &frame, 0, NULL) == EES_EAGAIN) {
            r = pull(e);
            assert_int_equal(r.frame_idx, next[r.stream]++);
            ees_engine_release(e, &r);
        }
        pushed[stream]++;
    }
    ees_stream_finish(e, 1);
    struct fake_frame f = plain(1);
    ees_frame late = frame_for(1, 0, &f);
    assert_int_equal(ees_engine_push(e, &late, -1, NULL), EES_ECANCELED);
    late.stream = 3;
    assert_int_equal(ees_engine_push(e, &late, -1, NULL), EES_EINVAL);
    ees_engine_finish(e);
    while (ees_engine_pull(e, &r, -1, NULL) == 0) {
        assert_int_equal(r.frame_idx, next[r.stream]++);
        ees_engine_release(e, &r);
    }
    for (unsigned s = 0; s < 3; s++) {
        ees_stream_stats stats;
        assert_int_equal(next[s], pushed[s]);
        assert_int_equal(ees_stream_get_stats(e, s, &stats), 0);
        assert_int_equal(stats.n_pushed, pushed[s]);
        assert_int_equal(stats.n_ok, pushed[s]);
        assert_true(stats.finished);
    }
    unsigned none;
    assert_int_equal(ees_stream_open(e, NULL, &none, NULL), EES_ECANCELED);
    ees_engine_close(e);
    fake_model_free(m);
}

/* Frames of two streams wait; the order in which they finish follows the weights. */
static void test_weights(void **state) {
    struct ees_model *m = fake_model_new(0, false);
    ees_engine_options o = one_worker();
    o.unordered = true;
    o.n_slots = 200;
    ees_engine *e = fake_engine(m, &o);
    unsigned heavy = open_stream(e, 3, EES_OVERLOAD_BLOCK, 0);
    close_gate(m, e);
    for (uint64_t i = 1; i <= 40; i++)
        push(e, 0, i, plain(1));
    for (uint64_t i = 0; i < 40; i++)
        push(e, heavy, i, plain(1));
    fake_model_gate(m, true);
    unsigned n_heavy = 0;
    for (unsigned i = 0; i < 81; i++) {
        ees_result r = pull(e);
        if (i > 0 && i <= 40)
            n_heavy += r.stream == heavy;
        ees_engine_release(e, &r);
    }
    assert_in_range(n_heavy, 28, 32); /* three in four */
    ees_engine_close(e);
    fake_model_free(m);
}

/* A stream that comes late gets its half from then on, not what it missed. */
static void test_no_credit_for_idle_time(void **state) {
    struct ees_model *m = fake_model_new(0, false);
    ees_engine_options o = one_worker();
    o.unordered = true;
    ees_engine *e = fake_engine(m, &o);
    unsigned late = open_stream(e, 1, EES_OVERLOAD_BLOCK, 0);
    for (uint64_t i = 0; i < 100; i++) {
        push(e, 0, i, plain(1));
        ees_result r = pull(e);
        ees_engine_release(e, &r);
    }
    close_gate(m, e);
    for (uint64_t i = 0; i < 20; i++) {
        push(e, 0, i, plain(1));
        push(e, late, i, plain(1));
    }
    fake_model_gate(m, true);
    unsigned n_late = 0;
    for (unsigned i = 0; i < 41; i++) {
        ees_result r = pull(e);
        if (i > 0 && i <= 20)
            n_late += r.stream == late;
        ees_engine_release(e, &r);
    }
    assert_in_range(n_late, 9, 11);
    ees_engine_close(e);
    fake_model_free(m);
}

/* A stream that fills its share leaves room for the others, and takes all of it when it is alone again. */
static void test_shares(void **state) {
    struct ees_model *m = fake_model_new(0, false);
    ees_engine_options o = one_worker();
    o.n_slots = 12;
    ees_engine *e = fake_engine(m, &o);
    unsigned other = open_stream(e, 1, EES_OVERLOAD_BLOCK, 0);
    struct fake_frame f = plain(1);
    ees_frame a = frame_for(0, 0, &f), b = frame_for(other, 0, &f);
    close_gate(m, e); /* one of six */
    for (int i = 0; i < 5; i++)
        assert_int_equal(ees_engine_push(e, &a, 0, NULL), 0);
    assert_int_equal(ees_engine_push(e, &a, 0, NULL), EES_EAGAIN);
    for (int i = 0; i < 6; i++)
        assert_int_equal(ees_engine_push(e, &b, 0, NULL), 0);
    assert_int_equal(ees_engine_push(e, &b, 0, NULL), EES_EAGAIN);
    fake_model_gate(m, true);
    for (int i = 0; i < 12; i++) {
        ees_result r = pull(e);
        ees_engine_release(e, &r);
    }
    ees_stream_finish(e, other);
    for (int i = 0; i < 12; i++)
        assert_int_equal(ees_engine_push(e, &a, 0, NULL), 0);
    ees_engine_close(e);
    fake_model_free(m);
}

static void test_drop_oldest_and_newest(void **state) {
    struct ees_model *m = fake_model_new(0, false);
    for (int newest = 0; newest < 2; newest++) {
        ees_engine_options o = one_worker();
        o.stream.overload = newest ? EES_OVERLOAD_DROP_NEWEST : EES_OVERLOAD_DROP_OLDEST;
        o.stream.backlog = 2;
        ees_engine *e = fake_engine(m, &o);
        close_gate(m, e);
        for (uint64_t i = 1; i <= 6; i++)
            push(e, 0, i, plain(1)); /* never waits */
        fake_model_gate(m, true);
        expect(e, 0, 0, EES_STATUS_OK, EES_EARLY_NONE);
        for (uint64_t i = 1; i <= 6; i++)
            expect(e, 0, i, (newest ? i <= 2 : i > 4) ? EES_STATUS_OK : EES_STATUS_DROPPED, EES_EARLY_NONE);
        ees_stats stats;
        ees_engine_get_stats(e, &stats);
        assert_int_equal(stats.n_pushed, 7);
        assert_int_equal(stats.n_ok, 3);
        assert_int_equal(stats.n_dropped, 4);
        ees_engine_close(e);
    }
    fake_model_free(m);
}

/* No slot is free: the frame that waits gives its own to the new one. */
static void test_drop_without_room(void **state) {
    struct ees_model *m = fake_model_new(0, false);
    ees_engine_options o = one_worker();
    o.n_workers = 2;
    o.n_slots = 3;
    o.stream.overload = EES_OVERLOAD_DROP_OLDEST;
    ees_engine *e = fake_engine(m, &o);
    struct fake_frame held = plain(0);
    held.held_at = GATE_UNIT;
    fake_model_gate(m, false);
    push(e, 0, 0, held);
    push(e, 0, 1, held);
    while (fake_model_held(m) < 2)
        nanosleep(&a_moment, NULL);
    for (uint64_t i = 2; i < 8; i++)
        push(e, 0, i, plain(1));
    fake_model_gate(m, true);
    expect(e, 0, 0, EES_STATUS_OK, EES_EARLY_NONE);
    expect(e, 0, 1, EES_STATUS_OK, EES_EARLY_NONE);
    for (uint64_t i = 2; i < 7; i++)
        expect(e, 0, i, EES_STATUS_DROPPED, EES_EARLY_NONE);
    expect(e, 0, 7, EES_STATUS_OK, EES_EARLY_NONE);
    ees_engine_close(e);
    fake_model_free(m);
}

/* Frames are held beyond their deadline after the first exit: its answer is theirs. What has not begun by then is dropped,
 * in a stream that drops nothing it goes on to its first head. */
static void test_deadline(void **state) {
    struct ees_model *m = fake_model_new(0, false);
    for (int block = 0; block < 2; block++) {
        ees_engine_options o = one_worker();
        o.stream.overload = block ? EES_OVERLOAD_BLOCK : EES_OVERLOAD_DEGRADE;
        o.stream.deadline_ns = 50000000;
        o.stream.backlog = 10;
        ees_engine *e = fake_engine(m, &o);
        struct fake_frame f = plain(0);
        f.held_at = AFTER_EXIT_0;
        fake_model_gate(m, false);
        /* On a machine this slow that the frame misses its deadline before it is held, try again. */
        uint64_t idx = 0;
        push(e, 0, idx, f);
        for (unsigned tries = 0; fake_model_held(m) == 0; tries++) {
            ees_result r;
            if (ees_engine_pull(e, &r, 1000, NULL) == 0) {
                ees_engine_release(e, &r);
                push(e, 0, ++idx, f);
            }
        }
        push(e, 0, idx + 1, plain(1));
        push(e, 0, idx + 2, plain(2));
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        fake_model_gate(m, true);
        ees_result r = pull(e);
        assert_int_equal(r.early, EES_EARLY_DEADLINE);
        assert_int_equal(r.exit_idx, 0);
        assert_int_equal(r.block, 2);
        assert_true(r.logits[0] == fake_answer(0, 0));
        ees_engine_release(e, &r);
        for (uint64_t i = 1; i <= 2; i++) {
            r = pull(e);
            assert_int_equal(r.status, block ? EES_STATUS_OK : EES_STATUS_DROPPED);
            assert_int_equal(r.early, block ? EES_EARLY_DEADLINE : EES_EARLY_NONE);
            assert_int_equal(r.exit_idx, block ? 0 : -1);
            ees_engine_release(e, &r);
        }
        ees_engine_close(e);
    }
    fake_model_free(m);
}

/* Frames wait, the level rises, those that may leave earlier do, and are labelled; with nothing to do it falls again. */
static void test_degrade(void **state) {
    struct ees_model *m = fake_model_new(0, false);
    ees_engine_options o = one_worker();
    o.stream.overload = EES_OVERLOAD_DEGRADE;
    o.stream.backlog = 4;
    ees_engine *e = fake_engine(m, &o);
    ees_stats stats;
    close_gate(m, e);
    struct fake_frame f = plain(1);
    f.degrades = 1;
    for (uint64_t i = 1; i <= 4; i++)
        push(e, 0, i, f);
    do {
        nanosleep(&a_moment, NULL);
        ees_engine_get_stats(e, &stats);
    } while (stats.degrade == 0);
    fake_model_gate(m, true);
    expect(e, 0, 0, EES_STATUS_OK, EES_EARLY_NONE);
    for (uint64_t i = 1; i <= 4; i++) {
        ees_result r = pull(e);
        assert_int_equal(r.early, EES_EARLY_DEGRADED);
        assert_int_equal(r.exit_idx, 0);
        ees_engine_release(e, &r);
    }
    do {
        nanosleep(&a_moment, NULL);
        ees_engine_get_stats(e, &stats);
    } while (stats.degrade > 0);
    push(e, 0, 5, f);
    expect(e, 0, 5, EES_STATUS_OK, EES_EARLY_NONE);
    ees_engine_get_stats(e, &stats);
    assert_int_equal(stats.n_degraded, 4);
    ees_engine_close(e);
    fake_model_free(m);
}

static void test_stall(void **state) {
    struct ees_model *m = fake_model_new(0, false);
    ees_engine_options o = one_worker();
    o.stall_ns = 20000000;
    ees_engine *e = fake_engine(m, &o);
    ees_result r;
    ees_error err = {0};
    char table[4096];
    close_gate(m, e);
    assert_int_equal(ees_engine_pull(e, &r, -1, &err), EES_ESTALLED);
    assert_non_null(strstr(err.message, "worker 0 is stuck in block1.attn"));
    assert_true(ees_engine_describe(e, table, sizeof table) < sizeof table);
    assert_non_null(strstr(table, "block1.attn"));
    assert_int_equal(ees_engine_describe(e, NULL, 0) > 9, true);
    ees_engine_describe(e, table, 10);
    assert_int_equal(strlen(table), 9);
    fake_model_gate(m, true); /* it was only slow after all */
    int rc;
    while ((rc = ees_engine_pull(e, &r, -1, NULL)) == EES_ESTALLED)
        ;
    assert_int_equal(rc, 0);
    ees_engine_release(e, &r);
    ees_engine_close(e);
    fake_model_free(m);
}

/* Push is not left waiting for room that never comes. */
static void test_stall_reaches_push(void **state) {
    struct ees_model *m = fake_model_new(0, false);
    ees_engine_options o = one_worker();
    o.stall_ns = 20000000;
    o.n_slots = 2;
    ees_engine *e = fake_engine(m, &o);
    ees_error err = {0};
    struct fake_frame f = plain(1);
    ees_frame frame = frame_for(0, 1, &f);
    close_gate(m, e);
    push(e, 0, 1, f);
    assert_int_equal(ees_engine_push(e, &frame, -1, &err), EES_ESTALLED);
    assert_non_null(strstr(err.message, "stuck"));
    fake_model_gate(m, true);
    ees_engine_close(e);
    fake_model_free(m);
}

static void test_bad_streams(void **state) {
    struct ees_model *m = fake_model_new(0, false);
    ees_engine_options alone = one_worker();
    ees_engine *e = fake_engine(m, &alone);
    ees_stream_options o;
    ees_stream_stats stats;
    unsigned stream;
    static const double weights[] = {0, -1, NAN, INFINITY};
    for (size_t i = 0; i < sizeof weights / sizeof weights[0]; i++) {
        ees_error err = {0};
        ees_stream_options_default(&o);
        o.weight = weights[i];
        assert_int_equal(ees_stream_open(e, &o, &stream, &err), EES_EINVAL);
        assert_non_null(strstr(err.message, "weight"));
    }
    ees_stream_options_default(&o);
    o.overload = (enum ees_overload)9;
    assert_int_equal(ees_stream_open(e, &o, &stream, NULL), EES_EINVAL);
    for (unsigned i = 1; i < EES_MAX_STREAMS; i++)
        assert_int_equal(ees_stream_open(e, NULL, &stream, NULL), 0);
    assert_int_equal(ees_stream_open(e, NULL, &stream, NULL), EES_EINVAL);
    assert_int_equal(ees_stream_get_stats(e, EES_MAX_STREAMS, &stats), EES_EINVAL);
    ees_stream_finish(e, EES_MAX_STREAMS); /* nothing happens */
    ees_engine_close(e);
    fake_model_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_of_each),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_no_credit_for_idle_time),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_drop_oldest_and_newest),
        cmocka_unit_test(test_drop_without_room),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_degrade),
        cmocka_unit_test(test_stall),
        cmocka_unit_test(test_stall_reaches_push),
        cmocka_unit_test(test_bad_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
