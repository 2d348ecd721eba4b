/* SPDX-License-Identifier: MIT */
/* `eestream quantise`: writes a model folder in a narrower precision and tells what that costs on the given frames. */
#include <stdlib.h>
#include <string.h>

#include "tools/cli/file.h"
#include "tools/cli/frame_store.h"
#include "tools/cli/truth.h"
#include "tools/cli/verbs.h"

struct quantise {
    const struct options *o;
    const char *in_dir, *out_dir;
    ees_frame *frames;
    size_t n_frames;
    char *units; /* of --keep-wider, cut at its commas */
    const char *wider[EES_MAX_UNITS];
    size_t n_wider;
    ees_quantise_report report;
};

/* auto and none choose; anything else lists units. */
static int read_wider(struct quantise *q, ees_quantise_options *out, ees_error *err) {
    const char *asked = q->o->keep_wider;
    out->choose_wider = strcmp(asked, "auto") == 0;
    if (out->choose_wider || strcmp(asked, "none") == 0)
        return 0;
    q->units = strdup(asked);
    if (!q->units)
        return CLI_FAIL(err, EES_ENOMEM, "out of memory");
    for (char *rest = NULL, *unit = strtok_r(q->units, ",", &rest); unit; unit = strtok_r(NULL, ",", &rest)) {
        if (q->n_wider == EES_MAX_UNITS)
            return CLI_FAIL(err, EES_EINVAL, "--keep-wider names more than %d units", EES_MAX_UNITS);
        q->wider[q->n_wider++] = unit;
    }
    out->wider = q->wider;
    out->n_wider = q->n_wider;
    return 0;
}

static int read_frames(struct quantise *q, ees_error *err) {
    ees_source_options source;
    options_source(q->o, &source);
    return frame_store_read(q->o->calibration, &source, q->o->n_frames, &q->frames, &q->n_frames, err);
}

static void print_exits(const char *name, const size_t *exits, size_t n_frames) {
    printf("%s", name);
    for (unsigned i = 0; i <= EES_MAX_EXITS; i++)
        if (exits[i])
            printf("  %u: %.1f %%", i, 100.0 * (double)exits[i] / (double)n_frames);
    putchar('\n');
}

/* Shares of right answers, where a table or the frames' folders tell the truth. */
static int print_accuracy(const struct quantise *q, ees_error *err) {
    struct truth truth = {0};
    ees_model *model = NULL;
    size_t n = 0, before = 0, after = 0;
    struct options o = *q->o;
    o.model_dir = q->out_dir;
    o.precision = NULL;
    o.certificate = "none"; /* one that an earlier model left there does not matter here */
    CLI_TRY(options_open_model(&o, NULL, &model, err));
    int rc = q->o->truth_path ? truth_open(&truth, q->o->truth_path, model, err) : 0;
    for (size_t i = 0; rc == 0 && i < q->n_frames; i++) {
        const ees_result result = {.frame_idx = q->frames[i].frame_idx, .truth = q->frames[i].truth};
        int class_idx = truth_of(&truth, &result, model);
        if (class_idx < 0)
            continue;
        n++;
        before += q->report.class_before[i] == (uint32_t)class_idx;
        after += q->report.class_after[i] == (uint32_t)class_idx;
    }
    if (n)
        printf("accuracy    %.2f %% before, %.2f %% after, of %zu labelled frames\n",
               100.0 * (double)before / (double)n, 100.0 * (double)after / (double)n, n);
    truth_close(&truth);
    ees_model_close(model);
    return rc;
}

static int print_report(const struct quantise *q, ees_error *err) {
    const ees_quantise_report *r = &q->report;
    double n = (double)r->n_frames;
    printf("frames      %zu of %s\n", r->n_frames, q->o->calibration);
    printf("answers     %zu changed (%.2f %%), %zu leave at another exit (%.2f %%)\n", r->n_changed,
           100.0 * (double)r->n_changed / n, r->n_moved, 100.0 * (double)r->n_moved / n);
    CLI_TRY(print_accuracy(q, err));
    printf("logits      differ by at most %.3g, %.3g on average\n", r->largest_logit_difference,
           r->mean_logit_difference);
    print_exits("exits       before", r->exits_before, r->n_frames);
    print_exits("            after ", r->exits_after, r->n_frames);
    printf("wider       %s", r->n_wider ? "" : "none");
    for (unsigned i = 0; i < r->n_wider; i++)
        printf("%s%s", i ? ", " : "", r->wider[i]);
    printf("\nsize        %.2f MiB before, %.2f MiB after\n", (double)r->bytes_before / (1 << 20),
           (double)r->bytes_after / (1 << 20));
    if (r->leaves_certificate)
        printf("certificate not copied, it holds for the weights of %s: eestream calibrate makes another\n", q->in_dir);
    return file_finish_stdout(err);
}

static int quantise(struct quantise *q, ees_error *err) {
    ees_quantise_options options = {.precision = q->o->precision, .kernels = q->o->kernels};
    if (q->o->n_inputs != 2)
        return CLI_FAIL(err, EES_EINVAL, "quantise takes a model folder and the one to write, %zu are given",
                        q->o->n_inputs);
    q->in_dir = q->o->inputs[0];
    q->out_dir = q->o->inputs[1];
    if (!q->o->calibration)
        return CLI_FAIL(err, EES_EINVAL, "--inputs is missing: frames like those the model is for, some hundred");
    CLI_TRY(read_wider(q, &options, err));
    CLI_TRY(read_frames(q, err));
    options.frames = q->frames;
    options.n_frames = q->n_frames;
    CLI_TRY(ees_quantise(q->in_dir, q->out_dir, &options, &q->report, err));
    return print_report(q, err);
}

enum exit_code verb_quantise(const struct options *o) {
    struct quantise q = {.o = o};
    ees_error err = {0};
    quantise(&q, &err);
    ees_quantise_report_fini(&q.report);
    frame_store_free(q.frames, q.n_frames);
    free(q.units);
    return err.code ? leave_with(&err, o->verbose) : EXIT_DONE;
}
