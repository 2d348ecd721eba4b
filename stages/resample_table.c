/* SPDX-License-Identifier: MIT */
/* Bicubic resampling as torch.nn.functional.interpolate() does it: one matrix of taps an axis, columns first. */
#include "stages/resample_table.h"

#include <math.h>
#include <string.h>

#include "common/fail.h"

/* Output i is the sum over k of weight[i * n + k] * input[index[i * n + k]]. */
struct axis {
    size_t n;
    size_t *index;
    double *weight;
};

/* Keys' cubic (spec 1.5). */
static double cubic(double t, double a) {
    t = fabs(t);
    if (t <= 1.0)
        return ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0;
    return t < 2.0 ? ((a * t - 5.0 * a) * t + 8.0 * a) * t - 4.0 * a : 0.0;
}

/* Where the centre of output i lies among the inputs. */
static double place(enum ees__table_filter filter, size_t i, size_t old, size_t new) {
    if (filter == EES__TABLE_CUBIC_CORNERS)
        return new > 1 ? (double)i *(double)(old - 1) / (double)(new - 1) : 0.0;
    double scale = (double)new / (double)old;
    if (filter == EES__TABLE_CUBIC_SCALED)
        scale = ((double)new + 0.1) / (double)old;
    return ((double)i + 0.5) / scale - 0.5;
}

/* Four taps around the place, indices clamped to the border. */
static void fill_taps(enum ees__table_filter filter, struct axis *axis, size_t i, size_t old, size_t new) {
    double x = place(filter, i, old, new), floor_x = floor(x);
    for (size_t k = 0; k < axis->n; k++) {
        double at = floor_x - 1.0 + (double)k;
        axis->weight[i * axis->n + k] = cubic(x - at, -0.75);
        axis->index[i * axis->n + k] = at < 0.0 ? 0 : at > (double)(old - 1) ? old - 1 : (size_t)at;
    }
}

static double support_of(size_t old, size_t new) { return old > new ? 2.0 * (double)old / (double)new : 2.0; }

/* As Pillow (spec 2.2): taps beyond the border are dropped, the rest is brought to the sum 1. */
static void fill_wide_taps(struct axis *axis, size_t i, size_t old, size_t new) {
    double step = support_of(old, new) / 2.0, support = 2.0 * step;
    double centre = ((double)i + 0.5) * (double)old / (double)new, sum = 0.0;
    double low = trunc(centre - support + 0.5), high = trunc(centre + support + 0.5);
    size_t first = low < 0.0 ? 0 : (size_t)low, end = high > (double)old ? old : (size_t)high;
    double *weight = axis->weight + i * axis->n;
    for (size_t k = 0; k < axis->n; k++) {
        bool inside = first + k < end;
        weight[k] = inside ? cubic(((double)(first + k) - centre + 0.5) / step, -0.5) : 0.0;
        axis->index[i * axis->n + k] = inside ? first + k : 0;
        sum += weight[k];
    }
    for (size_t k = 0; k < axis->n; k++)
        weight[k] /= sum;
}

static void close_axis(struct axis *axis) {
    ees__free(axis->index);
    ees__free(axis->weight);
}

static bool open_axis(enum ees__table_filter filter, size_t old, size_t new, struct axis *axis) {
    bool wide = filter == EES__TABLE_CUBIC_ANTIALIAS;
    axis->n = wide ? (size_t)(2.0 * support_of(old, new)) + 2 : 4;
    axis->index = ees__calloc_aligned(new * axis->n, sizeof *axis->index);
    axis->weight = ees__calloc_aligned(new * axis->n, sizeof *axis->weight);
    if (!axis->index || !axis->weight)
        return false;
    for (size_t i = 0; i < new; i++)
        if (wide)
            fill_wide_taps(axis, i, old, new);
        else
            fill_taps(filter, axis, i, old, new);
    return true;
}

/* One channel: in (h, w) -> between (h, new_w) -> out (new_h, new_w). */
struct plane {
    size_t h, w, new_h, new_w, c;
    struct axis rows, columns;
    double *between;
};

static void resample_channel(const struct plane *p, const float *in, float *out) {
    for (size_t r = 0; r < p->h; r++)
        for (size_t s = 0; s < p->new_w; s++) {
            double sum = 0.0;
            for (size_t k = s * p->columns.n; k < (s + 1) * p->columns.n; k++)
                sum += p->columns.weight[k] * (double)in[(r * p->w + p->columns.index[k]) * p->c];
            p->between[r * p->new_w + s] = sum;
        }
    for (size_t r = 0; r < p->new_h; r++)
        for (size_t s = 0; s < p->new_w; s++) {
            double sum = 0.0;
            for (size_t k = r * p->rows.n; k < (r + 1) * p->rows.n; k++)
                sum += p->rows.weight[k] * p->between[p->rows.index[k] * p->new_w + s];
            out[(r * p->new_w + s) * p->c] = (float)sum;
        }
}

int ees__resample_table(enum ees__table_filter filter, const float *in, size_t h, size_t w, size_t c, float *out,
                        size_t new_h, size_t new_w, ees_error *err) {
    if (h == new_h && w == new_w) {
        memcpy(out, in, h * w * c * sizeof *out);
        return 0;
    }
    struct plane p = {.h = h, .w = w, .new_h = new_h, .new_w = new_w, .c = c};
    bool good = open_axis(filter, h, new_h, &p.rows) && open_axis(filter, w, new_w, &p.columns) &&
                (p.between = ees__calloc_aligned(h * new_w, sizeof *p.between));
    for (size_t i = 0; good && i < c; i++)
        resample_channel(&p, in + i, out + i);
    close_axis(&p.rows);
    close_axis(&p.columns);
    ees__free(p.between);
    return good ? 0 : EES_FAIL(err, EES_ENOMEM, "no memory to resample the position table to %zu x %zu", new_h, new_w);
}
