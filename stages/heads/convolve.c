/* SPDX-License-Identifier: MIT */
#include "stages/heads/convolve.h"

#include <string.h>

#include "common/fail.h"

void ees__convolution_close(struct ees__convolution *conv) {
    for (size_t tap = 0; tap < EES__TAPS; tap++)
        ees__linear_close(&conv->taps[tap]);
}

/* w (n_out, n_in, 3, 3), in staging memory. */
static int pack_taps(struct ees__loader *loader, const char *prefix, const float *w, const float *bias,
                     struct ees__convolution *conv, ees_error *err) {
    size_t n = conv->n_out * conv->n_in;
    float *tap = ees__calloc_aligned(n, sizeof *tap);
    int rc = tap ? 0 : EES_FAIL(err, EES_ENOMEM, "no memory for %s.conv", prefix);
    for (size_t t = 0; rc == 0 && t < EES__TAPS; t++) {
        for (size_t i = 0; i < n; i++)
            tap[i] = w[i * EES__TAPS + t];
        rc = ees__pack_linear(loader, tap, t == EES__TAPS - 1 ? bias : NULL, conv->n_out, conv->n_in, &conv->taps[t],
                              err);
    }
    ees__free(tap);
    return rc;
}

int ees__convolution_open(struct ees__loader *loader, const char *prefix, size_t n_in, size_t n_out,
                          struct ees__convolution *out, ees_error *err) {
    const struct ees__dims *d = loader->dims;
    float *w, *bias = NULL;
    *out = (struct ees__convolution){.h = d->grid_h, .w = d->grid_w, .n_in = n_in, .n_out = n_out};
    EES_TRY(ees__load_tensor(loader, prefix, "conv.bias", EES_SHAPE(n_out), &bias, err));
    int rc = ees__stage_tensor(loader, prefix, "conv.weight", EES_SHAPE(n_out, n_in, 3, 3), &w, err);
    if (rc == 0)
        rc = pack_taps(loader, prefix, w, bias, out, err);
    ees__free(bias);
    if (rc < 0)
        ees__convolution_close(out);
    return rc;
}

/* The last row's unread output is left out. */
static size_t count_outputs(const struct ees__convolution *conv) { return conv->h * ees__convolution_pitch(conv) - 1; }

size_t ees__convolution_framed_floats(const struct ees__convolution *conv) {
    return ((conv->h + 2) * ees__convolution_pitch(conv) + 1) * conv->n_in;
}

size_t ees__convolution_y_floats(const struct ees__convolution *conv) { return count_outputs(conv) * conv->n_out; }

size_t ees__convolution_scratch_floats(const struct ees__convolution *conv, const struct ees__kernels *kernels) {
    return kernels->linear_scratch_floats(count_outputs(conv), conv->n_out, conv->n_in);
}

double ees__convolution_flops(const struct ees__convolution *conv) {
    return 2.0 * EES__TAPS * (double)count_outputs(conv) * (double)conv->n_out * (double)conv->n_in;
}

void ees__convolution_frame(const struct ees__convolution *conv, const float *grid, float *framed) {
    size_t row = conv->w * conv->n_in, pitch = ees__convolution_pitch(conv) * conv->n_in;
    memset(framed, 0, pitch * sizeof *framed);
    for (size_t i = 0; i < conv->h; i++) {
        float *to = framed + (i + 1) * pitch;
        memset(to, 0, conv->n_in * sizeof *framed);
        memcpy(to + conv->n_in, grid + i * row, row * sizeof *framed);
    }
    memset(framed + (conv->h + 1) * pitch, 0, (pitch + conv->n_in) * sizeof *framed);
}

/* One convolution at work. */
struct job {
    const struct ees__convolution *conv;
    const struct ees__run *run;
    const float *framed;
    bool gelu;
    float *y, *scratch;
};

static void convolve_rows(void *ctx, size_t first, size_t end, struct ees__lane *lane) {
    const struct job *j = ctx;
    const struct ees__convolution *conv = j->conv;
    float *own = lane->scratch + (j->scratch - j->run->lane->scratch);
    for (size_t t = 0; t < EES__TAPS; t++) {
        bool last = t == EES__TAPS - 1;
        const struct ees__post post = {.op = t == 0            ? EES__POST_NONE
                                             : last && j->gelu ? EES__POST_ADD_GELU
                                                               : EES__POST_ADD};
        size_t ahead = t / 3 * ees__convolution_pitch(conv) + t % 3;
        j->run->kernels->linear(&conv->taps[t], j->framed + (first + ahead) * conv->n_in, conv->n_in, end - first,
                                j->y + first * conv->n_out, conv->n_out, &post, own);
    }
}

void ees__convolution_run(const struct ees__convolution *conv, const struct ees__run *run, const float *framed,
                          bool gelu, float *y, float *scratch) {
    struct job job = {.conv = conv, .run = run, .framed = framed, .gelu = gelu, .y = y, .scratch = scratch};
    size_t n = count_outputs(conv);
    ees__run_share(run, convolve_rows, &job, n, ees__row_grain(run, n));
}
