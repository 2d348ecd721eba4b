/* SPDX-License-Identifier: MIT */
/* A finite-sample bound for a path of thresholds: "learn then test" with fixed-sequence testing. */
#ifndef EES_CLI_CERTIFY_H
#define EES_CLI_CERTIFY_H

#include "tools/cli/calibrate/search.h"

/* How frames are cut into two halves that know nothing of each other. */
struct halves {
    size_t *search, *certify; /* frame numbers in ascending order; certify: whole scenes one after the other */
    size_t n_search, n_certify;
    size_t scene, n_scenes; /* frames that count as one observation, and how many of those certify */
};

/* @param usable  (n,) frames to be dealt out; those of one input that follow each other form scenes of `scene` frames,
 * a rest that fills none is left out
 * @return 0; EES_ENOMEM */
int halves_init(struct halves *h, const bool *usable, const int32_t *inputs, size_t n, size_t scene, uint64_t seed,
                ees_error *err);
void halves_fini(struct halves *h);

struct certified {
    size_t point; /* of the path: the loosest that passed */
    bool passed;  /* false: not even the strictest did */
    size_t n_tested;
    double p_value;         /* of that point */
    struct outcome outcome; /* on the certifying half */
};

/* What the losses of one outcome bound with confidence 1 - delta, where the outcome was not chosen by them. */
double loss_bound(const struct halves *h, const struct outcome *o, double delta);

/* Test "this point loses more than epsilon" from the strictest point on, each at level delta, until one cannot be
 * refused. With probability 1 - delta or more no passed point loses more than epsilon. @return 0; EES_EINVAL */
int certify(struct seen *s, const struct path *path, const struct halves *h, double epsilon, double delta,
            struct certified *out, ees_error *err);

#endif
