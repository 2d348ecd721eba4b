/* SPDX-License-Identifier: MIT */
/* The reference images of `eestream verify`: "pixel_values" (B, 3, H, W), already normalised, or JPEGs as they are,
 * "jpeg.0" to "jpeg.{B-1}", with which the preprocessing is verified, too. */
#ifndef EES_CLI_VERIFY_INPUTS_H
#define EES_CLI_VERIFY_INPUTS_H

#include "eestream/frame.h"
#include "eestream/model.h"
#include "eestream/tensors.h"

struct verify_inputs {
    ees_tensors *file;
    const ees_tensor_info *pixels; /* NULL: JPEGs */
    size_t n_images;
    float *values;        /* of the image at hand */
    unsigned char *bytes; /* of the JPEG at hand */
};

/* @return 0; EES_EMODEL; EES_EINVAL: holds neither; EES_ENOMEM */
int verify_inputs_open(const char *path, struct verify_inputs *out, ees_error *err);
void verify_inputs_close(struct verify_inputs *inputs); /* accepts a zeroed one */

/* A frame of image `idx`; valid until the next. @return 0; EES_EINVAL: not of the model's size; EES_EMODEL */
int verify_inputs_frame(struct verify_inputs *inputs, const ees_model_info *model, size_t idx, ees_frame *frame,
                        ees_error *err);

#endif
