/* SPDX-License-Identifier: MIT */
/* What a model's config.json and preprocessor_config.json say, checked and with the defaults filled in. */
#ifndef EES_STAGES_CONFIG_H
#define EES_STAGES_CONFIG_H

#include "eestream/model.h"
#include "eestream/plan.h"
#include "stages/ingest/ingest.h"
#include "stages/json.h"
#include "stages/op.h"

struct ees__backbone;
struct ees__family;
struct ees__source;

enum { EES__MAX_STAGES = EES_MAX_STAGES };

/* What a config tells of a stage. */
struct ees__stage {
    size_t n_blocks, n_heads, mlp_width;
};

struct ees__exit {
    unsigned after_block; /* 1-based */
    const struct ees__op *head;
    unsigned number; /* of a numbered head */
    char name[24];   /* as the config spells it */
};

/* Preprocessing as the families write it (spec 2.1), for any size of input. */
struct ees__preproc_rule {
    /* The picture is resized to this many times the input's side, both sides or, with keep_aspect, the shorter one to
     * the longer side of the input; then the centre is cut out. Written as the share of a side the cut keeps. */
    double crop_share;
    bool keep_aspect;
    bool half_even; /* rounding of the cut's offset, see struct ees__preproc */
    enum ees__filter filter;
    double mean[3], std[3];
    bool ignores_squash; /* a preprocessor_config.json counts only with a "shortest_edge" (LGViT, spec 2.1) */
    unsigned
        default_side_px; /* the input is no larger than this (DINOv2: trained at 518, used at 224); 0: the config's */
};

#define EES_IMAGENET_MEAN                                                                                              \
    { 0.485, 0.456, 0.406 }
#define EES_IMAGENET_STD                                                                                               \
    { 0.229, 0.224, 0.225 }

/* LGViT's, which EEVIT takes over: torchvision's transforms on a PIL image. */
#define EES_LGVIT_PREPROC                                                                                              \
    {                                                                                                                  \
        .crop_share = 1.0, .keep_aspect = true, .half_even = true, .filter = EES__FILTER_BILINEAR,                     \
        .mean = EES_IMAGENET_MEAN, .std = EES_IMAGENET_STD, .ignores_squash = true                                     \
    }

/* How a folder is to be run, "quantisation" of config.json. */
struct ees__quantisation {
    enum ees__precision precision;
    const char *name; /* of it: "fp32", "bf16", "int8", or "fp16", which is stored so and runs in float32 */
    unsigned n_wider;
    char wider[EES_MAX_UNITS][40]; /* units that stay in float32 */
};

struct ees__config {
    const struct ees__family *family;
    const struct ees__backbone *backbone;
    struct ees__dims dims; /* of the whole, and of its first stage */
    /* Readers of a ViT leave 0 stages: what is in `dims` is one. */
    unsigned n_stages;
    struct ees__stage stages[EES__MAX_STAGES];
    struct ees__dims stage_dims[EES__MAX_STAGES]; /* filled with the input */
    unsigned n_exits;
    struct ees__exit exits[EES_MAX_EXITS];
    ees_policy_options policy; /* as the file says; name NULL: it says nothing */
    char **labels;             /* n_classes names; NULL: the file has none */
    struct ees__preproc_rule preproc_rule;
    struct ees__preproc preproc;
    struct ees__quantisation quantisation;
};

void ees__config_fini(struct ees__config *config); /* accepts a zeroed one */

/* Pieces a family's reader is made of. @return 0; EES_EMODEL; EES_ENOMEM */

/* ---- Sizes ---------------------------------------------------------------------------------------------- */

enum {
    EES__MAX_IMAGE = 8192,
    EES__MAX_CHANNELS = 1 << 14,
    EES__MAX_MLP_WIDTH = 1 << 16,
    EES__MAX_BLOCKS = 96,
    EES__MAX_CLASSES = 1 << 20,
};

/* What a framework calls a ViT's sizes. NULL: not in its configs. */
struct ees__vit_keys {
    const char *image_size, *patch_size, *n_colours, *n_channels, *n_heads, *mlp_width, *n_blocks;
};

extern const struct ees__vit_keys ees__hf_keys;

/* Read sizes into config->dims, where their defaults stand beforehand. The image is the training's; a default of 0
 * means that the position table tells it. */
int ees__config_read_sizes(const struct ees__json *json, const struct ees__vit_keys *keys, struct ees__config *config,
                           ees_error *err);

/* Sizes as the file's tensors have them, as defaults for configs that say little. Attention heads are not in tensors:
 * their number follows from the width, as it does in timm, torchvision and DINOv2. */
int ees__config_measure(const struct ees__source *source, struct ees__config *config, ees_error *err);

/* dims->activation by the name under `key`, as Hugging Face and timm call them; absent: erf gelu. */
int ees__config_read_activation(const struct ees__json *json, const char *key, struct ees__config *config,
                                ees_error *err);
/* One side, or [height, width]; nothing is written when the key is absent. */
int ees__config_read_sides(const struct ees__json *json, const char *key, size_t high, size_t *h, size_t *w,
                           ees_error *err);

/* Any of a block's tensors, so that the one which is missing is missed by name. */
bool ees__config_has_block(const struct ees__source *source, size_t block);

/* Axis `axis` of a canonical tensor, which must have `rank` of them. */
int ees__config_measure_axis(const struct ees__source *source, const char *canonical, unsigned rank, unsigned axis,
                             size_t high, size_t *out, ees_error *err);

/* Keys that Hugging Face's ViTs share (spec 4.3), over ees__config_read_sizes(). `eps`: default of layer_norm_eps. */
int ees__config_read_hf(const struct ees__json *json, double eps, struct ees__config *config, ees_error *err);

/* The image the model was trained with and the grid its position table is of. After everything else in dims. */
int ees__config_find_table(const struct ees__source *source, struct ees__config *config, ees_error *err);

/* Grid and tokens of all stages for an input of h x w. A rim at the right and the bottom that fills no patch is not
 * looked at, as by the convolution of Hugging Face and timm, or filled up (dims->pads_rim). `asked`: by the caller, not
 * by the config.
 * @return 0; EES_EMODEL, if asked EES_EINVAL: less than a patch or a window, or too many tokens */
int ees__config_set_input(const struct ees__json *json, size_t h, size_t w, bool asked, struct ees__config *config,
                          ees_error *err);

/* ---- Swin ----------------------------------------------------------------------------------------------- */

/* What a framework calls a Swin's sizes. NULL: not in its configs. */
struct ees__swin_keys {
    const char *image_size, *patch_size, *n_colours, *n_channels, *depths, *n_heads, *window, *mlp_ratio;
};

/* Hugging Face's names; arguments of torchvision's constructor have the same ones. */
extern const struct ees__swin_keys ees__swin_keys;

enum { EES__MAX_WINDOW = 64 };

/* Sizes as the file's tensors have them, as defaults for configs that say little. */
int ees__config_measure_swin(const struct ees__source *source, struct ees__config *config, ees_error *err);

/* Read sizes, defaults of which are in place. */
int ees__config_read_swin(const struct ees__json *json, const struct ees__swin_keys *keys, struct ees__config *config,
                          ees_error *err);

/* Hugging Face's keys and defaults (spec 4.3). */
int ees__config_read_hf_swin(const struct ees__json *json, struct ees__config *config, ees_error *err);

/* ---- Labels, exits, policy ------------------------------------------------------------------------------ */

/* "id2label" and "num_labels" (spec 4.3), the number of classes with them. */
int ees__config_read_labels(const struct ees__json *json, struct ees__config *config, ees_error *err);

/* The canonical "early_exits" object (spec 4.4), if there is one. */
int ees__config_read_early_exits(const struct ees__json *json, struct ees__config *config, ees_error *err);

/* Name and parameters of a policy, as "early_exits" has them under "policy". */
int ees__config_read_policy(const struct ees__json *json, struct ees__config *config, ees_error *err);

/* Append an exit. `key` and `value` are what messages show. */
int ees__config_add_exit(const struct ees__json *json, const char *key, const json_t *value, size_t after_block,
                         const char *head, struct ees__config *config, ees_error *err);

/* The "quantisation" object, if there is one. */
int ees__config_read_quantisation(const struct ees__json *json, struct ees__config *config, ees_error *err);

/* "architectures", when present, must hold the family's. */
int ees__config_check_architecture(const struct ees__source *source, ees_error *err);

/* The name of a policy; stored with static storage. */
int ees__config_read_policy_name(const struct ees__json *json, const char *key, const char *fallback,
                                 struct ees__config *config, ees_error *err);

/* Thresholds: a number for all exits, or a list of one per exit that may end in a patience count. */
int ees__config_read_counted_thresholds(const struct ees__json *json, const char *key, struct ees__config *config,
                                        ees_error *err);

/* A number for all exits, or a list of one per exit, to `out`; nothing is written when the key is absent. */
int ees__config_read_per_exit(const struct ees__json *json, const char *key, const struct ees__config *config,
                              float *out, unsigned *n, ees_error *err);

/* ---- Preprocessing -------------------------------------------------------------------------------------- */

/* preprocessor_config.json of Hugging Face, as it stands. */
struct ees__processor {
    struct ees__preproc preproc;
    unsigned crop_h, crop_w; /* 0: no crop */
};

/* @param json  NULL: the folder has none; *out is zeroed, also where the family does not go by it */
int ees__processor_read(const struct ees__json *json, const struct ees__preproc_rule *rule, struct ees__processor *out,
                        ees_error *err);

/* The input the processor makes. false: there is none, or its result has no fixed size. */
bool ees__processor_input(const struct ees__processor *processor, size_t *h, size_t *w);

/* Fill config->preproc, by the file where there is one and by the rule otherwise. `scaled`: the user chose the input's
 * size, the processor's sizes are scaled to it. */
int ees__preproc_fill(const struct ees__json *json, struct ees__processor *processor, bool scaled,
                      struct ees__config *config, ees_error *err);

#endif
