/* SPDX-License-Identifier: MIT */
/* `eestream analyse`: from a log, or from frames that are recorded first. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli/calibrate/analysis.h"
#include "tools/cli/fail.h"
#include "tools/cli/file.h"
#include "tools/cli/verbs.h"

/* ---- Exits alone --------------------------------------------------------------------------------------- */

/* What the frames make of each other's exits: which agree, where a frame is right first. */
static void count_frame(struct analysis *a, const struct seen *s, size_t frame) {
    const struct log *l = a->log;
    unsigned n = l->n_exits + 1, full = log_full_class(l, frame), first = n;
    const ees_exit_view *v = &s->views[frame * n];
    unsigned truth = l->n_labels ? (unsigned)l->labels[frame] : full;
    for (unsigned e = 0; e < n; e++) {
        for (unsigned k = 0; k < n; k++)
            a->n_agreed[e][k] += v[e].finite && v[k].finite && v[e].class_idx == v[k].class_idx;
        if (first == n && v[e].finite && v[e].class_idx == truth)
            first = e;
    }
    a->n_full_right += full == truth;
    a->n_early_right += first < l->n_exits;
    a->n_overthought += first < l->n_exits && full != truth;
    a->n_oracle_right += first < n;
    unsigned leaves = first < n ? first : l->n_exits;
    a->oracle_ms += l->exit_ns[leaves] * 1e-6 / (double)a->n;
    a->oracle_block += (double)l->exit_block[leaves] / (double)a->n;
}

static int look_at_exits(struct analysis *a, const size_t *frames, ees_error *err) {
    const ees_policy_options confidence = {.name = "confidence"};
    struct outcome unused;
    struct evidence evidence;
    struct seen s;
    CLI_TRY(seen_open(&s, a->log, NULL, &confidence, false, err));
    ees_policy_options strict = {.name = "confidence", .n_thresholds = 1, .thresholds = {2}};
    int rc = seen_replay(&s, &strict, frames, a->n, &unused, err);
    if (rc == 0)
        rc = evidence_collect(&evidence, a->log, &s, frames, a->n, err);
    for (size_t i = 0; i < a->n && rc == 0; i++)
        count_frame(a, &s, frames[i]);
    if (rc == 0)
        memcpy(a->exits, evidence.exits, sizeof a->exits);
    seen_close(&s);
    return rc;
}

/* ---- Policies ------------------------------------------------------------------------------------------ */

static int add_curve_point(struct curve *curve, struct seen *s, const struct log *l, const struct halves *h,
                           const ees_policy_options *policy, ees_error *err) {
    struct outcome o;
    struct evidence v;
    CLI_TRY(seen_replay(s, policy, h->certify, h->n_certify, &o, err));
    CLI_TRY(evidence_collect(&v, l, s, h->certify, h->n_certify, err));
    curve->points[curve->n++] = (struct curve_point){.ms = v.mean_ns * 1e-6,
                                                     .block = v.mean_block,
                                                     .accuracy = (double)v.n_right / (double)v.n,
                                                     .same = (double)v.n_same / (double)v.n,
                                                     .policy = *policy};
    return 0;
}

/* Points of the path, evenly by number where there are too many. */
static int measure_path(struct curve *curve, struct seen *s, const struct log *l, const struct halves *h,
                        const struct path *path, ees_error *err) {
    size_t n = path->n < MAX_CURVE ? path->n : MAX_CURVE;
    for (size_t i = 0; i < n; i++) {
        size_t at = n > 1 ? i * (path->n - 1) / (n - 1) : 0;
        CLI_TRY(add_curve_point(curve, s, l, h, &path->points[at].policy, err));
    }
    return 0;
}

static int trace_curve(struct analysis *a, const char *name, const ees_model *model, const struct halves *h,
                       ees_error *err) {
    struct curve *curve = &a->curves[a->n_curves];
    const ees_policy_options policy = {.name = name};
    struct path path = {0};
    struct seen s;
    *curve = (struct curve){.name = name};
    CLI_TRY(seen_open(&s, a->log, model, &policy, false, err));
    int rc = search_path(&s, h->search, h->n_search, &path, err);
    if (rc == 0)
        rc = measure_path(curve, &s, a->log, h, &path, err);
    path_fini(&path);
    seen_close(&s);
    a->n_curves += rc == 0;
    return rc;
}

/* Policies that the log can tell about: a gate must have spoken, and learned ensembles need the model's weights. */
static int trace_curves(struct analysis *a, const ees_model *model, const bool *usable, ees_error *err) {
    struct halves h;
    CLI_TRY(halves_init(&h, usable, a->log->inputs, a->log->n, 1, 1, err));
    int rc = 0;
    for (const char *const *name = ees_policy_names(); *name && rc == 0 && a->n_curves < MAX_POLICIES; name++) {
        ees_policy_info info;
        rc = ees_policy_get_info(*name, &info, err);
        bool told = strcmp(*name, "none") != 0 && (!info.needs_gate || log_has_gates(a->log)) && !info.needs_members;
        if (rc == 0 && told && h.n_search > 0)
            rc = trace_curve(a, *name, model, &h, err);
    }
    halves_fini(&h);
    return rc;
}

int analysis_make(struct analysis *a, const struct log *l, const ees_model *model, ees_error *err) {
    size_t *frames = malloc(l->n * sizeof *frames);
    bool *usable = malloc(l->n * sizeof *usable);
    *a = (struct analysis){.log = l, .full_ms = l->full_ns * 1e-6};
    int rc = frames && usable ? 0 : CLI_FAIL(err, EES_ENOMEM, "out of memory for %zu frames", l->n);
    for (size_t i = 0; i < l->n && rc == 0; i++) {
        usable[i] = log_usable(l, i);
        if (usable[i])
            frames[a->n++] = i;
    }
    if (rc == 0)
        rc = look_at_exits(a, frames, err);
    if (rc == 0)
        rc = trace_curves(a, model, usable, err);
    free(frames);
    free(usable);
    return rc;
}

/* ---- Verb ---------------------------------------------------------------------------------------------- */

static int check_options(const struct options *o, ees_error *err) {
    if (o->n_inputs == 0 && !o->log_path) {
        CLI_FAIL(err, EES_EINVAL, "analyse needs frames or a log of them");
        return cli_hint(err, "eestream analyse frames/, or --log FILE of a recording");
    }
    if (o->n_inputs == 0 && (o->truth_path || o->model_dir))
        return CLI_FAIL(err, EES_EINVAL, "%s goes with frames: the log has its own",
                        o->truth_path ? "--truth" : "--model");
    return 0;
}

/* Frames need a model; a log speaks for itself. */
static int get_log(struct log *l, const struct options *o, ees_model **model, ees_error *err) {
    if (o->n_inputs > 0)
        CLI_TRY(log_open_model(o, model, err));
    return log_obtain(l, o, *model, err);
}

static int report(const struct analysis *a, const struct options *o, ees_error *err) {
    if (o->svg_dir)
        CLI_TRY(analysis_plot(a, o->svg_dir, err));
    if (o->format == REPORT_TEXT) {
        if (!o->quiet)
            analysis_print(stdout, a);
        return file_finish_stdout(err);
    }
    return file_write_json("-", analysis_json(a), err);
}

enum exit_code verb_analyse(const struct options *o) {
    static struct analysis a; /* half a megabyte */
    struct log l = {0};
    ees_model *model = NULL;
    ees_error err = {0};
    int rc = check_options(o, &err);
    if (rc == 0)
        rc = get_log(&l, o, &model, &err);
    if (rc == 0)
        rc = analysis_make(&a, &l, model, &err);
    if (rc == 0)
        report(&a, o, &err);
    log_fini(&l);
    ees_model_close(model);
    return err.code ? leave_with(&err, o->verbose) : EXIT_DONE;
}
