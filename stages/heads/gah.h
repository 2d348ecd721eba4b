/* SPDX-License-Identifier: MIT */
/* The global aggregation head with another number of attention heads than LGViT's 8. For the known answers of spec 11,
 * which have 2. */
#ifndef EES_STAGES_HEADS_GAH_H
#define EES_STAGES_HEADS_GAH_H

#include "stages/loader.h"

int ees__gah_open(struct ees__loader *loader, const char *prefix, unsigned ratio, size_t n_heads, void **self,
                  struct ees__op_cost *cost, ees_error *err);

#endif
