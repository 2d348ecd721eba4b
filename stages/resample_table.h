/* SPDX-License-Identifier: MIT */
/* Position tables for another grid than that of the training (spec 1.5). Done once, at load, in double. */
#ifndef EES_STAGES_RESAMPLE_TABLE_H
#define EES_STAGES_RESAMPLE_TABLE_H

#include "stages/op.h"

/* in (h, w, c) -> out (new_h, new_w, c); a copy when the grids are the same. @return 0; EES_ENOMEM */
int ees__resample_table(enum ees__table_filter filter, const float *in, size_t h, size_t w, size_t c, float *out,
                        size_t new_h, size_t new_w, ees_error *err);

#endif
