/* SPDX-License-Identifier: MIT */
/* The planner against brute force, its predictions by hand, and the histogram against sorting. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "engine/histogram.h"
#include "fake_model.h"

static uint32_t seed = 12345;
static double uniform(void) {
    seed = seed * 1664525u + 1013904223u;
    return (double)(seed >> 8) / (1 << 24);
}

/* Least bottleneck over every way to cut units [first, n) with `left` workers. */
static double brute_force(const ees_profile *p, const double *reach, unsigned first, unsigned left) {
    if (first == p->n_units)
        return 0;
    double best = INFINITY;
    for (unsigned end = first + 1; end <= p->n_units; end++)
        for (unsigned k = 1; k <= left; k++) {
            size_t weights = 0;
            double work = 0;
            for (unsigned u = first; u < end; u++)
                weights += p->weights_bytes[u];
            for (unsigned u = first; u < end; u++)
                work += reach[u] * (weights <= p->private_cache_bytes ? p->warm_ns[u] : p->cold_ns[u]);
            best = fmin(best, fmax(work / k, brute_force(p, reach, end, left - k)));
        }
    return best;
}

static void random_profile(ees_profile *p, double *reach, unsigned n_units) {
    *p = (ees_profile){.n_units = n_units, .private_cache_bytes = 1000};
    for (unsigned u = 0; u < n_units; u++) {
        p->cold_ns[u] = 100 + 900 * uniform();
        p->warm_ns[u] = p->cold_ns[u] * (0.3 + 0.7 * uniform());
        p->weights_bytes[u] = (size_t)(600 * uniform());
        reach[u] = u == 0 ? 1 : reach[u - 1] * (0.7 + 0.3 * uniform());
    }
}

static void test_against_brute_force(void **state) {
    ees_profile p;
    double reach[EES_MAX_UNITS];
    unsigned n_cut = 0;
    for (int round = 0; round < 300; round++) {
        unsigned n_units = 1 + (unsigned)(6 * uniform()), n_workers = 1 + (unsigned)(4 * uniform());
        random_profile(&p, reach, n_units);
        ees_plan plan;
        assert_int_equal(ees_plan_solve(&p, reach, n_workers, &plan, NULL), 0);
        double best = brute_force(&p, reach, 0, n_workers);
        assert_true(plan.bottleneck_ns >= best * (1 - 1e-12));
        assert_true(plan.bottleneck_ns <= best * 1.01 * (1 + 1e-12)); /* equal within 1 % counts as equal */
        unsigned workers = 0, at = 0;
        for (unsigned g = 0; g < plan.n_groups; g++) {
            assert_int_equal(plan.groups[g].first_unit, at);
            at = plan.groups[g].end_unit;
            workers += plan.groups[g].n_workers;
        }
        assert_int_equal(at, n_units);
        assert_int_equal(workers, n_workers);
        n_cut += plan.n_groups > 1;
    }
    assert_true(n_cut > 30); /* the cases are not all trivial */
}

/* With nothing to win from the cache, replicas are optimal and preferred. */
static void test_prefers_replicas(void **state) {
    ees_profile p;
    double reach[EES_MAX_UNITS];
    random_profile(&p, reach, 40);
    memcpy(p.warm_ns, p.cold_ns, sizeof p.warm_ns);
    ees_plan plan;
    assert_int_equal(ees_plan_solve(&p, reach, 8, &plan, NULL), 0);
    assert_int_equal(plan.n_groups, 1);
    assert_true(fabs(plan.busy_share - 1) < 1e-9);
}

static void test_planning_time(void **state) {
    ees_profile p;
    double reach[EES_MAX_UNITS];
    random_profile(&p, reach, 60);
    ees_plan plan;
    uint64_t start_ns = ees__now_ns();
    assert_int_equal(ees_plan_solve(&p, reach, 64, &plan, NULL), 0);
    print_message("60 units x 64 workers: %.1f ms\n", 1e-6 * (double)(ees__now_ns() - start_ns));
}

static void test_reach(void **state) {
    struct ees_model *m = fake_model_new(0, false);
    double reach[EES_MAX_UNITS], share[] = {2, 1, 1};
    assert_int_equal(ees_plan_reach(m, share, reach, NULL), 0);
    for (unsigned u = 0; u < FAKE_UNITS; u++) {
        unsigned block = m->units[u].block;
        double want = block <= 2 ? 1 : block <= 4 ? 0.5 : 0.25;
        assert_true(reach[u] == want);
    }
    assert_int_equal(ees_plan_reach(m, NULL, reach, NULL), 0);
    for (unsigned u = 0; u < FAKE_UNITS; u++) /* full depth runs no early head */
        assert_true(reach[u] == (m->units[u].exit_idx == 0 || m->units[u].exit_idx == 1 ? 0 : 1));
    double zero[] = {0, 0, 0}, bad[] = {1, NAN, 1};
    assert_int_equal(ees_plan_reach(m, zero, reach, NULL), EES_EINVAL);
    assert_int_equal(ees_plan_reach(m, bad, reach, NULL), EES_EINVAL);
    fake_model_free(m);
}

static void test_parse(void **state) {
    struct ees_model *m = fake_model_new(0, false);
    ees_plan plan;
    assert_int_equal(ees_plan_parse(m, "1-2x1,3-6", 4, &plan, NULL), 0);
    assert_int_equal(plan.n_groups, 2);
    assert_int_equal(plan.groups[0].end_unit, 7); /* ingest embed 2x2 exit0 */
    assert_int_equal(plan.groups[0].n_workers, 1);
    assert_int_equal(plan.groups[1].end_unit, FAKE_UNITS);
    assert_int_equal(plan.groups[1].n_workers, 3);
    assert_int_equal(ees_plan_parse(m, "ingest,embed-block4.attn,block4.mlp-final", 7, &plan, NULL), 0);
    assert_int_equal(plan.n_groups, 3);
    assert_int_equal(plan.groups[0].end_unit, 1);
    assert_int_equal(plan.groups[0].n_workers, 2); /* 7 over 3: remainders to the later groups */
    assert_int_equal(plan.groups[2].n_workers, 3);
    assert_int_equal(ees_plan_parse(m, "equal:3", 3, &plan, NULL), 0);
    assert_int_equal(m->units[plan.groups[1].first_unit].block, 3);
    assert_int_equal(m->units[plan.groups[2].first_unit].block, 5);
    fake_model_free(m);
}

static int compare_u64(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void test_histogram(void **state) {
    enum { N = 5000 };
    static struct ees__histogram h;
    static uint64_t values[N];
    for (int scale = 0; scale < 4; scale++) {
        ees__histogram_init(&h);
        for (int i = 0; i < N; i++) {
            values[i] = (uint64_t)exp(3 + scale * 5 + 8 * uniform());
            ees__histogram_add(&h, values[i]);
        }
        qsort(values, N, sizeof values[0], compare_u64);
        ees_latency l;
        ees__histogram_read(&h, &l);
        const struct { double q; uint64_t got; } checks[] = {{.5, l.p50_ns}, {.9, l.p90_ns}, {.99, l.p99_ns}, {.999, l.p999_ns}};
        for (int c = 0; c < 4; c++) {
            double exact = (double)values[(size_t)ceil(checks[c].q * N) - 1];
            assert_true(fabs((double)checks[c].got - exact) <= 0.01 * exact);
        }
        assert_int_equal(l.min_ns, values[0]);
        assert_int_equal(l.max_ns, values[N - 1]);
        assert_int_equal(l.n, N);
    }
    ees_latency l;
    ees__histogram_init(&h);
    ees__histogram_read(&h, &l);
    assert_int_equal(l.p99_ns, 0);
    ees__histogram_add(&h, UINT64_MAX); /* beyond the last bucket: counted, clamped */
    ees__histogram_read(&h, &l);
    assert_int_equal(l.max_ns, UINT64_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_brute_force), cmocka_unit_test(test_prefers_replicas),
        cmocka_unit_test(test_planning_time),       cmocka_unit_test(test_reach),
        cmocka_unit_test(test_parse),               cmocka_unit_test(test_histogram),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
