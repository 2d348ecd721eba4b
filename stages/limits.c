/* SPDX-License-Identifier: MIT */
/* What a core can do at most with a model's kernels, for whoever compares units with it. */
#include "stages/model.h"

double ees__peak_run(const ees_model *model, const char *precision, size_t n) {
    enum ees__precision found;
    if (ees__precision_find(precision, &found) < 0 || !model->kernels->products[found])
        return 0;
    return model->kernels->products[found]->peak(n);
}

void ees__read_run(const ees_model *model, const void *from, size_t bytes) {
    model->kernels->read(from, bytes / sizeof(float));
}
