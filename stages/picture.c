/* SPDX-License-Identifier: MIT */
/* How much a frame's picture changed. A picture is small: each patch is cut into up to 4 x 4 cells, and a cell is its
 * mean colour, in grey levels of 0 to 255. Averaging takes most of a camera's noise out. The change between two
 * pictures is that of the patch that changed most, so that something small that moves is not lost in a still scene. */
#include <math.h>

#include "stages/model.h"

/* Cells along a side of a patch. */
static size_t count_cells(const struct ees__dims *d) { return d->patch % 4 == 0 ? 4 : d->patch % 2 == 0 ? 2 : 1; }

static size_t patch_cells(const ees_model *model) {
    size_t n = count_cells(&model->dims);
    return 3 * n * n;
}

size_t ees__picture_floats(const ees_model *model) { return model->dims.n_patches * patch_cells(model); }

/* Means of one colour of a patch (P, P) over n x n cells. */
static void average(const float *values, size_t patch, size_t n, float levels, float *cells) {
    size_t side = patch / n;
    for (size_t cell = 0; cell < n * n; cell++) {
        const float *at = values + cell / n * side * patch + cell % n * side;
        float sum = 0.0f;
        for (size_t row = 0; row < side; row++)
            for (size_t col = 0; col < side; col++)
                sum += at[row * patch + col];
        cells[cell] = sum * levels / (float)(side * side);
    }
}

void ees__picture_make(const ees_model *model, const float *patches, float *picture) {
    const struct ees__dims *d = &model->dims;
    size_t n = count_cells(d), area = d->patch * d->patch;
    for (size_t i = 0; i < d->n_patches; i++)
        for (size_t c = 0; c < 3; c++) /* normalised by the model's std: back to levels; the mean cancels out */
            average(patches + (i * 3 + c) * area, d->patch, n, 255.0f * (float)model->preproc.std[c],
                    picture + (i * 3 + c) * n * n);
}

float ees__picture_change(const ees_model *model, const float *a, const float *b) {
    size_t n = patch_cells(model);
    float most = 0.0f;
    for (size_t i = 0; i < model->dims.n_patches; i++) {
        float sum = 0.0f;
        for (size_t j = i * n; j < (i + 1) * n; j++)
            sum += fabsf(a[j] - b[j]);
        if (isnan(sum)) /* of a tensor frame: a change, whatever the threshold */
            return INFINITY;
        most = fmaxf(most, sum / (float)n);
    }
    return most;
}
