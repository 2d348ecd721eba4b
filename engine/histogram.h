/* SPDX-License-Identifier: MIT */
/* Log-linear histogram of durations: 128 equal buckets to each power of two, so that a percentile is within 0.4 % of
 * the exact one, from 1 ns to 36 minutes in 36 KiB. Counting is one relaxed increment: any thread. */
#ifndef EES_ENGINE_HISTOGRAM_H
#define EES_ENGINE_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

#include "eestream/engine.h"

enum { EES__HIST_SUB_BITS = 7, EES__HIST_OCTAVES = 35 };

struct ees__histogram {
    _Atomic uint64_t n, sum_ns, min_ns, max_ns;
    _Atomic uint64_t buckets[EES__HIST_OCTAVES << EES__HIST_SUB_BITS];
};

void ees__histogram_init(struct ees__histogram *h);
void ees__histogram_add(struct ees__histogram *h, uint64_t ns);
void ees__histogram_read(const struct ees__histogram *h, ees_latency *out);

/* Of `n_histograms` in an array, as if all values had been counted in one. */
void ees__histogram_read_sum(const struct ees__histogram *h, unsigned n_histograms, ees_latency *out);

#endif
