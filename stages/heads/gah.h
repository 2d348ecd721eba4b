/* SPDX-License-Identifier: MIT */
/* The global aggregation head with any number of attention heads. */
#ifndef EES_STAGES_HEADS_GAH_H
#define EES_STAGES_HEADS_GAH_H

#include "stages/loader.h"

/* @param has_bias  of attn.qkv */
int ees__gah_open(struct ees__loader *loader, const char *prefix, unsigned ratio, size_t n_heads, bool has_bias,
                  void **self, struct ees__op_cost *cost, ees_error *err);

#endif
