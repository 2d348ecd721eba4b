/* SPDX-License-Identifier: MIT */
/* `eestream plan --compare`: four ways to use cores, simulated on the same frames.
 *
 *   equal depth   one group a core with as many blocks each, workers stay: the classic pipeline
 *   best cuts     the same with the cuts between blocks that this mix and these costs ask for
 *   replicas      one group of all cores
 *   planned       the planner's groups, workers help: what `eestream run` does
 *
 * With more cores than blocks the first two have one block a group, and cores are dealt out evenly. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli/fail.h"
#include "tools/cli/file.h"
#include "tools/cli/plan_text.h"
#include "tools/cli/planning.h"
#include "tools/cli/text.h"

enum way { EQUAL_DEPTH, BEST_CUTS, REPLICAS, PLANNED, N_WAYS };
static const char *const way_names[N_WAYS] = {"equal depth", "best cuts", "replicas", "planned"};
static const char *const way_keys[N_WAYS] = {"equal_depth", "best_cuts", "replicas", "planned"};

struct mix {
    const char *name; /* "0.8"; NULL: every frame goes to the end */
    struct replay replay;
};

struct row {
    char cores[24];
    const struct mix *mix;
    char plans[N_WAYS][512];
    ees_simulation results[N_WAYS];
};

enum { MAX_MIXES = N_PUBLISHED + 1, MAX_CORE_SPECS = 16, MAX_BLOCKS = 128 };

struct comparison {
    struct planning *p;
    ees_profile measured;
    struct mix mixes[MAX_MIXES];
    unsigned n_mixes, n_rows;
    struct row rows[MAX_CORE_SPECS * MAX_MIXES];
};

/* ---- Plans --------------------------------------------------------------------------------------------- */

/* Work of each block (what stands in front of the first one included) on the fastest core type. */
static unsigned work_of_blocks(const struct planning *p, double *work) {
    for (unsigned b = 0; b < p->info->n_blocks; b++)
        work[b] = 0;
    for (unsigned u = 0; u < p->info->n_units; u++) {
        unsigned block = ees_model_get_unit(p->model, u)->block;
        work[block ? block - 1 : 0] += p->profile.types[0].cold_ns[u] * p->reach[u];
    }
    return p->info->n_blocks;
}

/* Cut blocks [0, n) into `n_groups` with the least greatest work. least[g][b]: blocks before b in g groups. */
static void best_cuts(const double *work, unsigned n, unsigned n_groups, unsigned *ends) {
    static double least[MAX_BLOCKS + 1][MAX_BLOCKS + 1];
    static unsigned from[MAX_BLOCKS + 1][MAX_BLOCKS + 1];
    for (unsigned g = 0; g <= n_groups; g++)
        for (unsigned b = 0; b <= n; b++)
            least[g][b] = g == 0 && b == 0 ? 0 : INFINITY;
    for (unsigned g = 1; g <= n_groups; g++)
        for (unsigned end = g; end <= n; end++) {
            double sum = 0;
            for (unsigned first = end; first-- > g - 1;) {
                sum += work[first];
                double most = fmax(least[g - 1][first], sum);
                if (most < least[g][end]) {
                    least[g][end] = most;
                    from[g][end] = first;
                }
            }
        }
    for (unsigned g = n_groups, end = n; g > 0; end = from[g][end], g--)
        ends[g - 1] = end;
}

static int best_cuts_text(const struct planning *p, unsigned n_groups, char *out, size_t size, ees_error *err) {
    double work[MAX_BLOCKS];
    unsigned ends[MAX_BLOCKS], first = 1;
    struct text text = text_in(out, size);
    if (p->info->n_blocks > MAX_BLOCKS)
        return CLI_FAIL(err, EES_EUNSUPPORTED, "--compare of a model with %u blocks: at most %d", p->info->n_blocks,
                        MAX_BLOCKS);
    best_cuts(work, work_of_blocks(p, work), n_groups, ends);
    for (unsigned g = 0; g < n_groups; first = ends[g++] + 1)
        text_add(&text, "%s%u-%u", g ? "," : "", first, ends[g]);
    return 0;
}

static int plan_of(const struct planning *p, enum way way, const unsigned *n_of_type, ees_plan *out, ees_error *err) {
    unsigned n = p->cores.n_cores, n_groups = n < p->info->n_blocks ? n : p->info->n_blocks;
    char text[1024] = "replicas";
    if (way == PLANNED)
        return ees_plan_solve(&p->profile, p->reach, n_of_type, out, err);
    if (way == EQUAL_DEPTH)
        snprintf(text, sizeof text, "equal:%u", n_groups);
    if (way == BEST_CUTS)
        CLI_TRY(best_cuts_text(p, n_groups, text, sizeof text, err));
    CLI_TRY(ees_plan_parse(p->model, text, n, out, err));
    return ees_plan_predict(&p->profile, p->reach, n_of_type, out, err);
}

/* ---- Rows ---------------------------------------------------------------------------------------------- */

static int simulate_way(struct comparison *c, struct row *row, enum way way, ees_error *err) {
    struct planning *p = c->p;
    ees_simulation_options s;
    unsigned n_of_type[EES_MAX_CORE_TYPES];
    ees_cores_count(&p->cores, p->cores.n_cores, n_of_type);
    CLI_TRY(plan_of(p, way, n_of_type, &p->plan, err));
    plan_to_text(p->model, &p->plan, row->plans[way], sizeof row->plans[way]);
    planning_simulation_options(p, &s);
    s.plan = &p->plan;
    s.exits = row->mix->replay.exits;
    s.n_exits_given = row->mix->replay.n;
    s.no_help = p->o->no_help || way == EQUAL_DEPTH || way == BEST_CUTS;
    return ees_simulate(p->model, &s, &row->results[way], err);
}

static int add_rows(struct comparison *c, const char *cores, ees_error *err) {
    struct planning *p = c->p;
    CLI_TRY(ees_cores_parse(cores, &p->cores, err));
    ees_profile_scale(&c->measured, &p->cores, &p->profile);
    for (unsigned m = 0; m < c->n_mixes; m++) {
        struct row *row = &c->rows[c->n_rows++];
        const struct replay *replay = &c->mixes[m].replay;
        row->mix = &c->mixes[m];
        snprintf(row->cores, sizeof row->cores, "%s", cores);
        CLI_TRY(ees_plan_reach(p->model, replay->exits ? replay->share : NULL, p->reach, err));
        for (int way = 0; way < N_WAYS; way++)
            CLI_TRY(simulate_way(c, row, (enum way)way, err));
    }
    return 0;
}

/* "4,8,12,64": several numbers of cores alike; anything else is one machine's. */
static int add_all_rows(struct comparison *c, ees_error *err) {
    const char *text = c->p->o->cores ? c->p->o->cores : "4,8,12,64";
    if (text[strspn(text, "0123456789,")] != '\0')
        return add_rows(c, text, err);
    for (unsigned i = 0;; i++) {
        char word[16];
        size_t n = strcspn(text, ",");
        if (i == MAX_CORE_SPECS)
            return CLI_FAIL(err, EES_EINVAL, "--cores: more than %d numbers", MAX_CORE_SPECS);
        snprintf(word, sizeof word, "%.*s", (int)(n < sizeof word ? n : sizeof word - 1), text);
        CLI_TRY(add_rows(c, word, err));
        if (!text[n])
            return 0;
        text += n + 1;
    }
}

/* Whose mix is known, NULL: nobody's. */
static const char *name_mix(const struct planning *p) {
    const struct options *o = p->o;
    return o->exit_share.n > 0 || o->replay_path ? "given" : mix_certificate(o, p->model) ? "certificate" : NULL;
}

/* The mix that is known and none, or the published ones and none. */
static int open_mixes(struct comparison *c, ees_error *err) {
    static const char *const names[N_PUBLISHED] = {"0.8", "0.9", "0.99"};
    const struct planning *p = c->p;
    const char *known = name_mix(p);
    if (known) {
        struct mix *m = &c->mixes[c->n_mixes++];
        m->name = known;
        CLI_TRY(mix_open(&m->replay, p->o, p->model, false, err));
    }
    for (int i = 0; i < N_PUBLISHED && !known && p->info->n_exits > 0; i++) {
        struct mix *m = &c->mixes[c->n_mixes++];
        m->name = names[i];
        CLI_TRY(replay_published(&m->replay, (enum published_mix)i, p->info->n_exits, err));
    }
    c->n_mixes++; /* none */
    return 0;
}

/* ---- Output -------------------------------------------------------------------------------------------- */

static void print_table(const struct comparison *c) {
    printf("%s, kernels %s; frames a second (busy share of the cores)\n\n", c->p->info->name, c->p->info->kernels);
    printf("| cores | exit mix |");
    for (int way = 0; way < N_WAYS; way++)
        printf(" %s |", way_names[way]);
    printf(" plan |\n|---|---|---|---|---|---|---|\n");
    for (unsigned i = 0; i < c->n_rows; i++) {
        const struct row *row = &c->rows[i];
        printf("| %s | %s |", row->cores, row->mix->name ? row->mix->name : "none");
        for (int way = 0; way < N_WAYS; way++)
            printf(" %.1f (%.1f %%) |", row->results[way].fps, 100 * row->results[way].busy_share);
        printf(" %s |\n", row->plans[PLANNED]);
    }
}

static json_t *row_json(const struct row *row) {
    json_t *json = json_pack("{s:s, s:s?}", "cores", row->cores, "mix", row->mix->name);
    for (int way = 0; way < N_WAYS; way++) {
        const ees_simulation *r = &row->results[way];
        json_object_set_new(json, way_keys[way],
                            json_pack("{s:f, s:f, s:{s:f, s:f}, s:s}", "fps", r->fps, "busy_share", r->busy_share,
                                      "latency_ms", "p50", (double)r->latency.p50_ns * 1e-6, "p99",
                                      (double)r->latency.p99_ns * 1e-6, "plan", row->plans[way]));
    }
    return json;
}

static json_t *comparison_json(const struct comparison *c) {
    json_t *rows = json_array();
    for (unsigned i = 0; i < c->n_rows; i++)
        json_array_append_new(rows, row_json(&c->rows[i]));
    return json_pack("{s:s, s:s, s:o}", "model", c->p->info->name, "kernels", c->p->info->kernels, "rows", rows);
}

static int compare(struct comparison *c, ees_error *err) {
    if (strcmp(c->p->o->plan, "auto") != 0)
        return CLI_FAIL(err, EES_EINVAL, "--compare makes its own plans, --plan %s is given", c->p->o->plan);
    CLI_TRY(open_mixes(c, err));
    CLI_TRY(add_all_rows(c, err));
    if (c->p->o->format == REPORT_JSON)
        return file_write_json("-", comparison_json(c), err);
    print_table(c);
    return file_finish_stdout(err);
}

int planning_compare(struct planning *p, ees_error *err) {
    struct comparison *c = calloc(1, sizeof *c);
    if (!c)
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for a comparison");
    c->p = p;
    c->measured = p->profile;
    int rc = compare(c, err);
    for (unsigned m = 0; m < c->n_mixes; m++)
        replay_close(&c->mixes[m].replay);
    free(c);
    return rc;
}
