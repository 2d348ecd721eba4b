/* SPDX-License-Identifier: MIT */
/* Two ways to candidates. A policy whose decision at an exit depends on that exit's score alone has a threshold an
 * exit: for a price of a lost frame, each threshold in turn is set to its exact optimum given the others until none
 * moves (coordinate descent), and the price is lowered step by step. Thresholds are ranks there: how many frames of the
 * search are beyond. For policies that count, one threshold for all exits and every count are tried. Either way the
 * candidates are replayed by the library's own code, and the ones that another beats in cost and losses are left out.
 */
#include "tools/cli/calibrate/search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli/fail.h"

enum { N_PRICES = 48, STEPS = 64, MAX_SWEEPS = 8, N_LEVELS = 32 };
static const uint32_t never = UINT32_MAX;

int seen_replay(struct seen *s, const ees_policy_options *policy, const size_t *frames, size_t n, struct outcome *out,
                ees_error *err) {
    size_t n_rows = (size_t)s->n_exits + 1;
    CLI_TRY(ees_policy_replay(policy, s->n_exits, s->views, s->n, s->exits, err));
    *out = (struct outcome){.n = n};
    for (size_t i = 0; i < n; i++) {
        unsigned e = s->exits[frames[i]];
        out->exit_frames[e]++;
        out->n_lost += s->lost[frames[i] * n_rows + e];
        out->cost += s->cost[e] / (double)n;
    }
    return 0;
}

/* ---- The path ------------------------------------------------------------------------------------------ */

void path_fini(struct path *path) {
    free(path->points);
    *path = (struct path){0};
}

static int add_point(struct seen *s, const ees_policy_options *policy, const size_t *frames, size_t n,
                     struct path *path, ees_error *err) {
    if (path->n == path->room) {
        size_t room = path->room ? 2 * path->room : 64;
        struct path_point *bigger = realloc(path->points, room * sizeof *bigger);
        if (!bigger)
            return CLI_FAIL(err, EES_ENOMEM, "out of memory for %zu candidates", room);
        path->points = bigger;
        path->room = room;
    }
    struct path_point *point = &path->points[path->n++];
    point->policy = *policy;
    return seen_replay(s, policy, frames, n, &point->outcome, err);
}

static int cheapest_first(const void *a, const void *b) {
    const struct outcome *x = &((const struct path_point *)a)->outcome, *y = &((const struct path_point *)b)->outcome;
    if (x->cost != y->cost)
        return x->cost < y->cost ? -1 : 1;
    return (x->n_lost > y->n_lost) - (x->n_lost < y->n_lost);
}

/* Keep what no cheaper point beats in losses, strictest first. Equal losses at a higher cost stay: where the cheapest
 * of them turns out to lose more on other frames, a stricter one may not. */
static void keep_front(struct path *path) {
    size_t n_kept = 0, fewest = SIZE_MAX;
    if (path->n > 0)
        qsort(path->points, path->n, sizeof *path->points, cheapest_first);
    for (size_t i = 0; i < path->n; i++) {
        const struct outcome *o = &path->points[i].outcome;
        bool doubled = n_kept && path->points[n_kept - 1].outcome.cost == o->cost;
        if (o->n_lost > fewest || doubled)
            continue;
        fewest = o->n_lost;
        path->points[n_kept++] = path->points[i];
    }
    path->n = n_kept;
    for (size_t i = 0; i < n_kept / 2; i++) {
        struct path_point swapped = path->points[i];
        path->points[i] = path->points[n_kept - 1 - i];
        path->points[n_kept - 1 - i] = swapped;
    }
}

/* ---- A threshold an exit ------------------------------------------------------------------------------- */

/* The frames of the search by the scores of each exit. */
struct ranking {
    struct seen *s;
    const size_t *frames;
    size_t n;
    uint32_t *order; /* (n_exits, n): positions in `frames`, the readiest to leave first */
    uint32_t *place; /* (n, n_exits): its position in there, `never` without a score */
    uint32_t n_scored[EES_MAX_EXITS];
};

static float score_at(const struct ranking *r, uint32_t i, unsigned e) {
    return r->s->views[r->frames[i] * ((size_t)r->s->n_exits + 1) + e].score;
}

struct readiness {
    float score; /* larger: readier */
    uint32_t i;
};

static int readiest_first(const void *a, const void *b) {
    const struct readiness *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->i > y->i) - (x->i < y->i);
}

static void rank_exit(struct ranking *r, unsigned e, struct readiness *space) {
    bool below = r->s->info.rule == EES_THRESHOLD_BELOW;
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        float score = score_at(r, i, e);
        r->place[(size_t)i * r->s->n_exits + e] = never;
        if (!isnan(score))
            space[n++] = (struct readiness){.score = below ? -score : score, .i = i};
    }
    qsort(space, n, sizeof *space, readiest_first);
    for (uint32_t j = 0; j < n; j++) {
        r->order[(size_t)e * r->n + j] = space[j].i;
        r->place[(size_t)space[j].i * r->s->n_exits + e] = j;
    }
    r->n_scored[e] = n;
}

/* The first exit from `e` on where a frame leaves under these ranks. */
static unsigned leaves_from(const struct ranking *r, uint32_t i, unsigned e, const uint32_t *ranks) {
    const uint32_t *place = r->place + (size_t)i * r->s->n_exits;
    while (e < r->s->n_exits && place[e] >= ranks[e])
        e++;
    return e;
}

/* Scores of one value stay together. */
static bool is_boundary(const struct ranking *r, unsigned e, uint32_t rank) {
    const uint32_t *order = r->order + (size_t)e * r->n;
    return rank == 0 || rank == r->n_scored[e] || score_at(r, order[rank - 1], e) != score_at(r, order[rank], e);
}

/* The best rank of exit e, the others' given: what leaving there instead of going on saves, summed from the readiest
 * on. */
static uint32_t best_rank(const struct ranking *r, unsigned e, const uint32_t *ranks, double price) {
    const struct seen *s = r->s;
    const uint32_t *order = r->order + (size_t)e * r->n;
    double sum = 0, best = 0;
    uint32_t rank = 0;
    for (uint32_t j = 0; j < r->n_scored[e]; j++) {
        const uint8_t *lost = s->lost + r->frames[order[j]] * ((size_t)s->n_exits + 1);
        if (leaves_from(r, order[j], 0, ranks) >= e) {
            unsigned next = leaves_from(r, order[j], e + 1, ranks);
            sum += s->cost[e] - s->cost[next] + price * (lost[e] - lost[next]);
        }
        if (sum < best && is_boundary(r, e, j + 1)) {
            best = sum;
            rank = j + 1;
        }
    }
    return rank;
}

static void descend(const struct ranking *r, double price, uint32_t *ranks) {
    bool moved = true;
    for (unsigned sweep = 0; sweep < MAX_SWEEPS && moved; sweep++) {
        moved = false;
        for (unsigned e = 0; e < r->s->n_exits; e++) {
            uint32_t rank = best_rank(r, e, ranks, price);
            moved |= rank != ranks[e];
            ranks[e] = rank;
        }
    }
}

/* Between the last score that is beyond and the first that is not, in float32 as policies compare. */
static float threshold_at(const struct ranking *r, unsigned e, uint32_t rank) {
    const uint32_t *order = r->order + (size_t)e * r->n;
    enum ees_threshold_rule rule = r->s->info.rule;
    if (rank == 0)
        return rule == EES_THRESHOLD_BELOW ? -1.0f : 2.0f; /* no score of any policy gets there */
    float in = score_at(r, order[rank - 1], e);
    float beyond = fmaxf(in, 0.01f); /* all leave: half way to the end of the scale, or as far again */
    float out =
        rank < r->n_scored[e] ? score_at(r, order[rank], e) : in + (rule == EES_THRESHOLD_BELOW ? beyond : -beyond);
    float middle = in + 0.5f * (out - in);
    if (rule == EES_THRESHOLD_ABOVE)
        return middle < in ? middle : out;
    if (rule == EES_THRESHOLD_AT_LEAST)
        return middle > out ? middle : in;
    return middle > in ? middle : out;
}

static int add_ranks(struct ranking *r, const uint32_t *ranks, struct path *path, ees_error *err) {
    ees_policy_options policy = r->s->policy;
    policy.n_thresholds = r->s->n_exits;
    for (unsigned e = 0; e < r->s->n_exits; e++)
        policy.thresholds[e] = threshold_at(r, e, ranks[e]);
    return add_point(r->s, &policy, r->frames, r->n, path, err);
}

/* From one solution to the next in steps of at most so many ranks: prices jump over what lies between. */
static int add_steps(struct ranking *r, const uint32_t *from, const uint32_t *to, struct path *path, ees_error *err) {
    unsigned n_steps = 1;
    for (unsigned e = 0; e < r->s->n_exits; e++) {
        double most = fabs((double)to[e] - from[e]) * STEPS / (double)r->n;
        n_steps = most > n_steps ? (unsigned)ceil(most) : n_steps;
    }
    for (unsigned step = 1; step <= n_steps; step++) {
        uint32_t ranks[EES_MAX_EXITS];
        for (unsigned e = 0; e < r->s->n_exits; e++) {
            double rank = from[e] + ((double)to[e] - from[e]) * step / n_steps;
            ranks[e] = (uint32_t)rank;
            while (!is_boundary(r, e, ranks[e]))
                ranks[e]--;
        }
        CLI_TRY(add_ranks(r, ranks, path, err));
    }
    return 0;
}

/* Prices of a lost frame, from all that the frames can cost together down to a hundredth of one. */
static int add_prices(struct ranking *r, struct path *path, ees_error *err) {
    uint32_t ranks[EES_MAX_EXITS] = {0}, before[EES_MAX_EXITS] = {0};
    double most = r->s->cost[r->s->n_exits] * (double)(r->n + 1), least = 0.01 * r->s->cost[r->s->n_exits];
    CLI_TRY(add_ranks(r, ranks, path, err));
    for (unsigned i = 0; i < N_PRICES; i++) {
        descend(r, most * pow(least / most, (double)i / (N_PRICES - 1)), ranks);
        if (memcmp(ranks, before, sizeof ranks) != 0)
            CLI_TRY(add_steps(r, before, ranks, path, err));
        memcpy(before, ranks, sizeof ranks);
    }
    return 0;
}

static int search_ranks(struct seen *s, const size_t *frames, size_t n, struct path *path, ees_error *err) {
    struct ranking r = {.s = s, .frames = frames, .n = n};
    struct readiness *space = malloc((n + 1) * sizeof *space);
    r.order = malloc((n + 1) * s->n_exits * sizeof *r.order);
    r.place = malloc((n + 1) * s->n_exits * sizeof *r.place);
    int rc = space && r.order && r.place ? 0 : CLI_FAIL(err, EES_ENOMEM, "out of memory to rank %zu frames", n);
    for (unsigned e = 0; e < s->n_exits && rc == 0; e++)
        rank_exit(&r, e, space);
    if (rc == 0)
        rc = add_prices(&r, path, err);
    free(space);
    free(r.order);
    free(r.place);
    return rc;
}

/* ---- Counts -------------------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Levels for one threshold of all exits: quantiles of all their scores, and beyond both ends. */
static int find_levels(const struct seen *s, const size_t *frames, size_t n, float levels[N_LEVELS + 1],
                       unsigned *n_levels, ees_error *err) {
    size_t n_scores = 0;
    float *scores = malloc((n * s->n_exits + 1) * sizeof *scores);
    if (!scores)
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for %zu scores", n * s->n_exits);
    for (size_t i = 0; i < n; i++)
        for (unsigned e = 0; e < s->n_exits; e++) {
            float score = s->views[frames[i] * ((size_t)s->n_exits + 1) + e].score;
            if (!isnan(score))
                scores[n_scores++] = score;
        }
    qsort(scores, n_scores, sizeof *scores, ascending);
    *n_levels = 0;
    for (unsigned i = 0; i < N_LEVELS && n_scores > 0; i++)
        levels[(*n_levels)++] = scores[i * (n_scores - 1) / (N_LEVELS - 1)];
    levels[(*n_levels)++] = s->info.rule == EES_THRESHOLD_BELOW ? -1.0f : 2.0f;
    free(scores);
    return 0;
}

static int search_counts(struct seen *s, const size_t *frames, size_t n, struct path *path, ees_error *err) {
    float levels[N_LEVELS + 1];
    unsigned given = s->policy.patience, n_levels = 1;
    unsigned first = given ? given : 1, last = given ? given : s->info.patience ? s->n_exits + 1 : 1;
    if (s->info.rule != EES_THRESHOLD_NONE)
        CLI_TRY(find_levels(s, frames, n, levels, &n_levels, err));
    for (unsigned patience = first; patience <= last; patience++)
        for (unsigned i = 0; i < n_levels; i++) {
            ees_policy_options policy = s->policy;
            policy.patience = s->info.patience ? patience : 0;
            policy.n_thresholds = s->info.rule != EES_THRESHOLD_NONE;
            policy.thresholds[0] = levels[i];
            CLI_TRY(add_point(s, &policy, frames, n, path, err));
        }
    return 0;
}

int search_path(struct seen *s, const size_t *frames, size_t n, struct path *out, ees_error *err) {
    bool ranks = s->info.rule != EES_THRESHOLD_NONE && !s->info.counts;
    *out = (struct path){0};
    int rc = (ranks ? search_ranks : search_counts)(s, frames, n, out, err);
    keep_front(out);
    if (rc < 0)
        path_fini(out);
    return rc;
}
