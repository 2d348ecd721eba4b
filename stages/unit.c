/* SPDX-License-Identifier: MIT */
/* Running one unit on some frames: the arithmetic, then, at a head, each frame's scores and the policy's word. */
#include <math.h>
#include <string.h>

#include "common/fail.h"
#include "stages/model.h"
#include "stages/policies/policy.h"

/* The arithmetic of an op on the items at hand, states and logits of which are in the lane. */
static void run_op(const ees_model *model, const struct ees__unit *unit, unsigned n, struct ees__lane *lane,
                   struct ees__team *team) {
    unsigned n_at_once = team ? 1 : n;
    for (unsigned i = 0; i < n; i += n_at_once) {
        const struct ees__run run = {
            .kernels = model->kernels,
            .dims = unit->dims,
            .n_rows = unit->n_rows,
            .n = n_at_once,
            .states = lane->states + i,
            .logits = lane->logits + i,
            .learned = ees__unit_is_gated(model, unit) ? &model->learned : NULL,
            .gates = lane->gates + i,
            .lane = lane,
            .team = team,
        };
        unit->op->run(unit->self, &run);
    }
}

void ees__unit_compute(const ees_model *model, const struct ees__unit *unit, struct ees__item *const items[],
                       unsigned n, int rc[], struct ees__lane *lane, struct ees__team *team) {
    for (unsigned i = 0; i < n; i++) {
        struct ees__item *item = items[i];
        rc[i] = 0;
        if (!unit->op)
            rc[i] = ees__ingest_run(lane->ingest, item->frame, item->state, &item->n_warnings, &item->error);
        lane->states[i] = item->state;
        lane->logits[i] = item->logits;
    }
    if (unit->op)
        run_op(model, unit, n, lane, team);
    for (unsigned i = 0; i < n && ees__unit_is_gated(model, unit); i++)
        items[i]->gate = lane->gates[i];
}

/* For whoever wants to know what every head said. */
static void keep_all_logits(const ees_model *model, const struct ees__unit *unit, struct ees__item *item) {
    size_t n_classes = model->dims.n_classes, e = (size_t)unit->info.exit_idx;
    memcpy(item->all_logits + e * n_classes, item->logits, n_classes * sizeof(float));
    if (e < model->info.n_exits)
        item->all_logits[(model->info.n_exits + 1) * n_classes + e] =
            ees__unit_is_gated(model, unit) ? item->gate : NAN;
}

/* What a head's logits say becomes the item's answer so far. */
static void keep_answer(struct ees__item *item, const ees_unit_info *info, const struct ees__scores *scores) {
    item->exit_idx = scores->finite ? info->exit_idx : -1;
    item->block = info->block;
    item->class_idx = scores->class_idx;
    item->confidence = scores->confidence;
    item->entropy = scores->entropy;
}

/* The policy's word on an early exit or the final classifier, and the answer the frame has with it. */
static int finish_head(const ees_model *model, const struct ees__policy_setup *setup, const ees_unit_info *info,
                       struct ees__item *item) {
    struct ees__scores scores = ees__scores_compute(item->logits, model->dims.n_classes);
    bool leaves = ees__policy_decide(setup, (unsigned)info->exit_idx, &scores, item);
    keep_answer(item, info, &scores);
    if (leaves)
        return EES__UNIT_DONE;
    if (info->exit_idx == (int)model->info.n_exits)
        return EES_FAIL(&item->error, EES_EDAMAGED, "logits are not finite");
    item->n_nonfinite += !scores.finite;
    return EES__UNIT_NEXT;
}

int ees__unit_run(const ees_model *model, const struct ees__policy_setup *setup, unsigned unit_idx,
                  struct ees__item *const items[], unsigned n, int rc[], struct ees__lane *lane,
                  struct ees__team *team) {
    const struct ees__unit *unit = &model->units[unit_idx];
    const ees_unit_info *info = &unit->info;
    bool is_final = info->exit_idx == (int)model->info.n_exits;
    bool is_exit = info->exit_idx >= 0 && !is_final;
    bool is_skipped = is_exit && !setup->policy && !setup->replay && !items[0]->all_logits;
    int n_next = 0;
    if (!is_skipped) {
        ees__unit_compute(model, unit, items, n, rc, lane, team);
        for (unsigned i = 0; i < n && info->exit_idx >= 0 && items[i]->all_logits; i++)
            keep_all_logits(model, unit, items[i]);
    }
    for (unsigned i = 0; i < n; i++) {
        if (is_skipped)
            rc[i] = EES__UNIT_NEXT;
        else if (is_final || is_exit)
            rc[i] = finish_head(model, setup, info, items[i]);
        n_next += rc[i] == EES__UNIT_NEXT;
    }
    return n_next;
}
