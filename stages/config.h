/* SPDX-License-Identifier: MIT */
/* What a model's config.json and preprocessor_config.json say, checked and with the defaults filled in. */
#ifndef EES_STAGES_CONFIG_H
#define EES_STAGES_CONFIG_H

#include "eestream/model.h"
#include "stages/ingest/ingest.h"
#include "stages/json.h"
#include "stages/op.h"

struct ees__family;

struct ees__exit {
    unsigned after_block; /* 1-based */
    const struct ees__op *head;
    unsigned number; /* of a numbered head */
    char name[24];   /* as the config spells it */
};

struct ees__config {
    const struct ees__family *family;
    struct ees__dims dims;
    unsigned n_exits;
    struct ees__exit exits[EES_MAX_EXITS];
    ees_policy_options policy; /* as the file says; name NULL: it says nothing */
    char **labels;             /* n_classes names; NULL: the file has none */
    struct ees__preproc preproc;
};

void ees__config_fini(struct ees__config *config); /* accepts a zeroed one */

/* Pieces a family's reader is made of. @return 0; EES_EMODEL; EES_ENOMEM */

/* Keys that every Hugging Face ViT has (spec 4.3), and the labels. */
int ees__config_read_vit(const struct ees__json *json, struct ees__config *config, ees_error *err);

/* The canonical "early_exits" object (spec 4.4), if there is one. */
int ees__config_read_early_exits(const struct ees__json *json, struct ees__config *config, ees_error *err);

/* Append an exit. `key` and `value` are what messages show. */
int ees__config_add_exit(const struct ees__json *json, const char *key, const json_t *value, size_t after_block,
                         const char *head, struct ees__config *config, ees_error *err);

/* "architectures", when present, must hold `name`. */
int ees__config_check_architecture(const struct ees__json *json, const char *name, ees_error *err);

/* The name of a policy; stored with static storage. */
int ees__config_read_policy_name(const struct ees__json *json, const char *key, const char *fallback,
                                 struct ees__config *config, ees_error *err);

/* Thresholds: a number for all exits, or a list of one per exit that may end in a patience count. */
int ees__config_read_counted_thresholds(const struct ees__json *json, const char *key, struct ees__config *config,
                                        ees_error *err);

/* A number for all exits, or a list of one per exit, to `out`; nothing is written when the key is absent. */
int ees__config_read_per_exit(const struct ees__json *json, const char *key, const struct ees__config *config,
                              float *out, unsigned *n, ees_error *err);

/* preprocessor_config.json of Hugging Face (spec 2.1). `half_even`: rounding of the crop's offset. */
int ees__preproc_read(const struct ees__json *json, const struct ees__dims *dims, bool half_even,
                      struct ees__preproc *out, ees_error *err);

extern const double ees__imagenet_mean[3], ees__imagenet_std[3];

#endif
