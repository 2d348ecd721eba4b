/* SPDX-License-Identifier: MIT */
/* `eestream demo`: the embedded model on the embedded clip, once for show, then with exits and at full depth in turn.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tools/cli/bench.h"
#include "tools/cli/file.h"
#include "tools/cli/progress.h"
#include "tools/cli/stream.h"
#include "tools/cli/summary.h"
#include "tools/cli/verbs.h"

#define N_ROUNDS    5
#define ROUND_S     0.4 /* a timed pass streams the clip until it takes about this long */
#define MAX_REPEATS 64

extern const char cli_demo_clip[] __attribute__((visibility("hidden")));
extern const char cli_demo_clip_end[] __attribute__((visibility("hidden")));
extern const char cli_demo_truth[] __attribute__((visibility("hidden")));
extern const char cli_demo_truth_end[] __attribute__((visibility("hidden")));

struct demo {
    const struct options *o;
    int fd;
    char path[64];
    ees_model *model;
    const ees_model_info *info;
    struct truth truth;
    ees_profile profile;
    double exit_share[EES_MAX_EXITS + 1];
    bool mix_known, interrupted;
    size_t n_repeats;        /* of the clip in one pass */
    double fps[2][N_ROUNDS]; /* [0] full depth, [1] with exits */
};

/* One pass over the clip. */
struct pass {
    struct demo *demo;
    struct summary summary;
    ees_sink *sink;
    struct progress *progress; /* NULL: nobody watches */
    ees_engine *engine;
    struct stream stream;
};

/* The sources read files: the clip becomes one that has no name. */
static int open_clip(struct demo *d, ees_error *err) {
    d->fd = memfd_create("eestream-demo", MFD_CLOEXEC);
    int error = d->fd < 0 ? errno : file_write_all(d->fd, cli_demo_clip, (size_t)(cli_demo_clip_end - cli_demo_clip));
    if (error)
        return CLI_FAIL_OS(err, EES_EINTERNAL, error, "cannot hold the demo clip in memory");
    snprintf(d->path, sizeof d->path, "/proc/self/fd/%d", d->fd);
    return 0;
}

static int take_result(void *opaque, const ees_result *result, ees_error *err) {
    struct pass *p = opaque;
    summary_add(&p->summary, result, truth_of(&p->demo->truth, result, p->demo->model));
    return p->sink ? ees_sink_write(p->sink, result, err) : 0;
}

static int tick(void *opaque, ees_error *err) {
    struct pass *p = opaque;
    if (p->progress)
        progress_tick(p->progress, p->engine, p->demo->info->n_exits, stream_expected(&p->stream));
    return 0;
}

static int open_engine(struct demo *d, const ees_policy_options *policy, ees_engine **engine, ees_error *err) {
    ees_engine_options e;
    bool exits = strcmp(policy->name, "none") != 0;
    ees_engine_options_default(&e);
    e.n_workers = d->o->n_workers;
    e.pin = !d->o->no_pin;
    e.plan = d->o->plan;
    e.profile = &d->profile;
    e.exit_share = exits && d->mix_known ? d->exit_share : NULL;
    e.policy = *policy;
    return ees_engine_open(d->model, &e, engine, err);
}

static int stream_clip(struct demo *d, struct pass *p, ees_error *err) {
    const struct stream_events events = {.result = take_result, .tick = tick, .opaque = p};
    struct stream *stream = &p->stream;
    ees_source_options source;
    char *uris[MAX_REPEATS];
    for (size_t i = 0; i < d->n_repeats; i++)
        uris[i] = d->path;
    options_source(d->o, &source);
    int rc = stream_init(stream, uris, d->n_repeats, &source, err);
    for (size_t i = 0; i < stream->n_inputs; i++)
        stream->inputs[i].name = "demo";
    if (rc == 0)
        rc = stream_catch_signals(stream, err);
    if (rc == 0)
        rc = stream_run(stream, p->engine, &events, err);
    if (rc == EES_ESTALLED) /* closing the engine would wait for the stuck worker */
        _exit((int)leave_with(err, d->o->verbose));
    summary_finish(&p->summary, p->engine, stream);
    if (rc == 0)
        rc = summary_check(&p->summary, stream, err);
    if (rc == 0 && stream->source_failure)
        rc = CLI_FAIL(err, EES_EINTERNAL, "the embedded clip cannot be read");
    d->interrupted |= stream_was_interrupted(stream);
    stream_fini(stream);
    return rc;
}

static int run_pass(struct demo *d, struct pass *p, const char *policy_name, struct progress *progress,
                    ees_error *err) {
    ees_policy_options asked = {.name = policy_name}, policy;
    CLI_TRY(ees_policy_resolve(d->model, &asked, &policy, err));
    p->demo = d;
    p->progress = progress;
    summary_init(&p->summary, d->model, &policy, NULL);
    CLI_TRY(open_engine(d, &policy, &p->engine, err));
    int rc = stream_clip(d, p, err);
    if (progress)
        progress_close(progress, p->engine, d->info->n_exits);
    ees_engine_close(p->engine);
    return rc;
}

/* The pass a user watches: with progress, into --out. It also warms the machine and measures the exit mix. */
static int run_shown(struct demo *d, struct pass *p, ees_error *err) {
    ees_sink_options sink = {.format = EES_SINK_JSONL};
    struct progress progress;
    if (d->o->out_path)
        CLI_TRY(ees_sink_open(d->o->out_path, &sink, &p->sink, err));
    CLI_TRY(progress_open(&progress, NULL, d->o->quiet, err));
    d->n_repeats = 1;
    run_pass(d, p, NULL, &progress, err);
    ees_sink_close(p->sink, err);
    p->sink = NULL;
    for (unsigned e = 0; e <= d->info->n_exits; e++)
        d->exit_share[e] = (double)p->summary.exits[e].n_frames;
    d->mix_known = summary_mean_block(&p->summary) > 0;
    double clip_s = (double)p->summary.stats.wall_ns * 1e-9, wanted = clip_s > 0 ? ROUND_S / clip_s : MAX_REPEATS;
    d->n_repeats = wanted < 1 ? 1 : wanted > MAX_REPEATS ? MAX_REPEATS : (size_t)wanted;
    return err->code;
}

static int run_rounds(struct demo *d, struct pass *full, struct pass *with_exits, ees_error *err) {
    for (int round = 0; round < N_ROUNDS && !d->interrupted; round++)
        for (int i = 0; i < 2 && !d->interrupted; i++) {
            bool exits = i == round % 2;
            struct pass *p = exits ? with_exits : full;
            CLI_TRY(run_pass(d, p, exits ? NULL : "none", NULL, err));
            d->fps[exits][round] = summary_fps(&p->summary);
        }
    return 0;
}

/* ---- Report -------------------------------------------------------------------------------------------- */

static void print_speed(FILE *out, const char *name, const struct pass *p, const double *fps) {
    struct spread s = spread_of(fps, N_ROUNDS);
    fprintf(out, "  %-12s %9.1f fps (%.1f to %.1f), accuracy %.2f %%, mean depth %.2f of %u blocks\n", name, s.median,
            s.min, s.max, 100 * summary_accuracy(&p->summary), summary_mean_block(&p->summary),
            p->summary.info->n_blocks);
}

static void report(const struct demo *d, const struct pass *full, const struct pass *with_exits) {
    double ratio[N_ROUNDS];
    for (int i = 0; i < N_ROUNDS; i++)
        ratio[i] = d->fps[1][i] / d->fps[0][i];
    struct spread s = spread_of(ratio, N_ROUNDS);
    printf("%llu frames a round (the clip %zu times), %u workers, kernels %s, plan %s\n",
           (unsigned long long)summary_answered(&with_exits->summary), d->n_repeats,
           with_exits->summary.stats.n_workers, d->info->kernels, with_exits->summary.plan);
    summary_print_exits(stdout, &with_exits->summary);
    printf("\n%d rounds each, in turn:\n", N_ROUNDS);
    print_speed(stdout, "with exits", with_exits, d->fps[1]);
    print_speed(stdout, "full depth", full, d->fps[0]);
    printf("  speed-up     %.2f times (%.2f to %.2f over the rounds; %.2f by blocks alone)\n\n", s.median, s.min, s.max,
           d->info->n_blocks / summary_mean_block(&with_exits->summary));
    printf("Next:\n"
           "  eestream run VIDEO --out results.jsonl        your own frames, one JSON line each\n"
           "  eestream run VIDEO --threshold 0.9            later exits, surer answers\n"
           "  eestream plan --explain                       which cores run which blocks, and why\n"
           "  eestream bench --arch vit-s16                 the engine on a larger model\n");
}

static int demo(struct demo *d, ees_error *err) {
    static struct pass shown, full, with_exits;
    if (d->o->n_inputs > 0) {
        CLI_FAIL(err, EES_EINVAL, "demo takes no input, '%s' is given", d->o->inputs[0]);
        return cli_hint(err, "eestream run %.100s", d->o->inputs[0]);
    }
    CLI_TRY(options_open_model(d->o, NULL, &d->model, err));
    d->info = ees_model_get_info(d->model);
    CLI_TRY(truth_parse(&d->truth, "demo truth", cli_demo_truth, (size_t)(cli_demo_truth_end - cli_demo_truth),
                        d->model, err));
    CLI_TRY(open_clip(d, err));
    CLI_TRY(ees_profile_measure(d->model, NULL, 0, NULL, &d->profile, err));
    CLI_TRY(run_shown(d, &shown, err));
    CLI_TRY(run_rounds(d, &full, &with_exits, err));
    if (!d->interrupted && !d->o->quiet)
        report(d, &full, &with_exits);
    return file_finish_stdout(err);
}

enum exit_code verb_demo(const struct options *o) {
    struct demo d = {.o = o, .fd = -1};
    ees_error err = {0};
    demo(&d, &err);
    truth_close(&d.truth);
    ees_model_close(d.model);
    if (d.fd >= 0)
        close(d.fd);
    if (err.code)
        return leave_with(&err, o->verbose);
    return d.interrupted ? EXIT_INTERRUPTED : EXIT_DONE;
}
