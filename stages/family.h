/* SPDX-License-Identifier: MIT */
/* A family: one framework's way to write a model down, that is its tensor names, its config keys and its
 * preprocessing. */
#ifndef EES_STAGES_FAMILY_H
#define EES_STAGES_FAMILY_H

#include "eestream/tensors.h"
#include "stages/config.h"
#include "stages/names.h"

/* What a family's reader may look at. */
struct ees__source {
    const struct ees__family *family;
    const struct ees__json *json;     /* config.json */
    const ees_tensors *tensors;       /* NULL: random weights, of any shape asked for */
    const struct ees__layout *layout; /* NULL: not known yet */
};

struct ees__family {
    const char *name;         /* "hf-vit" */
    const char *model_type;   /* of config.json; NULL: its configs have none */
    const char *architecture; /* first of "architectures", where the config has that key; NULL: not looked at */
    /* Canonical tensors, both of which tell files of this family: the backbone, then what sets it apart from the
     * families that come later in the list and share its backbone (NULL: nothing). */
    const char *markers[2];
    enum ees__naming naming;
    const char *prefix;                   /* see struct ees__names */
    const struct ees__backbone *backbone; /* NULL: a ViT's */
    /* @param config  family and preproc_rule are set, the rest is zeroed */
    int (*read_config)(const struct ees__source *source, struct ees__config *config, ees_error *err);
    struct ees__preproc_rule preproc; /* unless the config or preprocessor_config.json say otherwise */
};

/* The family of a model, by `model_type` and `architectures` of its config and the marker tensors of its file. */
int ees__family_find(const struct ees__json *config, const ees_tensors *tensors, const struct ees__family **out,
                     ees_error *err);

/* NULL: none of that name. */
const struct ees__family *ees__family_by_name(const char *name);

struct ees__names ees__family_names(const struct ees__family *family, const struct ees__layout *layout);

/* A tensor of the file by its canonical name; NULL: it has none. */
const ees_tensor_info *ees__source_find(const struct ees__source *source, const char *canonical);

#endif
