/* SPDX-License-Identifier: MIT */
/* Everything of which there are several kinds: adding one means one file and one line in stages/stage_list.c. */
#ifndef EES_STAGES_STAGE_LIST_H
#define EES_STAGES_STAGE_LIST_H

struct ees__family;
struct ees__op;
struct ees__policy;

/* NULL-terminated. */
extern const struct ees__family *const ees__families[];
extern const struct ees__op *const ees__heads[]; /* of early exits */
extern const struct ees__policy *const ees__policies[];
extern const char *const ees__policy_names[]; /* of ees__policies, then "none" */

#endif
