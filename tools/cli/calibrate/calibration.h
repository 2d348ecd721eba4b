/* SPDX-License-Identifier: MIT */
/* What `eestream calibrate` found, for the report and the certificate. */
#ifndef EES_CLI_CALIBRATION_H
#define EES_CLI_CALIBRATION_H

#include <stdio.h>

#include "tools/cli/calibrate/certify.h"
#include "tools/cli/calibrate/evidence.h"

enum target_kind { TARGET_LOSS, TARGET_DEPTH, TARGET_FPS };

struct target {
    enum target_kind kind;
    double value;
};

struct calibration {
    const ees_model *model;
    struct target target;
    double delta;
    uint64_t seed;
    struct log log;
    struct seen seen;
    struct halves halves;
    struct path path;

    ees_policy_options policy; /* the result */
    struct outcome outcome;    /* of it, on the certifying half */
    double bound;              /* of the loss, with confidence 1 - delta */
    double p_value;            /* TARGET_LOSS only */
    double degraded_loss;      /* asked for the thresholds under overload; 0: not asked */
    struct outcome degraded;   /* all of them moved, on the certifying half */
    double degraded_bound;
    double repeat;            /* autocorrelation of the first exit's confidence from frame to frame */
    struct evidence evidence; /* on the certifying half */
};

/* "loss", "depth", "fps" */
const char *target_name(enum target_kind kind);

void calibration_print(FILE *out, const struct calibration *c);

/* Whole or not at all. @param path  "-": stdout. @return 0; EES_EOUTPUT */
int calibration_write(const struct calibration *c, const char *path, ees_error *err);

/* Above it frames follow each other so closely that they are no independent observations. */
#define MUCH_REPEATED 0.5

#endif
