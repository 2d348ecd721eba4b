/* SPDX-License-Identifier: MIT */
#include "tools/cli/verify_inputs.h"

#include <stdio.h>
#include <stdlib.h>

#include "tools/cli/fail.h"

static const ees_tensor_info *find_jpeg(const ees_tensors *file, size_t idx) {
    char name[32];
    snprintf(name, sizeof name, "jpeg.%zu", idx);
    const ees_tensor_info *info = ees_tensors_find(file, name);
    return info && info->dtype == EES_DTYPE_U8 ? info : NULL;
}

/* Room for the largest image. */
static int reserve(struct verify_inputs *in, ees_error *err) {
    size_t largest = in->pixels ? in->pixels->n_elements / in->n_images : 0;
    for (size_t i = 0; !in->pixels && i < in->n_images; i++) {
        size_t n = find_jpeg(in->file, i)->n_elements;
        largest = n > largest ? n : largest;
    }
    /* all of pixel_values: a tensor is read whole */
    in->values = calloc(in->pixels ? in->pixels->n_elements + 1 : largest + 1, sizeof *in->values);
    in->bytes = calloc(largest + 1, 1);
    return in->values && in->bytes ? 0 : CLI_FAIL(err, EES_ENOMEM, "out of memory for the reference images");
}

int verify_inputs_open(const char *path, struct verify_inputs *in, ees_error *err) {
    CLI_TRY(ees_tensors_open(path, &in->file, err));
    in->pixels = ees_tensors_find(in->file, "pixel_values");
    if (in->pixels && in->pixels->rank == 4)
        in->n_images = in->pixels->shape[0];
    while (!in->pixels && find_jpeg(in->file, in->n_images))
        in->n_images++;
    if (in->n_images == 0)
        return CLI_FAIL(err, EES_EINVAL, "%s: holds no images: no pixel_values (B, 3, H, W) and no bytes jpeg.0", path);
    CLI_TRY(reserve(in, err));
    return in->pixels ? ees_tensors_read_f32(in->file, in->pixels, in->values, err) : 0;
}

void verify_inputs_close(struct verify_inputs *in) {
    ees_tensors_close(in->file);
    free(in->values);
    free(in->bytes);
}

static int read_jpeg(struct verify_inputs *in, size_t idx, ees_frame *frame, ees_error *err) {
    const ees_tensor_info *info = find_jpeg(in->file, idx);
    CLI_TRY(ees_tensors_read_f32(in->file, info, in->values, err));
    for (size_t i = 0; i < info->n_elements; i++)
        in->bytes[i] = (unsigned char)in->values[i];
    *frame = (ees_frame){.kind = EES_FRAME_JPEG, .data = {in->bytes}, .bytes = info->n_elements};
    return 0;
}

static int cut_pixels(const struct verify_inputs *in, const ees_model_info *model, size_t idx, ees_frame *frame,
                      ees_error *err) {
    const size_t *shape = in->pixels->shape;
    if (shape[1] != 3 || shape[2] != model->image_height_px || shape[3] != model->image_width_px)
        return CLI_FAIL(err, EES_EINVAL, "pixel_values is not (B, 3, %u, %u)", model->image_height_px,
                        model->image_width_px);
    *frame = (ees_frame){.kind = EES_FRAME_TENSOR,
                         .width_px = (uint32_t)shape[3],
                         .height_px = (uint32_t)shape[2],
                         .data = {in->values + idx * (in->pixels->n_elements / in->n_images)}};
    return 0;
}

int verify_inputs_frame(struct verify_inputs *in, const ees_model_info *model, size_t idx, ees_frame *frame,
                        ees_error *err) {
    CLI_TRY(in->pixels ? cut_pixels(in, model, idx, frame, err) : read_jpeg(in, idx, frame, err));
    frame->frame_idx = idx;
    frame->pts_ns = -1;
    return 0;
}
