/* SPDX-License-Identifier: MIT */
/* Fronts: which numbers of cores are enough.
 *
 * A front answers, for some units in a row: with j cores of this type and k of that one, how many of the *last* type are
 * needed at least? Of the last type (the most numerous) only the least number is kept, all other types span a
 * grid of cells; with one type the grid has one cell. Adding a group to a front tries each of its choices of cores.
 *
 * The grid has at most EES__GRID_MAX_CELLS cells. Where single cores would need more, cores of a type come in bundles
 * of `step`. */
#ifndef EES_ENGINE_PLAN_GRID_H
#define EES_ENGINE_PLAN_GRID_H

#include <stdbool.h>
#include <stdint.h>

#include "eestream/plan.h"

enum { EES__GRID_DIMS = EES_MAX_CORE_TYPES - 1, EES__GRID_MAX_CELLS = 400 };

/* Cores of the last type; 16 bits so that eight cells fit the narrowest vector register. */
typedef int16_t ees__front;
enum { EES__FRONT_NONE = 16000 }; /* more than there are; another 256 may be added without overflow */

struct ees__grid {
    unsigned n_types; /* of the profile */
    unsigned n_dims;
    unsigned type[EES__GRID_DIMS]; /* type counted along each dimension, the first varies fastest */
    unsigned size[EES__GRID_DIMS]; /* positions, unused dimensions: 1 */
    unsigned step[EES__GRID_DIMS]; /* cores a position */
    unsigned last_type, last_max;
    unsigned n_cells;
};

/* Cores one group may take. */
struct ees__choice {
    uint16_t at[EES__GRID_DIMS];
    ees__front last;
    uint16_t shift; /* distance of the cells before and after */
};

/* @param n_of_type  at least one core in all */
void ees__grid_init(struct ees__grid *grid, unsigned n_types, const unsigned *n_of_type);

/* Do cells count single cores? */
bool ees__grid_is_exact(const struct ees__grid *grid);

/* The front of no units: no cores needed. */
void ees__grid_start(const struct ees__grid *grid, ees__front *front);
void ees__grid_clear(const struct ees__grid *grid, ees__front *front); /* nothing is enough */

/* Least choices of cores that carry `rate` frames a nanosecond through a group with these works on each type: one core
 * less would be too few. Those that weigh more than `most` are left out.
 * @param out  room for n_cells @return how many */
unsigned ees__grid_choices(const struct ees__grid *grid, const double *work_ns, double rate,
                           const double *weight_of_type, double most, struct ees__choice *out);

/* Weight of the lightest of them; infinite: there are not enough cores. */
double ees__grid_lightest(const struct ees__grid *grid, const double *work_ns, double rate,
                          const double *weight_of_type);

/* All choices of exactly n_workers cores that do. */
unsigned ees__grid_splits(const struct ees__grid *grid, const double *work_ns, double rate, unsigned n_workers,
                          struct ees__choice *out);

/* to = min(to, from + choice) for each choice. */
void ees__grid_extend(const struct ees__grid *grid, const ees__front *from, const struct ees__choice *choices,
                      unsigned n, ees__front *to);

/* Strike cells that need more cores of the last type than there are. @return false: nothing is left */
bool ees__grid_trim(const struct ees__grid *grid, ees__front *front);

/* The choice by which cell `at` of a front got its value from `from`; NULL: not from there. */
const struct ees__choice *ees__grid_explain(const struct ees__grid *grid, const ees__front *from,
                                            const struct ees__choice *choices, unsigned n, unsigned at,
                                            ees__front value);

/* Cores of each type in a choice; weight of those in a cell. */
void ees__grid_count(const struct ees__grid *grid, const struct ees__choice *choice, unsigned *n_of_type);
double ees__grid_weigh(const struct ees__grid *grid, unsigned cell, ees__front last, const double *weight_of_type);

#endif
