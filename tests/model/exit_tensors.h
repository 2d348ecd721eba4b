/* SPDX-License-Identifier: MIT */
/* Exit heads of tiny models in files: their tensors as docs/heads.md lists them. */
#ifndef EES_TESTS_MODEL_EXIT_TENSORS_H
#define EES_TESTS_MODEL_EXIT_TENSORS_H

#include "support.h"

/* All but conv1_1, conv2_1 and attention_r, which tiny_init() has; NULL-terminated. */
extern const char *const exit_heads[];

/* Add the tensors of a head as exit 0, under the names of a family. The grid is 2 x 3, behind one special token. */
void exits_add(struct tiny *tiny, const char *family, const char *head, bool distilled);

/* The same without the end that a Swin has for all heads alike, which tiny_init_swin() adds. */
void exits_add_module(struct tiny *tiny, const char *family, const char *head);

/* Let the canonical config put that head behind block 1. */
void exits_set(json_t *config, const char *head);

#endif
