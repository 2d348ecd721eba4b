/* SPDX-License-Identifier: MIT */
/* What the user asked for. options.c holds the one table that parsing, defaults and help come from. */
#ifndef EES_CLI_OPTIONS_H
#define EES_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "eestream/eestream.h"

enum verb_id {
    VERB_RUN = 1 << 0,
    VERB_BENCH = 1 << 1,
    VERB_PLAN = 1 << 2,
    VERB_INSPECT = 1 << 3,
    VERB_VERIFY = 1 << 4,
    VERB_DEMO = 1 << 5,
    VERB_DOCTOR = 1 << 6,
    VERB_HELP = 1 << 7,
    VERB_CALIBRATE = 1 << 8,
    VERB_ANALYSE = 1 << 9,
    VERB_QUANTISE = 1 << 10,
};

enum report_format { REPORT_TEXT, REPORT_JSON };
enum bench_format { BENCH_MD, BENCH_CSV, BENCH_JSON };

struct number_list {
    double values[EES_MAX_STREAMS]; /* more than exits */
    unsigned n;
};

struct options {
    enum verb_id verb;
    char **inputs; /* positional arguments: into argv */
    size_t n_inputs;

    bool help, quiet, verbose, strict;
    /* model */
    const char *model_dir, *arch, *kernels, *precision;
    bool allow_nonfinite;
    int decode; /* enum ees_decode */
    unsigned max_pixels;
    void (*on_tensor)(void *opaque, const ees_tensor_use *use); /* no option: what the verb wants to be told */
    void *on_tensor_opaque;
    const char *image_size, *certificate;
    /* engine */
    unsigned n_workers, n_slots;
    bool no_pin;
    const char *plan;
    const char *cores, *profile_path, *save_profile_path;
    bool no_profile_cache;
    int hint, take; /* enum ees_hint, enum ees_take */
    unsigned max_batch;
    bool no_replan, unordered;
    double stall_s;
    /* streams */
    bool realtime, concurrent;
    int overload; /* 0: not given, else enum ees_overload + 1 */
    double deadline_ms;
    unsigned backlog;
    struct number_list degraded, weights;
    /* evidence */
    double audit_share;
    const char *trace_path, *metrics_path;
    bool timing;
    /* policy */
    const char *policy;
    struct number_list thresholds;
    unsigned patience, lag;
    struct number_list skip_below, exit_weights;
    bool full_depth;
    const char *replay_path, *replay_run;
    struct number_list exit_share;
    /* input */
    int io; /* enum ees_io_backend */
    const char *raw;
    double raw_fps;
    unsigned limit;
    const char *truth_path;
    /* output */
    const char *out_path, *summary_path, *progress;
    int format; /* the verb's own enum */
    bool logits;
    bool explain, dot, unit_table, tensor_table;
    /* bench */
    const char *bench_input;
    unsigned n_frames, n_reps;
    double min_time_s, load;
    bool roofline;
    /* plan */
    bool simulate, compare, no_help;
    double rate_hz, jitter;
    /* calibrate and analyse */
    const char *log_path, *target, *svg_dir;
    double delta, degraded_loss;
    unsigned scene, seed;
    /* quantise */
    const char *calibration, *keep_wider;
    /* verify */
    const char *expect_inputs, *expect_outputs, *expect_policies;
};

/* Parse the arguments after the verb. Defaults are filled in first.
 * @return 0; EES_EINVAL with the option, its value and what is allowed in err; EES_ENOMEM */
int options_parse(struct options *o, enum verb_id verb, int argc, char **argv, ees_error *err);
void options_fini(struct options *o);

/* The option list of a verb, as `eestream help VERB` prints it. */
void options_print_help(FILE *out, enum verb_id verb);

/* The nearest of NULL-terminated `names` to a mistyped word, NULL when none is near. */
const char *nearest_name(const char *word, const char *const *names);

/* What every verb does with a model: open --model, --arch or the embedded one; fill engine and policy options. */
int options_open_model(const struct options *o, const char *arch, ees_model **out, ees_error *err);
int options_policy(const struct options *o, ees_policy_options *out, ees_error *err);
void options_source(const struct options *o, ees_source_options *out);

/* The word given with --take. */
const char *take_name(const struct options *o);

#endif
