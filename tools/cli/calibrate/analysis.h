/* SPDX-License-Identifier: MIT */
/* What a log says about a model's exits, whatever the policy, and what each policy makes of them. */
#ifndef EES_CLI_ANALYSIS_H
#define EES_CLI_ANALYSIS_H

#include <stdio.h>

#include <jansson.h>

#include "tools/cli/calibrate/certify.h"
#include "tools/cli/calibrate/evidence.h"

#define MAX_CURVE    48
#define MAX_POLICIES 32

struct curve_point {
    double ms, block, accuracy, same; /* mean cost and depth; shares right, and of full depth's class */
    ees_policy_options policy;
};

/* One policy from strict to loose: thresholds found on one half of the frames, measured on the other. */
struct curve {
    const char *name;
    unsigned n;
    struct curve_point points[MAX_CURVE];
};

struct analysis {
    const struct log *log;
    size_t n;                                      /* frames that count */
    struct exit_evidence exits[EES_MAX_EXITS + 1]; /* n_left: nobody leaves. AUROC of the confidence */
    uint64_t n_agreed[EES_MAX_EXITS + 1][EES_MAX_EXITS + 1];
    uint64_t n_full_right, n_early_right; /* right at full depth; right at some early exit */
    uint64_t n_overthought;               /* right at some early exit and wrong at the end */
    uint64_t n_oracle_right;              /* right anywhere */
    double oracle_ms, oracle_block;       /* each frame leaves at its first right exit; one without goes to the end */
    double full_ms;
    unsigned n_curves;
    struct curve curves[MAX_POLICIES];
};

/* @return 0; EES_ENOMEM; EES_EINVAL */
int analysis_make(struct analysis *a, const struct log *l, const ees_model *model, ees_error *err);

/* ---- analysis_report.c ---- */

void analysis_print(FILE *out, const struct analysis *a);
json_t *analysis_json(const struct analysis *a);

/* ---- plots.c ---- */

/* accuracy.svg, agreement.svg, cost.svg and reliability.svg in a folder, made if it is not there. @return 0;
 * EES_EOUTPUT; EES_ENOMEM */
int analysis_plot(const struct analysis *a, const char *dir, ees_error *err);

#endif
