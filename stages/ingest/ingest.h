/* SPDX-License-Identifier: MIT */
/* From a frame as it arrives (JPEG, RGB, YUV, tensor) to the model's patch matrix.
 *
 * One streaming pass: JPEG rows come out of libjpeg-turbo one by one, are resized horizontally into a short window of
 * 8-bit rows, combined vertically, normalised through a 256-entry table a channel, and stored in place in the patch
 * matrix. The full-size picture never exists in memory, so a frame costs rows, not megabytes, whatever its size. */
#ifndef EES_STAGES_INGEST_H
#define EES_STAGES_INGEST_H

#include "eestream/model.h"

enum ees__filter { EES__FILTER_BILINEAR, EES__FILTER_BICUBIC };

/* Preprocessing of a model's family; read from preprocessor_config.json or the family's table (spec 2.1). */
struct ees__preproc {
    /* Resize: to (resize_h, resize_w) whatever the aspect, or, when resize_w is 0, the shorter side to resize_h and
     * the longer to trunc(resize_h * long / short). resize_h 0: no resize. */
    unsigned resize_h, resize_w;
    enum ees__filter filter;
    bool crop;                 /* centre crop to the model's input; false: the resize gives it */
    bool crop_round_half_even; /* offset (h - th) / 2 rounded half to even (torchvision); false: floor (HF) */
    double rescale;            /* 1/255 */
    double mean[3], std[3];    /* R, G, B: value = (u8 * rescale - mean) / std, in float32 as the processors do */
};

struct ees__ingest; /* decoder, row buffers, resize tables: one a worker, grows to the largest frame seen */

/* @param height, width  model input
 *  @param patch          side of a patch
 *  @param pads           a rim at the right and the bottom that fills no patch is filled with zeros; false: it is left out
 *  @return NULL: out of memory */
struct ees__ingest *ees__ingest_open(const struct ees__preproc *preproc, unsigned height, unsigned width,
                                     unsigned patch, bool pads, enum ees_decode decode, uint64_t max_pixels);
void ees__ingest_close(struct ees__ingest *ingest);

/* @param patches     (N, 3*P*P): row n is patch n row-major over the grid, element c*P*P + r*P + s (spec 1.1)
 *  @param n_warnings  recoverable decoder warnings
 *  @return 0; EES_EDAMAGED (what is wrong and where); EES_EINVAL tensor of another shape; EES_ENOMEM */
int ees__ingest_run(struct ees__ingest *ingest, const ees_frame *frame, float *patches, unsigned *n_warnings,
                    ees_error *err);

#endif
