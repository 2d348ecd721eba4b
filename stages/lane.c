/* SPDX-License-Identifier: MIT */
/* What one worker owns: a decoder and scratch for the hungriest unit. */
#include "stages/model.h"

struct ees__lane *ees__lane_open(const ees_model *model) {
    const ees_model_info *info = &model->info;
    struct ees__lane *lane = ees__calloc_aligned(1, sizeof *lane);
    if (!lane)
        return NULL;
    lane->scratch = ees__calloc_aligned(info->scratch_bytes, 1);
    lane->ingest = ees__ingest_open(&model->preproc, info->image_height_px, info->image_width_px, info->patch_px,
                                    model->options.decode, model->options.max_pixels);
    if (!lane->scratch || !lane->ingest) {
        ees__lane_close(lane);
        return NULL;
    }
    return lane;
}

void ees__lane_close(struct ees__lane *lane) {
    if (!lane)
        return;
    if (lane->ingest)
        ees__ingest_close(lane->ingest);
    ees__free(lane->scratch);
    ees__free(lane);
}
