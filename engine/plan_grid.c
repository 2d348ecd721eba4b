/* SPDX-License-Identifier: MIT */
#include "engine/plan_grid.h"

#include <math.h>
#include <string.h>

/* ---- Shape --------------------------------------------------------------------------------------------- */

static void count_cells(struct ees__grid *g) {
    g->n_cells = 1;
    for (unsigned d = 0; d < EES__GRID_DIMS; d++)
        g->n_cells *= g->size[d];
}

/* Types with cores, most numerous first. @return how many */
static unsigned rank_types(unsigned n_types, const unsigned *n_of_type, unsigned *ranked) {
    unsigned n = 0;
    for (unsigned t = 0; t < n_types; t++) {
        unsigned i = n;
        if (n_of_type[t] == 0)
            continue;
        for (; i > 0 && n_of_type[ranked[i - 1]] < n_of_type[t]; i--)
            ranked[i] = ranked[i - 1];
        ranked[i] = t;
        n++;
    }
    return n;
}

void ees__grid_init(struct ees__grid *g, unsigned n_types, const unsigned *n_of_type) {
    unsigned ranked[EES_MAX_CORE_TYPES] = {0}, n = rank_types(n_types, n_of_type, ranked);
    *g = (struct ees__grid){.n_types = n_types,
                            .n_dims = n > 0 ? n - 1 : 0,
                            .size = {1, 1, 1},
                            .step = {1, 1, 1},
                            .last_type = ranked[0],
                            .last_max = n_of_type[ranked[0]]};
    for (unsigned d = 0; d < g->n_dims; d++) {
        g->type[d] = ranked[d + 1];
        g->size[d] = n_of_type[ranked[d + 1]] + 1;
    }
    for (count_cells(g); g->n_cells > EES__GRID_MAX_CELLS; count_cells(g)) {
        unsigned widest = 0;
        for (unsigned d = 1; d < g->n_dims; d++)
            if (g->size[d] > g->size[widest])
                widest = d;
        g->step[widest]++;
        g->size[widest] = n_of_type[g->type[widest]] / g->step[widest] + 1;
    }
}

bool ees__grid_is_exact(const struct ees__grid *g) { return g->step[0] == 1 && g->step[1] == 1 && g->step[2] == 1; }

void ees__grid_clear(const struct ees__grid *g, ees__front *front) {
    for (unsigned c = 0; c < g->n_cells; c++)
        front[c] = EES__FRONT_NONE;
}

void ees__grid_start(const struct ees__grid *g, ees__front *front) {
    ees__grid_clear(g, front);
    front[0] = 0;
}

/* ---- Choices of one group ------------------------------------------------------------------------------ */

/* Frames a nanosecond one core carries through `work_ns`. */
static double rate_of(double work_ns) { return work_ns > 0 ? 1 / work_ns : 1e300; }

/* Rounding must not ask for one core more than the same sum does elsewhere. */
static const double rounding = 1e-9;

/* Cores of the last type that carry what is missing; more than `max`: max + 1. (ceil() would be a call.) */
static int last_needed(double missing, double work_ns, int max) {
    double exactly = missing * work_ns - rounding;
    if (missing <= 0 || exactly <= 0)
        return 0;
    if (exactly > max)
        return max + 1;
    int whole = (int)exactly;
    return whole + (whole < exactly);
}

static void put_choice(const struct ees__grid *g, struct ees__choice *c, const unsigned *at, int last) {
    unsigned shift = (at[2] * g->size[1] + at[1]) * g->size[0] + at[0];
    *c = (struct ees__choice){
        .at = {(uint16_t)at[0], (uint16_t)at[1], (uint16_t)at[2]}, .last = (ees__front)last, .shift = (uint16_t)shift};
}

unsigned ees__grid_choices(const struct ees__grid *g, const double *work_ns, double rate, const double *weight_of_type,
                           double most, struct ees__choice *out) {
    double each[EES__GRID_DIMS] = {0}, weight[EES__GRID_DIMS] = {0};
    double last_work = work_ns[g->last_type], last_weight = weight_of_type[g->last_type];
    for (unsigned d = 0; d < g->n_dims; d++) {
        each[d] = rate_of(work_ns[g->type[d]]) * g->step[d];
        weight[d] = weight_of_type[g->type[d]] * g->step[d];
    }
    int max = (int)g->last_max;
    unsigned n = 0, at[EES__GRID_DIMS];
    for (at[2] = 0; at[2] < g->size[2]; at[2]++)
        for (at[1] = 0; at[1] < g->size[1]; at[1]++) {
            double others = at[1] * each[1] + at[2] * each[2], others_weight = at[1] * weight[1] + at[2] * weight[2];
            int before = -1; /* fewer cores needed as many of the last type: no gain */
            for (at[0] = 0; at[0] < g->size[0] && before != 0; at[0]++) {
                double carried = others + at[0] * each[0];
                int last = last_needed(rate - carried, last_work, max);
                if (last == 0 && carried == 0)
                    last = 1; /* a group has a worker */
                if (last <= max && last != before && others_weight + at[0] * weight[0] + last * last_weight <= most)
                    put_choice(g, &out[n++], at, last);
                before = last;
            }
        }
    return n;
}

/* Lightest choice along the first dimension. Each position there saves `saves` of the `missing` cores of the last type.
 * But for rounding the weight is a straight line in x, so the search starts at its lower end and stops where the line
 * has risen above the best. */
static double lightest_in_row(const struct ees__grid *g, double missing, double saves, double weight,
                              double last_weight, bool empty_is_allowed, double before, double best) {
    double slope = weight - saves * last_weight, line = before + missing * last_weight;
    int end = (int)g->size[0] - 1, max = (int)g->last_max;
    if (missing <= 0)
        end = empty_is_allowed ? 0 : end < 1 ? end : 1;
    else if (saves > 0 && missing / saves < end)
        end = (int)(missing / saves) + 1;
    for (int i = 0; i <= end; i++) {
        int x = slope < 0 ? end - i : i;
        double left = missing - x * saves;
        if (line + x * slope >= best)
            break;
        if (left > max)
            continue;
        int last = left <= 0 ? 0 : (int)left + ((int)left < left);
        if (last == 0 && x == 0 && !empty_is_allowed)
            last = 1; /* a group has a worker */
        double sum = before + x * weight + last * last_weight;
        best = sum < best ? sum : best;
    }
    return best;
}

double ees__grid_lightest(const struct ees__grid *g, const double *work_ns, double rate, const double *weight_of_type) {
    double each[EES__GRID_DIMS] = {0}, weight[EES__GRID_DIMS] = {0}, lightest = INFINITY;
    double last_work = work_ns[g->last_type], last_weight = weight_of_type[g->last_type];
    for (unsigned d = 0; d < g->n_dims; d++) {
        each[d] = rate_of(work_ns[g->type[d]]) * g->step[d];
        weight[d] = weight_of_type[g->type[d]] * g->step[d];
    }
    for (unsigned z = 0; z < g->size[2]; z++)
        for (unsigned y = 0; y < g->size[1]; y++) {
            double missing = (rate - y * each[1] - z * each[2]) * last_work - rounding;
            double before = y * weight[1] + z * weight[2];
            if (before < lightest)
                lightest = lightest_in_row(g, missing, each[0] * last_work, weight[0], last_weight, y + z > 0, before,
                                           lightest);
        }
    return lightest;
}

unsigned ees__grid_splits(const struct ees__grid *g, const double *work_ns, double rate, unsigned n_workers,
                          struct ees__choice *out) {
    unsigned n = 0, at[EES__GRID_DIMS];
    for (at[2] = 0; at[2] < g->size[2]; at[2]++)
        for (at[1] = 0; at[1] < g->size[1]; at[1]++)
            for (at[0] = 0; at[0] < g->size[0]; at[0]++) {
                unsigned used = at[0] + at[1] + at[2];
                if (used > n_workers || n_workers - used > g->last_max)
                    continue;
                double carried = (n_workers - used) * rate_of(work_ns[g->last_type]);
                for (unsigned d = 0; d < g->n_dims; d++)
                    carried += at[d] * rate_of(work_ns[g->type[d]]);
                if (carried >= rate * (1 - rounding))
                    put_choice(g, &out[n++], at, (int)(n_workers - used));
            }
    return n;
}

/* ---- Fronts -------------------------------------------------------------------------------------------- */

static void extend_row(const ees__front *restrict from, ees__front *restrict to, unsigned n, ees__front add) {
    for (unsigned i = 0; i < n; i++) {
        ees__front sum = (ees__front)(from[i] + add);
        to[i] = sum < to[i] ? sum : to[i];
    }
}

void ees__grid_extend(const struct ees__grid *g, const ees__front *from, const struct ees__choice *choices, unsigned n,
                      ees__front *to) {
    for (const struct ees__choice *c = choices; c < choices + n; c++)
        for (unsigned z = 0; z + c->at[2] < g->size[2]; z++)
            for (unsigned y = 0; y + c->at[1] < g->size[1]; y++) {
                unsigned row = (z * g->size[1] + y) * g->size[0];
                extend_row(from + row, to + row + c->shift, g->size[0] - c->at[0], c->last);
            }
}

bool ees__grid_trim(const struct ees__grid *g, ees__front *front) {
    bool left = false;
    for (unsigned c = 0; c < g->n_cells; c++) {
        if (front[c] > (ees__front)g->last_max)
            front[c] = EES__FRONT_NONE;
        left |= front[c] != EES__FRONT_NONE;
    }
    return left;
}

const struct ees__choice *ees__grid_explain(const struct ees__grid *g, const ees__front *from,
                                            const struct ees__choice *choices, unsigned n, unsigned at,
                                            ees__front value) {
    unsigned x = at % g->size[0], y = at / g->size[0] % g->size[1], z = at / g->size[0] / g->size[1];
    for (const struct ees__choice *c = choices; c < choices + n; c++)
        if (c->at[0] <= x && c->at[1] <= y && c->at[2] <= z && from[at - c->shift] + c->last == value)
            return c;
    return NULL;
}

void ees__grid_count(const struct ees__grid *g, const struct ees__choice *choice, unsigned *n_of_type) {
    memset(n_of_type, 0, EES_MAX_CORE_TYPES * sizeof *n_of_type);
    n_of_type[g->last_type] = (unsigned)choice->last;
    for (unsigned d = 0; d < g->n_dims; d++)
        n_of_type[g->type[d]] = choice->at[d] * g->step[d];
}

double ees__grid_weigh(const struct ees__grid *g, unsigned cell, ees__front last, const double *weight_of_type) {
    double sum = last * weight_of_type[g->last_type];
    for (unsigned d = 0; d < g->n_dims; d++) {
        sum += cell % g->size[d] * g->step[d] * weight_of_type[g->type[d]];
        cell /= g->size[d];
    }
    return sum;
}
