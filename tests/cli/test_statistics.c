/* SPDX-License-Identifier: MIT */
/* The statistics of `calibrate`: known answers, and simulations in which the truth is known: does the bound hold as
 * often as it says, on independent frames and on scenes of a video? */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tools/cli/calibrate/certify.h"
#include "tools/cli/statistics.h"

/* ---- Known answers --------------------------------------------------------------------------------------- */

static void near(double got, double expected, double tolerance) {
    if (!(fabs(got - expected) <= tolerance * (1 + fabs(expected))))
        fail_msg("%.12g, expected %.12g", got, expected);
}

/* By exact rational sums. */
static void binomial_tails(void **unused) {
    near(binomial_cdf(0, 10, 0.1), 0.3486784401, 1e-12);
    near(binomial_cdf(3, 10, 0.5), 0.171875, 1e-12);
    near(binomial_cdf(50, 1000, 0.05), 0.5375290408014277, 1e-11);
    near(binomial_cdf(7, 3000, 0.005), 0.01779517323460798, 1e-11);
    near(binomial_cdf(990, 1000, 0.98), 0.9953192495685856, 1e-11);
    near(binomial_cdf(10, 10, 0.3), 1, 0);
    near(binomial_cdf(2, 10, 0), 1, 0);
    near(binomial_cdf(2, 10, 1), 0, 0);
    for (uint64_t k = 0; k < 2000; k += 37) /* as many losses as kept frames the other way round */
        near(binomial_cdf(k, 2000, 0.31), 1 - binomial_cdf(1999 - k, 2000, 0.69), 1e-10);
}

static void clopper_pearson(void **unused) {
    near(clopper_pearson_upper(0, 100, 0.05), 1 - pow(0.05, 0.01), 1e-12);
    near(clopper_pearson_upper(5, 100, 0.05), 0.10225337764327469, 1e-10);
    near(clopper_pearson_upper(1, 10, 0.025), 0.4450161170281955, 1e-10);
    near(clopper_pearson_upper(40, 2000, 0.01), 0.028549127940592472, 1e-10);
    near(clopper_pearson_upper(7, 7, 0.05), 1, 0);
    near(fewest_for(0.01, 0.05), 299, 0);
    near(fewest_for(0.05, 0.05), 59, 0);
}

/* Never above 1, 1 without evidence, and not far from the exact tail where losses are whole. */
static void hoeffding_and_bentkus(void **unused) {
    near(hoeffding_bentkus(0.1, 1000, 0.05), 1, 0);
    near(hoeffding_bentkus(0, 200, 0.05), pow(0.95, 200), 1e-9);
    double exact = binomial_cdf(20, 1000, 0.05), bound = hoeffding_bentkus(0.02, 1000, 0.05);
    assert_true(bound >= exact && bound <= exp(1) * exact * (1 + 1e-9));
}

/* Tables of the chi-squared distribution. */
static void chi_squared(void **unused) {
    near(chi_squared_tail(3.841458820694124, 1), 0.05, 1e-10);
    near(chi_squared_tail(5.991464547107979, 2), 0.05, 1e-10);
    near(chi_squared_tail(16.26623619623813, 3), 0.001, 1e-9);
    near(chi_squared_tail(18.307038053275146, 10), 0.05, 1e-10);
    near(chi_squared_tail(24.995790139728616, 15), 0.05, 1e-10);
    near(chi_squared_tail(0, 4), 1, 0);
}

static void roc_area(void **unused) {
    struct scored apart[] = {{0.9, true}, {0.1, false}, {0.8, true}, {0.2, false}};
    near(area_under_roc(apart, 4), 1, 0);
    /* pairs: (.4 > .35), (.4 > .1), (.35 < .35 tie), (.35 > .1), (.8 > both) */
    struct scored mixed[] = {{0.4, true}, {0.35, true}, {0.8, true}, {0.35, false}, {0.1, false}};
    near(area_under_roc(mixed, 5), 5.5 / 6, 1e-12);
    struct scored same[] = {{0.5, true}, {0.5, false}, {0.5, false}};
    near(area_under_roc(same, 3), 0.5, 1e-12);
    assert_true(isnan(area_under_roc(apart, 0)));
    assert_true(isnan(area_under_roc(&(struct scored){0.5, true}, 1)));
}

static void expected_calibration_error(void **unused) {
    struct reliability r = {0};
    near(calibration_error(&r), 0, 0);
    for (int i = 0; i < 10; i++)
        reliability_add(&r, 0.95, i < 8); /* 80 % right at 95 % */
    for (int i = 0; i < 30; i++)
        reliability_add(&r, 0.6, i < 18); /* as it says */
    near(calibration_error(&r), 0.25 * 0.15, 1e-9);
    assert_int_equal(r.n[9], 10);
    assert_int_equal(r.n[5], 30); /* (0.5, 0.6] */
    struct reliability ends = {0};
    reliability_add(&ends, 0, false);
    reliability_add(&ends, 1, true);
    assert_int_equal(ends.n[0] + ends.n[9], 2);
}

static void neighbours(void **unused) {
    const double up_and_down[] = {1, -1, 1, -1, 1, -1}, blocks[] = {1, 1, 1, -1, -1, -1};
    near(autocorrelation(up_and_down, 6), -5.0 / 6, 1e-12);
    near(autocorrelation(blocks, 6), 3.0 / 6, 1e-12);
    near(autocorrelation(up_and_down, 1), 0, 0);
}

static void permutations(void **unused) {
    size_t a[1000], b[1000];
    bool seen[1000] = {0};
    unsigned moved = 0;
    shuffle(a, 1000, 1);
    shuffle(b, 1000, 2);
    for (size_t i = 0; i < 1000; i++) {
        assert_false(seen[a[i]]);
        seen[a[i]] = true;
        moved += a[i] != b[i];
    }
    assert_true(moved > 900);
}

/* ---- Drift ----------------------------------------------------------------------------------------------- */

/* One mix drawn twice is called drift as rarely as the test's level says; another mix is. */
static void drift(void **unused) {
    const double mix[] = {0.6, 0.25, 0.1, 0.04, 0.01}, other[] = {0.4, 0.25, 0.2, 0.1, 0.05};
    uint64_t state = 7;
    unsigned n_false = 0, n_found = 0;
    for (int run = 0; run < 1000; run++) {
        uint64_t counts[3][5] = {{0}};
        for (int which = 0; which < 3; which++)
            for (int i = 0; i < (which == 1 ? 700 : 400); i++) {
                double u = (double)(next_random(&state) >> 11) * 0x1p-53;
                unsigned kind = 0;
                while (kind < 4 && (u -= which == 2 ? other[kind] : mix[kind]) > 0)
                    kind++;
                counts[which][kind]++;
            }
        n_false += mix_drift(counts[0], counts[1], 5).p_value < 0.05;
        n_found += mix_drift(counts[2], counts[1], 5).p_value < 0.001;
    }
    assert_in_range(n_false, 20, 80); /* 50 expected, 7 standard deviation */
    assert_true(n_found > 990);
    const uint64_t a[] = {10, 0, 90}, b[] = {20, 0, 180}, none[3] = {0};
    near(mix_drift(a, b, 3).p_value, 1, 1e-12);
    near(mix_drift(a, b, 3).distance, 0, 1e-12);
    near(mix_drift(a, none, 3).p_value, 1, 0);
}

/* ---- Does the bound hold? -------------------------------------------------------------------------------- */

enum { EXITS = 3, ROWS = EXITS + 1, POPULATION = 40000, MAX_N = 3000 };

/* A world: how sure each exit is of a frame, and the probability that leaving there loses it. */
static float population[POPULATION][EXITS], chance[POPULATION][EXITS];

static double uniform(uint64_t *state) { return (double)(next_random(state) >> 11) * 0x1p-53; }

static void draw_frame(uint64_t *state, float score[EXITS], float lost[EXITS]) {
    double difficulty = uniform(state);
    for (unsigned e = 0; e < EXITS; e++) {
        double s = 1 - difficulty * (0.9 - 0.2 * e) + 0.3 * (uniform(state) - 0.5);
        score[e] = (float)fmin(1, fmax(0, s));
        lost[e] = (float)((0.5 - 0.12 * e) * (1 - (double)score[e]));
    }
}

static void make_world(void) {
    uint64_t state = 42;
    for (size_t i = 0; i < POPULATION; i++)
        draw_frame(&state, population[i], chance[i]);
}

static double true_loss(const ees_policy_options *policy) {
    double sum = 0;
    for (size_t i = 0; i < POPULATION; i++)
        for (unsigned e = 0; e < EXITS; e++)
            if (population[i][e] > policy->thresholds[e]) {
                sum += (double)chance[i][e];
                break;
            }
    return sum / POPULATION;
}

static ees_exit_view views[MAX_N * ROWS];
static uint8_t lost_there[MAX_N * ROWS], exits[MAX_N];
static bool usable[MAX_N];
static int32_t inputs[MAX_N];

/* `n` frames of the world, each shown `copies` times in a row, as a camera does. */
static struct seen draw_sample(size_t n, size_t copies, uint64_t *state) {
    for (size_t i = 0; i < n; i++) {
        bool fresh = i % copies == 0;
        float score[EXITS], chances[EXITS];
        if (fresh)
            draw_frame(state, score, chances);
        for (unsigned e = 0; e < ROWS; e++) {
            size_t at = i * ROWS + e;
            views[at] = fresh ? (ees_exit_view){.score = e < EXITS ? score[e] : 1, .finite = true} : views[at - ROWS];
            lost_there[at] = fresh ? e < EXITS && uniform(state) < (double)chances[e] : lost_there[at - ROWS];
        }
        usable[i] = true;
    }
    struct seen s = {.policy = {.name = "confidence"},
                     .n_exits = EXITS,
                     .n = n,
                     .views = views,
                     .lost = lost_there,
                     .exits = exits,
                     .cost = {3, 6, 9, 12}};
    assert_int_equal(ees_policy_get_info("confidence", &s.info, NULL), 0);
    return s;
}

struct counts {
    unsigned n_passed, n_violated, n_naive; /* naive: trusting the search half */
    double cost;
};

static void count_run(struct counts *c, struct seen *s, const struct halves *h, double epsilon, double delta) {
    ees_error err = {0};
    struct path path;
    struct certified r;
    assert_int_equal(search_path(s, h->search, h->n_search, &path, &err), 0);
    assert_int_equal(certify(s, &path, h, epsilon, delta, &r, &err), 0);
    size_t naive = 0;
    for (size_t i = 1; i < path.n; i++) {
        assert_true(path.points[i].outcome.cost < path.points[i - 1].outcome.cost);
        assert_true(path.points[i].outcome.n_lost >= path.points[i - 1].outcome.n_lost);
        if ((double)path.points[i].outcome.n_lost <= epsilon * (double)h->n_search)
            naive = i;
    }
    c->n_passed += r.passed;
    c->n_violated += r.passed && true_loss(&path.points[r.point].policy) > epsilon;
    c->n_naive += true_loss(&path.points[naive].policy) > epsilon;
    c->cost += r.passed ? r.outcome.cost : 12;
    path_fini(&path);
}

static struct counts simulate(unsigned n_runs, size_t n, size_t copies, size_t scene, double epsilon, double delta) {
    struct counts c = {0};
    uint64_t state = 1234 + n + scene;
    for (unsigned run = 0; run < n_runs; run++) {
        struct seen s = draw_sample(n, copies, &state);
        struct halves h;
        assert_int_equal(halves_init(&h, usable, inputs, n, scene, run, NULL), 0);
        count_run(&c, &s, &h, epsilon, delta);
        halves_fini(&h);
    }
    c.cost /= n_runs;
    print_message("%u runs of %zu frames x %zu, scene %zu, epsilon %g, delta %g: %u passed, %u violated, %u naively; "
                  "mean cost %.2f of 12\n",
                  n_runs, n / copies, copies, scene, epsilon, delta, c.n_passed, c.n_violated, c.n_naive, c.cost);
    return c;
}

/* Three standard deviations above what delta allows. */
static unsigned allowed(unsigned n_runs, double delta) {
    return (unsigned)(n_runs * delta + 3 * sqrt(n_runs * delta * (1 - delta)));
}

static void bound_holds(void **unused) {
    enum { RUNS = 200 };
    make_world();
    struct counts c = simulate(RUNS, 800, 1, 1, 0.05, 0.1);
    assert_true(c.n_violated <= allowed(RUNS, 0.1));
    assert_true(c.n_naive > RUNS / 3);  /* trusting the half it was fitted to would not do */
    assert_true(c.n_passed > RUNS / 2); /* and the bound is no empty promise */
    assert_true(c.cost < 0.85 * 12);
}

static void bound_holds_for_scenes(void **unused) {
    enum { RUNS = 60 };
    make_world();
    struct counts scenes = simulate(RUNS, 3000, 10, 10, 0.08, 0.1), frames = simulate(RUNS, 3000, 10, 1, 0.08, 0.1);
    assert_true(scenes.n_violated <= allowed(RUNS, 0.1));
    assert_true(scenes.n_passed > RUNS / 2);
    assert_true(frames.n_violated > allowed(RUNS, 0.1)); /* copies taken for frames of their own */
}

/* Few frames certify nothing; the strictest point is tested first. */
static void too_few(void **unused) {
    struct halves h;
    struct path path;
    struct certified r;
    uint64_t state = 5;
    struct seen s = draw_sample(80, 1, &state);
    assert_int_equal(halves_init(&h, usable, inputs, 80, 1, 1, NULL), 0);
    assert_int_equal(h.n_search + h.n_certify, 80);
    assert_int_equal(search_path(&s, h.search, h.n_search, &path, NULL), 0);
    assert_int_equal(certify(&s, &path, &h, 0.01, 0.05, &r, NULL), 0);
    assert_false(r.passed);
    assert_int_equal(r.n_tested, 1);
    assert_true(loss_bound(&h, &path.points[0].outcome, 0.05) > 0.07); /* 1 - .05^(1/40) */
    path_fini(&path);
    halves_fini(&h);
}

/* Scenes are whole, of one input, and in one half. */
static void scenes_stay_whole(void **unused) {
    struct halves h;
    int32_t of[50];
    bool all[50];
    unsigned in_half[50] = {0};
    for (int i = 0; i < 50; i++) {
        of[i] = i < 23 ? 0 : 1; /* 4 scenes of 5 and a rest of 3, then 5 and a rest of 2 */
        all[i] = true;
    }
    assert_int_equal(halves_init(&h, all, of, 50, 5, 3, NULL), 0);
    assert_int_equal(h.n_search, 20);
    assert_int_equal(h.n_certify, 25);
    assert_int_equal(h.n_scenes, 5);
    for (size_t i = 0; i < h.n_search; i++)
        in_half[h.search[i]] += 1;
    for (size_t i = 0; i < h.n_certify; i++)
        in_half[h.certify[i]] += 2;
    for (int i = 0; i < 50; i++) {
        int first = i < 20 ? i / 5 * 5 : i < 23 ? 20 : i < 48 ? 23 + (i - 23) / 5 * 5 : 48;
        assert_int_equal(in_half[i], (i >= 20 && i < 23) || i >= 48 ? 0 : in_half[first]);
    }
    halves_fini(&h);
}

/* ---- Search ---------------------------------------------------------------------------------------------- */

/* Each threshold separates scores as the policy compares them: replayed, exactly the ranked frames leave. */
static void thresholds_of_every_rule(void **unused) {
    const char *const names[] = {"confidence", "sdn", "entropy"};
    for (unsigned p = 0; p < 3; p++) {
        uint64_t state = 9;
        struct seen s = draw_sample(200, 1, &state);
        size_t frames[200];
        struct path path;
        s.policy.name = names[p];
        assert_int_equal(ees_policy_get_info(names[p], &s.info, NULL), 0);
        for (size_t i = 0; i < 200; i++)
            frames[i] = i;
        for (size_t i = 0; i < 200 * ROWS; i++) /* many equal scores, and no loss at all */
            views[i].score = roundf(views[i].score * 8) / 8;
        memset(lost_there, 0, sizeof lost_there);
        assert_int_equal(search_path(&s, frames, 200, &path, NULL), 0);
        assert_true(path.points[0].outcome.exit_frames[EXITS] == 200);      /* nobody leaves */
        assert_true(path.points[path.n - 1].outcome.exit_frames[0] == 200); /* nothing is lost: everybody does */
        path_fini(&path);
    }
}

/* A policy that counts: every patience, and one threshold. */
static void counting_policies(void **unused) {
    uint64_t state = 11;
    struct seen s = draw_sample(300, 1, &state);
    size_t frames[300];
    struct path path;
    for (size_t i = 0; i < 300; i++)
        frames[i] = i;
    for (unsigned given = 0; given <= 2; given += 2) {
        s.policy = (ees_policy_options){.name = "patience", .patience = given};
        assert_int_equal(ees_policy_get_info("patience", &s.info, NULL), 0);
        assert_int_equal(search_path(&s, frames, 300, &path, NULL), 0);
        assert_int_equal(path.n, given ? 1 : EXITS + 1); /* classes all agree: patience p leaves at exit p - 1 */
        assert_int_equal(path.points[path.n - 1].outcome.exit_frames[given ? given - 1 : 0], 300);
        path_fini(&path);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(binomial_tails),
        cmocka_unit_test(clopper_pearson),
        cmocka_unit_test(hoeffding_and_bentkus),
        cmocka_unit_test(chi_squared),
        cmocka_unit_test(roc_area),
        cmocka_unit_test(expected_calibration_error),
        cmocka_unit_test(neighbours),
        cmocka_unit_test(permutations),
        cmocka_unit_test(drift),
        cmocka_unit_test(bound_holds),
        cmocka_unit_test(bound_holds_for_scenes),
        cmocka_unit_test(too_few),
        cmocka_unit_test(scenes_stay_whole),
        cmocka_unit_test(thresholds_of_every_rule),
        cmocka_unit_test(counting_policies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
