/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <math.h>
#include <sys/stat.h>

#include "tools/cli/calibrate/analysis.h"
#include "tools/cli/calibrate/svg.h"
#include "tools/cli/fail.h"

enum { N_MAX = EES_MAX_EXITS + 1 };

/* Axes are laid around values, then given a margin. */
static void widen(struct svg_axis *axis, double value) {
    axis->low = fmin(axis->low, value);
    axis->high = fmax(axis->high, value);
}

static void add_margin(struct svg_axis *axis, double least, double most) {
    double margin = fmax(0.06 * (axis->high - axis->low), 0.5);
    axis->low = fmax(least, axis->low - margin);
    axis->high = fmin(most, axis->high + margin);
}

static const char *right_label(const struct analysis *a) {
    return a->log->n_labels ? "right, %" : "as at full depth, %";
}

/* ---- Exits --------------------------------------------------------------------------------------------- */

static int plot_accuracy(const struct analysis *a, const char *dir, ees_error *err) {
    unsigned n = a->log->n_exits + 1;
    double block[N_MAX], right[N_MAX], oracle = 100 * share_of(a->n_oracle_right, a->n);
    struct svg_axis x = {.label = "block", .low = 0, .high = a->log->n_blocks}, y = {right_label(a), oracle, oracle};
    struct svg s;
    for (unsigned e = 0; e < n; e++) {
        block[e] = a->log->exit_block[e];
        right[e] = 100 * share_of(a->exits[e].n_right, a->n);
        widen(&y, right[e]);
    }
    add_margin(&y, 0, 100);
    CLI_TRY(svg_open(&s, "Accuracy by depth: every frame answered at one exit", &x, &y, err));
    svg_guide(&s, x.low, oracle, x.high, oracle);
    svg_note(&s, x.low, oracle, "right at any exit");
    svg_line(&s, 0, block, right, n);
    svg_dots(&s, 0, block, right, n);
    for (unsigned e = 0; e < n; e++) {
        char head[32], number[16], name[64];
        log_head(a->log, e, head, sizeof head);
        snprintf(number, sizeof number, "%u", e);
        snprintf(name, sizeof name, "%u %s", e, head);
        svg_note(&s, block[e], right[e], number);
        svg_legend(&s, 0, name);
    }
    return svg_close(&s, dir, "accuracy.svg", err);
}

static int plot_agreement(const struct analysis *a, const char *dir, ees_error *err) {
    unsigned n = a->log->n_exits + 1;
    struct svg_axis x = {.label = "exit", .low = -0.5, .high = n - 0.5},
                    y = {.label = "exit", .low = -0.5, .high = n - 0.5};
    struct svg s;
    double least = 1;
    for (unsigned i = 0; i < n * n; i++)
        least = fmin(least, share_of(a->n_agreed[i / n][i % n], a->n));
    CLI_TRY(svg_open(&s, "Agreement: frames to which two exits give one class, %", &x, &y, err));
    for (unsigned i = 0; i < n * n; i++) {
        char text[16];
        double agreed = share_of(a->n_agreed[i / n][i % n], a->n);
        snprintf(text, sizeof text, "%.1f", 100 * agreed);
        svg_cell(&s, i % n, i / n, least < 1 ? (agreed - least) / (1 - least) : 1, text);
    }
    return svg_close(&s, dir, "agreement.svg", err);
}

static int plot_reliability(const struct analysis *a, const char *dir, ees_error *err) {
    struct svg_axis x = {.label = "confidence, %", .low = 0, .high = 100}, y = {right_label(a), 0, 100};
    struct svg s;
    CLI_TRY(svg_open(&s, "Reliability of each exit's confidence", &x, &y, err));
    svg_guide(&s, 0, 0, 100, 100);
    for (unsigned e = 0; e <= a->log->n_exits; e++) {
        const struct reliability *r = &a->exits[e].reliability;
        double confidence[N_BINS], right[N_BINS];
        unsigned n = 0;
        char name[64], head[32];
        for (unsigned b = 0; b < N_BINS; b++)
            if (r->n[b]) {
                confidence[n] = 100 * r->confidence[b] / (double)r->n[b];
                right[n++] = 100 * share_of(r->n_right[b], r->n[b]);
            }
        log_head(a->log, e, head, sizeof head);
        snprintf(name, sizeof name, "%u %s, ECE %.3f", e, head, calibration_error(r));
        svg_line(&s, e, confidence, right, n);
        svg_dots(&s, e, confidence, right, n);
        svg_legend(&s, e, name);
    }
    return svg_close(&s, dir, "reliability.svg", err);
}

/* ---- Policies ------------------------------------------------------------------------------------------ */

/* Around what is of interest: from the worst exit's accuracy upwards. */
static void find_axes(const struct analysis *a, struct svg_axis *x, struct svg_axis *y) {
    double full = 100 * share_of(a->n_full_right, a->n);
    *x = (struct svg_axis){.label = "cost, ms a frame and core", .low = a->oracle_ms, .high = a->full_ms};
    *y = (struct svg_axis){.label = right_label(a), .low = full, .high = 100 * share_of(a->n_oracle_right, a->n)};
    for (unsigned c = 0; c < a->n_curves; c++)
        for (unsigned i = 0; i < a->curves[c].n; i++) {
            widen(x, a->curves[c].points[i].ms);
            widen(y, 100 * a->curves[c].points[i].accuracy);
        }
    double margin = 0.05 * (x->high - x->low);
    x->low = fmax(0, x->low - margin);
    x->high += margin > 0 ? margin : 1;
    add_margin(y, 0, 100);
}

static int plot_cost(const struct analysis *a, const char *dir, ees_error *err) {
    double full = 100 * share_of(a->n_full_right, a->n), oracle = 100 * share_of(a->n_oracle_right, a->n);
    struct svg_axis x, y;
    struct svg s;
    find_axes(a, &x, &y);
    CLI_TRY(svg_open(&s, "Accuracy and cost of each policy, strict to loose", &x, &y, err));
    svg_guide(&s, x.low, full, x.high, full);
    for (unsigned c = 0; c < a->n_curves; c++) {
        const struct curve *curve = &a->curves[c];
        double ms[MAX_CURVE], right[MAX_CURVE];
        for (unsigned i = 0; i < curve->n; i++) {
            ms[i] = curve->points[i].ms;
            right[i] = 100 * curve->points[i].accuracy;
        }
        svg_line(&s, c, ms, right, curve->n);
        svg_legend(&s, c, curve->name);
    }
    svg_dots(&s, 9, &a->full_ms, &full, 1);
    svg_note(&s, a->full_ms, full, "full depth");
    svg_dots(&s, 9, &a->oracle_ms, &oracle, 1);
    svg_note(&s, a->oracle_ms, oracle, "oracle");
    return svg_close(&s, dir, "cost.svg", err);
}

int analysis_plot(const struct analysis *a, const char *dir, ees_error *err) {
    if (mkdir(dir, 0777) < 0 && errno != EEXIST)
        return CLI_FAIL_OS(err, EES_EOUTPUT, errno, "--svg %s", dir);
    CLI_TRY(plot_accuracy(a, dir, err));
    CLI_TRY(plot_agreement(a, dir, err));
    CLI_TRY(plot_reliability(a, dir, err));
    return plot_cost(a, dir, err);
}
