/* SPDX-License-Identifier: MIT */
/* A family: one framework's way to write a model down, that is its tensor names and its config keys. */
#ifndef EES_STAGES_FAMILY_H
#define EES_STAGES_FAMILY_H

#include "eestream/tensors.h"
#include "stages/config.h"

enum { EES__MAX_PARTS = 3, EES__MAX_TENSOR_NAME = 256 };

/* '#' stands for one index, the same on both sides. What follows the canonical name (".weight", ".bias",
 * ".running_mean", ".running_var" or nothing) follows the file's name too. */
struct ees__name_rule {
    const char *canonical;
    const char *parts[EES__MAX_PARTS]; /* stacked along the first axis; the rest NULL */
};

struct ees__family {
    const char *name;       /* "hf-vit" */
    const char *model_type; /* of config.json */
    const char *marker;     /* a tensor that files of this family have and those of others do not */
    const struct ees__name_rule *names;
    const char *const *unused; /* fnmatch(3) patterns of tensors no result depends on */
    int (*read_config)(const struct ees__json *json, struct ees__config *config, ees_error *err);
    /* @param json  preprocessor_config.json; NULL when the folder has none */
    int (*read_preproc)(const struct ees__json *json, struct ees__config *config, ees_error *err);
};

/* The family of a model, by `model_type` of its config and the marker tensors of its file. */
int ees__family_find(const struct ees__json *config, const ees_tensors *tensors, const struct ees__family **out,
                     ees_error *err);

/* NULL: none of that name. */
const struct ees__family *ees__family_by_name(const char *name);

/* The family's names for a canonical tensor; a name without a rule stands for itself.
 * @return number of parts, each written to `parts`; 0 when a name is longer than EES__MAX_TENSOR_NAME */
unsigned ees__family_map_name(const struct ees__family *family, const char *canonical,
                              char parts[EES__MAX_PARTS][EES__MAX_TENSOR_NAME]);

bool ees__family_ignores(const struct ees__family *family, const char *tensor);

#endif
