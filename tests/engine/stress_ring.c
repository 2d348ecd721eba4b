/* SPDX-License-Identifier: MIT */
/* engine/ring.h with 8 threads on however few cores, which lose them in the middle of things; the tickets wrap around half
 * way. Each value arrives once, whole, and in its producer's order. ARGS: values in all, seed. */
#define _GNU_SOURCE
#include "tests/engine/perturb.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/ring.h"

enum { N_PRODUCERS = 4, N_CONSUMERS = 4, CAPACITY = 32 };

static uint64_t n_values = 1000000, seed = 1;

static struct ees__ring ring;
static uint32_t *payload;    /* written before the push, plain: the ring must publish it */
static unsigned char *times; /* that a value arrived: plain, a value has one consumer */
static _Atomic uint64_t n_left;
static _Atomic unsigned n_broken, n_disorder;

static void *produce(void *arg) {
    unsigned me = (unsigned)(uintptr_t)arg;
    perturb_seed(seed, me);
    for (uint64_t value = me; value < n_values; value += N_PRODUCERS) {
        payload[value] = ~(uint32_t)value;
        while (!ees__ring_push(&ring, (uint32_t)value))
            sched_yield();
    }
    return NULL;
}

static void *consume(void *arg) {
    int64_t newest[N_PRODUCERS] = {-1, -1, -1, -1};
    uint32_t value;
    perturb_seed(seed, N_PRODUCERS + (unsigned)(uintptr_t)arg);
    while (atomic_load_explicit(&n_left, memory_order_relaxed) > 0) {
        if (!ees__ring_pop(&ring, &value)) {
            sched_yield();
            continue;
        }
        unsigned from = value % N_PRODUCERS;
        n_broken += value >= n_values || payload[value] != ~value || times[value]++ > 0;
        n_disorder += (int64_t)value <= newest[from];
        newest[from] = value;
        atomic_fetch_sub_explicit(&n_left, 1, memory_order_relaxed);
    }
    return NULL;
}

static void test_exactly_once_in_order(void **state) {
    pthread_t threads[N_PRODUCERS + N_CONSUMERS];
    print_message("%llu values, seed %llu\n", (unsigned long long)n_values, (unsigned long long)seed);
    payload = calloc(n_values, sizeof *payload);
    times = calloc(n_values, 1);
    assert_true(payload && times && ees__ring_init(&ring, CAPACITY, UINT32_MAX - (uint32_t)(n_values / 2)));
    atomic_init(&n_left, n_values);
    for (uintptr_t i = 0; i < N_PRODUCERS + N_CONSUMERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, i < N_PRODUCERS ? produce : consume,
                                        (void *)(i < N_PRODUCERS ? i : i - N_PRODUCERS)),
                         0);
    for (unsigned i = 0; i < N_PRODUCERS + N_CONSUMERS; i++)
        pthread_join(threads[i], NULL);
    uint64_t n_once = 0;
    for (uint64_t i = 0; i < n_values; i++)
        n_once += times[i] == 1;
    assert_int_equal(n_once, n_values);
    assert_int_equal(n_broken, 0);
    assert_int_equal(n_disorder, 0);
    assert_int_equal(ees__ring_count(&ring), 0);
    ees__ring_fini(&ring);
    free(payload);
    free(times);
}

int main(int argc, char **argv) {
    if (argc > 1)
        n_values = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        seed = strtoull(argv[2], NULL, 10);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_exactly_once_in_order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
