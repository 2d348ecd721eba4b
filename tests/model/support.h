/* SPDX-License-Identifier: MIT */
/* What the model tests share: temporary folders, a safetensors writer, a tiny model, walking a frame through units. */
#ifndef EES_TESTS_MODEL_SUPPORT_H
#define EES_TESTS_MODEL_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>

#include "eestream/model.h"
#include "eestream/tensors.h"
#include "stages/stage.h"

/* A tensor as a test makes it. */
struct tensor {
    char name[128];
    const char *dtype; /* "F32", "F16", "BF16" or "I64" */
    unsigned rank;
    size_t shape[4];
    float *data; /* n_elements floats, of half types cut to their bits; NULL: zeros of the dtype's size */
};

struct ees__layout;

struct tiny {
    json_t *config;
    const struct ees__layout *layout; /* of a Swin: where its blocks and exits lie */
    struct tensor tensors[160];
    size_t n_tensors;
};

/* Two blocks, C 16, two exits (conv1_1 after block 1, attention_r2 after block 2), 3 classes, input 8 x 12, patch 4.
 * `family`: "lgvit-vit", or "hf-vit" with "early_exits" and canonical head names. The same weights in both. */
void tiny_init(struct tiny *tiny, const char *family);
/* A backbone without exits as a family names it, with the same values under every naming. */
enum {
    FORM_DIST = 1,      /* distillation token and classifier */
    FORM_REGISTERS = 2, /* two of them */
    FORM_SCALE = 4,     /* layer scale */
    FORM_GATED = 8,
    FORM_WIDE_HEAD = 16, /* on [class ; mean of patches] */
};

struct form {
    const char *family, *config;
    unsigned flags;
    size_t image_h, image_w, patch; /* of the position table; 0: 8 x 12, patch 4 */
};

/* Two blocks, C 16, MLP 24 wide, 3 classes. */
void tiny_init_form(struct tiny *tiny, const struct form *form);
/* A Swin of two stages: 2 and 1 blocks, C 8 and 16, 2 and 4 attention heads, MLP 16 and 32 wide, windows of 3 x 3, patch 2,
 * 3 classes; with the same values under every naming. A `linear` head after block 3, where the family is LGViT's or the config has
 * "early_exits", with the values of the final norm and classifier. */
void tiny_init_swin(struct tiny *tiny, const char *family, const char *config);
void tiny_rename(struct tiny *tiny, const char *from, const char *to); /* the start of names */
/* Append a tensor by its canonical name, in spelling `alternative` (0: the first) of the family's; values by name. */
void tiny_add_canonical(struct tiny *tiny, const char *family, unsigned alternative, const char *canonical,
                        unsigned rank, const size_t shape[4]);
struct tensor *tiny_add(struct tiny *tiny, const char *name, unsigned rank, size_t d0, size_t d1, size_t d2);

void tiny_fini(struct tiny *tiny);
struct tensor *tiny_find(struct tiny *tiny, const char *name);
void tiny_remove(struct tiny *tiny, const char *name);
void tiny_write(const struct tiny *tiny, const char *dir);

void make_folder(char path[64]);
void remove_folder(const char *path);
void write_file(const char *dir, const char *name, const void *data, size_t n_bytes);

/* A file of the fixtures or the project; skips the test when it is not there. */
ees_tensors *open_tensors_or_skip(const char *dir, const char *file);
json_t *load_json(const char *dir, const char *file);

/* The value a half type keeps of x: F16 ("F16") or BF16 ("BF16"), toward zero, small ones to zero. `bits`: what the file
 * holds; may be NULL. */
float cut_to_half(const char *dtype, float x, uint16_t *bits);

/* Logits of the final classifier for one frame of pixels (3, H, W). */
void trace_logits(const ees_model *model, const float *pixels, float *logits);

/* A whole tensor; fails the test when it is missing. Free with free(). */
float *read_tensor(const ees_tensors *tensors, const char *name, const ees_tensor_info **info);

/* A frame of normalised pixels (3, H, W). */
ees_frame tensor_frame(const ees_model *model, const float *pixels);

struct walked {
    struct ees__item item;
    int rc; /* EES__UNIT_DONE or an error */
    float *logits;
    unsigned n_units_run;
};

/* Run a frame unit by unit, as a worker does. */
void walk_units(const ees_model *model, const struct ees__policy_setup *setup, const ees_frame *frame, uint64_t seq,
                struct walked *out);
void walked_fini(struct walked *walked);

#endif
