/* SPDX-License-Identifier: MIT */
/* The attention core of one frame, cut by query rows. Alone, a head is packed and used while it is in the cache; a team
 * packs all heads first, so that no two parts pack the same. */
#ifndef EES_STAGES_ATTEND_H
#define EES_STAGES_ATTEND_H

#include "stages/op.h"

struct ees__attend {
    const struct ees__kernels *kernels;
    struct ees__attention shape;
    const float *qkv; /* (t, 3*h*d) */
    float *packed;    /* ees__attend_packed_floats(), shared by parts */
    bool all_packed;  /* each head has its place in `packed`; else the first place serves all heads in turn */
};

size_t ees__attend_packed_floats(const struct ees__kernels *kernels, const struct ees__attention *shape);

/* Packs all heads if there is a team. To be called when `qkv` is complete. */
void ees__attend_begin(struct ees__attend *a, const struct ees__run *run);

/* out (t, h*d), rows [first, end). `scratch`: the core's scratch_floats(t, d), the part's own. */
void ees__attend_rows(const struct ees__attend *a, size_t first, size_t end, float *out, float *scratch);

#endif
