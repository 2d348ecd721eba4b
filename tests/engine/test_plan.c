/* SPDX-License-Identifier: MIT */
/* The planner against brute force, its predictions by hand, and the histogram against sorting. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
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

/* ---- Brute force --------------------------------------------------------------------------------------- */

/* Written apart from the planner: every way to cut, every number of cores of each type for each group. */
struct brute {
    const ees_profile *p;
    const double *reach;
    bool batched[EES_MAX_UNITS];
    double best[EES_MAX_GROUPS]; /* least bottleneck with this many groups */
};

static double brute_cost(const struct brute *b, unsigned type, unsigned first, unsigned end) {
    const ees_unit_costs *c = &b->p->types[type];
    size_t weights = 0;
    double work = 0;
    for (unsigned u = first; u < end; u++)
        weights += b->p->weights_bytes[u];
    for (unsigned u = first; u < end; u++)
        work += b->reach[u] * (weights <= c->private_cache_bytes ? c->warm_ns[u]
                               : b->batched[u]                   ? c->batch_ns[u]
                                                                 : c->cold_ns[u]);
    return work;
}

static void brute_from(struct brute *b, unsigned first, unsigned n_groups, double so_far, const unsigned *left) {
    if (first == b->p->n_units) {
        b->best[n_groups] = fmin(b->best[n_groups], so_far);
        return;
    }
    for (unsigned end = first + 1; end <= b->p->n_units; end++) {
        double work[3] = {1, 1, 1};
        unsigned k[3];
        for (unsigned t = 0; t < b->p->n_types; t++)
            work[t] = brute_cost(b, t, first, end);
        for (k[0] = 0; k[0] <= left[0]; k[0]++)
            for (k[1] = 0; k[1] <= left[1]; k[1]++)
                for (k[2] = 0; k[2] <= left[2]; k[2]++) {
                    if (k[0] + k[1] + k[2] == 0)
                        continue;
                    double load = 1 / (k[0] / work[0] + k[1] / work[1] + k[2] / work[2]);
                    const unsigned rest[3] = {left[0] - k[0], left[1] - k[1], left[2] - k[2]};
                    brute_from(b, end, n_groups + 1, fmax(so_far, load), rest);
                }
    }
}

static void brute_force(struct brute *b, const ees_profile *p, const double *reach, const unsigned *n_of_type) {
    *b = (struct brute){.p = p, .reach = reach};
    for (unsigned u = 0; u < p->n_units; u++) {
        double saved = 0, cores = 0;
        for (unsigned t = 0; t < p->n_types; t++) {
            saved += n_of_type[t] * (1 - p->types[t].batch_ns[u] / p->types[t].cold_ns[u]);
            cores += n_of_type[t];
        }
        b->batched[u] = p->batch > 1 && saved > 0.02 * cores;
    }
    for (unsigned g = 0; g < EES_MAX_GROUPS; g++)
        b->best[g] = INFINITY;
    const unsigned left[3] = {n_of_type[0], p->n_types > 1 ? n_of_type[1] : 0, p->n_types > 2 ? n_of_type[2] : 0};
    brute_from(b, 0, 0, 0, left);
}

/* Each type has its own speed, cache and, within +-20 %, its own idea of which unit is dear. */
static void random_profile(ees_profile *p, double *reach, unsigned n_units, unsigned n_types) {
    *p = (ees_profile){.n_units = n_units, .n_types = n_types, .batch = uniform() < 0.5 ? 1 : 4};
    for (unsigned t = 0; t < n_types; t++) {
        p->types[t].private_cache_bytes = (size_t)(1000 / (t + 1));
        snprintf(p->types[t].name, sizeof p->types[t].name, "t%u", t);
    }
    for (unsigned u = 0; u < n_units; u++) {
        double cost = 100 + 900 * uniform();
        for (unsigned t = 0; t < n_types; t++) {
            ees_unit_costs *c = &p->types[t];
            c->cold_ns[u] = cost * (1 + t) * (0.8 + 0.4 * uniform());
            c->warm_ns[u] = c->cold_ns[u] * (0.3 + 0.7 * uniform());
            c->batch_ns[u] = c->cold_ns[u] * (0.8 + 0.3 * uniform());
        }
        p->weights_bytes[u] = (size_t)(600 * uniform());
        reach[u] = u == 0 ? 1 : reach[u - 1] * (0.7 + 0.3 * uniform());
    }
}

/* Groups cover all units in order, their cores add up to what there is. */
static void check_form(const ees_plan *plan, unsigned n_units, unsigned n_types, const unsigned *n_of_type) {
    unsigned at = 0, used[EES_MAX_CORE_TYPES] = {0}, n_workers = 0;
    for (unsigned g = 0; g < plan->n_groups; g++) {
        unsigned here = 0;
        assert_int_equal(plan->groups[g].first_unit, at);
        assert_true(plan->groups[g].end_unit > at);
        at = plan->groups[g].end_unit;
        for (unsigned t = 0; t < EES_MAX_CORE_TYPES; t++) {
            used[t] += plan->groups[g].n_of_type[t];
            here += plan->groups[g].n_of_type[t];
        }
        assert_true(here > 0);
        assert_int_equal(here, plan->groups[g].n_workers);
        n_workers += here;
    }
    assert_int_equal(at, n_units);
    assert_int_equal(n_workers, plan->n_workers);
    for (unsigned t = 0; t < n_types; t++)
        assert_int_equal(used[t], n_of_type[t]);
}

/* @return number of groups */
static unsigned check_against_brute_force(unsigned n_units, unsigned n_types, const unsigned *n_of_type) {
    static ees_profile p;
    static struct brute b;
    double reach[EES_MAX_UNITS], least = INFINITY;
    unsigned fewest = 0;
    ees_plan plan;
    random_profile(&p, reach, n_units, n_types);
    assert_int_equal(ees_plan_solve(&p, reach, n_of_type, &plan, NULL), 0);
    check_form(&plan, n_units, n_types, n_of_type);
    brute_force(&b, &p, reach, n_of_type);
    for (unsigned g = 1; g < EES_MAX_GROUPS; g++)
        least = fmin(least, b.best[g]);
    for (unsigned g = 1; g < EES_MAX_GROUPS && !fewest; g++)
        fewest = b.best[g] <= least * 1.0098 ? g : 0;
    assert_true(plan.bottleneck_ns >= b.best[plan.n_groups] * (1 - 1e-9));
    assert_true(plan.bottleneck_ns <= least * 1.01 * (1 + 1e-8));
    assert_true(plan.n_groups <= fewest);
    for (unsigned u = 0; u < n_units; u++)
        assert_true(plan.batch[u] == 1 || (b.batched[u] && plan.batch[u] == p.batch));
    return plan.n_groups;
}

static void test_one_type_against_brute_force(void **state) {
    unsigned n_cut = 0;
    for (int round = 0; round < 400; round++) {
        unsigned n_of_type[] = {1 + (unsigned)(round % 9 == 0 ? 9 * uniform() : 4 * uniform())};
        n_cut += check_against_brute_force(1 + (unsigned)(6 * uniform()), 1, n_of_type) > 1;
    }
    assert_true(n_cut > 40); /* the cases are not all trivial */
}

static void test_several_types_against_brute_force(void **state) {
    unsigned n_cut = 0;
    for (int round = 0; round < 300; round++) {
        unsigned n_types = 2 + (unsigned)round % 2, n_of_type[3];
        for (unsigned t = 0; t < 3; t++)
            n_of_type[t] = (unsigned)((n_types == 2 ? 4 : 3) * uniform());
        n_of_type[n_types - 1] += 1;
        n_cut += check_against_brute_force(1 + (unsigned)(5 * uniform()), n_types, n_of_type) > 1;
    }
    assert_true(n_cut > 40);
}

/* Each type is good at one half of the units: cutting there is worth it without any cache. */
static void test_types_go_where_they_are_good(void **state) {
    static ees_profile p;
    double reach[EES_MAX_UNITS];
    unsigned n_of_type[] = {2, 2};
    p = (ees_profile){.n_units = 8, .n_types = 2, .batch = 1};
    for (unsigned u = 0; u < 8; u++) {
        reach[u] = 1;
        p.weights_bytes[u] = 1;
        for (unsigned t = 0; t < 2; t++)
            p.types[t].cold_ns[u] = p.types[t].warm_ns[u] = p.types[t].batch_ns[u] = (u < 4) == (t == 0) ? 100 : 900;
    }
    ees_plan plan;
    assert_int_equal(ees_plan_solve(&p, reach, n_of_type, &plan, NULL), 0);
    assert_int_equal(plan.n_groups, 2);
    assert_int_equal(plan.groups[0].end_unit, 4);
    assert_int_equal(plan.groups[0].n_of_type[0], 2);
    assert_int_equal(plan.groups[1].n_of_type[1], 2);
    assert_true(fabs(plan.bottleneck_ns - 200) < 1e-6);
    assert_true(fabs(plan.busy_share - 1) < 1e-6);
}

/* ---- Predictions --------------------------------------------------------------------------------------- */

/* Least bottleneck over all ways to give the cores of two types to groups of fixed size. */
static double brute_assign(const ees_profile *p, const double *reach, const ees_plan *plan, unsigned g, unsigned left0,
                           unsigned left1) {
    if (g == plan->n_groups)
        return 0;
    const ees_plan_group *group = &plan->groups[g];
    struct brute b = {.p = p, .reach = reach};
    double best = INFINITY, work0 = brute_cost(&b, 0, group->first_unit, group->end_unit),
           work1 = brute_cost(&b, 1, group->first_unit, group->end_unit);
    for (unsigned k = 0; k <= group->n_workers; k++) {
        unsigned other = group->n_workers - k;
        if (k <= left0 && other <= left1)
            best = fmin(best, fmax(1 / (k / work0 + other / work1),
                                   brute_assign(p, reach, plan, g + 1, left0 - k, left1 - other)));
    }
    return best;
}

static void test_predict_assigns_types(void **state) {
    static ees_profile p;
    double reach[EES_MAX_UNITS];
    for (int round = 0; round < 200; round++) {
        ees_plan plan = {.n_groups = 1 + (unsigned)(4 * uniform())};
        random_profile(&p, reach, 8, 2);
        p.batch = 1;
        for (unsigned g = 0; g < plan.n_groups; g++) {
            plan.groups[g] = (ees_plan_group){.first_unit = 2 * g,
                                              .end_unit = g + 1 == plan.n_groups ? 8 : 2 * g + 2,
                                              .n_workers = 1 + (unsigned)(3 * uniform())};
            plan.n_workers += plan.groups[g].n_workers;
        }
        unsigned first = (unsigned)(uniform() * (plan.n_workers + 1));
        unsigned n_of_type[] = {first, plan.n_workers - first + (unsigned)(2 * uniform())};
        double best = brute_assign(&p, reach, &plan, 0, n_of_type[0], n_of_type[1]);
        assert_int_equal(ees_plan_predict(&p, reach, n_of_type, &plan, NULL), 0);
        assert_true(fabs(plan.bottleneck_ns - best) <= 1e-6 * best);
        assert_true(fabs(plan.fps * plan.bottleneck_ns - 1e9) < 1);
    }
}

static void test_predict_many_types(void **state) {
    static ees_profile p;
    double reach[EES_MAX_UNITS];
    unsigned n_of_type[] = {40, 40, 40, 40};
    ees_plan plan = {.n_groups = 4};
    random_profile(&p, reach, 12, 4);
    for (unsigned g = 0; g < 4; g++)
        plan.groups[g] = (ees_plan_group){.first_unit = 3 * g, .end_unit = 3 * g + 3, .n_workers = 40};
    plan.n_workers = 160;
    assert_int_equal(ees_plan_predict(&p, reach, n_of_type, &plan, NULL), 0); /* too many ways: dealt out in turn */
    check_form(&plan, 12, 4, n_of_type);
    ees_plan solved;
    assert_int_equal(ees_plan_solve(&p, reach, n_of_type, &solved, NULL), 0);
    check_form(&solved, 12, 4, n_of_type);
    assert_true(solved.bottleneck_ns <= plan.bottleneck_ns * 1.01);
}

static void test_predict_by_hand(void **state) {
    ees_profile p = {.n_units = 3, .n_types = 2, .batch = 4, .weights_bytes = {10, 10, 10}};
    double reach[] = {1, 1, 0.5};
    for (unsigned t = 0; t < 2; t++) {
        p.types[t] = (ees_unit_costs){.private_cache_bytes = t == 0 ? 20 : 10,
                                      .cold_ns = {100 * (t + 1), 200 * (t + 1), 400 * (t + 1)},
                                      .warm_ns = {80 * (t + 1), 150 * (t + 1), 300 * (t + 1)},
                                      .batch_ns = {100 * (t + 1), 100 * (t + 1), 397 * (t + 1)}};
    }
    unsigned n_of_type[] = {2, 2};
    ees_plan plan = {.n_groups = 2,
                     .n_workers = 4,
                     .groups = {{.first_unit = 0, .end_unit = 2, .n_workers = 2, .n_of_type = {1, 1}},
                                {.first_unit = 2, .end_unit = 3, .n_workers = 2, .n_of_type = {1, 1}}}};
    assert_int_equal(ees_plan_predict(&p, reach, n_of_type, &plan, NULL), 0);
    /* group 0: warm on type 0 (230), batched on type 1 (200 + 200); group 1: warm on both (150, 300) */
    assert_true(fabs(plan.groups[0].rate_hz - 1e9 * (1 / 230. + 1 / 400.)) < 1);
    assert_true(fabs(plan.groups[0].work_ns - 230) < 1e-9);
    assert_true(fabs(plan.groups[1].rate_hz - 1e9 * (1 / 150. + 1 / 300.)) < 1);
    assert_int_equal(plan.batch[0], 1); /* batching saves nothing */
    assert_int_equal(plan.batch[1], 4);
    assert_int_equal(plan.batch[2], 1); /* warm everywhere */
    double slow = plan.groups[0].rate_hz;
    assert_true(fabs(plan.fps - slow) < 1);
    assert_true(fabs(plan.busy_share - (2 + 2 * slow / plan.groups[1].rate_hz) / 4) < 1e-9);
}

static void test_predict_refuses(void **state) {
    static ees_profile p;
    double reach[EES_MAX_UNITS];
    unsigned few[] = {1, 1}, enough[] = {2, 2};
    ees_plan plan = {.n_groups = 1, .n_workers = 3, .groups = {{.end_unit = 4, .n_workers = 3}}};
    ees_error err = {0};
    random_profile(&p, reach, 4, 2);
    assert_int_equal(ees_plan_predict(&p, reach, few, &plan, &err), EES_EINVAL);
    assert_non_null(strstr(err.message, "3 workers, there are 2 cores"));
    plan.groups[0].n_of_type[1] = 3;
    err = (ees_error){0};
    assert_int_equal(ees_plan_predict(&p, reach, enough, &plan, &err), EES_EINVAL);
    assert_non_null(strstr(err.message, "3 cores of type 1 (t1), there are 2"));
    plan.groups[0].end_unit = 5;
    assert_int_equal(ees_plan_predict(&p, reach, enough, &plan, NULL), EES_EINVAL);
    unsigned none[] = {0, 0}, many[] = {200, 57};
    assert_int_equal(ees_plan_solve(&p, reach, none, &plan, NULL), EES_EINVAL);
    assert_int_equal(ees_plan_solve(&p, reach, many, &plan, NULL), EES_EINVAL);
    p.n_units = 0;
    assert_int_equal(ees_plan_solve(&p, reach, enough, &plan, NULL), EES_EINVAL);
}

/* With nothing to win from the cache, replicas are optimal and preferred. */
static void test_prefers_replicas(void **state) {
    static ees_profile p;
    double reach[EES_MAX_UNITS];
    unsigned n_of_type[] = {8, 5};
    random_profile(&p, reach, 40, 1);
    memcpy(p.types[0].warm_ns, p.types[0].cold_ns, sizeof p.types[0].warm_ns);
    p.batch = 1;
    ees_plan plan;
    assert_int_equal(ees_plan_solve(&p, reach, n_of_type, &plan, NULL), 0);
    assert_int_equal(plan.n_groups, 1);
    assert_true(fabs(plan.busy_share - 1) < 1e-9);
    p.n_types = 2; /* and so with a slower type */
    p.types[1] = p.types[0];
    for (unsigned u = 0; u < 40; u++)
        p.types[1].cold_ns[u] = p.types[1].warm_ns[u] = 2.5 * p.types[0].cold_ns[u];
    assert_int_equal(ees_plan_solve(&p, reach, n_of_type, &plan, NULL), 0);
    assert_int_equal(plan.n_groups, 1);
    assert_int_equal(plan.n_workers, 13);
    assert_true(fabs(plan.busy_share - 1) < 1e-9);
}

/* Nobody reaches the second half; and no unit costs anything. */
static void test_work_of_nothing(void **state) {
    static ees_profile p;
    double reach[EES_MAX_UNITS];
    unsigned n_of_type[] = {3};
    ees_plan plan;
    random_profile(&p, reach, 10, 1);
    for (unsigned u = 5; u < 10; u++)
        reach[u] = 0;
    assert_int_equal(ees_plan_solve(&p, reach, n_of_type, &plan, NULL), 0);
    check_form(&plan, 10, 1, n_of_type);
    assert_true(plan.fps > 0 && isfinite(plan.fps));
    memset(reach, 0, sizeof reach);
    assert_int_equal(ees_plan_solve(&p, reach, n_of_type, &plan, NULL), 0);
    assert_int_equal(plan.n_groups, 1);
    assert_true(plan.bottleneck_ns == 0 && plan.fps == 0);
}

/* More groups would pay than a plan can have. */
static void test_more_units_than_groups(void **state) {
    static ees_profile p;
    double reach[EES_MAX_UNITS];
    unsigned n_of_type[] = {EES_MAX_WORKERS};
    ees_plan plan;
    random_profile(&p, reach, EES_MAX_UNITS, 1);
    for (unsigned u = 0; u < EES_MAX_UNITS; u++) {
        p.weights_bytes[u] = 600;
        p.types[0].cold_ns[u] = p.types[0].batch_ns[u] = 1000;
        p.types[0].warm_ns[u] = 300;
        reach[u] = 1;
    }
    assert_int_equal(ees_plan_solve(&p, reach, n_of_type, &plan, NULL), 0);
    check_form(&plan, EES_MAX_UNITS, 1, n_of_type);
}

/* ---- Time ---------------------------------------------------------------------------------------------- */

static double time_of(unsigned n_units, unsigned n_types, const unsigned *n_of_type, double least_warm) {
    static ees_profile p;
    double reach[EES_MAX_UNITS], best = INFINITY;
    ees_plan plan;
    random_profile(&p, reach, n_units, n_types);
    for (unsigned t = 0; t < n_types; t++)
        for (unsigned u = 0; u < n_units; u++)
            p.types[t].warm_ns[u] = p.types[t].cold_ns[u] * (least_warm + (1 - least_warm) * uniform());
    for (int i = 0; i < 3; i++) {
        uint64_t start_ns = ees__now_ns();
        assert_int_equal(ees_plan_solve(&p, reach, n_of_type, &plan, NULL), 0);
        best = fmin(best, 1e-6 * (double)(ees__now_ns() - start_ns));
    }
    return best;
}

/* Printed, not asserted: the machine may be busy. */
static void test_planning_time(void **state) {
    const struct {
        unsigned n_units, n_types, n_of_type[4];
    } cases[] = {{60, 1, {64}},      {60, 2, {32, 32}},         {60, 2, {4, 4}},
                 {60, 3, {8, 8, 8}}, {60, 4, {16, 16, 16, 16}}, {256, 1, {256}}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double strong = 0, weak = 0;
        for (int round = 0; round < (cases[i].n_types < 3 ? 5 : 1); round++) {
            strong = fmax(strong, time_of(cases[i].n_units, cases[i].n_types, cases[i].n_of_type, 0.3));
            weak = fmax(weak, time_of(cases[i].n_units, cases[i].n_types, cases[i].n_of_type, 0.9));
        }
        print_message("%u units, cores %u+%u+%u+%u: %.2f ms (warm pays much), %.2f ms (little)\n", cases[i].n_units,
                      cases[i].n_of_type[0], cases[i].n_of_type[1], cases[i].n_of_type[2], cases[i].n_of_type[3],
                      strong, weak);
    }
}

/* ---- Text ---------------------------------------------------------------------------------------------- */

static void test_dot(void **state) {
    struct ees_model *m = fake_model_new(0, false);
    ees_profile p = {.n_units = FAKE_UNITS, .n_types = 2, .batch = 1, .types = {{.name = "big"}, {.name = "lit\"tle"}}};
    double reach[EES_MAX_UNITS], share[] = {2, 1, 1};
    unsigned n_of_type[] = {2, 1};
    char text[4096], cut[40];
    ees_plan plan;
    for (unsigned u = 0; u < FAKE_UNITS; u++)
        for (unsigned t = 0; t < 2; t++)
            p.types[t].cold_ns[u] = p.types[t].warm_ns[u] = p.types[t].batch_ns[u] = 1000 * (t + 1);
    assert_int_equal(ees_plan_reach(m, share, reach, NULL), 0);
    assert_int_equal(ees_plan_parse(m, "1-2x2,3-6x1", 3, &plan, NULL), 0);
    assert_int_equal(ees_plan_predict(&p, reach, n_of_type, &plan, NULL), 0);
    size_t n = ees_plan_dot(m, &p, &plan, reach, text, sizeof text);
    assert_int_equal(n, strlen(text));
    assert_non_null(strstr(text, "digraph plan {"));
    assert_non_null(strstr(text, "ingest to exit0 (7 units)"));
    assert_non_null(strstr(text, "2 workers: 1 big, 1 lit\\\"tle\\nload"));
    assert_non_null(strstr(text, "1 worker: 1 big\\nload"));
    assert_non_null(strstr(text, "g0 -> g1 [label=\"50.0 %\"]"));
    assert_non_null(strstr(text, "g0 -> e0 [label=\"50.0 %\"]"));
    assert_non_null(strstr(text, "g1 -> e1 [label=\"25.0 %\"]"));
    assert_non_null(strstr(text, "g1 -> e2 [label=\"25.0 %\"]"));
    assert_int_equal(ees_plan_dot(m, &p, &plan, reach, cut, sizeof cut), n);
    assert_int_equal(strlen(cut), sizeof cut - 1);
    assert_memory_equal(cut, text, sizeof cut - 1);
    assert_int_equal(ees_plan_dot(m, &p, &plan, reach, NULL, 0), n);
    ees_plan_dot(m, NULL, &plan, NULL, text, sizeof text);
    assert_null(strstr(text, "%\"")); /* no shares */
    assert_null(strstr(text, "big"));
    fake_model_free(m);
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
        const struct {
            double q;
            uint64_t got;
        } checks[] = {{.5, l.p50_ns}, {.9, l.p90_ns}, {.99, l.p99_ns}, {.999, l.p999_ns}};
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
        cmocka_unit_test(test_one_type_against_brute_force),
        cmocka_unit_test(test_several_types_against_brute_force),
        cmocka_unit_test(test_types_go_where_they_are_good),
        cmocka_unit_test(test_predict_assigns_types),
        cmocka_unit_test(test_predict_many_types),
        cmocka_unit_test(test_predict_by_hand),
        cmocka_unit_test(test_predict_refuses),
        cmocka_unit_test(test_prefers_replicas),
        cmocka_unit_test(test_work_of_nothing),
        cmocka_unit_test(test_more_units_than_groups),
        cmocka_unit_test(test_planning_time),
        cmocka_unit_test(test_reach),
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_dot),
        cmocka_unit_test(test_histogram),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
