/* SPDX-License-Identifier: MIT */
/* The buffer pool: reuse, release from several threads, release after close. Meant for ThreadSanitizer as well. */
#include "support.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "common/mem.h"
#include "io/frame_buf.h"
#include "io/pool.h"

struct thing {
    struct ees__pool_item item;
    unsigned value[16];
};

static atomic_uint n_finished;

static void count_fini(void *item) { atomic_fetch_add(&n_finished, 1); }

static void test_reuse(void **state) {
    struct ees__pool *pool = ees__pool_open(sizeof(struct thing), count_fini);
    struct thing *a = ees__pool_acquire(pool), *b = ees__pool_acquire(pool);
    assert_ptr_not_equal(a, b);
    assert_int_equal(a->value[0], 0);
    a->value[0] = 7;
    ees__pool_release(a);
    struct thing *c = ees__pool_acquire(pool);
    assert_ptr_equal(c, a);
    assert_int_equal(c->value[0], 7); /* as it was left */
    ees__pool_release(c);
    atomic_store(&n_finished, 0);
    ees__pool_close(pool);
    assert_int_equal(atomic_load(&n_finished), 0); /* b is still out */
    b->value[3] = 1;
    ees__pool_release(b);
    assert_int_equal(atomic_load(&n_finished), 2);
}

/* A mailbox a releaser thread; the items in it are checked, then given back. */
enum { N_THREADS = 3, N_ROUNDS = 20000, N_SLOTS = 8 };

struct releaser {
    pthread_t thread;
    _Atomic(struct thing *) slots[N_SLOTS];
    unsigned n_bad;
};

static void *release_all(void *argument) {
    struct releaser *r = argument;
    unsigned n = 0;
    while (n < N_ROUNDS) {
        struct thing *t = atomic_exchange(&r->slots[n % N_SLOTS], NULL);
        if (!t) {
            sched_yield();
            continue;
        }
        for (int i = 1; i < 16; i++)
            r->n_bad += t->value[i] != t->value[0];
        memset(t->value, 0xee, sizeof t->value);
        ees__pool_release(t);
        n++;
    }
    return NULL;
}

static void hand_over(struct releaser *r, unsigned slot, struct thing *t) {
    struct thing *empty = NULL;
    while (!atomic_compare_exchange_weak(&r->slots[slot], &empty, t))
        empty = NULL, sched_yield();
}

static void test_many_releasers(void **state) {
    static struct releaser releasers[N_THREADS];
    struct ees__pool *pool = ees__pool_open(sizeof(struct thing), count_fini);
    atomic_store(&n_finished, 0);
    for (int i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_create(&releasers[i].thread, NULL, release_all, &releasers[i]), 0);
    for (unsigned n = 0; n < N_ROUNDS; n++)
        for (int i = 0; i < N_THREADS; i++) {
            struct thing *t = ees__pool_acquire(pool);
            assert_non_null(t);
            for (int k = 0; k < 16; k++)
                t->value[k] = n;
            hand_over(&releasers[i], n % N_SLOTS, t);
        }
    ees__pool_close(pool); /* while items are on their way back */
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(releasers[i].thread, NULL);
        assert_int_equal(releasers[i].n_bad, 0);
    }
    unsigned n_items = atomic_load(&n_finished);
    assert_true(n_items > 0 && n_items <= N_THREADS * (N_SLOTS + 2)); /* reused, and each freed once */
}

static void test_frame_buf(void **state) {
    struct ees__pool *pool = ees__pool_open(sizeof(struct ees__frame_buf), ees__frame_buf_fini);
    struct ees__frame_buf *buf = ees__frame_buf_acquire(pool);
    uint8_t block[1000];
    memset(block, 5, sizeof block);
    for (int i = 0; i < 100; i++)
        assert_int_equal(ees__frame_buf_append(buf, block, sizeof block), 0);
    assert_int_equal(buf->n, 100000);
    assert_int_equal(buf->data[99999], 5);
    assert_int_equal(ees__frame_buf_reserve(buf, SIZE_MAX - 1), EES_ENOMEM);
    assert_int_equal(buf->n, 100000);
    const uint8_t *data = buf->data;
    ees__pool_release(buf);
    buf = ees__frame_buf_acquire(pool);
    assert_int_equal(buf->n, 0);
    assert_ptr_equal(buf->data, data); /* the memory is kept */
    ees__pool_release(buf);
    ees__pool_close(pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reuse),
        cmocka_unit_test(test_many_releasers),
        cmocka_unit_test(test_frame_buf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
