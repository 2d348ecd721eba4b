/* SPDX-License-Identifier: MIT */
/* The statistics behind `calibrate` and `analyse`. docs/calibration.md has the formulas and where they come from. */
#ifndef EES_CLI_STATISTICS_H
#define EES_CLI_STATISTICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- Counts ---------------------------------------------------------------------------------------------- */

/* P(X <= k) of X binomial (n, p), 0 <= k <= n, 0 <= p <= 1. */
double binomial_cdf(uint64_t k, uint64_t n, double p);

/* The largest p that k losses in n still speak for with confidence 1 - delta (Clopper and Pearson 1934, one side). */
double clopper_pearson_upper(uint64_t k, uint64_t n, double delta);

/* P-value of "the mean of n independent losses in 0 .. 1 is above epsilon" when their observed mean is `mean`: the
 * smaller of Hoeffding's and Bentkus' bounds (Bates, Angelopoulos, Lei, Malik and Jordan 2021, section 3.1). */
double hoeffding_bentkus(double mean, uint64_t n, double epsilon);

/* Fewest observations without a loss that certify epsilon with confidence 1 - delta. */
double fewest_for(double epsilon, double delta);

/* P(X > x) of X chi-squared with `df` >= 1 degrees of freedom. */
double chi_squared_tail(double x, unsigned df);

/* ---- Scores ---------------------------------------------------------------------------------------------- */

/* A score and whether the answer it belongs to is right. */
struct scored {
    double score;
    bool right;
};

/* Probability that a right answer scores above a wrong one, ties counting half (Mann and Whitney 1947). Sorts `x`.
 * @return NaN: there are no right ones, or no wrong ones */
double area_under_roc(struct scored *x, size_t n);

#define N_BINS 10

/* Answers whose confidence lies in (i / N_BINS, (i + 1) / N_BINS]; the first bin also has 0. */
struct reliability {
    uint64_t n[N_BINS], n_right[N_BINS];
    double confidence[N_BINS]; /* summed */
};

void reliability_add(struct reliability *r, double confidence, bool right);

/* Expected calibration error: mean of |share right - confidence| over the bins, by their frames (Naeini, Cooper and
 * Hauskrecht 2015). 0 without frames. */
double calibration_error(const struct reliability *r);

/* Correlation of each number with the one before it; 0: too few, or all alike. */
double autocorrelation(const double *x, size_t n);

/* ---- Drift ----------------------------------------------------------------------------------------------- */

struct drift {
    double p_value;  /* of "both counts come from one mix" */
    double distance; /* total variation, 0 .. 1 */
};

/* Two mixes of `n_kinds` (at most 64) by the chi-squared test of homogeneity; kinds with fewer than five frames
 * expected on either side are joined. */
struct drift mix_drift(const uint64_t *seen, const uint64_t *expected, unsigned n_kinds);

/* ---- Chance ---------------------------------------------------------------------------------------------- */

/* splitmix64 (Steele, Lea and Flood 2014). */
uint64_t next_random(uint64_t *state);

/* A permutation of 0 .. n-1. */
void shuffle(size_t *out, size_t n, uint64_t seed);

#endif
