/* SPDX-License-Identifier: MIT */
/* What one worker owns: a decoder and scratch for the hungriest unit. */
#include "stages/model.h"

/* Bytes for a batch; false: more than a size can say. */
static bool count_scratch(const ees_model *model, unsigned max_batch, size_t *bytes) {
    return ees__mul(max_batch - 1, model->batch_item_bytes, bytes) &&
           ees__add(*bytes, model->info.scratch_bytes, bytes);
}

static bool open_memory(struct ees__lane *lane, const ees_model *model) {
    size_t scratch_bytes;
    if (!count_scratch(model, lane->max_batch, &scratch_bytes))
        return false;
    lane->scratch = ees__calloc_aligned(scratch_bytes, 1);
    lane->states = ees__calloc_aligned(lane->max_batch, sizeof *lane->states);
    lane->logits = ees__calloc_aligned(lane->max_batch, sizeof *lane->logits);
    lane->gates = ees__calloc_aligned(lane->max_batch, sizeof *lane->gates);
    return lane->scratch && lane->states && lane->logits && lane->gates;
}

struct ees__lane *ees__lane_open(const ees_model *model, unsigned max_batch) {
    const ees_model_info *info = &model->info;
    struct ees__lane *lane = ees__calloc_aligned(1, sizeof *lane);
    if (!lane)
        return NULL;
    lane->max_batch = max_batch ? max_batch : 1;
    lane->ingest = ees__ingest_open(&model->preproc, info->image_height_px, info->image_width_px, info->patch_px,
                                    model->dims.pads_rim, model->options.decode, model->options.max_pixels);
    if (!lane->ingest || !open_memory(lane, model)) {
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
    ees__free(lane->states);
    ees__free(lane->logits);
    ees__free(lane->gates);
    ees__free(lane);
}
