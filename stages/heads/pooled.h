/* SPDX-License-Identifier: MIT */
/* The end that LGViT's heads share on a ViT (spec 5.1): logits = W (p + class token) + b, p the mean of the head's
 * output over its tokens. */
#ifndef EES_STAGES_HEADS_POOLED_H
#define EES_STAGES_HEADS_POOLED_H

#include "stages/loader.h"

int ees__load_classifier(struct ees__loader *loader, const char *prefix, struct ees__linear *out, ees_error *err);

/* @param pooled   p of each frame, (n, C), overwritten
 * @param scratch  ees__classify_floats(n, K, C) */
void ees__classify_pooled(const struct ees__linear *classifier, const struct ees__run *run, float *pooled,
                          float *scratch);

#endif
