/* SPDX-License-Identifier: MIT */
/* What all of timm's configs say. */
#ifndef EES_STAGES_FAMILIES_TIMM_H
#define EES_STAGES_FAMILIES_TIMM_H

#include "stages/family.h"

/* The object under a key; empty where there is none. */
struct ees__json ees__timm_child(const struct ees__json *json, const char *key);

/* "input_size" of "pretrained_cfg": [3, height, width]. */
int ees__timm_read_input_size(const struct ees__json *pretrained, struct ees__dims *d, ees_error *err);

/* How "pretrained_cfg" of config.json prepares pictures. */
int ees__timm_read_rule(const struct ees__json *json, struct ees__preproc_rule *rule, ees_error *err);

#endif
