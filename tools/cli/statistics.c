/* SPDX-License-Identifier: MIT */
#include "tools/cli/statistics.h"

#include <math.h>
#include <stdlib.h>

/* ---- Counts ---------------------------------------------------------------------------------------------- */

/* d_j of the continued fraction 1 + d_1 / (1 + d_2 / (1 + ...)), DLMF 8.17.22. */
static double beta_term(unsigned j, double a, double b, double x) {
    double m = j / 2;
    return j % 2 ? -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
                 : m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
}

/* The fraction by Lentz's method, from the front. Where it is used it converges within some sqrt(a + b) terms. */
static double beta_fraction(double a, double b, double x) {
    const double tiny = 1e-300;
    double c = 1, d = 0, f = 1;
    for (unsigned j = 1; j < 1000000; j++) {
        double term = beta_term(j, a, b, x);
        d = 1 + term * d;
        d = 1 / (fabs(d) < tiny ? tiny : d);
        c = 1 + term / c;
        c = fabs(c) < tiny ? tiny : c;
        f *= c * d;
        if (fabs(c * d - 1) < 1e-15)
            break;
    }
    return f;
}

/* The regularised incomplete beta function I_x(a, b), 0 <= x <= 1. */
static double incomplete_beta(double a, double b, double x) {
    if (x <= 0 || x >= 1)
        return x <= 0 ? 0 : 1;
    if (x > (a + 1) / (a + b + 2)) /* the fraction would converge slowly */
        return 1 - incomplete_beta(b, a, 1 - x);
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a;
    return front / beta_fraction(a, b, x);
}

double binomial_cdf(uint64_t k, uint64_t n, double p) {
    return k >= n ? 1 : incomplete_beta((double)(n - k), (double)k + 1, 1 - p);
}

double clopper_pearson_upper(uint64_t k, uint64_t n, double delta) {
    double low = 0, high = 1;
    if (k >= n)
        return 1;
    for (int i = 0; i < 60; i++) {
        double middle = 0.5 * (low + high);
        *(binomial_cdf(k, n, middle) > delta ? &low : &high) = middle;
    }
    return high;
}

/* Kullback-Leibler distance of two coins. */
static double coin_distance(double a, double b) {
    double heads = a > 0 ? a * log(a / b) : 0, tails = a < 1 ? (1 - a) * log((1 - a) / (1 - b)) : 0;
    return heads + tails;
}

double hoeffding_bentkus(double mean, uint64_t n, double epsilon) {
    if (mean >= epsilon || n == 0)
        return 1;
    double hoeffding = exp(-(double)n * coin_distance(mean, epsilon));
    double bentkus = exp(1) * binomial_cdf((uint64_t)ceil((double)n * mean - 1e-9), n, epsilon);
    return fmin(1, fmin(hoeffding, bentkus));
}

double fewest_for(double epsilon, double delta) { return ceil(log(delta) / log1p(-epsilon)); }

/* In closed form, by the recurrence of the incomplete gamma function (DLMF 8.8.2) from 1 or 1/2 upwards. */
double chi_squared_tail(double x, unsigned df) {
    double half = 0.5 * x, order = df % 2 ? 0.5 : 1, tail = df % 2 ? erfc(sqrt(half)) : exp(-half);
    if (x <= 0)
        return 1;
    for (; order < 0.5 * df; order += 1)
        tail += exp(order * log(half) - half - lgamma(order + 1));
    return fmin(1, tail);
}

/* ---- Scores ---------------------------------------------------------------------------------------------- */

static int by_score(const void *a, const void *b) {
    double x = ((const struct scored *)a)->score, y = ((const struct scored *)b)->score;
    return (x > y) - (x < y);
}

double area_under_roc(struct scored *x, size_t n) {
    double n_wrong = 0, n_right = 0, won = 0;
    qsort(x, n, sizeof *x, by_score);
    for (size_t i = 0, end; i < n; i = end) { /* one score after the other */
        double wrong = 0, right = 0;
        for (end = i; end < n && x[end].score == x[i].score; end++)
            *(x[end].right ? &right : &wrong) += 1;
        won += right * (n_wrong + 0.5 * wrong);
        n_right += right;
        n_wrong += wrong;
    }
    return n_right > 0 && n_wrong > 0 ? won / (n_right * n_wrong) : NAN;
}

void reliability_add(struct reliability *r, double confidence, bool right) {
    double place = ceil(confidence * N_BINS) - 1;
    unsigned bin = place <= 0 ? 0 : place >= N_BINS - 1 ? N_BINS - 1 : (unsigned)place;
    r->n[bin]++;
    r->n_right[bin] += right;
    r->confidence[bin] += confidence;
}

double calibration_error(const struct reliability *r) {
    double n = 0, sum = 0;
    for (unsigned b = 0; b < N_BINS; b++) {
        n += (double)r->n[b];
        sum += fabs((double)r->n_right[b] - r->confidence[b]);
    }
    return n > 0 ? sum / n : 0;
}

double autocorrelation(const double *x, size_t n) {
    double mean = 0, variance = 0, covariance = 0;
    for (size_t i = 0; i < n; i++)
        mean += x[i] / (double)n;
    for (size_t i = 0; i < n; i++) {
        variance += (x[i] - mean) * (x[i] - mean);
        covariance += i ? (x[i] - mean) * (x[i - 1] - mean) : 0;
    }
    return variance > 0 ? covariance / variance : 0;
}

/* ---- Drift ----------------------------------------------------------------------------------------------- */

struct drift mix_drift(const uint64_t *seen, const uint64_t *expected, unsigned n_kinds) {
    double n = 0, m = 0, statistic = 0, distance = 0, joined[2] = {0};
    unsigned n_cells = 0;
    for (unsigned i = 0; i < n_kinds; i++) {
        n += (double)seen[i];
        m += (double)expected[i];
    }
    if (n == 0 || m == 0)
        return (struct drift){.p_value = 1};
    double fewer = fmin(n, m) / (n + m);
    for (unsigned i = 0; i <= n_kinds; i++) { /* one more for what was joined */
        double a = i < n_kinds ? (double)seen[i] : joined[0], b = i < n_kinds ? (double)expected[i] : joined[1];
        distance += i < n_kinds ? 0.5 * fabs(a / n - b / m) : 0;
        if (i < n_kinds && (a + b) * fewer < 5) {
            joined[0] += a;
            joined[1] += b;
        } else if (a + b > 0) {
            double difference = a * sqrt(m / n) - b * sqrt(n / m);
            statistic += difference * difference / (a + b);
            n_cells++;
        }
    }
    return (struct drift){.p_value = n_cells > 1 ? chi_squared_tail(statistic, n_cells - 1) : 1, .distance = distance};
}

/* ---- Chance ---------------------------------------------------------------------------------------------- */

uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void shuffle(size_t *out, size_t n, uint64_t seed) {
    for (size_t i = 0; i < n; i++) { /* from the inside out (Durstenfeld 1964); the modulo's bias is below n / 2^64 */
        size_t j = (size_t)(next_random(&seed) % (i + 1));
        out[i] = out[j];
        out[j] = i;
    }
}
