/* SPDX-License-Identifier: MIT */
/* engine/wait.c: 4 givers and 4 takers pass a few tokens to and fro, all of them asleep most of the time and losing their
 * cores in the middle of things. With one token a single lost wake-up leaves everybody asleep; the sleep is bounded, so it
 * shows as a deadline that passed while a token was there. With more tokens notifiers meet. ARGS: hand-overs, seed. */
#define _GNU_SOURCE
#include "tests/engine/perturb.h"

#include "engine/wait.c"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/clock.h"

enum { N_GIVERS = 4, N_TAKERS = 4 };

static const uint64_t patience_ns = UINT64_C(30000000000);
static uint64_t n_handovers = 100000, seed = 1;

struct place { /* tokens that lie there, and who waits for one. Relaxed: only the event orders anything. */
    struct ees__event event;
    _Atomic uint32_t n_tokens;
};

static struct place given, taken;
static _Atomic uint64_t n_done;
static _Atomic bool over;
static _Atomic unsigned n_lost;

static bool grab(struct place *p) {
    uint32_t n = atomic_load_explicit(&p->n_tokens, memory_order_relaxed);
    while (n > 0)
        if (atomic_compare_exchange_weak_explicit(&p->n_tokens, &n, n - 1, memory_order_relaxed, memory_order_relaxed))
            return true;
    return false;
}

static void end(void) {
    atomic_store_explicit(&over, true, memory_order_relaxed);
    ees__event_notify_all(&given.event);
    ees__event_notify_all(&taken.event);
}

/* @return false: it is over */
static bool wait_for(struct place *p, unsigned me) {
    while (!grab(p)) {
        uint32_t key = ees__event_prepare(&p->event);
        EES_PERTURB();
        bool got = grab(p);
        if (got || atomic_load_explicit(&over, memory_order_relaxed)) {
            ees__event_cancel(&p->event);
            return got;
        }
        if (!ees__event_wait(&p->event, key, me, ees__now_ns() + patience_ns) && grab(p)) {
            atomic_fetch_add_explicit(&n_lost, 1, memory_order_relaxed);
            end();
            return false;
        }
    }
    return true;
}

static void put(struct place *p) {
    uint32_t r = perturb_random();
    atomic_fetch_add_explicit(&p->n_tokens, 1, memory_order_relaxed);
    EES_PERTURB();
    ees__event_notify(&p->event, r % 2 ? EES__WAKE_ANY : (int)(r >> 8) % 8); /* some groups nobody is of */
}

static void *give(void *arg) {
    unsigned me = (unsigned)(uintptr_t)arg;
    perturb_seed(seed, me);
    while (wait_for(&taken, me))
        put(&given);
    return NULL;
}

static void *take(void *arg) {
    unsigned me = (unsigned)(uintptr_t)arg;
    perturb_seed(seed, N_GIVERS + me);
    while (wait_for(&given, me)) {
        put(&taken);
        if (atomic_fetch_add_explicit(&n_done, 1, memory_order_relaxed) + 1 == n_handovers)
            end();
        if (atomic_load_explicit(&over, memory_order_relaxed))
            break;
    }
    return NULL;
}

static void pass_tokens(uint32_t n_tokens) {
    pthread_t threads[N_GIVERS + N_TAKERS];
    print_message("%u tokens, %llu hand-overs, seed %llu\n", n_tokens, (unsigned long long)n_handovers,
                  (unsigned long long)seed);
    ees__event_init(&given.event);
    ees__event_init(&taken.event);
    atomic_init(&taken.n_tokens, n_tokens);
    atomic_init(&given.n_tokens, 0);
    atomic_init(&n_done, 0);
    atomic_init(&over, false);
    for (uintptr_t i = 0; i < N_GIVERS + N_TAKERS; i++)
        assert_int_equal(
            pthread_create(&threads[i], NULL, i < N_GIVERS ? give : take, (void *)(i < N_GIVERS ? i : i - N_GIVERS)),
            0);
    for (unsigned i = 0; i < N_GIVERS + N_TAKERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(n_lost, 0);
    assert_true(n_done >= n_handovers);
    assert_false(ees__event_has_waiters(&given.event));
    assert_false(ees__event_has_waiters(&taken.event));
}

static void test_no_lost_wakeup(void **state) {
    pass_tokens(1);
    pass_tokens(3);
}

int main(int argc, char **argv) {
    if (argc > 1)
        n_handovers = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        seed = strtoull(argv[2], NULL, 10);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_lost_wakeup)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
