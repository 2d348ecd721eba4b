/* SPDX-License-Identifier: MIT */
/* Log-linear histogram. All accesses are relaxed: counters carry no other data, a reader wants totals, not order. */
#include "engine/histogram.h"

#include "engine/relaxed.h"

enum { SUB = 1 << EES__HIST_SUB_BITS, N_BUCKETS = EES__HIST_OCTAVES << EES__HIST_SUB_BITS };

/* Values below SUB have a bucket each; above, the top SUB_BITS+1 bits choose it. */
static unsigned bucket_of(uint64_t ns) {
    if (ns < SUB)
        return (unsigned)ns;
    unsigned octave = 63u - (unsigned)__builtin_clzll(ns) - EES__HIST_SUB_BITS;
    uint64_t bucket = ((uint64_t)(octave + 1) << EES__HIST_SUB_BITS) + (ns >> octave) - SUB;
    return bucket < N_BUCKETS ? (unsigned)bucket : N_BUCKETS - 1;
}

static uint64_t middle_of(unsigned bucket) {
    if (bucket < SUB)
        return bucket;
    unsigned octave = (bucket >> EES__HIST_SUB_BITS) - 1;
    uint64_t low = (uint64_t)(SUB + (bucket & (SUB - 1))) << octave;
    return low + ((UINT64_C(1) << octave) >> 1);
}

void ees__histogram_init(struct ees__histogram *h) {
    atomic_init(&h->n, 0);
    atomic_init(&h->sum_ns, 0);
    atomic_init(&h->min_ns, UINT64_MAX);
    atomic_init(&h->max_ns, 0);
    for (unsigned i = 0; i < N_BUCKETS; i++)
        atomic_init(&h->buckets[i], 0);
}

void ees__histogram_add(struct ees__histogram *h, uint64_t ns) {
    COUNT(h->n, 1);
    COUNT(h->sum_ns, ns);
    COUNT(h->buckets[bucket_of(ns)], 1);
    for (uint64_t old = LOAD(h->min_ns); ns < old;)
        if (atomic_compare_exchange_weak_explicit(&h->min_ns, &old, ns, memory_order_relaxed, memory_order_relaxed))
            break;
    for (uint64_t old = LOAD(h->max_ns); ns > old;)
        if (atomic_compare_exchange_weak_explicit(&h->max_ns, &old, ns, memory_order_relaxed, memory_order_relaxed))
            break;
}

static uint64_t bucket_sum(const struct ees__histogram *h, unsigned n_histograms, unsigned bucket) {
    uint64_t n = 0;
    for (unsigned i = 0; i < n_histograms; i++)
        n += LOAD(h[i].buckets[bucket]);
    return n;
}

enum { N_QUANTILES = 4 };

/* The values that `ranks` (ascending, from 1) values are at or below, in one pass over the buckets. */
static void find_values(const struct ees__histogram *h, unsigned n_histograms, const uint64_t ranks[N_QUANTILES],
                        uint64_t *const values[N_QUANTILES], const ees_latency *range) {
    uint64_t seen = 0;
    unsigned q = 0;
    for (unsigned i = 0; i < N_BUCKETS && q < N_QUANTILES; i++) {
        seen += bucket_sum(h, n_histograms, i);
        for (; q < N_QUANTILES && seen >= ranks[q]; q++) {
            uint64_t v = middle_of(i);
            *values[q] = v < range->min_ns ? range->min_ns : v > range->max_ns ? range->max_ns : v;
        }
    }
    for (; q < N_QUANTILES; q++)
        *values[q] = range->max_ns;
}

void ees__histogram_read_sum(const struct ees__histogram *h, unsigned n_histograms, ees_latency *out) {
    uint64_t sum_ns = 0;
    *out = (ees_latency){.min_ns = UINT64_MAX};
    for (unsigned i = 0; i < n_histograms; i++) {
        out->n += LOAD(h[i].n);
        sum_ns += LOAD(h[i].sum_ns);
        out->min_ns = LOAD(h[i].min_ns) < out->min_ns ? LOAD(h[i].min_ns) : out->min_ns;
        out->max_ns = LOAD(h[i].max_ns) > out->max_ns ? LOAD(h[i].max_ns) : out->max_ns;
    }
    if (out->n == 0) {
        *out = (ees_latency){0};
        return;
    }
    out->mean_ns = (double)sum_ns / (double)out->n;
    /* nearest rank: ceil(q * n) */
    const uint64_t ranks[N_QUANTILES] = {(out->n * 500 + 999) / 1000, (out->n * 900 + 999) / 1000,
                                         (out->n * 990 + 999) / 1000, (out->n * 999 + 999) / 1000};
    uint64_t *const values[N_QUANTILES] = {&out->p50_ns, &out->p90_ns, &out->p99_ns, &out->p999_ns};
    find_values(h, n_histograms, ranks, values, out);
}

void ees__histogram_read(const struct ees__histogram *h, ees_latency *out) { ees__histogram_read_sum(h, 1, out); }
