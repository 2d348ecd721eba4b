/* SPDX-License-Identifier: MIT */
/* ees_quantise(): plan, write, measure; then, while too many answers changed, keep one more unit wider. */
#include "stages/quantise.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fail.h"

enum { SENSITIVITY_FRAMES = 32 }; /* frames that tell what a unit costs: one run of the chain a frame and unit */

struct quantiser {
    const ees_quantise_options *o;
    const char *out_dir;
    struct ees__rewriter rewriter;
    ees_model *wide, *narrow; /* the folder as it is, and as written with every unit narrow */
    ees_policy_options policy;
    bool is_wider[EES_MAX_UNITS];
    double cost[EES_MAX_UNITS]; /* of a unit alone in the new precision, see ees__logits_error() */
    float *reference, *logits;  /* (n_frames, n_exits + 1, K) */
    float *factors;
    ees_quantise_report *report;
};

static size_t logits_per_frame(const struct quantiser *q) {
    return (q->wide->info.n_exits + 1u) * (size_t)q->wide->info.n_classes;
}

static int open_model(const struct quantiser *q, const char *dir, const char *precision, ees_model **out,
                      ees_error *err) {
    ees_model_options options;
    ees_model_options_default(&options);
    options.kernels = q->o->kernels;
    options.precision = precision;
    options.certificate = "none"; /* holds for the original alone: both run with the config's thresholds */
    return ees_model_open(dir, &options, out, err);
}

/* Units that have a matrix to narrow. */
static bool has_large(const struct quantiser *q, unsigned unit) {
    for (size_t i = 0; i < q->wide->n_large; i++)
        if (q->wide->large[i].unit == unit)
            return true;
    return false;
}

/* Write the folder with the units that are wider now. */
static int write_folder(struct quantiser *q, ees_error *err) {
    struct ees__quantisation wider = {0};
    size_t at[EES__MAX_PARTS];
    for (unsigned i = 0; i < q->wide->info.n_units; i++)
        if (q->is_wider[i])
            snprintf(wider.wider[wider.n_wider++], sizeof wider.wider[0], "%s", q->wide->units[i].name);
    for (size_t i = 0; i < q->wide->n_large; i++) {
        const struct ees__large_matrix *matrix = &q->wide->large[i];
        unsigned n = ees__rewriter_find(&q->rewriter, matrix->name, at);
        for (unsigned part = 0; part < n; part++)
            q->rewriter.plan[at[part]].narrow = !q->is_wider[matrix->unit];
    }
    EES_TRY(ees__rewriter_write(&q->rewriter, &wider, err));
    q->report->n_wider = wider.n_wider;
    memcpy(q->report->wider, wider.wider, sizeof wider.wider);
    return 0;
}

/* The model as just written. */
static int reopen_narrow(struct quantiser *q, ees_error *err) {
    ees_model_close(q->narrow);
    q->narrow = NULL;
    return open_model(q, q->out_dir, NULL, &q->narrow, err);
}

static unsigned argmax(const float *x, size_t n) {
    unsigned best = 0;
    for (unsigned i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

static int decide(const struct quantiser *q, const float *logits, size_t *exit_idx, uint32_t *class_idx,
                  ees_error *err) {
    const ees_model_info *info = &q->wide->info;
    int e = ees_policy_walk(&q->policy, info->n_exits, info->n_classes, logits, err);
    if (e < 0)
        return e;
    *exit_idx = (size_t)e;
    *class_idx = argmax(logits + (size_t)e * info->n_classes, info->n_classes);
    return 0;
}

/* What the new precision costs with the units that are wider now. */
static int measure(struct quantiser *q, ees_error *err) {
    ees_quantise_report *report = q->report;
    size_t n = q->o->n_frames, per_frame = logits_per_frame(q);
    EES_TRY(ees__mixed_logits(q->wide, q->narrow, q->is_wider, q->o->frames, n, q->logits, err));
    report->n_frames = n;
    report->n_changed = report->n_moved = 0;
    report->largest_logit_difference = report->mean_logit_difference = 0;
    memset(report->exits_before, 0, sizeof report->exits_before);
    memset(report->exits_after, 0, sizeof report->exits_after);
    for (size_t i = 0; i < n; i++) {
        size_t before, after;
        EES_TRY(decide(q, q->reference + i * per_frame, &before, &report->class_before[i], err));
        EES_TRY(decide(q, q->logits + i * per_frame, &after, &report->class_after[i], err));
        report->n_changed += report->class_before[i] != report->class_after[i];
        report->n_moved += before != after;
        report->exits_before[before]++;
        report->exits_after[after]++;
    }
    for (size_t i = 0; i < n * per_frame; i++) {
        double difference = fabs((double)q->logits[i] - q->reference[i]);
        report->largest_logit_difference = fmax(report->largest_logit_difference, difference);
        report->mean_logit_difference += difference / (double)(n * per_frame);
    }
    return 0;
}

/* ---- Steps ---------------------------------------------------------------------------------------------- */

static int set_wider(struct quantiser *q, ees_error *err) {
    for (size_t i = 0; i < q->o->n_wider; i++) {
        unsigned unit = 0;
        while (unit < q->wide->info.n_units && strcmp(q->wide->units[unit].name, q->o->wider[i]))
            unit++;
        if (unit == q->wide->info.n_units || !has_large(q, unit))
            return EES_FAIL(err, EES_EINVAL, "%s is no unit with large products (eestream inspect lists them)",
                            q->o->wider[i]);
        q->is_wider[unit] = true;
    }
    return 0;
}

/* Balanced or not, whichever is closer to the original. */
static int choose_balance(struct quantiser *q, ees_error *err) {
    const ees_model_info *info = &q->wide->info;
    size_t n = q->o->n_frames;
    EES_TRY(measure(q, err));
    double plain = ees__logits_error(info, q->reference, q->logits, n);
    EES_TRY(ees__balance(&q->rewriter, q->wide, q->o->frames, n, &q->factors, err));
    EES_TRY(write_folder(q, err));
    EES_TRY(reopen_narrow(q, err));
    EES_TRY(measure(q, err));
    if (ees__logits_error(info, q->reference, q->logits, n) < plain)
        return 0;
    for (size_t i = 0; i < ees_tensors_count(q->rewriter.tensors); i++)
        q->rewriter.plan[i].divide = q->rewriter.plan[i].multiply = NULL;
    EES_TRY(write_folder(q, err));
    EES_TRY(reopen_narrow(q, err));
    return measure(q, err);
}

/* Each unit alone in the new precision. */
static int measure_units(struct quantiser *q, ees_error *err) {
    size_t n = q->o->n_frames < SENSITIVITY_FRAMES ? q->o->n_frames : SENSITIVITY_FRAMES;
    for (unsigned unit = 0; unit < q->wide->info.n_units; unit++) {
        if (!has_large(q, unit))
            continue;
        bool others[EES_MAX_UNITS];
        for (unsigned i = 0; i < EES_MAX_UNITS; i++)
            others[i] = i != unit;
        EES_TRY(ees__mixed_logits(q->wide, q->narrow, others, q->o->frames, n, q->logits, err));
        q->cost[unit] = ees__logits_error(&q->wide->info, q->reference, q->logits, n);
    }
    return 0;
}

/* The narrow unit that costs most, n_units: none is left. */
static unsigned worst_unit(const struct quantiser *q) {
    unsigned worst = q->wide->info.n_units;
    for (unsigned unit = 0; unit < q->wide->info.n_units; unit++)
        if (has_large(q, unit) && !q->is_wider[unit] &&
            (worst == q->wide->info.n_units || q->cost[unit] > q->cost[worst]))
            worst = unit;
    return worst;
}

static int widen_until_good(struct quantiser *q, ees_error *err) {
    double allowed = q->o->max_changed > 0 ? q->o->max_changed : 0.01;
    if ((double)q->report->n_changed <= allowed * (double)q->o->n_frames)
        return 0;
    EES_TRY(measure_units(q, err));
    for (unsigned unit; (unit = worst_unit(q)) < q->wide->info.n_units;) {
        q->is_wider[unit] = true;
        EES_TRY(measure(q, err));
        if ((double)q->report->n_changed <= allowed * (double)q->o->n_frames)
            break;
    }
    return write_folder(q, err);
}

static int run(struct quantiser *q, const char *in_dir, const char *precision, ees_error *err) {
    size_t n = q->o->n_frames;
    EES_TRY(open_model(q, in_dir, "fp32", &q->wide, err));
    EES_TRY(ees__rewriter_open(in_dir, q->out_dir, precision, q->wide, &q->rewriter, err));
    EES_TRY(ees_policy_resolve(q->wide, NULL, &q->policy, err));
    q->reference = ees__calloc_aligned(n, logits_per_frame(q) * sizeof(float));
    q->logits = ees__calloc_aligned(n, logits_per_frame(q) * sizeof(float));
    q->report->class_before = calloc(n, sizeof *q->report->class_before);
    q->report->class_after = calloc(n, sizeof *q->report->class_after);
    if (!q->reference || !q->logits || !q->report->class_before || !q->report->class_after)
        return EES_FAIL(err, EES_ENOMEM, "no memory for the logits of %zu frames", n);
    EES_TRY(set_wider(q, err));
    bool all[EES_MAX_UNITS];
    memset(all, true, sizeof all);
    EES_TRY(ees__mixed_logits(q->wide, q->wide, all, q->o->frames, n, q->reference, err));
    EES_TRY(write_folder(q, err));
    EES_TRY(reopen_narrow(q, err));
    if (strcmp(precision, "int8") == 0)
        EES_TRY(choose_balance(q, err));
    else
        EES_TRY(measure(q, err));
    if (q->o->choose_wider)
        EES_TRY(widen_until_good(q, err));
    q->report->leaves_certificate = ees__rewriter_has_certificate(&q->rewriter);
    q->report->bytes_before = q->rewriter.bytes_before;
    q->report->bytes_after = q->rewriter.bytes_after;
    return 0;
}

int ees_quantise(const char *in_dir, const char *out_dir, const ees_quantise_options *options,
                 ees_quantise_report *report, ees_error *err) {
    ees_error local = {0};
    const char *precision = options->precision ? options->precision : "int8";
    err = err ? err : &local;
    *report = (ees_quantise_report){0};
    if (strcmp(precision, "int8") && strcmp(precision, "bf16") && strcmp(precision, "fp16"))
        return EES_FAIL(err, EES_EINVAL, "precision \"%s\": expected int8, bf16 or fp16", precision);
    if (options->n_frames == 0)
        return EES_FAIL(err, EES_EINVAL, "no frame to calibrate and measure with");
    if (strcmp(in_dir, out_dir) == 0)
        return EES_FAIL(err, EES_EINVAL, "%s cannot be read and written at once: name another output folder", in_dir);
    struct quantiser *q = calloc(1, sizeof *q);
    if (!q)
        return EES_FAIL(err, EES_ENOMEM, "out of memory");
    q->o = options;
    q->out_dir = out_dir;
    q->report = report;
    int rc = run(q, in_dir, precision, err);
    ees_model_close(q->wide);
    ees_model_close(q->narrow);
    ees__rewriter_close(&q->rewriter);
    ees__free(q->reference);
    ees__free(q->logits);
    ees__free(q->factors);
    free(q);
    if (rc < 0)
        ees_quantise_report_fini(report);
    return rc;
}

void ees_quantise_report_fini(ees_quantise_report *report) {
    free(report->class_before);
    free(report->class_after);
    report->class_before = report->class_after = NULL;
}
