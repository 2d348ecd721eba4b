/* SPDX-License-Identifier: MIT */
/* Running one unit on one frame: the arithmetic, then, at an exit, the scores and the policy's word. */
#include "common/fail.h"
#include "stages/model.h"
#include "stages/policies/policy.h"

int ees__unit_compute(const ees_model *model, const struct ees__unit *unit, struct ees__item *item,
                      struct ees__lane *lane) {
    if (!unit->op)
        return ees__ingest_run(lane->ingest, item->frame, item->state, &item->n_warnings, &item->error);
    const struct ees__run run = {
        .kernels = model->kernels,
        .dims = &model->dims,
        .state = item->state,
        .logits = item->logits,
        .scratch = lane->scratch,
    };
    unit->op->run(unit->self, &run);
    return 0;
}

static int answer(struct ees__item *item, const ees_unit_info *info, const struct ees__scores *scores) {
    item->exit_idx = info->exit_idx;
    item->block = info->block;
    item->class_idx = scores->class_idx;
    item->confidence = scores->confidence;
    item->entropy = scores->entropy;
    return EES__UNIT_DONE;
}

int ees__unit_run(const ees_model *model, const struct ees__policy_setup *setup, unsigned unit_idx,
                  struct ees__item *item, struct ees__lane *lane) {
    const struct ees__unit *unit = &model->units[unit_idx];
    const ees_unit_info *info = &unit->info;
    bool is_final = info->exit_idx == (int)model->info.n_exits;
    bool is_exit = info->exit_idx >= 0 && !is_final;
    if (is_exit && !setup->policy && !setup->replay)
        return EES__UNIT_NEXT;
    EES_TRY(ees__unit_compute(model, unit, item, lane));
    if (!is_exit && !is_final)
        return EES__UNIT_NEXT;
    struct ees__scores scores = ees__scores_compute(item->logits, model->dims.n_classes);
    if (is_final && !scores.finite)
        return EES_FAIL(&item->error, EES_EDAMAGED, "logits are not finite");
    if (is_final || ees__policy_decide(setup, item->seq, (unsigned)info->exit_idx, &scores, item->policy_state))
        return answer(item, info, &scores);
    return EES__UNIT_NEXT;
}
