/* SPDX-License-Identifier: MIT */
/* Unit costs for a verb: from --profile, from the cache of earlier measurements, or measured now. */
#ifndef EES_CLI_PROFILE_STORE_H
#define EES_CLI_PROFILE_STORE_H

#include "tools/cli/options.h"

/* Costs on the cores of this machine (of --profile FILE: on those it was measured on). Measured ones are kept under
 * ${XDG_CACHE_HOME:-~/.cache}/eestream/profiles unless --no-profile-cache; a cache that cannot be read or written is
 * passed over, -v notes it.
 * @param frame  what the stream's frames look like; NULL: a synthetic one
 * @return 0; EES_EINVAL an unusable --profile; EES_EOUTPUT --save-profile; or what measuring returns */
int profile_get(const struct options *o, const ees_model *model, const ees_frame *frame, ees_profile *out,
                ees_error *err);

#endif
