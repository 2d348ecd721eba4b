/* SPDX-License-Identifier: MIT */
#include "stages/heads/mlp_list.h"

#include <stdio.h>

#include "common/fail.h"

void ees__mlp_list_close(struct ees__mlp_list *list) {
    for (size_t i = 0; i < list->n_layers; i++)
        ees__linear_close(&list->layers[i]);
    list->n_layers = 0;
}

/* widths[0] is given, the others are found; *n is the number of layers. */
static int find_widths(struct ees__loader *loader, const char *prefix, size_t widths[EES__MAX_MLP_LAYERS + 1],
                       size_t *n, ees_error *err) {
    for (*n = 0; *n <= EES__MAX_MLP_LAYERS; ++*n) {
        char leaf[32];
        size_t width;
        snprintf(leaf, sizeof leaf, "mlp.%zu.weight", *n);
        EES_TRY(ees__load_size(loader, prefix, leaf, 0, 0, &width, err));
        if (width == 0)
            break;
        if (*n == EES__MAX_MLP_LAYERS)
            return EES_FAIL(err, EES_EMODEL,
                            "model.safetensors: tensor '%s.%s' is one layer too many, expected at most %d", prefix,
                            leaf, EES__MAX_MLP_LAYERS);
        widths[*n + 1] = width;
    }
    if (*n == 0) {
        *n = 3;
        widths[1] = 4 * widths[0];
        widths[2] = widths[0];
    }
    widths[*n] = loader->dims->n_classes;
    return 0;
}

int ees__mlp_list_open(struct ees__loader *loader, const char *prefix, size_t n_inputs, struct ees__mlp_list *out,
                       ees_error *err) {
    size_t widths[EES__MAX_MLP_LAYERS + 1] = {n_inputs}, n;
    *out = (struct ees__mlp_list){0};
    EES_TRY(find_widths(loader, prefix, widths, &n, err));
    for (size_t i = 0; i < n; i++) {
        char leaf[32];
        snprintf(leaf, sizeof leaf, "mlp.%zu", i);
        const struct ees__tensor_shape *shape = EES_SHAPE(widths[i + 1], widths[i]);
        int rc = i + 1 < n ? ees__load_linear(loader, prefix, leaf, shape, true, &out->layers[i], err)
                           : ees__load_f32_linear(loader, prefix, leaf, shape, true, &out->layers[i], err);
        if (rc < 0) {
            ees__mlp_list_close(out);
            return rc;
        }
        out->n_layers++;
        if (i > 0)
            out->widest = ees__max_size(out->widest, widths[i]);
    }
    return 0;
}

size_t ees__mlp_list_floats(const struct ees__mlp_list *list, const struct ees__kernels *kernels, size_t n) {
    const struct ees__linear *last = &list->layers[list->n_layers - 1];
    size_t inner = ees__classify_floats(kernels, n, last->n, last->k);
    for (size_t i = 0; i < list->n_layers; i++)
        inner = ees__max_size(inner, kernels->linear_scratch_floats(n, list->layers[i].n, list->layers[i].k));
    return 2 * ees__piece_floats(n * list->widest) + inner;
}

double ees__mlp_list_flops(const struct ees__mlp_list *list) {
    double flops = 0;
    for (size_t i = 0; i < list->n_layers; i++)
        flops += 2.0 * (double)list->layers[i].n * (double)list->layers[i].k;
    return flops;
}

void ees__mlp_list_run(const struct ees__mlp_list *list, const struct ees__run *run, const float *rows,
                       float *scratch) {
    static const struct ees__post gelu = {.op = EES__POST_GELU};
    float *hidden[2] = {ees__cut_piece(&scratch, run->n * list->widest), NULL};
    hidden[1] = ees__cut_piece(&scratch, run->n * list->widest);
    size_t last = list->n_layers - 1;
    for (size_t i = 0; i < last; i++) {
        const struct ees__linear *l = &list->layers[i];
        run->kernels->linear(l, rows, l->k, run->n, hidden[i % 2], l->n, &gelu, scratch);
        rows = hidden[i % 2];
    }
    ees__classify(&list->layers[last], run, rows, scratch);
}
