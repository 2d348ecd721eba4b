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
    const char *dtype; /* "F32" or "I64" */
    unsigned rank;
    size_t shape[4];
    float *data; /* n_elements floats; NULL: zeros of the dtype's size */
};

struct tiny {
    json_t *config;
    struct tensor tensors[160];
    size_t n_tensors;
};

/* Two blocks, C 16, two exits (conv1_1 after block 1, attention_r2 after block 2), 3 classes, input 8 x 12, patch 4.
 * `family`: "lgvit-vit", or "hf-vit" with "early_exits" and canonical head names. The same weights in both. */
void tiny_init(struct tiny *tiny, const char *family);
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
