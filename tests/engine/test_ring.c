/* SPDX-License-Identifier: MIT */
/* engine/ring.h on one thread: capacity, order, wrap-around of the 32-bit tickets, cost. Many threads: stress_ring.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "common/clock.h"
#include "engine/ring.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fill_and_empty),
        cmocka_unit_test(test_hop_cost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
