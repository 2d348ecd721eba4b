/* SPDX-License-Identifier: MIT */
/* `eestream bench --roofline`: each unit of a model against what one core of each type can do at most. */
#include <stdlib.h>

#include "tools/cli/fail.h"
#include "tools/cli/roofline.h"

/* Options of the other benchmark would be ignored without a word. */
static int check_options(const struct options *o, ees_error *err) {
    const struct {
        bool given;
        const char *name;
    } others[] = {
        {o->load > 0, "load"},         {o->n_frames > 0, "frames"},
        {o->n_workers > 0, "workers"}, {o->replay_path, "replay-exits"},
        {o->unit_table, "unit-table"}, {o->n_slots > 0, "slots"},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (others[i].given)
            return CLI_FAIL(err, EES_EINVAL, "--roofline runs one frame after the other on one core: drop --%s",
                            others[i].name);
    return 0;
}

static int measure(const struct bench *b, const ees_cores *cores, struct bench_model *m, ees_error *err) {
    CLI_TRY(options_open_model(b->o, m->arch, &m->model, err));
    m->info = ees_model_get_info(m->model);
    m->rooflines = calloc(cores->n_types, sizeof *m->rooflines);
    if (!m->rooflines)
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for %u rooflines", cores->n_types);
    uint64_t min_ns = (uint64_t)(1e9 * b->o->min_time_s * b->o->n_reps);
    for (unsigned t = 0; t < cores->n_types; t++, m->n_rooflines++)
        CLI_TRY(ees_roofline_measure(m->model, &b->frames[0], cores, t, min_ns, &m->rooflines[t], err));
    return 0;
}

int bench_roofline(struct bench *b, ees_error *err) {
    ees_cores cores;
    CLI_TRY(check_options(b->o, err));
    CLI_TRY(ees_cores_detect(&cores, err));
    for (size_t i = 0; i < b->n_models; i++)
        CLI_TRY(measure(b, &cores, &b->models[i], err));
    return roofline_report(b, err);
}
