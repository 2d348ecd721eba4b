/* SPDX-License-Identifier: MIT */
/* `eestream calibrate`: thresholds for a target, found on one half of the frames and certified on the other. */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli/calibrate/calibration.h"
#include "tools/cli/fail.h"
#include "tools/cli/file.h"
#include "tools/cli/summary.h"
#include "tools/cli/verbs.h"

/* ---- What is asked ------------------------------------------------------------------------------------- */

const char *target_name(enum target_kind kind) {
    static const char *const names[] = {"loss", "depth", "fps"};
    return names[kind];
}

static int parse_target(const char *text, struct target *out, ees_error *err) {
    const char *equals = text ? strchr(text, '=') : NULL;
    char *end = NULL;
    for (int i = TARGET_LOSS; equals && i <= TARGET_FPS; i++) {
        const char *name = target_name((enum target_kind)i);
        if (strlen(name) == (size_t)(equals - text) && strncmp(name, text, strlen(name)) == 0) {
            *out = (struct target){.kind = (enum target_kind)i, .value = strtod(equals + 1, &end)};
            bool below_one = i != TARGET_LOSS || out->value < 1;
            if (end != equals + 1 && !*end && isfinite(out->value) && out->value > 0 && below_one)
                return 0;
        }
    }
    CLI_FAIL(err, EES_EINVAL,
             text ? "--target %s: expected loss=SHARE (above 0, below 1), depth=BLOCKS or fps=NUMBER"
                  : "calibrate needs a target",
             text);
    return cli_hint(err, "eestream calibrate frames/ --target loss=0.01 --model DIR");
}

static int check_options(const struct options *o, ees_error *err) {
    if (o->n_inputs == 0 && !o->log_path) {
        CLI_FAIL(err, EES_EINVAL, "calibrate needs frames or a log of them");
        return cli_hint(err, "eestream calibrate frames/ --target loss=0.01, or --log FILE of a recording");
    }
    if (o->n_inputs == 0 && o->truth_path)
        return CLI_FAIL(err, EES_EINVAL, "--truth goes with frames: the log has its labels already");
    return 0;
}

/* The policy whose thresholds are looked for. */
static int choose_policy(const struct options *o, const ees_model *model, ees_policy_options *out, ees_error *err) {
    ees_policy_options asked;
    CLI_TRY(options_policy(o, &asked, err));
    CLI_TRY(ees_policy_resolve(model, &asked, out, err));
    out->n_thresholds = out->n_degraded = 0;
    out->patience = o->patience; /* 0: looked for, too */
    if (strcmp(out->name, "none") == 0)
        return CLI_FAIL(err, EES_EINVAL, "policy 'none' has nothing to calibrate");
    return 0;
}

static int get_log(struct calibration *c, const struct options *o, ees_error *err) {
    CLI_TRY(log_obtain(&c->log, o, c->model, err));
    return o->n_inputs == 0 ? log_check_model(&c->log, o->log_path, c->model, err) : 0;
}

static int deal_out(struct calibration *c, const struct options *o, ees_error *err) {
    const struct log *l = &c->log;
    bool *usable = malloc(l->n * sizeof *usable);
    double *confidence = malloc(l->n * sizeof *confidence);
    int rc = usable && confidence ? 0 : CLI_FAIL(err, EES_ENOMEM, "out of memory for %zu frames", l->n);
    for (size_t i = 0; i < l->n && rc == 0; i++) {
        usable[i] = log_usable(l, i);
        confidence[i] = (double)c->seen.views[i * ((size_t)l->n_exits + 1)].confidence;
    }
    if (rc == 0) {
        c->repeat = autocorrelation(confidence, l->n);
        rc = halves_init(&c->halves, usable, l->inputs, l->n, o->scene ? o->scene : 1, o->seed, err);
    }
    free(usable);
    free(confidence);
    if (rc == 0 && (c->halves.n_search == 0 || c->halves.n_certify == 0))
        rc = CLI_FAIL(err, EES_EINVAL, "%zu frames in scenes of %zu are too few: two scenes are the least", l->n,
                      c->halves.scene);
    return rc;
}

/* ---- Targets ------------------------------------------------------------------------------------------- */

static int refuse_loss(const struct calibration *c, const struct certified *r, ees_error *err) {
    double epsilon = c->target.value, least = 1 - pow(c->delta, 1.0 / (double)c->halves.n_scenes);
    const char *what = c->halves.scene == 1 ? "frames" : "scenes";
    if (r->n_tested > 0 && (double)c->halves.n_scenes >= fewest_for(epsilon, c->delta)) {
        const struct outcome *o = &c->path.points[0].outcome;
        CLI_FAIL(err, EES_EINVAL, "--target loss=%g is out of reach of policy '%s': at its strictest it loses %.4f",
                 epsilon, c->policy.name, (double)o->n_lost / (double)o->n);
        return cli_hint(err, "another --policy, or a larger loss");
    }
    CLI_FAIL(err, EES_EINVAL, "--target loss=%g needs %.0f %s to certify with delta %g, half of those here are %zu",
             epsilon, fewest_for(epsilon, c->delta), what, c->delta, c->halves.n_scenes);
    return cli_hint(err, "more frames, or with these loss=%.4g at least", least);
}

static int reach_loss(struct calibration *c, ees_error *err) {
    struct certified r;
    CLI_TRY(certify(&c->seen, &c->path, &c->halves, c->target.value, c->delta, &r, err));
    if (!r.passed)
        return refuse_loss(c, &r, err);
    c->policy = c->path.points[r.point].policy;
    c->bound = c->target.value;
    c->p_value = r.p_value;
    return 0;
}

/* Of the points that cost no more than the target, the path's first loses least. */
static int reach_budget(struct calibration *c, ees_error *err) {
    bool fps = c->target.kind == TARGET_FPS;
    double budget = fps ? c->log.n_cores * 1e9 / c->target.value : c->target.value;
    size_t i = 0;
    while (i < c->path.n && c->path.points[i].outcome.cost > budget)
        i++;
    if (i == c->path.n) {
        double least = c->path.points[c->path.n - 1].outcome.cost;
        CLI_FAIL(err, EES_EINVAL, "--target %s=%g is out of reach of policy '%s': its %s here is %.4g",
                 target_name(c->target.kind), c->target.value, c->policy.name, fps ? "most" : "least",
                 fps ? log_fps(&c->log, least) : least);
        return cli_hint(err, fps ? "more cores, another --policy or a smaller model"
                                 : "a larger depth, or another --policy");
    }
    c->policy = c->path.points[i].policy;
    return 0;
}

/* How far overload may move the thresholds: to the point that passes with the larger loss, each threshold on the looser
 * side of its own. That mixture was not itself tested, so its bound is read from its own losses. */
static int reach_degraded(struct calibration *c, ees_error *err) {
    struct certified r;
    ees_policy_options moved;
    bool above = c->seen.info.rule != EES_THRESHOLD_BELOW;
    if (c->seen.info.rule == EES_THRESHOLD_NONE || (c->seen.info.counts && !c->seen.policy.patience))
        return CLI_FAIL(err, EES_EINVAL, "--degraded-loss moves thresholds, policy '%s' %s", c->policy.name,
                        c->seen.info.counts ? "also counts: give --patience" : "has none");
    CLI_TRY(certify(&c->seen, &c->path, &c->halves, c->degraded_loss, c->delta, &r, err));
    if (!r.passed)
        return CLI_FAIL(err, EES_EINVAL, "--degraded-loss %g cannot be certified: no point of policy '%s' passes",
                        c->degraded_loss, c->policy.name);
    CLI_TRY(ees_policy_resolve(c->model, &c->path.points[r.point].policy, &moved, err));
    c->policy.n_degraded = c->policy.n_thresholds;
    for (unsigned e = 0; e < c->policy.n_thresholds; e++) {
        float own = c->policy.thresholds[e], other = moved.thresholds[e];
        c->policy.degraded[e] = moved.thresholds[e] = (above ? other < own : other > own) ? other : own;
    }
    moved.n_degraded = 0;
    CLI_TRY(seen_replay(&c->seen, &moved, c->halves.certify, c->halves.n_certify, &c->degraded, err));
    c->degraded_bound = loss_bound(&c->halves, &c->degraded, c->delta);
    return 0;
}

static int calibrate(struct calibration *c, const struct options *o, ees_error *err) {
    struct seen *s = &c->seen;
    const struct halves *h = &c->halves;
    CLI_TRY(seen_open(s, &c->log, c->model, &c->policy, c->target.kind == TARGET_DEPTH, err));
    CLI_TRY(deal_out(c, o, err));
    CLI_TRY(search_path(s, h->search, h->n_search, &c->path, err));
    CLI_TRY((c->target.kind == TARGET_LOSS ? reach_loss : reach_budget)(c, err));
    CLI_TRY(ees_policy_resolve(c->model, &c->policy, &c->policy, err));
    if (c->degraded_loss > 0)
        CLI_TRY(reach_degraded(c, err));
    CLI_TRY(seen_replay(s, &c->policy, h->certify, h->n_certify, &c->outcome, err));
    if (c->target.kind != TARGET_LOSS)
        c->bound = loss_bound(h, &c->outcome, c->delta);
    return evidence_collect(&c->evidence, &c->log, s, h->certify, h->n_certify, err);
}

/* ---- Verb ---------------------------------------------------------------------------------------------- */

/* Beside the weights unless --out says where. The embedded model has no folder. */
static int write_out(const struct calibration *c, const struct options *o, ees_error *err) {
    char beside[4096];
    const char *path = o->out_path;
    if (!path && o->model_dir) {
        snprintf(beside, sizeof beside, "%s/certificate.json", o->model_dir);
        path = beside;
    }
    if (!path) {
        if (!o->quiet)
            printf("\nno certificate was written: the embedded model has no folder; --out FILE writes one\n");
        return 0;
    }
    CLI_TRY(calibration_write(c, path, err));
    if (strcmp(path, "-") != 0 && !o->quiet)
        printf("\ncertificate %s%s\n", path, path == beside ? ", used from now on" : "");
    return 0;
}

static int run(struct calibration *c, const struct options *o, ees_error *err) {
    ees_model *model = NULL;
    CLI_TRY(check_options(o, err));
    CLI_TRY(parse_target(o->target, &c->target, err));
    CLI_TRY(log_open_model(o, &model, err));
    c->model = model;
    CLI_TRY(choose_policy(o, model, &c->policy, err));
    CLI_TRY(get_log(c, o, err));
    CLI_TRY(calibrate(c, o, err));
    bool piped = o->out_path && strcmp(o->out_path, "-") == 0;
    if (!o->quiet)
        calibration_print(piped ? stderr : stdout, c);
    CLI_TRY(write_out(c, o, err));
    return file_finish_stdout(err);
}

enum exit_code verb_calibrate(const struct options *o) {
    struct calibration c = {.delta = o->delta, .seed = o->seed, .degraded_loss = o->degraded_loss};
    ees_error err = {0};
    run(&c, o, &err);
    path_fini(&c.path);
    halves_fini(&c.halves);
    seen_close(&c.seen);
    log_fini(&c.log);
    ees_model_close((ees_model *)c.model);
    return err.code ? leave_with(&err, o->verbose) : EXIT_DONE;
}
