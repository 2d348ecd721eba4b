/* SPDX-License-Identifier: MIT */
/* One frame through every unit and every head, looked at from outside. */
#include <math.h>

#include "common/fail.h"
#include "stages/model.h"

static ees_tap make_tap(const ees_model *model, unsigned unit_idx, const struct ees__item *item) {
    const struct ees__unit *unit = &model->units[unit_idx];
    const struct ees__dims *d = unit->dims;
    ees_tap tap = {.unit = unit_idx, .info = &unit->info, .gate = ees__unit_is_gated(model, unit) ? item->gate : NAN};
    if (!unit->op) {
        tap.kind = EES_TAP_PATCHES;
        tap.rows = d->n_patches;
        tap.cols = 3 * d->patch * d->patch;
        tap.data = item->state;
    } else if (unit->info.exit_idx >= 0) {
        tap.kind = EES_TAP_LOGITS;
        tap.rows = 1;
        tap.cols = d->n_classes;
        tap.data = item->logits;
    } else {
        tap.kind = EES_TAP_TOKENS;
        tap.rows = d->n_tokens;
        tap.cols = d->n_channels;
        tap.data = item->state;
    }
    return tap;
}

static int run_all(const ees_model *model, struct ees__item *item, struct ees__lane *lane,
                   int (*tap)(void *opaque, const ees_tap *tap), void *opaque) {
    for (unsigned i = 0; i < model->info.n_units; i++) {
        int rc;
        struct ees__unit whole = model->units[i];
        whole.n_rows = whole.dims->n_tokens; /* the tap may look at all of them */
        ees__unit_compute(model, &whole, &item, 1, &rc, lane, NULL);
        if (rc < 0)
            return rc;
        ees_tap seen = make_tap(model, i, item);
        rc = tap(opaque, &seen);
        if (rc != 0)
            return rc;
    }
    return 0;
}

int ees_model_trace(const ees_model *model, const ees_frame *frame, int (*tap)(void *opaque, const ees_tap *tap),
                    void *opaque, ees_error *err) {
    struct ees__item item = {.frame = frame, .exit_idx = -1};
    struct ees__lane *lane = ees__lane_open(model, 1);
    item.state = ees__calloc_aligned(model->info.state_bytes, 1);
    item.logits = ees__calloc_aligned(model->dims.n_classes, sizeof(float));
    int rc = lane && item.state && item.logits ? run_all(model, &item, lane, tap, opaque)
                                               : EES_FAIL(&item.error, EES_ENOMEM, "no memory to trace a frame");
    if (item.error.code && err && !err->code)
        *err = item.error;
    ees__free(item.state);
    ees__free(item.logits);
    ees__lane_close(lane);
    return rc;
}
