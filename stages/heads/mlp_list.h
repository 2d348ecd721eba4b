/* SPDX-License-Identifier: MIT */
/* The MLP that the Multi-Exit ViT branches end in (spec 5.6): linear layers `mlp.0`, `mlp.1`, ... of any number from 1
 * on, gelu between them, none behind the last, whose outputs are the logits. Widths are what the tensors say. */
#ifndef EES_STAGES_HEADS_MLP_LIST_H
#define EES_STAGES_HEADS_MLP_LIST_H

#include "stages/loader.h"

enum { EES__MAX_MLP_LAYERS = 16 };

struct ees__mlp_list {
    struct ees__linear layers[EES__MAX_MLP_LAYERS];
    size_t n_layers, widest; /* widest: of the hidden layers */
};

/* A source that has no tensors of its own gets the layers in -> 4 in -> in -> K. */
int ees__mlp_list_open(struct ees__loader *loader, const char *prefix, size_t n_inputs, struct ees__mlp_list *out,
                       ees_error *err);
void ees__mlp_list_close(struct ees__mlp_list *list); /* accepts a zeroed one */

/* Logits of each frame from rows (n, inputs), one product a layer for all frames.
 * @param scratch  ees__mlp_list_floats() for that many frames; n times that for one is enough */
void ees__mlp_list_run(const struct ees__mlp_list *list, const struct ees__run *run, const float *rows, float *scratch);
size_t ees__mlp_list_floats(const struct ees__mlp_list *list, const struct ees__kernels *kernels, size_t n);
double ees__mlp_list_flops(const struct ees__mlp_list *list);

#endif
