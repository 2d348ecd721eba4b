/* SPDX-License-Identifier: MIT */
/* Which exit mix frames are expected to have, or are forced to have, and in whose words: what plans are made for. */
#ifndef EES_CLI_MIX_H
#define EES_CLI_MIX_H

#include "tools/cli/options.h"
#include "tools/cli/replay.h"

/* None with --full-depth; --exit-share, else --replay-exits, else what the model's certificate says of its thresholds, else
 * the built-in mix when `is_random` (untrained weights decide nothing), else none: r->exits stays NULL.
 * @return 0; EES_EINVAL; EES_ENOMEM */
int mix_open(struct replay *r, const struct options *o, const ees_model *model, bool is_random, ees_error *err);

/* The exits that frames are forced to take; NULL: the policy decides. */
const uint8_t *mix_forced(const struct replay *r);

/* The model's certificate, where its thresholds are the ones in use; NULL: others are, or none was made. */
const ees_certificate *mix_certificate(const struct options *o, const ees_model *model);

#endif
