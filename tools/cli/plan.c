/* SPDX-License-Identifier: MIT */
/* `eestream plan`: takes the units' costs on this machine, or scales them to another's cores, and solves for the best
 * groups. */
#include <string.h>

#include "tools/cli/fail.h"
#include "tools/cli/planning.h"
#include "tools/cli/profile_store.h"
#include "tools/cli/verbs.h"

static int make_plan(const struct planning *p, const char *text, const unsigned *n_of_type, ees_plan *out,
                     ees_error *err) {
    unsigned n_workers = 0;
    for (unsigned t = 0; t < p->profile.n_types; t++)
        n_workers += n_of_type[t];
    if (strcmp(text, "auto") == 0)
        return ees_plan_solve(&p->profile, p->reach, n_of_type, out, err);
    CLI_TRY(ees_plan_parse(p->model, text, n_workers, out, err));
    return ees_plan_predict(&p->profile, p->reach, n_of_type, out, err);
}

static int add_other(struct planning *p, const char *name, const char *text, unsigned n_workers, ees_error *err) {
    struct alternative *a = &p->others[p->n_others++];
    unsigned n_of_type[EES_MAX_CORE_TYPES];
    snprintf(a->name, sizeof a->name, "%s", name);
    ees_cores_count(&p->cores, n_workers, n_of_type);
    return make_plan(p, text, n_of_type, &a->plan, err);
}

static int make_others(struct planning *p, ees_error *err) {
    CLI_TRY(add_other(p, "1 worker", "replicas", 1, err));
    CLI_TRY(add_other(p, "replicas", "replicas", p->n_workers, err));
    unsigned most = p->n_workers < p->info->n_blocks ? p->n_workers : p->info->n_blocks;
    for (unsigned g = most; g >= 2 && p->n_others + 1 < MAX_ALTERNATIVES; g /= 2) {
        char text[24];
        snprintf(text, sizeof text, "equal:%u", g);
        CLI_TRY(add_other(p, text, text, p->n_workers, err));
    }
    return strcmp(p->o->plan, "auto") == 0 ? 0 : add_other(p, "auto", "auto", p->n_workers, err);
}

static int check_options(const struct options *o, ees_error *err) {
    if (o->n_inputs > 0)
        return CLI_FAIL(err, EES_EINVAL, "plan takes no input, '%s' is given (--model DIR or --arch NAME)",
                        o->inputs[0]);
    if (o->dot && o->format == REPORT_JSON)
        return CLI_FAIL(err, EES_EINVAL, "--dot and --format json: give one of the two");
    if (o->dot && (o->simulate || o->compare))
        return CLI_FAIL(err, EES_EINVAL, "--dot draws a plan, --simulate runs it: give one of the two");
    const char *only_simulated = o->rate_hz > 0  ? "rate"
                                 : o->no_help    ? "no-help"
                                 : o->jitter > 0 ? "jitter"
                                 : o->n_frames   ? "frames"
                                 : o->n_slots    ? "slots"
                                 : o->unordered  ? "unordered"
                                                 : NULL;
    if (only_simulated && !o->simulate && !o->compare)
        return CLI_FAIL(err, EES_EINVAL, "--%s needs --simulate", only_simulated);
    return 0;
}

/* "4,8,12,64" is for compare.c. */
static const char *cores_to_plan_for(const struct options *o) { return o->compare ? NULL : o->cores; }

static int prepare(struct planning *p, ees_error *err) {
    const struct options *o = p->o;
    CLI_TRY(check_options(o, err));
    const char *cores = cores_to_plan_for(o);
    CLI_TRY(cores ? ees_cores_parse(cores, &p->cores, err) : ees_cores_detect(&p->cores, err));
    p->n_workers = o->n_workers ? o->n_workers : p->cores.n_workers;
    ees_cores_count(&p->cores, p->n_workers, p->n_of_type);
    CLI_TRY(options_open_model(o, o->arch, &p->model, err));
    p->info = ees_model_get_info(p->model);
    CLI_TRY(mix_open(&p->mix, o, p->model, o->arch != NULL, err));
    CLI_TRY(profile_get(o, p->model, NULL, &p->profile, err));
    if (o->compare) /* scales and plans for each of its machines */
        return 0;
    ees_profile_scale(&p->profile, &p->cores, &p->profile);
    CLI_TRY(ees_plan_reach(p->model, p->mix.exits ? p->mix.share : NULL, p->reach, err));
    CLI_TRY(make_plan(p, o->plan, p->n_of_type, &p->plan, err));
    return make_others(p, err);
}

enum exit_code verb_plan(const struct options *o) {
    static struct planning p; /* many plans of many groups: too large for a stack of unknown size */
    ees_error err = {0};
    p = (struct planning){.o = o};
    if (prepare(&p, &err) == 0)
        (o->compare ? planning_compare : o->simulate ? planning_simulate : planning_report)(&p, &err);
    replay_close(&p.mix);
    ees_model_close(p.model);
    return err.code ? leave_with(&err, o->verbose) : EXIT_DONE;
}
