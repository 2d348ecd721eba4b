/* SPDX-License-Identifier: MIT */
/* Inside a model: dimensions, the chain of units, and what the config said beside that. Read-only once open. */
#ifndef EES_STAGES_MODEL_H
#define EES_STAGES_MODEL_H

#include "eestream/plan.h"
#include "stages/config.h"
#include "stages/names.h"
#include "stages/op.h"
#include "stages/stage.h"

struct ees__large_matrix;
struct ees__source;
struct ees__weights;

struct ees__unit {
    ees_unit_info info; /* info.name is `name` */
    char name[40];
    const struct ees__op *op; /* NULL: ingest */
    const struct ees__dims *dims;
    size_t n_rows; /* of its result that later units read: see struct ees__run */
    void *self;
};

struct ees_model {
    ees_model_info info;
    char name[128];
    struct ees__dims dims; /* of the whole, and of its first stage */
    struct ees__dims stage_dims[EES__MAX_STAGES];
    struct ees__stage stages[EES__MAX_STAGES];
    struct ees__layout layout;
    const struct ees__kernels *kernels;
    struct ees__quantisation quantisation;
    ees_model_options options;
    struct ees__preproc preproc;
    ees_policy_options policy;   /* the model's own; name is set, defaults are not filled in */
    ees_certificate certificate; /* file NULL: none */
    char certificate_file[192];
    char *weights_file; /* NULL: the embedded one, or random weights */
    bool embedded;
    struct ees__policy_weights learned;
    struct ees__exit exits[EES_MAX_EXITS];
    char **labels; /* n_classes names */
    struct ees__unit units[EES_MAX_UNITS];
    struct ees__large_matrix *large; /* (n_large,) matrices of large products, in the order of units */
    size_t n_large;
    size_t batch_item_bytes; /* what info.scratch_bytes grows by with each further frame of a batch */
};

/* Does the model's gate read this unit's pooled vector? Only early exits are gated. */
static inline bool ees__unit_is_gated(const ees_model *model, const struct ees__unit *unit) {
    return model->learned.gate && unit->info.exit_idx >= 0 && unit->info.exit_idx < (int)model->info.n_exits;
}

/* Append the units of a checked config and load their weights: ingest, embed, two a block, heads behind their block,
 * merges between stages, final. On failure the units so far stay for ees_model_close(). */
int ees__chain_open(struct ees_model *model, const struct ees__config *config, struct ees__weights *weights,
                    ees_error *err);
void ees__chain_close(struct ees_model *model);

/* Run a unit's arithmetic on items, as ees__unit_run() but without policy and answer: rc[i] is 0, or what ingest
 * returned with the report in the item's error. */
void ees__unit_compute(const ees_model *model, const struct ees__unit *unit, struct ees__item *const items[],
                       unsigned n, int rc[], struct ees__lane *lane, struct ees__team *team);

/* Options with the defaults filled in; `given` may be NULL. @return 0; EES_EINVAL */
int ees__model_check_options(const ees_model_options *given, ees_model_options *out, ees_error *err);

/* A model from a parsed config and weights; all stay the caller's. `preproc` may be NULL. */
int ees__model_build(const char *name, const struct ees__source *source, const struct ees__json *preproc,
                     struct ees__weights *weights, const ees_model_options *options, ees_model **out, ees_error *err);

#endif
