/* SPDX-License-Identifier: MIT */
/* engine/ring.h: capacity, order, wrap-around of the 32-bit tickets; then several producers and consumers with more
 * threads than cores, started just below the wrap. ARGS: values each producer sends (default 100000). */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "common/clock.h"
#include "engine/ring.h"

static uint32_t n_values = 100000;

static void test_fill_and_empty(void **state) {
    static const uint32_t starts[] = {0, 1, UINT32_MAX - 3, UINT32_MAX, INT32_MAX - 2, INT32_MAX};
    for (size_t s = 0; s < sizeof starts / sizeof starts[0]; s++) {
        struct ees__ring ring;
        uint32_t value = 77;
        assert_true(ees__ring_init(&ring, 5, starts[s])); /* room for 8 */
        for (int lap = 0; lap < 5; lap++) {
            assert_false(ees__ring_pop(&ring, &value));
            assert_int_equal(value, 77);
            for (uint32_t i = 0; i < 8; i++)
                assert_true(ees__ring_push(&ring, i));
            assert_int_equal(ees__ring_count(&ring), 8);
            assert_false(ees__ring_push(&ring, 99));
            for (uint32_t i = 0; i < 8; i++) {
                assert_true(ees__ring_pop(&ring, &value));
                assert_int_equal(value, i);
            }
            assert_int_equal(ees__ring_count(&ring), 0);
            value = 77;
        }
        ees__ring_fini(&ring);
    }
}

enum { N_PRODUCERS = 4, N_CONSUMERS = 4 };

struct stress {
    struct ees__ring ring;
    uint32_t *payload;      /* written before the push, plain: the ring must publish it */
    unsigned char *seen;    /* by value, plain: each value has one consumer */
    _Atomic uint32_t n_left;
    uint32_t capacity;
};

struct party {
    struct stress *stress;
    uint32_t idx;
    bool out_of_order;
};

static void stumble(uint32_t *seed) { /* now and then lose the core in the middle of things */
    *seed = *seed * 1664525u + 1013904223u;
    if (*seed >> 24 == 0)
        sched_yield();
}

static void *produce(void *arg) {
    struct party *p = arg;
    uint32_t seed = p->idx;
    for (uint32_t i = 0; i < n_values; i++) {
        uint32_t value = p->idx * n_values + i;
        p->stress->payload[value] = ~value;
        while (!ees__ring_push(&p->stress->ring, value))
            sched_yield();
        stumble(&seed);
    }
    return NULL;
}

static void *consume(void *arg) {
    struct party *p = arg;
    struct stress *s = p->stress;
    uint32_t value, seed = 100 + p->idx, last[N_PRODUCERS];
    memset(last, 0xff, sizeof last);
    while (atomic_load(&s->n_left) > 0) {
        if (!ees__ring_pop(&s->ring, &value)) {
            sched_yield();
            continue;
        }
        atomic_fetch_sub(&s->n_left, 1);
        uint32_t from = value / n_values, i = value % n_values;
        if (s->payload[value] != ~value || s->seen[value]++)
            abort();
        if (last[from] != UINT32_MAX && i <= last[from])
            p->out_of_order = true; /* one producer's values reach one consumer in order */
        last[from] = i;
        stumble(&seed);
    }
    return NULL;
}

static void test_stress(void **state) {
    struct stress s = {.capacity = 16};
    struct party producers[N_PRODUCERS], consumers[N_CONSUMERS];
    pthread_t threads[N_PRODUCERS + N_CONSUMERS];
    uint32_t total = N_PRODUCERS * n_values;
    s.payload = calloc(total, sizeof *s.payload);
    s.seen = calloc(total, 1);
    assert_true(ees__ring_init(&s.ring, s.capacity, UINT32_MAX - total / 2));
    atomic_init(&s.n_left, total);
    for (uint32_t i = 0; i < N_PRODUCERS; i++) {
        producers[i] = (struct party){.stress = &s, .idx = i};
        assert_int_equal(pthread_create(&threads[i], NULL, produce, &producers[i]), 0);
    }
    for (uint32_t i = 0; i < N_CONSUMERS; i++) {
        consumers[i] = (struct party){.stress = &s, .idx = i};
        assert_int_equal(pthread_create(&threads[N_PRODUCERS + i], NULL, consume, &consumers[i]), 0);
    }
    for (int i = 0; i < N_PRODUCERS + N_CONSUMERS; i++)
        pthread_join(threads[i], NULL);
    for (uint32_t i = 0; i < total; i++)
        assert_int_equal(s.seen[i], 1);
    for (int i = 0; i < N_CONSUMERS; i++)
        assert_false(consumers[i].out_of_order);
    ees__ring_fini(&s.ring);
    free(s.payload);
    free(s.seen);
}

/* The figure the design asks for: a hop (push and pop) within a microsecond, uncontended. The best of many short batches,
 * because the machine may be busy; sanitizers and emulation get more. */
static void test_hop_cost(void **state) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(EES_EMULATED)
    const double longest_ns = 20000;
#else
    const double longest_ns = 1000;
#endif
    struct ees__ring ring;
    uint32_t value = 0;
    enum { HOPS = 1000, BATCHES = 200 };
    double best_ns = 1e9;
    assert_true(ees__ring_init(&ring, 16, 0));
    for (int b = 0; b < BATCHES; b++) {
        uint64_t start_ns = ees__now_ns();
        for (uint32_t i = 0; i < HOPS; i++) {
            ees__ring_push(&ring, i);
            ees__ring_pop(&ring, &value);
        }
        double hop_ns = (double)(ees__now_ns() - start_ns) / HOPS;
        best_ns = hop_ns < best_ns ? hop_ns : best_ns;
    }
    print_message("hop: %.1f ns\n", best_ns);
    assert_true(best_ns <= longest_ns);
    ees__ring_fini(&ring);
}

int main(int argc, char **argv) {
    if (argc > 1)
        n_values = (uint32_t)strtoul(argv[1], NULL, 10);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fill_and_empty),
        cmocka_unit_test(test_stress),
        cmocka_unit_test(test_hop_cost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
