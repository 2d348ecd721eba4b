/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "tools/cli/calibrate/analysis.h"
#include "tools/cli/file.h"
#include "tools/cli/summary.h"

#define SHOWN_POINTS 6

/* ---- Text ---------------------------------------------------------------------------------------------- */

static void print_exits(FILE *out, const struct analysis *a) {
    fprintf(out, "exit                block    right   cost ms   of full    ECE  AUROC of confidence\n");
    for (unsigned e = 0; e <= a->log->n_exits; e++) {
        char head[32];
        const struct exit_evidence *at = &a->exits[e];
        double ms = a->log->exit_ns[e] * 1e-6;
        log_head(a->log, e, head, sizeof head);
        fprintf(out, "  %2u %-14s %5u %6.2f %% %9.3f %7.1f %% %6.3f", e, head, a->log->exit_block[e],
                100 * share_of(at->n_right, a->n), ms, 100 * ms / a->full_ms, calibration_error(&at->reliability));
        fprintf(out, isnan(at->auroc) ? "      -\n" : " %6.3f\n", at->auroc);
    }
}

static void print_agreement(FILE *out, const struct analysis *a) {
    unsigned n = a->log->n_exits + 1;
    fprintf(out, "\nagreement: frames to which both exits give one class, %%\n     ");
    for (unsigned k = 0; k < n; k++)
        fprintf(out, " %6u", k);
    for (unsigned e = 0; e < n; e++) {
        fprintf(out, "\n  %2u ", e);
        for (unsigned k = 0; k < n; k++)
            fprintf(out, " %6.2f", 100 * share_of(a->n_agreed[e][k], a->n));
    }
    fputc('\n', out);
}

static void print_curves(FILE *out, const struct analysis *a) {
    fprintf(out,
            "\npolicies: share %s at a mean cost, strict to loose (thresholds from one half, measured on the other)\n",
            a->log->n_labels ? "right" : "as at full depth");
    for (unsigned c = 0; c < a->n_curves; c++) {
        const struct curve *curve = &a->curves[c];
        unsigned n = curve->n < SHOWN_POINTS ? curve->n : SHOWN_POINTS;
        fprintf(out, "  %-22s", curve->name);
        for (unsigned i = 0; i < n; i++) {
            const struct curve_point *p = &curve->points[n > 1 ? i * (curve->n - 1) / (n - 1) : 0];
            fprintf(out, "  %.2f %% %.2f ms", 100 * p->accuracy, p->ms);
        }
        fputc('\n', out);
    }
}

void analysis_print(FILE *out, const struct analysis *a) {
    const struct log *l = a->log;
    fprintf(out, "model      %s, %u exits, %u blocks, kernels %s\n", l->model_name, l->n_exits, l->n_blocks,
            l->kernels);
    fprintf(out, "frames     %zu, %s\n\n", a->n,
            l->n_labels ? "labelled: right is the true class" : "without labels: right is the class of full depth");
    print_exits(out, a);
    fprintf(out, "\nfull depth %.2f %% right, %.3f ms without early heads\n", 100 * share_of(a->n_full_right, a->n),
            a->full_ms);
    fprintf(out, "overthinks %.2f %% of the frames are right at an early exit and wrong at the end\n",
            100 * share_of(a->n_overthought, a->n));
    fprintf(out, "oracle     %.2f %% right at %.3f ms, %.2f blocks, if each frame left at its first right exit\n",
            100 * share_of(a->n_oracle_right, a->n), a->oracle_ms, a->oracle_block);
    print_agreement(out, a);
    print_curves(out, a);
}

/* ---- JSON ---------------------------------------------------------------------------------------------- */

static json_t *exits_json(const struct analysis *a) {
    json_t *list = json_array();
    for (unsigned e = 0; e <= a->log->n_exits; e++) {
        const struct exit_evidence *at = &a->exits[e];
        char head[32];
        json_t *agreement = json_array();
        log_head(a->log, e, head, sizeof head);
        for (unsigned k = 0; k <= a->log->n_exits; k++)
            json_array_append_new(agreement, json_real(share_of(a->n_agreed[e][k], a->n)));
        json_array_append_new(list, json_pack("{s:i, s:s, s:i, s:f, s:f, s:f, s:o, s:o, s:o}", "exit", (int)e, "head",
                                              head, "block", (int)a->log->exit_block[e], "right",
                                              share_of(at->n_right, a->n), "cost_ms", a->log->exit_ns[e] * 1e-6, "ece",
                                              calibration_error(&at->reliability), "auroc",
                                              isnan(at->auroc) ? json_null() : json_real(at->auroc), "agreement",
                                              agreement, "bins", reliability_json(&at->reliability)));
    }
    return list;
}

static json_t *curves_json(const struct analysis *a) {
    json_t *list = json_array();
    for (unsigned c = 0; c < a->n_curves; c++) {
        json_t *points = json_array();
        for (unsigned i = 0; i < a->curves[c].n; i++) {
            const struct curve_point *p = &a->curves[c].points[i];
            json_array_append_new(points, json_pack("{s:f, s:f, s:f, s:f, s:o}", "cost_ms", p->ms, "mean_block",
                                                    p->block, "right", p->accuracy, "same_as_full_depth", p->same,
                                                    "policy", policy_json(&p->policy)));
        }
        json_array_append_new(list, json_pack("{s:s, s:o}", "policy", a->curves[c].name, "points", points));
    }
    return list;
}

json_t *analysis_json(const struct analysis *a) {
    const struct log *l = a->log;
    return json_pack("{s:o, s:s, s:s, s:I, s:s, s:o, s:f, s:f, s:f, s:{s:f, s:f, s:f}, s:o}", "model",
                     json_text(l->model_name), "model_hash", l->model_hash, "data_hash", l->data_hash, "frames",
                     (json_int_t)a->n, "truth", l->n_labels ? "labels" : "full depth", "exits", exits_json(a),
                     "full_depth_right", share_of(a->n_full_right, a->n), "full_depth_cost_ms", a->full_ms,
                     "overthinking", share_of(a->n_overthought, a->n), "oracle", "right",
                     share_of(a->n_oracle_right, a->n), "cost_ms", a->oracle_ms, "mean_block", a->oracle_block,
                     "curves", curves_json(a));
}
