/* SPDX-License-Identifier: MIT */
/* Where weights come from: a safetensors file through a family's names, or a seeded generator. Tensors are asked for
 * one by one, by canonical name, so a model never holds more than its packed weights and one tensor. */
#ifndef EES_STAGES_WEIGHTS_H
#define EES_STAGES_WEIGHTS_H

#include <stdbool.h>
#include <stdint.h>

#include "eestream/model.h"
#include "eestream/tensors.h"

struct ees__family;
struct ees__layout;

struct ees__tensor_shape {
    unsigned rank; /* 1 .. 4 */
    size_t dim[4];
};

size_t ees__tensor_elements(const struct ees__tensor_shape *shape);

/* Floats that may be reused; zeroed: empty. Release data with ees__free(). */
struct ees__buffer {
    float *data;
    size_t capacity;
};

/* Make room for n floats; what was inside is lost. @return 0; EES_ENOMEM */
int ees__buffer_reserve(struct ees__buffer *buffer, size_t n, const char *purpose, ees_error *err);

struct ees__weights {
    /* Read a tensor.
     * @param name    canonical, with its ending: "blk.3.attn.qkv.weight"
     * @param buffer  see ees__buffer_reserve(); it grows only once the tensor is known to have that shape
     * @return 0; EES_EMODEL missing, of another shape, unreadable, or not finite; EES_ENOMEM */
    int (*read)(struct ees__weights *weights, const char *name, const struct ees__tensor_shape *shape,
                struct ees__buffer *buffer, ees_error *err);
    /* The shape a tensor is stored in; false: there is none. NULL: a source that makes whatever it is asked for. */
    bool (*find)(struct ees__weights *weights, const char *name, struct ees__tensor_shape *shape);
    /* If there is a tensor of this name, it must hold `n` integers, those of `expected`. NULL: there is none.
     * @return 0; EES_EMODEL it differs; EES_ENOMEM */
    int (*check_buffer)(struct ees__weights *weights, const char *name, const float *expected, size_t n,
                        ees_error *err);
    /* Is anything left that should have been read? NULL: never. @return 0; EES_EMODEL */
    int (*check_rest)(struct ees__weights *weights, ees_error *err);
    void (*close)(struct ees__weights *weights); /* also frees it */
    const struct ees__layout *layout;            /* of the config, set before the first read; NULL: unknown */
};

/* @param file     as messages name it
 * @param tensors  borrowed, outlives the weights, as do the options */
int ees__weights_open_file(const char *file, const ees_tensors *tensors, const struct ees__family *family,
                           const ees_model_options *options, struct ees__weights **out, ees_error *err);

/* Values depend on seed and name alone. Their sizes keep activations finite at any depth. */
int ees__weights_open_random(uint64_t seed, struct ees__weights **out, ees_error *err);

#endif
