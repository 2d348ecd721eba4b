/* SPDX-License-Identifier: MIT */
/* The end that LGViT's heads share on a ViT (spec 5.1): logits = W (p + class token) + b, p the mean of the head's
 * output over its tokens. On a distilled DeiT the mean of that and the same with the distillation token, as one product
 * with rows [p + class token ; p + distillation token]. */
#ifndef EES_STAGES_HEADS_POOLED_H
#define EES_STAGES_HEADS_POOLED_H

#include "stages/loader.h"

/* @param pooled   p of each frame, in the first C of a row as long as the classifier's, overwritten
 * @param scratch  ees__classify_floats() */
void ees__classify_pooled(const struct ees__linear *classifier, const struct ees__run *run, float *pooled,
                          float *scratch);

#endif
