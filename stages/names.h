/* SPDX-License-Identifier: MIT */
/* What tensors are called: one table of canonical names, a column for each framework's naming (spec 3). */
#ifndef EES_STAGES_NAMES_H
#define EES_STAGES_NAMES_H

#include <stdbool.h>

#include "eestream/tensors.h"

enum { EES__MAX_PARTS = 3, EES__MAX_TENSOR_NAME = 256 };

enum ees__naming {
    EES__NAMES_HF,           /* Hugging Face ViT and DeiT */
    EES__NAMES_HF_DISTILLED, /* the same with two classifiers */
    EES__NAMES_HF_DINOV2,
    EES__NAMES_LGVIT, /* official LGViT */
    EES__NAMES_LGVIT_DISTILLED,
    EES__NAMES_TIMM, /* timm, and DINOv2 as published */
    EES__NAMES_TORCHVISION,
    EES__NAMES_EEVIT,
    EES__NAMES_SWIN, /* Hugging Face Swin */
    EES__NAMES_LGVIT_SWIN,
    EES__NAMES_TIMM_SWIN,
    EES__NAMES_TIMM_SWIN_OLD, /* before 0.8, and Microsoft's own: merges are counted from the stage in front */
    EES__NAMES_TORCHVISION_SWIN,
    EES__N_NAMINGS,
};

struct ees__exit;
struct ees__stage;

/* Where blocks and exits lie, for namings that count within a stage or by the block. */
struct ees__layout {
    unsigned n_stages;
    const struct ees__stage *stages; /* blocks beyond the last stage's are counted as its own */
    unsigned n_exits;
    const struct ees__exit *exits;
};

/* The names of one model's file. */
struct ees__names {
    enum ees__naming naming;
    const char *prefix;               /* of Hugging Face's namings: "vit" */
    const struct ees__layout *layout; /* NULL: unknown. Blocks lie in stage 0, exits in any */
};

/* The tensors that stand for a canonical one ("blk.3.attn.qkv.weight"), stacked along the first axis. Names without a
 * row in the table, as those of heads in a naming that has none, stand for themselves.
 * @param alternative  a tensor may be spelled in several ways: 0, 1, ... A '*' is left in for any text
 * @return number of parts, each written to `parts`; 0: no such alternative, or a name is too long */
unsigned ees__names_expand(const struct ees__names *names, const char *canonical, unsigned alternative,
                           char parts[EES__MAX_PARTS][EES__MAX_TENSOR_NAME]);

/* The same in the spelling the file uses: the first alternative whose first part is there, `*found`, else the first
 * of all. */
unsigned ees__names_locate(const struct ees__names *names, const ees_tensors *tensors, const char *canonical,
                           char parts[EES__MAX_PARTS][EES__MAX_TENSOR_NAME], bool *found);

/* A tensor no result depends on. */
bool ees__names_unused(const struct ees__names *names, const char *tensor);

#endif
