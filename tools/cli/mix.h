/* SPDX-License-Identifier: MIT */
/* Which exit mix a plan or a benchmark assumes, and in whose words. */
#ifndef EES_CLI_MIX_H
#define EES_CLI_MIX_H

#include "tools/cli/options.h"
#include "tools/cli/replay.h"

/* None with --full-depth; --exit-share, else --replay-exits, else the built-in mix when `is_random` (untrained weights decide nothing), else
 * none: r->exits stays NULL. @return 0; EES_EINVAL; EES_ENOMEM */
int mix_open(struct replay *r, const struct options *o, const ees_model_info *info, bool is_random, ees_error *err);

#endif
