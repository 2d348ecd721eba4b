/* SPDX-License-Identifier: MIT */
/* Frames that depend on earlier ones of their stream: skipped because their picture hardly changed, or leaving where an
 * earlier frame's answer says so. A plain loop over the frames in order says what must come out; every plan and number
 * of workers must give just that. */
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "eestream/engine.h"
#include "fake_model.h"

enum { N_FRAMES = 240, N_STREAMS = 2 };

struct expected {
    enum ees_status status;
    int exit_idx;
    float logit; /* of the answer */
    uint64_t same_as;
};

struct rules {
    unsigned lag;
    float skip_below;
};

static struct fake_frame frames[N_STREAMS][N_FRAMES];

/* Scenes of a few frames each with a slowly drifting grey value; some frames fail, at ingest or later. */
static int make_frames(void **state) {
    uint32_t x = 12345;
    for (uint32_t s = 0; s < N_STREAMS; s++)
        for (uint32_t i = 0; i < N_FRAMES; i++) {
            x = x * 1664525u + 1013904223u;
            uint8_t before = i ? frames[s][i - 1].picture : 100;
            bool cut = x >> 28 == 0;
            frames[s][i] = (struct fake_frame){.number = i / 3 + 1000 * s,
                                               .exit = (uint8_t)((x >> 20) % 3),
                                               .fails_at = 255,
                                               .held_at = 255,
                                               .picture = (uint8_t)(cut ? (x >> 8) % 200 : before + (x >> 16) % 3 - 1)};
            if ((x >> 12) % 16 == 3)
                frames[s][i].fails_at = (uint8_t)((x >> 4) % 17);
        }
    return 0;
}

/* Units at which the exits and the final classifier stand. */
static const unsigned exit_units[FAKE_EXITS + 1] = {6, 11, 16};

static unsigned class_of(float logit) { return (unsigned)logit % FAKE_CLASSES; }

/* A stream reads two inputs, one after the other. */
static uint32_t source_of(int i) { return i >= N_FRAMES * 2 / 3; }

/* A frame that is computed, compared with `reference` (class + 1, 0: none). */
static struct expected compute(const struct fake_frame *f, bool compares, unsigned reference) {
    for (int e = 0; e <= FAKE_EXITS; e++) {
        float logit = fake_answer(f->number, (unsigned)e);
        if (f->fails_at <= exit_units[e])
            break;
        if (e == f->exit || e == FAKE_EXITS || (compares && reference == class_of(logit) + 1))
            return (struct expected){.status = EES_STATUS_OK, .exit_idx = e, .logit = logit};
    }
    return (struct expected){.status = EES_STATUS_FAILED, .exit_idx = -1};
}

static void expect(const struct fake_frame *f, const struct rules *rules, struct expected *out) {
    unsigned references[N_FRAMES], n_computed = 0;
    uint32_t sources[N_FRAMES];
    int last = -1; /* computed */
    for (int i = 0; i < N_FRAMES; i++) {
        if (f[i].fails_at == 0 && rules->skip_below > 0) {
            out[i] = (struct expected){.status = EES_STATUS_FAILED, .exit_idx = -1};
            continue;
        }
        if (rules->skip_below > 0 && last >= 0 && source_of(last) == source_of(i) &&
            fabsf((float)f[i].picture - f[last].picture) < rules->skip_below) {
            out[i] = out[last];
            out[i].same_as = (uint64_t)last;
            if (out[i].status == EES_STATUS_OK)
                out[i].status = EES_STATUS_SKIPPED;
            continue;
        }
        bool compares = rules->lag > 0 && n_computed >= rules->lag && sources[n_computed - rules->lag] == source_of(i);
        unsigned reference = compares ? references[n_computed - rules->lag] : 0;
        sources[n_computed] = source_of(i);
        out[i] = compute(&f[i], rules->lag > 0, reference);
        references[n_computed++] = out[i].status == EES_STATUS_OK ? class_of(out[i].logit) + 1 : 0;
        last = i;
    }
}

static ees_engine *open_engine(const ees_model *m, unsigned n_workers, const char *plan, const struct rules *rules,
                               double audit_share) {
    ees_engine_options o;
    ees_engine_options_default(&o);
    o.n_workers = n_workers;
    o.plan = plan;
    o.max_batch = n_workers == 4 ? 3 : 0;
    o.audit_share = audit_share;
    o.policy.lag = rules->lag;
    o.policy.skip_below = rules->skip_below;
    return fake_engine(m, &o);
}

static ees_frame frame_of(uint32_t stream, uint32_t i) {
    ees_frame frame = fake_frame(&frames[stream][i], i);
    frame.stream = stream;
    frame.source_idx = source_of((int)i);
    return frame;
}

static void *feed(void *engine) {
    for (uint32_t i = 0; i < N_FRAMES; i++)
        for (uint32_t s = 0; s < N_STREAMS; s++) {
            ees_frame frame = frame_of(s, i);
            if (ees_engine_push(engine, &frame, -1, NULL) != 0)
                abort();
        }
    ees_engine_finish(engine);
    return NULL;
}

static void check_answer(const ees_result *r, const struct expected *x) {
    if (r->status != x->status || r->exit_idx != x->exit_idx)
        fail_msg("stream %u frame %u: %s at exit %d, expected %s at %d", r->stream, (unsigned)r->frame_idx,
                 ees_status_name(r->status), r->exit_idx, ees_status_name(x->status), x->exit_idx);
    if (x->status == EES_STATUS_FAILED) {
        assert_non_null(strstr(r->error->message, "on purpose"));
        return;
    }
    assert_true(r->logits[0] == x->logit);
    assert_int_equal(r->class_idx, class_of(x->logit));
    if (x->status == EES_STATUS_SKIPPED)
        assert_int_equal(r->same_as, x->same_as);
}

static void run_all(const ees_model *m, unsigned n_workers, const char *plan, const struct rules *rules) {
    struct expected expected[N_STREAMS][N_FRAMES];
    unsigned n[EES_STATUS_FAILED + 1] = {0}, next[N_STREAMS] = {0}, second;
    pthread_t thread;
    ees_result r;
    for (unsigned s = 0; s < N_STREAMS; s++)
        expect(frames[s], rules, expected[s]);
    ees_engine *e = open_engine(m, n_workers, plan, rules, 0);
    assert_int_equal(ees_stream_open(e, NULL, &second, NULL), 0);
    assert_int_equal(pthread_create(&thread, NULL, feed, e), 0);
    for (unsigned i = 0; i < N_STREAMS * N_FRAMES; i++) {
        assert_int_equal(ees_engine_pull(e, &r, -1, NULL), 0);
        assert_int_equal(r.frame_idx, next[r.stream]++);
        check_answer(&r, &expected[r.stream][r.frame_idx]);
        n[r.status]++;
        ees_engine_release(e, &r);
    }
    assert_int_equal(ees_engine_pull(e, &r, -1, NULL), EES_EOF);
    pthread_join(thread, NULL);
    ees_stats stats;
    ees_engine_get_stats(e, &stats);
    assert_int_equal(stats.n_pushed, N_STREAMS * N_FRAMES);
    assert_int_equal(stats.n_ok, n[EES_STATUS_OK]);
    assert_int_equal(stats.n_skipped, n[EES_STATUS_SKIPPED]);
    assert_int_equal(stats.n_failed, n[EES_STATUS_FAILED]);
    if (rules->skip_below > 0)
        assert_true(n[EES_STATUS_SKIPPED] > N_FRAMES / 4 && n[EES_STATUS_OK] > N_FRAMES / 8);
    ees_engine_close(e);
}

static const struct rules all_rules[] = {
    {.lag = 1}, {.lag = 4}, {.lag = EES_MAX_LAG}, {.skip_below = 4}, {.lag = 3, .skip_below = 4}};

static void test_every_plan(void **state) {
    static const char *const plans[] = {"replicas", "equal:2", "1-2,3-6", "1-block3.attn,block3.mlp-6", "equal:4"};
    static const unsigned n_workers[] = {1, 2, 4};
    struct ees_model *m = fake_model_new(0, true);
    for (size_t i = 0; i < sizeof all_rules / sizeof *all_rules; i++)
        for (size_t w = 0; w < 3; w++)
            for (size_t p = 0; p < sizeof plans / sizeof *plans; p++)
                if (p == 0 || n_workers[w] == 4 || (n_workers[w] == 2 && p < 4))
                    run_all(m, n_workers[w], plans[p], &all_rules[i]);
    fake_model_free(m);
}

/* The rules do something: others than without them leave early. */
static void test_references_matter(void **state) {
    struct expected with[N_FRAMES], without[N_FRAMES];
    unsigned n_earlier = 0;
    expect(frames[0], &(struct rules){.lag = 1}, with);
    expect(frames[0], &(struct rules){0}, without);
    for (unsigned i = 0; i < N_FRAMES; i++)
        n_earlier += with[i].exit_idx >= 0 && with[i].exit_idx < without[i].exit_idx;
    assert_true(n_earlier > N_FRAMES / 20);
}

/* Every skipped frame is run to full depth and compared with the answer it repeats. */
static void test_skipped_are_audited(void **state) {
    const struct rules rules = {.skip_below = 4};
    struct ees_model *m = fake_model_new(0, true);
    struct expected expected[N_FRAMES];
    unsigned n_done = 0, n_agreed = 0, n_missed = 0;
    expect(frames[0], &rules, expected);
    for (unsigned i = 0; i < N_FRAMES; i++) {
        bool fails = frames[0][i].fails_at != 255, skipped = expected[i].status == EES_STATUS_SKIPPED;
        bool early = expected[i].status == EES_STATUS_OK && expected[i].exit_idx < FAKE_EXITS;
        n_done += skipped && !fails;
        n_missed += (skipped || early) && fails;
        n_agreed +=
            skipped && !fails && class_of(expected[i].logit) == class_of(fake_answer(frames[0][i].number, FAKE_EXITS));
    }
    for (unsigned w = 1; w <= 3; w++) {
        ees_engine *e = open_engine(m, w, "replicas", &rules, 1.0);
        ees_result r;
        ees_stats stats;
        for (uint32_t i = 0; i < N_FRAMES; i++) {
            ees_frame frame = frame_of(0, i);
            assert_int_equal(ees_engine_push(e, &frame, -1, NULL), 0);
            assert_int_equal(ees_engine_pull(e, &r, -1, NULL), 0);
            check_answer(&r, &expected[i]);
            ees_engine_release(e, &r);
        }
        ees_engine_finish(e);
        assert_int_equal(ees_engine_pull(e, &r, -1, NULL), EES_EOF); /* audits included */
        ees_engine_get_stats(e, &stats);
        assert_int_equal(stats.audit.n_done_skipped, n_done);
        assert_int_equal(stats.audit.n_agreed_skipped, n_agreed);
        assert_int_equal(stats.audit.n_missed, n_missed);
        assert_true(n_agreed < n_done && n_agreed > 0);
        ees_engine_close(e);
    }
    fake_model_free(m);
}

/* Under load frames are lost, but none is lost count of, none waits for a lost one, and a still scene is answered
 * again. */
static void test_with_dropped_frames(void **state) {
    static const enum ees_overload rules_of_overload[] = {EES_OVERLOAD_DROP_OLDEST, EES_OVERLOAD_DROP_NEWEST,
                                                          EES_OVERLOAD_DEGRADE};
    struct ees_model *m = fake_model_new(20000, true);
    for (size_t k = 0; k < 2 * sizeof rules_of_overload / sizeof *rules_of_overload; k++) {
        ees_engine_options o;
        ees_engine *e;
        ees_engine_options_default(&o);
        o.n_workers = 2;
        o.n_slots = 4;
        o.plan = "equal:2";
        o.stream.overload = rules_of_overload[k / 2];
        o.stream.deadline_ns = k % 2 ? 300000 : 0;
        o.policy.lag = 2;
        o.policy.skip_below = 4;
        assert_int_equal(ees_engine_open(m, &o, &e, NULL), 0);
        unsigned n_answers = 0, n_pushed = 0;
        ees_result r;
        for (uint32_t i = 0; i < 3 * N_FRAMES; i++) {
            struct fake_frame *f = &frames[0][i % N_FRAMES];
            ees_frame frame = fake_frame(f, i);
            n_pushed += ees_engine_push(e, &frame, 0, NULL) == 0;
            while (ees_engine_pull(e, &r, i % 64 == 0 ? 1000 : 0, NULL) == 0) {
                n_answers++;
                ees_engine_release(e, &r);
            }
        }
        ees_engine_finish(e);
        while (ees_engine_pull(e, &r, -1, NULL) == 0) {
            n_answers++;
            ees_engine_release(e, &r);
        }
        ees_stats stats;
        ees_engine_get_stats(e, &stats);
        assert_int_equal(n_answers, n_pushed);
        assert_int_equal(stats.n_ok + stats.n_skipped + stats.n_dropped + stats.n_failed, n_pushed);
        if (!o.stream.deadline_ns) /* on a busy machine every frame may be late */
            assert_true(stats.n_ok > 0);
        ees_engine_close(e);
    }
    fake_model_free(m);
}

static void test_not_unordered(void **state) {
    struct ees_model *m = fake_model_new(0, false);
    for (size_t i = 0; i < sizeof all_rules / sizeof *all_rules; i++) {
        ees_engine_options o;
        ees_engine *e;
        ees_error err = {0};
        ees_engine_options_default(&o);
        o.unordered = true;
        o.policy.lag = all_rules[i].lag;
        o.policy.skip_below = all_rules[i].skip_below;
        assert_int_equal(ees_engine_open(m, &o, &e, &err), EES_EINVAL);
        assert_non_null(strstr(err.message, "unordered"));
    }
    fake_model_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_plan),          cmocka_unit_test(test_references_matter),
        cmocka_unit_test(test_skipped_are_audited), cmocka_unit_test(test_with_dropped_frames),
        cmocka_unit_test(test_not_unordered),
    };
    return cmocka_run_group_tests_name("follow", tests, make_frames, NULL);
}
