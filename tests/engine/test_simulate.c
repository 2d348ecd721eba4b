/* SPDX-License-Identifier: MIT */
/* The simulator against cases computed by hand, and against an independent simulation of the published exit mix. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "eestream/simulate.h"

enum { N = 10000, N_BLOCKS = 12, N_EXITS = 8, MS = 1000000 };

static ees_model *model; /* 12 blocks, exits after blocks 4 to 11 */
static const ees_model_info *info;

/* LGViT ViT-B/16 on CIFAR-100 at threshold 0.8, frames by exit, shuffled. */
static uint8_t mix[N];
static const unsigned counts[N_EXITS + 1] = {4330, 1556, 943, 894, 1136, 498, 236, 94, 313};

static uint32_t seed = 1;
static uint32_t dice(uint32_t n) {
    seed = seed * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)seed * n >> 32);
}

static int open_model(void **state) {
    assert_int_equal(ees_model_open_random("vit-ti16", 1, NULL, &model, NULL), 0);
    info = ees_model_get_info(model);
    assert_int_equal(info->n_blocks, N_BLOCKS);
    assert_int_equal(info->n_exits, N_EXITS);
    size_t n = 0;
    for (unsigned e = 0; e <= N_EXITS; e++)
        for (unsigned i = 0; i < counts[e]; i++)
            mix[n++] = (uint8_t)e;
    for (uint32_t i = N; i > 1; i--) {
        uint32_t j = dice(i);
        uint8_t swap = mix[i - 1];
        mix[i - 1] = mix[j];
        mix[j] = swap;
    }
    return 0;
}

static int close_model(void **state) {
    ees_model_close(model);
    return 0;
}

/* ---- Cores, costs, plans ------------------------------------------------------------------------------- */

/* What a case needs at hand; opened by set_up(). A block takes 1 ms: 36 % attention, 64 % MLP; nothing else takes time. */
struct set_up {
    ees_cores cores;
    ees_profile profile;
    ees_plan plan;
    ees_simulation_options o;
    ees_simulation out;
};

static struct set_up *set_up(const char *cores, const char *plan) {
    struct set_up *s = calloc(1, sizeof *s);
    assert_int_equal(ees_cores_parse(cores, &s->cores, NULL), 0);
    s->profile = (ees_profile){.n_units = info->n_units, .n_types = 1, .batch = 1};
    for (unsigned u = 0; u < info->n_units; u++) {
        const ees_unit_info *unit = ees_model_get_unit(model, u);
        double ns = strstr(unit->name, ".attn") ? 0.36 * MS : strstr(unit->name, ".mlp") ? 0.64 * MS : 0;
        s->profile.types[0].cold_ns[u] = s->profile.types[0].warm_ns[u] = s->profile.types[0].batch_ns[u] = ns;
        s->profile.weights_bytes[u] = 1;
    }
    ees_profile_scale(&s->profile, &s->cores, &s->profile);
    ees_simulation_options_default(&s->o);
    s->o.cores = &s->cores;
    s->o.profile = &s->profile;
    if (plan) {
        assert_int_equal(ees_plan_parse(model, plan, s->cores.n_cores, &s->plan, NULL), 0);
        s->o.plan = &s->plan;
    }
    s->o.exits = mix;
    s->o.n_exits_given = N;
    return s;
}

static void simulate(struct set_up *s) {
    ees_error err = {0};
    if (ees_simulate(model, &s->o, &s->out, &err) < 0)
        fail_msg("%s", err.message);
    uint64_t n = s->o.n_frames ? s->o.n_frames : N;
    assert_int_equal(s->out.n_frames, n); /* each frame is answered once */
    assert_int_equal(s->out.latency.n, n);
    assert_true(s->out.n_visits >= n);
}

static void near(double got, double want, double relative) {
    if (fabs(got - want) > relative * fabs(want))
        fail_msg("%.9g, expected %.9g within %g %%", got, want, 100 * relative);
}

/* All frames leave at one exit. */
static void all_leave_at(struct set_up *s, const uint8_t *exit, uint64_t n_frames) {
    s->o.exits = exit;
    s->o.n_exits_given = 1;
    s->o.n_frames = n_frames;
}

static const uint8_t exit_first = 0, exit_last = N_EXITS;

/* ---- By hand ------------------------------------------------------------------------------------------- */

static double mean_work_ns(void) {
    double blocks = 0;
    for (unsigned e = 0; e <= N_EXITS; e++)
        blocks += (double)counts[e] * (e < N_EXITS ? 4 + e : 12);
    return blocks * MS / N;
}

static void test_one_core(void **state) {
    struct set_up *s = set_up("1", NULL);
    simulate(s);
    near(s->out.fps, 1e9 / mean_work_ns(), 1e-6);
    near(s->out.busy_share, 1, 1e-6);
    near(s->out.plan.fps, s->out.fps, 1e-6); /* the planner's own prediction */
    assert_int_equal(s->out.n_visits, N);
    assert_int_equal(s->out.reorder_wait_ns, 0);
    s->o.exits = NULL; /* full depth */
    simulate(s);
    near(s->out.fps, 1e9 / (N_BLOCKS * (double)MS), 1e-6);
    free(s);
}

static void test_replicas_add_up(void **state) {
    struct set_up *s = set_up("2", "replicas");
    all_leave_at(s, &exit_last, 100);
    simulate(s);
    near(s->out.fps, 2e9 / (N_BLOCKS * (double)MS), 1e-6);
    near(s->out.busy[0], 1, 1e-6);
    near(s->out.busy[1], 1, 1e-6);
    free(s);
    s = set_up("fast=1@1,slow=1@0.5", "replicas"); /* 3 frames in the time of 2 */
    all_leave_at(s, &exit_last, 3000);
    simulate(s);
    near(s->out.fps, 1.5e9 / (N_BLOCKS * (double)MS), 1e-3);
    free(s);
}

/* Three stages of four blocks: the last frame leaves after n + 2 times 4 ms. */
static void test_pipeline(void **state) {
    struct set_up *s = set_up("3", "equal:3");
    all_leave_at(s, &exit_last, 50);
    s->o.no_help = true;
    simulate(s);
    near(s->out.fps, 50e9 / (52 * 4.0 * MS), 1e-9);
    assert_int_equal(s->out.n_visits, 150);
    assert_int_equal(s->out.n_helped, 0);
    all_leave_at(s, &exit_first, 50); /* after block 4: nobody gets to the other stages */
    simulate(s);
    near(s->out.fps, 1e9 / (4.0 * MS), 1e-9);
    near(s->out.busy_share, 1.0 / 3, 1e-9);
    s->o.no_help = false; /* whoever is idle takes fresh frames: 17 rounds of three workers, but for one frame */
    simulate(s);
    near(s->out.fps, 50e9 / (17 * 4.0 * MS), 1e-9);
    free(s);
}

/* Two workers, three slots. Worker A has the first frame, to the end, for 12 ms. B answers two others in 8 ms, then no slot is
 * free in order; three more frames begin at 12. Unordered B goes on, and all six are done after 16 ms. */
static void test_order_holds_slots(void **state) {
    static const uint8_t exits[] = {N_EXITS, 0, 0, 0, 0, 0};
    struct set_up *s = set_up("2", "replicas");
    s->o.exits = exits;
    s->o.n_frames = s->o.n_exits_given = 6;
    s->o.n_slots = 3;
    simulate(s);
    near(s->out.fps, 6e9 / (20.0 * MS), 1e-9);
    assert_int_equal(s->out.reorder_wait_ns, 12 * MS);
    assert_int_equal(s->out.latency.max_ns, 12 * MS);
    s->o.unordered = true;
    simulate(s);
    near(s->out.fps, 6e9 / (16.0 * MS), 1e-9);
    assert_int_equal(s->out.reorder_wait_ns, 0);
    free(s);
}

static void test_paced_source(void **state) {
    struct set_up *s = set_up("4", "replicas");
    all_leave_at(s, &exit_first, 1000);
    s->o.rate_hz = 100;
    simulate(s);
    assert_int_equal(s->out.latency.min_ns, 4 * MS); /* nobody waits */
    assert_int_equal(s->out.latency.max_ns, 4 * MS);
    near(s->out.fps, 1000e9 / (999 * 10.0 * MS + 4.0 * MS), 1e-9);
    near(s->out.busy_share, 0.4 / 4, 1e-2);
    s->o.rate_hz = 2000; /* twice what four workers can do: time in front of the door counts */
    simulate(s);
    near(s->out.fps, 1000, 2e-3);
    near((double)s->out.latency.max_ns, 1000 * 1.0 * MS - 999 * 0.5 * MS, 0.01);
    free(s);
}

/* Weights that fit a cache make its worker faster from the second visit in a row; help is cold. */
static void test_residency(void **state) {
    struct set_up *s = set_up("2", "1-4x1,5-12x1");
    for (unsigned u = 0; u < info->n_units; u++) {
        s->profile.types[0].warm_ns[u] = s->profile.types[0].cold_ns[u] / 2;
        s->profile.weights_bytes[u] = u < s->plan.groups[0].end_unit ? 1 : 100;
    }
    s->profile.types[0].private_cache_bytes = s->plan.groups[0].end_unit;
    s->o.no_help = true;
    all_leave_at(s, &exit_first, 101);
    simulate(s);
    near(s->out.fps, 101e9 / (4.0 * MS + 100 * 2.0 * MS), 1e-9);
    s->o.no_help = false; /* two frames in 4 ms when the helper is always cold: 3 frames in 4 ms together */
    all_leave_at(s, &exit_first, 3000);
    simulate(s);
    assert_true(s->out.n_helped > 0);
    near(s->out.fps, 4e9 / (4.0 * MS), 0.01); /* a helper that stays in the group is warm as well */
    free(s);
}

static void test_micro_batches(void **state) {
    struct set_up *s = set_up("1", "replicas");
    s->profile.batch = 4;
    for (unsigned u = 0; u < info->n_units; u++)
        s->profile.types[0].batch_ns[u] = s->profile.types[0].cold_ns[u] / 2;
    all_leave_at(s, &exit_last, 4001);
    simulate(s);
    assert_int_equal(s->out.plan.batch[2], 4);
    near(s->out.fps, 2e9 / (12.0 * MS), 0.01); /* the first frame runs alone */
    s->o.exits = mix; /* those that leave make the rest smaller: between alone and four together */
    s->o.n_exits_given = N;
    simulate(s);
    assert_true(s->out.fps > 1.2e9 / mean_work_ns() && s->out.fps < 2e9 / mean_work_ns());
    free(s);
    s = set_up("5", "1-3x2,4-8x2,9-12x1"); /* handed on together, from group to group */
    s->profile.batch = 4;
    for (unsigned u = 0; u < info->n_units; u++)
        s->profile.types[0].batch_ns[u] = s->profile.types[0].cold_ns[u] / 2;
    simulate(s);
    assert_true(s->out.fps > 5e9 / mean_work_ns());
    free(s);
}

/* A batch makes frames wait for each other: while frames come more slowly than they can be done, they run alone. */
static void test_no_batches_below_saturation(void **state) {
    double p99[2];
    for (unsigned batched = 0; batched < 2; batched++) {
        struct set_up *s = set_up("2", "replicas");
        s->profile.batch = batched ? 4 : 1;
        for (unsigned u = 0; u < info->n_units; u++)
            s->profile.types[0].batch_ns[u] = 0.97 * s->profile.types[0].cold_ns[u];
        s->o.rate_hz = 0.9 * 2e9 / mean_work_ns();
        simulate(s);
        assert_int_equal(s->out.plan.batch[2], batched ? 4 : 1);
        p99[batched] = (double)s->out.latency.p99_ns;
        free(s);
    }
    near(p99[1], p99[0], 0.02);
}

/* ---- The published mix --------------------------------------------------------------------------------- */

/* One worker a group, cut between blocks: the cuts with the least bottleneck, by trying all. */
static double best_cuts(const double *reach, unsigned first, unsigned n_groups, unsigned *ends) {
    double work = 0, best = INFINITY;
    unsigned tail[N_BLOCKS];
    if (n_groups == 1) {
        for (unsigned b = first; b < N_BLOCKS; b++)
            work += reach[b];
        ends[0] = N_BLOCKS;
        return work;
    }
    for (unsigned end = first + 1; end + n_groups - 1 <= N_BLOCKS; end++) {
        work += reach[end - 1];
        double rest = best_cuts(reach, end, n_groups - 1, tail);
        if (fmax(work, rest) < best) {
            best = fmax(work, rest);
            ends[0] = end;
            memcpy(ends + 1, tail, (n_groups - 1) * sizeof *ends);
        }
    }
    return best;
}

static void static_cuts_text(unsigned n_groups, char *text) {
    double reach[N_BLOCKS], here = 1;
    unsigned ends[N_BLOCKS] = {0}, first = 1;
    for (unsigned b = 0; b < N_BLOCKS; b++) {
        reach[b] = here;
        if (b >= 3 && b < 11)
            here -= counts[b - 3] / (double)N;
    }
    best_cuts(reach, 0, n_groups, ends);
    for (unsigned g = 0; g < n_groups; first = ends[g++] + 1)
        text += sprintf(text, "%s%u-%u", g ? "," : "", first, ends[g]);
}

/* Per cent busy. An independent simulation with short queues gave 58/48/48/48/48 for equal stages and 92/92/69/91/48 for
 * the best static cuts at 2/3/4/6/12 cores; arithmetic (work / cores / bottleneck) bounds the latter by 96/96/72/96/48, which
 * longer queues come closer to. Work-conserving groups and replicas: 100. */
static void test_published_mix(void **state) {
    static const struct {
        unsigned n_cores;
        double equal, cuts_least, cuts_most;
    } rows[] = {{2, 58, 92, 96.2}, {3, 48, 92, 96.2}, {4, 48, 69, 72.2}, {6, 48, 91, 96.2}, {12, 48, 47, 48.2}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char cores[8], text[128];
        sprintf(cores, "%u", rows[i].n_cores);
        sprintf(text, "equal:%u", rows[i].n_cores);
        struct set_up *s = set_up(cores, text);
        s->o.no_help = true;
        simulate(s);
        double equal = 100 * s->out.busy_share;
        free(s);
        static_cuts_text(rows[i].n_cores, text);
        s = set_up(cores, text);
        s->o.no_help = true;
        simulate(s);
        double cuts = 100 * s->out.busy_share;
        s->o.no_help = false;
        simulate(s);
        double elastic = 100 * s->out.busy_share;
        free(s);
        s = set_up(cores, "replicas");
        simulate(s);
        double replicas = 100 * s->out.busy_share;
        free(s);
        print_message("%2u cores: equal %.1f %%, best cuts %.1f %% (%s), elastic %.1f %%, replicas %.1f %%\n",
                      rows[i].n_cores, equal, cuts, text, elastic, replicas);
        assert_true(fabs(equal - rows[i].equal) < 1);
        assert_true(cuts >= rows[i].cuts_least - 0.5 && cuts <= rows[i].cuts_most);
        assert_true(elastic > 99 && replicas > 99);
    }
}

/* ---- Repeating, following, refusing -------------------------------------------------------------------- */

static void test_repeats(void **state) {
    struct set_up *s = set_up("big=2,little=3", "1-3x2,4-12x3");
    s->o.jitter = 0.1;
    s->o.seed = 7;
    simulate(s);
    ees_simulation first = s->out;
    simulate(s);
    assert_memory_equal(&first, &s->out, sizeof first);
    s->o.seed = 8;
    simulate(s);
    assert_true(first.fps != s->out.fps);
    near(s->out.fps, first.fps, 0.01);
    s->o.jitter = 0;
    simulate(s);
    near(first.fps, s->out.fps, 0.01); /* the mean cost stays */
    free(s);
}

/* Caches that hold half the network: the plan is cut where the mix says, and moves with it. */
static void test_follows_the_mix(void **state) {
    enum { PART = 3 * N };
    static uint8_t exits[3 * PART];
    for (unsigned i = 0; i < 3 * PART; i++)
        exits[i] = i / PART == 1 ? N_EXITS : mix[i % N];
    struct set_up *s = set_up("8", NULL);
    for (unsigned u = 0; u < info->n_units; u++) {
        s->profile.types[0].warm_ns[u] = s->profile.types[0].cold_ns[u] * 0.7;
        s->profile.weights_bytes[u] = ees_model_get_unit(model, u)->weights_bytes;
    }
    s->profile.types[0].private_cache_bytes = info->n_blocks / 2 * s->profile.weights_bytes[3] * 3 / 2;
    s->o.n_frames = PART; /* the plan is solved for the first part */
    s->o.exits = mix;
    s->o.n_exits_given = N;
    simulate(s);
    ees_plan first = s->out.plan;
    assert_true(first.n_groups > 1);
    s->o.plan = &first;
    s->o.exits = exits;
    s->o.n_frames = s->o.n_exits_given = 3 * PART;
    simulate(s);
    double stays = s->out.fps;
    assert_int_equal(s->out.n_replans, 0);
    s->o.replan = true;
    simulate(s);
    print_message("mix moves and comes back: %.0f fps with the first plan, %.0f with %llu re-plans\n", stays,
                  s->out.fps, (unsigned long long)s->out.n_replans);
    assert_true(s->out.n_replans >= 2 && s->out.n_replans <= 6);
    assert_true(s->out.fps > stays);
    free(s);
}

static void test_many_cores(void **state) {
    struct set_up *s = set_up("256", NULL);
    uint64_t start_ns = ees__now_ns();
    simulate(s);
    print_message("256 cores, %d frames: simulated in %.0f ms, %.1f %% busy\n", N,
                  1e-6 * (double)(ees__now_ns() - start_ns), 100 * s->out.busy_share);
    assert_true(s->out.busy_share > 0.9);
    s->o.take = EES_TAKE_OLDEST;
    simulate(s);
    s->o.take = EES_TAKE_UPSTREAM;
    simulate(s);
    free(s);
}

static void refuses(struct set_up *s) {
    ees_error err = {0};
    assert_int_equal(ees_simulate(model, &s->o, &s->out, &err), EES_EINVAL);
    assert_true(strlen(err.message) > 10);
}

static void test_refuses(void **state) {
    static const uint8_t beyond = N_EXITS + 1;
    struct set_up *s = set_up("2", "replicas");
    const ees_simulation_options good = s->o;
    s->o.exits = &beyond;
    s->o.n_exits_given = 1;
    refuses(s);
    s->o = good;
    s->o.n_exits_given = 0;
    refuses(s);
    s->o = good;
    s->o.rate_hz = -1;
    refuses(s);
    s->o = good;
    s->o.jitter = NAN;
    refuses(s);
    s->o = good;
    s->o.n_slots = 2;
    refuses(s);
    s->o = good;
    s->o.no_help = s->o.replan = true;
    refuses(s);
    s->o = good;
    s->o.take = (enum ees_take)9;
    refuses(s);
    s->o = good;
    s->plan.groups[0].n_workers = 3;
    refuses(s);
    s->plan.groups[0].n_workers = 2;
    s->plan.groups[0].end_unit--;
    refuses(s);
    s->plan.groups[0].end_unit++;
    s->profile.n_units--;
    refuses(s);
    s->profile.n_units++;
    s->cores.n_cores = 0;
    refuses(s);
    free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_core),        cmocka_unit_test(test_replicas_add_up),
        cmocka_unit_test(test_pipeline),        cmocka_unit_test(test_order_holds_slots),
        cmocka_unit_test(test_paced_source),    cmocka_unit_test(test_residency),
        cmocka_unit_test(test_micro_batches),   cmocka_unit_test(test_no_batches_below_saturation),
        cmocka_unit_test(test_published_mix),   cmocka_unit_test(test_repeats),
        cmocka_unit_test(test_follows_the_mix), cmocka_unit_test(test_many_cores),
        cmocka_unit_test(test_refuses),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
