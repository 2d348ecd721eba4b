/* SPDX-License-Identifier: MIT */
#include "tools/cli/calibrate/certify.h"

#include <math.h>
#include <stdlib.h>

#include "tools/cli/fail.h"
#include "tools/cli/statistics.h"

/* ---- Halves -------------------------------------------------------------------------------------------- */

void halves_fini(struct halves *h) {
    free(h->search);
    free(h->certify);
    *h = (struct halves){0};
}

/* First frames of the scenes, as positions in `frames`. @return how many */
static size_t find_scenes(const size_t *frames, size_t n, const int32_t *inputs, size_t scene, size_t *out) {
    size_t n_scenes = 0;
    for (size_t i = 0; i + scene <= n;) {
        if (inputs[frames[i]] == inputs[frames[i + scene - 1]]) {
            out[n_scenes++] = i;
            i += scene;
        } else {
            i++; /* the rest of an input */
        }
    }
    return n_scenes;
}

static int ascending(const void *a, const void *b) {
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

/* Deal the scenes out at random, an odd one to the certifying half. */
static void deal(struct halves *h, const size_t *frames, const size_t *scenes, size_t *drawn, size_t n_scenes,
                 uint64_t seed) {
    size_t n_search = n_scenes / 2;
    shuffle(drawn, n_scenes, seed);
    qsort(drawn, n_search, sizeof *drawn, ascending);
    qsort(drawn + n_search, n_scenes - n_search, sizeof *drawn, ascending);
    for (size_t i = 0; i < n_scenes; i++)
        for (size_t k = 0; k < h->scene; k++) {
            size_t frame = frames[scenes[drawn[i]] + k];
            if (i < n_search)
                h->search[h->n_search++] = frame;
            else
                h->certify[h->n_certify++] = frame;
        }
    h->n_scenes = n_scenes - n_search;
}

int halves_init(struct halves *h, const bool *usable, const int32_t *inputs, size_t n, size_t scene, uint64_t seed,
                ees_error *err) {
    *h = (struct halves){.scene = scene};
    size_t *space = malloc(3 * (n + 1) * sizeof *space), n_usable = 0;
    h->search = malloc((n + 1) * sizeof *h->search);
    h->certify = malloc((n + 1) * sizeof *h->certify);
    if (!space || !h->search || !h->certify) {
        free(space);
        halves_fini(h);
        return CLI_FAIL(err, EES_ENOMEM, "out of memory to deal out %zu frames", n);
    }
    size_t *frames = space, *scenes = space + n + 1, *drawn = space + 2 * (n + 1);
    for (size_t i = 0; i < n; i++)
        if (usable[i])
            frames[n_usable++] = i;
    deal(h, frames, scenes, drawn, find_scenes(frames, n_usable, inputs, scene, scenes), seed);
    free(space);
    return 0;
}

/* ---- Testing ------------------------------------------------------------------------------------------- */

/* Single frames are lost or not: the exact binomial tail. Scenes lose shares of themselves. */
static double p_value(const struct halves *h, const struct outcome *o, double epsilon) {
    if (h->scene == 1)
        return binomial_cdf(o->n_lost, o->n, epsilon);
    return hoeffding_bentkus((double)o->n_lost / (double)o->n, h->n_scenes, epsilon);
}

double loss_bound(const struct halves *h, const struct outcome *o, double delta) {
    double low = o->n ? (double)o->n_lost / (double)o->n : 1, high = 1;
    if (h->scene == 1)
        return clopper_pearson_upper(o->n_lost, o->n, delta);
    for (int i = 0; i < 60; i++) {
        double middle = 0.5 * (low + high);
        *(p_value(h, o, middle) > delta ? &low : &high) = middle;
    }
    return high;
}

int certify(struct seen *s, const struct path *path, const struct halves *h, double epsilon, double delta,
            struct certified *out, ees_error *err) {
    *out = (struct certified){.p_value = 1};
    for (size_t i = 0; i < path->n && h->n_certify > 0; i++) {
        struct outcome o;
        CLI_TRY(seen_replay(s, &path->points[i].policy, h->certify, h->n_certify, &o, err));
        double p = p_value(h, &o, epsilon);
        out->n_tested++;
        if (!(p <= delta))
            break;
        out->passed = true;
        out->point = i;
        out->p_value = p;
        out->outcome = o;
    }
    return 0;
}
