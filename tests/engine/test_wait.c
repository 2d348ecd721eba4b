/* SPDX-License-Identifier: MIT */
/* engine/wait.h: no lost wake-up between a ring and its event, with more threads than cores; deadlines; preference. */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "common/clock.h"
#include "engine/ring.h"
#include "engine/wait.h"

enum { N_VALUES = 20000, N_SLEEPERS = 4, N_NOTIFIERS = 4 };

struct mailbox {
    struct ees__ring ring;
    struct ees__event event;
    _Atomic uint32_t n_taken;
};

static void *send(void *arg) {
    struct mailbox *m = arg;
    for (uint32_t i = 0; i < N_VALUES / N_NOTIFIERS; i++) {
        while (!ees__ring_push(&m->ring, i))
            sched_yield();
        ees__event_notify(&m->event, (int)(i % N_SLEEPERS));
        if (i % 64 == 0)
            nanosleep(&(struct timespec){.tv_nsec = 1000}, NULL); /* let the sleepers run dry */
    }
    return NULL;
}

/* Sleeps without a deadline: a lost wake-up hangs, and the test's time limit reports it. */
static void *receive(void *arg) {
    struct mailbox *m = arg;
    uint32_t value = 0;
    for (;;) {
        uint32_t key = ees__event_prepare(&m->event);
        bool got = ees__ring_pop(&m->ring, &value);
        bool done = atomic_load(&m->n_taken) >= N_VALUES;
        if (!got && !done) {
            ees__event_wait(&m->event, key, value % N_SLEEPERS, UINT64_MAX);
            continue;
        }
        ees__event_cancel(&m->event);
        if (done)
            return NULL;
        if (atomic_fetch_add(&m->n_taken, 1) + 1 == N_VALUES)
            ees__event_notify_all(&m->event);
    }
}

static void test_no_lost_wakeup(void **state) {
    struct mailbox m;
    pthread_t threads[N_SLEEPERS + N_NOTIFIERS];
    assert_true(ees__ring_init(&m.ring, 32, 0));
    ees__event_init(&m.event);
    atomic_init(&m.n_taken, 0);
    for (int i = 0; i < N_SLEEPERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, receive, &m), 0);
    for (int i = 0; i < N_NOTIFIERS; i++)
        assert_int_equal(pthread_create(&threads[N_SLEEPERS + i], NULL, send, &m), 0);
    for (int i = 0; i < N_SLEEPERS + N_NOTIFIERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(m.n_taken, N_VALUES);
    assert_false(ees__event_has_waiters(&m.event));
    ees__ring_fini(&m.ring);
}

static void test_deadline(void **state) {
    struct ees__event e;
    ees__event_init(&e);
    uint64_t start_ns = ees__now_ns();
    uint32_t key = ees__event_prepare(&e);
    assert_true(ees__event_has_waiters(&e));
    assert_false(ees__event_wait(&e, key, 3, start_ns + 5000000));
    assert_true(ees__now_ns() - start_ns >= 5000000);
    key = ees__event_prepare(&e);
    ees__event_notify(&e, 7); /* between prepare and wait: does not sleep at all */
    assert_true(ees__event_wait(&e, key, 3, UINT64_MAX));
    assert_false(ees__event_has_waiters(&e));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_lost_wakeup), cmocka_unit_test(test_deadline)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
