/* SPDX-License-Identifier: MIT */
/* The whole library through its public face, on the embedded model and clip: same answers for every plan, number of
 * workers and I/O back end; no allocation a frame; several engines at once; push from memory. */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "eestream/eestream.h"

#define CLIP EES_PROJECT_DIR "/tools/assets/world/clip.avi"
enum { MAX_FRAMES = 400, MAX_CLASSES = 64 };

/* ---- Counting allocations: every call from this program and the static library, not from inside libc ---- */

static _Atomic uint64_t n_allocations;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t alignment, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t alignment, size_t n);

void *__wrap_malloc(size_t n) {
    atomic_fetch_add(&n_allocations, 1);
    return __real_malloc(n);
}
void *__wrap_calloc(size_t n, size_t size) {
    atomic_fetch_add(&n_allocations, 1);
    return __real_calloc(n, size);
}
void *__wrap_realloc(void *p, size_t n) {
    atomic_fetch_add(&n_allocations, 1);
    return __real_realloc(p, n);
}
void *__wrap_aligned_alloc(size_t alignment, size_t n) {
    atomic_fetch_add(&n_allocations, 1);
    return __real_aligned_alloc(alignment, n);
}

static unsigned n_wanted = MAX_FRAMES; /* argument: so many frames of the clip are enough (emulators) */

/* ---- Answers of one run --------------------------------------------------------------------------------- */

struct answers {
    unsigned n;
    int exit_idx[MAX_FRAMES], class_idx[MAX_FRAMES];
    float logits[MAX_FRAMES][MAX_CLASSES];
};

struct feeder {
    ees_engine *engine;
    ees_source *source;
    int rc;
};

static void *feed(void *arg) {
    struct feeder *f = arg;
    ees_frame frame;
    for (unsigned n = 0; n < n_wanted && (f->rc = ees_source_next(f->source, &frame, NULL)) == 0; n++)
        if (ees_engine_push(f->engine, &frame, -1, NULL) != 0)
            abort();
    ees_engine_finish(f->engine);
    return NULL;
}

static void run_clip(const ees_model *model, unsigned n_workers, const char *plan, enum ees_io_backend io,
                     const char *policy, struct answers *out) {
    ees_engine_options eo;
    ees_source_options so;
    ees_error err = {0};
    struct feeder f = {0};
    ees_engine_options_default(&eo);
    ees_source_options_default(&so);
    eo.n_workers = n_workers;
    eo.plan = plan;
    eo.policy.name = policy;
    so.io = io;
    int rc = ees_source_open(CLIP, &so, &f.source, &err);
    if (rc == EES_EUNSUPPORTED && io == EES_IO_URING) {
        print_message("skipped: io_uring is not to be had here\n");
        return;
    }
    if (rc != 0 || ees_engine_open(model, &eo, &f.engine, &err) != 0)
        fail_msg("%s", err.message);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, feed, &f), 0);
    ees_result r;
    out->n = 0;
    while (ees_engine_pull(f.engine, &r, -1, NULL) == 0) {
        assert_int_equal(r.status, EES_STATUS_OK);
        assert_int_equal(r.frame_idx, out->n);
        assert_true(out->n < MAX_FRAMES && r.n_classes <= MAX_CLASSES);
        out->exit_idx[out->n] = r.exit_idx;
        out->class_idx[out->n] = r.class_idx;
        memcpy(out->logits[out->n], r.logits, r.n_classes * sizeof(float));
        out->n++;
        ees_engine_release(f.engine, &r);
    }
    pthread_join(thread, NULL);
    assert_int_equal(f.rc, out->n == n_wanted ? 0 : EES_EOF);
    ees_engine_close(f.engine);
    ees_source_close(f.source);
}

static const ees_model *embedded(void) {
    static ees_model *model;
    ees_error err = {0};
    if (!model && ees_model_open(NULL, NULL, &model, &err) != 0)
        fail_msg("%s", err.message);
    return model;
}

static void test_same_answers(void **state) {
    static const char *const plans[] = {"replicas", "equal:2", "1-3,4-12", "1-block4.attn,block4.mlp-12"};
    struct answers *want = calloc(1, sizeof *want), *got = calloc(1, sizeof *got);
    run_clip(embedded(), 1, NULL, EES_IO_PREAD, NULL, want);
    assert_true(want->n > 30 && (want->n == n_wanted || want->n > 200));
    unsigned n_runs = 0;
    for (unsigned w = 1; w <= 8; w = w < 4 ? w + 1 : w * 2)
        for (size_t p = 0; p < sizeof plans / sizeof plans[0]; p++) {
            if (w == 1 && p > 0)
                continue;
            memset(got, 0, sizeof *got);
            run_clip(embedded(), w, plans[p], n_runs++ % 2 ? EES_IO_URING : EES_IO_PREAD, NULL, got);
            if (got->n > 0)
                assert_memory_equal(got, want, sizeof *want);
        }
    run_clip(embedded(), 2, "auto", EES_IO_AUTO, NULL, got);
    assert_memory_equal(got, want, sizeof *want);
    free(want);
    free(got);
}

static void test_full_depth(void **state) {
    struct answers *a = calloc(1, sizeof *a);
    run_clip(embedded(), 2, NULL, EES_IO_AUTO, "none", a);
    for (unsigned i = 0; i < a->n; i++)
        assert_int_equal(a->exit_idx[i], ees_model_get_info(embedded())->n_exits);
    free(a);
}

enum { WARM_UP = 30, IN_FLIGHT = 6 };

/* The clip through the engine, from a new source. @return allocations after the first WARM_UP frames, from where on one
 * frame at a time is in flight */
static uint64_t stream_clip(ees_engine *engine) {
    ees_source *source;
    ees_frame frame;
    ees_result r;
    assert_int_equal(ees_source_open(CLIP, NULL, &source, NULL), 0);
    uint64_t before = 0, n = 0, n_inside = 0;
    for (; n < n_wanted && ees_source_next(source, &frame, NULL) == 0; n++) {
        if (n == WARM_UP)
            before = n_allocations;
        assert_int_equal(ees_engine_push(engine, &frame, -1, NULL), 0);
        n_inside++;
        while (n_inside > (n < WARM_UP ? IN_FLIGHT : 1)) {
            assert_int_equal(ees_engine_pull(engine, &r, -1, NULL), 0);
            ees_engine_release(engine, &r);
            n_inside--;
        }
    }
    assert_true(n > WARM_UP);
    uint64_t grown = n_allocations - before;
    for (; n_inside > 0; n_inside--) {
        assert_int_equal(ees_engine_pull(engine, &r, -1, NULL), 0);
        ees_engine_release(engine, &r);
    }
    ees_source_close(source);
    return grown;
}

static bool all_have_worked(const ees_engine *engine) {
    ees_stats stats;
    ees_engine_get_stats(engine, &stats);
    for (unsigned w = 0; w < stats.n_workers; w++)
        if (stats.workers[w].n_runs < 3)
            return false;
    return true;
}

/* Once every worker has met frames of the clip, nothing on the way of one allocates: decode, units, rings, answers. */
static void test_no_allocation_per_frame(void **state) {
    ees_engine *engine;
    ees_engine_options o;
    ees_engine_options_default(&o);
    o.n_workers = 2;
    o.plan = "replicas";
    assert_int_equal(ees_engine_open(embedded(), &o, &engine, NULL), 0);
    do /* which worker takes a frame is the machine's business: one may come late, with all its first allocations */
        stream_clip(engine);
    while (!all_have_worked(engine));
    uint64_t grown = stream_clip(engine);
    print_message("%llu allocations after %d frames\n", (unsigned long long)grown, WARM_UP);
    /* A larger JPEG than any before may still grow a pooled buffer: not one a frame, a handful in all. */
    assert_true(grown <= 16);
    ees_engine_close(engine);
}

static void *run_alone(void *arg) {
    run_clip(embedded(), 2, "replicas", EES_IO_PREAD, NULL, arg);
    return NULL;
}

static void test_two_engines(void **state) {
    struct answers *a = calloc(2, sizeof *a);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_alone, &a[0]), 0);
    run_clip(embedded(), 2, "equal:2", EES_IO_PREAD, NULL, &a[1]);
    pthread_join(thread, NULL);
    assert_memory_equal(&a[0], &a[1], sizeof a[0]);
    free(a);
}

/* RGB frames from the caller's own memory: pushed without release, so copied. */
static void test_push_pixels(void **state) {
    unsigned char *pixels = malloc(100 * 80 * 3);
    ees_engine *engine;
    ees_engine_options o;
    ees_engine_options_default(&o);
    o.n_workers = 1;
    assert_int_equal(ees_engine_open(embedded(), &o, &engine, NULL), 0);
    float first[MAX_CLASSES] = {0};
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < 100 * 80 * 3; k++)
            pixels[k] = (unsigned char)(k * 7 / 3);
        ees_frame frame = {
            .kind = EES_FRAME_RGB24, .width_px = 100, .height_px = 80, .data = {pixels}, .stride = {300}, .pts_ns = -1};
        assert_int_equal(ees_engine_push(engine, &frame, -1, NULL), 0);
        memset(pixels, 0, 100 * 80 * 3);
        ees_result r;
        assert_int_equal(ees_engine_pull(engine, &r, -1, NULL), 0);
        assert_int_equal(r.status, EES_STATUS_OK);
        if (i == 0)
            memcpy(first, r.logits, r.n_classes * sizeof(float));
        else
            assert_memory_equal(first, r.logits, r.n_classes * sizeof(float));
        ees_engine_release(engine, &r);
    }
    ees_engine_close(engine);
    free(pixels);
}

int main(int argc, char **argv) {
    if (argc > 1)
        n_wanted = (unsigned)atoi(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_answers),
        cmocka_unit_test(test_full_depth),
        cmocka_unit_test(test_no_allocation_per_frame),
        cmocka_unit_test(test_two_engines),
        cmocka_unit_test(test_push_pixels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
