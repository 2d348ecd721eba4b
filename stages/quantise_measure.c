/* SPDX-License-Identifier: MIT */
/* Two models of one network, run as one chain: what a precision costs, unit by unit. */
#include <string.h>

#include "common/fail.h"
#include "stages/quantise.h"

struct runner {
    const ees_model *wide, *narrow;
    struct ees__lane *lanes[2]; /* of wide, of narrow: scratch may differ */
    struct ees__item item;
};

static int run_frame(struct runner *r, const bool *is_wider, const ees_frame *frame, float *logits) {
    const ees_model_info *info = &r->wide->info;
    struct ees__item *item = &r->item;
    item->frame = frame;
    for (unsigned i = 0; i < info->n_units; i++) {
        bool wide = is_wider[i] || !r->wide->units[i].op;
        const ees_model *model = wide ? r->wide : r->narrow;
        int rc, exit_idx = model->units[i].info.exit_idx;
        if (exit_idx >= 0)
            item->logits = logits + (size_t)exit_idx * info->n_classes;
        ees__unit_compute(model, &model->units[i], &item, 1, &rc, r->lanes[!wide], NULL);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int ees__mixed_logits(const ees_model *wide, const ees_model *narrow, const bool *is_wider, const ees_frame *frames,
                      size_t n, float *logits, ees_error *err) {
    const ees_model_info *info = &wide->info;
    struct runner r = {.wide = wide, .narrow = narrow, .item = {.exit_idx = -1}};
    r.lanes[0] = ees__lane_open(wide, 1);
    r.lanes[1] = ees__lane_open(narrow, 1);
    r.item.state = ees__calloc_aligned(info->state_bytes, 1);
    int rc = r.lanes[0] && r.lanes[1] && r.item.state ? 0 : EES_FAIL(err, EES_ENOMEM, "no memory to run a frame");
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = run_frame(&r, is_wider, &frames[i], logits + i * (info->n_exits + 1u) * info->n_classes);
    if (r.item.error.code && err && !err->code)
        *err = r.item.error;
    ees__free(r.item.state);
    ees__lane_close(r.lanes[0]);
    ees__lane_close(r.lanes[1]);
    return rc;
}

double ees__logits_error(const ees_model_info *info, const float *reference, const float *logits, size_t n_frames) {
    size_t k = info->n_classes, n_rows = n_frames * (info->n_exits + 1u);
    double total = 0;
    for (size_t i = 0; i < n_rows; i++, reference += k, logits += k) {
        double mean = 0, spread = 1e-30, off = 0;
        for (size_t j = 0; j < k; j++)
            mean += reference[j] / (double)k;
        for (size_t j = 0; j < k; j++) {
            spread += (reference[j] - mean) * (reference[j] - mean);
            off += ((double)logits[j] - reference[j]) * ((double)logits[j] - reference[j]);
        }
        total += off / spread;
    }
    return total / (double)n_rows;
}
