/* SPDX-License-Identifier: MIT */
/* A calibration for people, and as the certificate that the library reads. */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/cli/calibrate/calibration.h"
#include "tools/cli/fail.h"
#include "tools/cli/file.h"
#include "tools/cli/summary.h"

static double mean_confidence(const struct reliability *r) {
    double sum = 0;
    uint64_t n = 0;
    for (unsigned b = 0; b < N_BINS; b++) {
        sum += r->confidence[b];
        n += r->n[b];
    }
    return n ? sum / (double)n : 0;
}

/* ---- Text ---------------------------------------------------------------------------------------------- */

static void print_share(FILE *out, uint64_t part, uint64_t whole) {
    if (whole)
        fprintf(out, " %7.2f %%", 100 * share_of(part, whole));
    else
        fprintf(out, " %9s", "-");
}

static void print_exit(FILE *out, const struct calibration *c, unsigned e) {
    const struct exit_evidence *at = &c->evidence.exits[e];
    char head[32], threshold[24] = "-";
    log_head(&c->log, e, head, sizeof head);
    if (e < c->policy.n_thresholds)
        snprintf(threshold, sizeof threshold, "%.6g", (double)c->policy.thresholds[e]);
    fprintf(out, "  %2u %-14s %5u %10s %7.2f %%", e, head, c->log.exit_block[e], threshold,
            100 * share_of(at->n_left, c->evidence.n));
    print_share(out, at->n_left_right, at->n_left);
    print_share(out, at->n_right, c->evidence.n);
    fprintf(out, " %9.2f %% %6.3f", 100 * mean_confidence(&at->reliability), calibration_error(&at->reliability));
    fprintf(out, isnan(at->auroc) ? "      -\n" : " %6.3f\n", at->auroc);
}

static void print_bins(FILE *out, const struct calibration *c) {
    fprintf(out, "\nreliability: of the answers with such a confidence, so many are right (frames)\n  exit ");
    for (unsigned b = 0; b < N_BINS; b++)
        fprintf(out, "   to %.1f     ", (b + 1) / (double)N_BINS);
    for (unsigned e = 0; e <= c->log.n_exits; e++) {
        const struct reliability *r = &c->evidence.exits[e].reliability;
        fprintf(out, "\n  %4u ", e);
        for (unsigned b = 0; b < N_BINS; b++) {
            char cell[32] = "-";
            if (r->n[b])
                snprintf(cell, sizeof cell, "%.1f %% (%llu)", 100 * share_of(r->n_right[b], r->n[b]),
                         (unsigned long long)r->n[b]);
            fprintf(out, " %-13s", cell);
        }
    }
    fputc('\n', out);
}

static void print_bound(FILE *out, const struct calibration *c) {
    const struct outcome *o = &c->outcome;
    fprintf(out,
            "loss       %llu of %zu frames of the other half (%.2f %%); with confidence %g no more than %.2f %% %s\n",
            (unsigned long long)o->n_lost, o->n, 100 * share_of(o->n_lost, o->n), 1 - c->delta, 100 * c->bound,
            c->log.n_labels ? "that full depth has right are lost" : "differ from full depth");
    if (c->degraded_loss > 0)
        fprintf(out, "overload   loses up to %llu of them (%.2f %%; with confidence %g no more than %.2f %%)\n",
                (unsigned long long)c->degraded.n_lost, 100 * share_of(c->degraded.n_lost, c->degraded.n), 1 - c->delta,
                100 * c->degraded_bound);
    if (c->seen.info.looks_back && c->halves.scene <= c->policy.lag)
        fprintf(out,
                "warning    policy '%s' looks at earlier frames: only frames in the order of a stream, with --scene "
                "well above "
                "the lag of %u, tell what it loses\n",
                c->policy.name, c->policy.lag);
    if (c->halves.scene == 1 && c->repeat > MUCH_REPEATED)
        fprintf(out,
                "warning    frames follow each other closely (correlation %.2f): they are no independent observations "
                "and the "
                "bound is too good; --scene N counts N frames as one\n",
                c->repeat);
}

void calibration_print(FILE *out, const struct calibration *c) {
    const struct evidence *v = &c->evidence;
    const char *truth = c->log.n_labels ? "labelled" : "with full depth as the teacher";
    char policy[1280];
    policy_text(&c->policy, policy, sizeof policy);
    fprintf(out, "frames     %zu %s, %zu failed; %zu to search, %zu to certify\n", c->log.n, truth, c->log.n_failed,
            c->halves.n_search, c->halves.n_certify);
    fprintf(out, "target     %s=%g, delta %g\npolicy     %s\n", target_name(c->target.kind), c->target.value, c->delta,
            policy);
    print_bound(out, c);
    fprintf(out, "accuracy   %.2f %%, at full depth %.2f %%; %.2f %% have the class of full depth\n",
            100 * share_of(v->n_right, v->n), 100 * share_of(v->n_full_right, v->n), 100 * share_of(v->n_same, v->n));
    fprintf(out, "depth      mean %.2f of %u blocks\n", v->mean_block, c->log.n_blocks);
    fprintf(out,
            "cost       %.3f ms a frame and core, at full depth %.3f; %.1f fps on %.3g cores, at full depth %.1f\n",
            v->mean_ns * 1e-6, c->log.full_ns * 1e-6, log_fps(&c->log, v->mean_ns), c->log.n_cores,
            log_fps(&c->log, c->log.full_ns));
    fprintf(out, "\nexit                block  threshold     leave  of these   of all   confidence    ECE  AUROC\n"
                 "                                                   right    right     of all\n");
    for (unsigned e = 0; e <= c->log.n_exits; e++)
        print_exit(out, c, e);
    print_bins(out, c);
}

/* ---- Certificate --------------------------------------------------------------------------------------- */

static json_t *exit_json(const struct calibration *c, unsigned e) {
    const struct exit_evidence *at = &c->evidence.exits[e];
    char head[32];
    log_head(&c->log, e, head, sizeof head);
    return json_pack("{s:i, s:s, s:i, s:f, s:f, s:o, s:f, s:f, s:f, s:o, s:o}", "exit", (int)e, "head", head, "block",
                     (int)c->log.exit_block[e], "cost_ms", c->log.exit_ns[e] * 1e-6, "share",
                     share_of(at->n_left, c->evidence.n), "right",
                     at->n_left ? json_real(share_of(at->n_left_right, at->n_left)) : json_null(), "right_all",
                     share_of(at->n_right, c->evidence.n), "confidence_all", mean_confidence(&at->reliability), "ece",
                     calibration_error(&at->reliability), "auroc",
                     isnan(at->auroc) ? json_null() : json_real(at->auroc), "bins", reliability_json(&at->reliability));
}

static json_t *model_json(const struct calibration *c) {
    const ees_model_info *info = ees_model_get_info(c->model);
    json_t *exits = json_array();
    for (unsigned e = 0; e < info->n_exits; e++)
        json_array_append_new(exits, json_integer(info->exits[e].after_block));
    return json_pack("{s:o, s:s, s:s, s:o, s:i, s:[ii]}", "name", json_text(c->log.model_name), "hash",
                     c->log.model_hash, "precision", c->log.precision, "exits", exits, "classes", (int)info->n_classes,
                     "input", (int)info->image_width_px, (int)info->image_height_px);
}

/* What the library reads: it takes an absent list for "none", and no empty one. */
static json_t *own_policy_json(const struct calibration *c) {
    json_t *o = policy_json(&c->policy);
    if (c->policy.n_thresholds == 0)
        json_object_del(o, "thresholds");
    return o;
}

static const char *method_text(const struct calibration *c) {
    if (c->target.kind != TARGET_LOSS)
        return c->halves.scene == 1 ? "least loss within the target on one half; Clopper-Pearson bound on the other"
                                    : "least loss within the target on one half; Hoeffding-Bentkus bound on the other";
    return c->halves.scene == 1
               ? "learn then test: path found on one half, fixed-sequence testing by binomial tails on the other"
               : "learn then test: path found on one half, fixed-sequence testing by Hoeffding-Bentkus on the other";
}

static json_t *bound_json(const struct calibration *c) {
    bool loss = c->target.kind == TARGET_LOSS;
    json_t *o = json_pack("{s:{s:f}, s:f, s:s, s:s, s:f, s:I, s:f, s:f}", "target", target_name(c->target.kind),
                          c->target.value, "delta", c->delta, "method", method_text(c), "loss_is",
                          c->log.n_labels ? "full depth right and the answer wrong" : "class differs from full depth's",
                          "bound", c->bound, "lost", (json_int_t)c->outcome.n_lost, "loss",
                          share_of(c->outcome.n_lost, c->outcome.n), "correlation", c->repeat);
    if (c->degraded_loss > 0)
        json_object_set_new(o, "degraded",
                            json_pack("{s:f, s:f, s:I, s:f}", "epsilon", c->degraded_loss, "bound", c->degraded_bound,
                                      "lost", (json_int_t)c->degraded.n_lost, "loss",
                                      share_of(c->degraded.n_lost, c->degraded.n)));
    if (loss) {
        json_object_set_new(o, "epsilon", json_real(c->target.value));
        json_object_set_new(o, "p_value", json_real(c->p_value));
    }
    return o;
}

static json_t *data_json(const struct calibration *c) {
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "hash", c->log.data_hash, "frames",
                     (json_int_t)c->log.n, "failed", (json_int_t)c->log.n_failed, "search",
                     (json_int_t)c->halves.n_search, "certify", (json_int_t)c->halves.n_certify, "scene",
                     (json_int_t)c->halves.scene, "seed", (json_int_t)c->seed, "truth",
                     c->log.n_labels ? "labels" : "full depth");
}

static json_t *expected_json(const struct calibration *c) {
    const struct evidence *v = &c->evidence;
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:s}", "accuracy", share_of(v->n_right, v->n),
                     "accuracy_full_depth", share_of(v->n_full_right, v->n), "same_as_full_depth",
                     share_of(v->n_same, v->n), "mean_block", v->mean_block, "cost_ms", v->mean_ns * 1e-6,
                     "full_depth_cost_ms", c->log.full_ns * 1e-6, "fps", log_fps(&c->log, v->mean_ns), "cores",
                     c->log.n_cores, "kernels", c->log.kernels);
}

static json_t *certificate_json(const struct calibration *c) {
    json_t *mix = json_array(), *exits = json_array();
    char date[32];
    time_t now = time(NULL);
    struct tm utc;
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    for (unsigned e = 0; e <= c->log.n_exits; e++) {
        json_array_append_new(mix, json_integer((json_int_t)c->outcome.exit_frames[e]));
        json_array_append_new(exits, exit_json(c, e));
    }
    return json_pack("{s:s, s:i, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "format", "eestream-certificate",
                     "version", 1, "date", date, "written_by", ees_version(), "model", model_json(c), "policy",
                     own_policy_json(c), "exit_frames", mix, "guarantee", bound_json(c), "data", data_json(c),
                     "expected", expected_json(c), "exits", exits);
}

int calibration_write(const struct calibration *c, const char *path, ees_error *err) {
    json_t *json = certificate_json(c);
    char *text = json ? json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(json);
    if (!text)
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for %s", path);
    size_t n = strlen(text);
    text[n] = '\n'; /* in the terminating 0's place */
    int rc = strcmp(path, "-") != 0                    ? file_replace(path, text, n + 1, err)
             : fwrite(text, 1, n + 1, stdout) == n + 1 ? 0
                                                       : CLI_FAIL(err, EES_EOUTPUT, "stdout cannot be written");
    free(text);
    return rc;
}
