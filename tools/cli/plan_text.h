/* SPDX-License-Identifier: MIT */
/* A plan in the grammar of --plan. */
#ifndef EES_CLI_PLAN_TEXT_H
#define EES_CLI_PLAN_TEXT_H

#include "eestream/eestream.h"

/* "1-3x1,4-12x1": what ees_plan_parse() reads back to the same plan. Cut to `n` bytes. */
void plan_to_text(const ees_model *model, const ees_plan *plan, char *out, size_t n);

/* One group of it, without the workers: "4-12". */
void group_to_text(const ees_model *model, const ees_plan_group *group, char *out, size_t n);

#endif
