/* SPDX-License-Identifier: MIT */
#include "stages/learned.h"

#include <math.h>

#include "common/fail.h"

static bool has(struct ees__loader *loader, const char *name) {
    struct ees__tensor_shape shape;
    return loader->weights->find && loader->weights->find(loader->weights, name, &shape);
}

/* The gate is one for all exits, so their pooled vectors have one length. */
static int check_pooled(unsigned n_exits, const size_t *n_pooled, ees_error *err) {
    for (unsigned e = 0; e < n_exits; e++) {
        if (n_pooled[e] == 0)
            return EES_FAIL(err, EES_EMODEL,
                            "tensor 'gate.weight': the head of exit %u has no pooled vector for a gate", e);
        if (n_pooled[e] != n_pooled[0])
            return EES_FAIL(err, EES_EMODEL,
                            "tensor 'gate.weight' is for all exits, but exit %u has a pooled vector of %zu and exit 0 "
                            "one of %zu",
                            e, n_pooled[e], n_pooled[0]);
    }
    return n_exits ? 0 : EES_FAIL(err, EES_EMODEL, "tensor 'gate.weight' in a model without early exits");
}

static int open_gate(struct ees__loader *loader, unsigned n_exits, const size_t *n_pooled,
                     struct ees__policy_weights *out, ees_error *err) {
    float *bias;
    EES_TRY(check_pooled(n_exits, n_pooled, err));
    EES_TRY(ees__stage_tensor(loader, "", "gate.bias", EES_SHAPE(1), &bias, err));
    float b = bias[0], *w;
    EES_TRY(ees__stage_tensor(loader, "", "gate.weight", EES_SHAPE(1, n_pooled[0]), &w, err));
    out->gate = ees__calloc_aligned(n_pooled[0] + 1, sizeof *out->gate);
    if (!out->gate)
        return EES_FAIL(err, EES_ENOMEM, "no memory for the gate");
    for (size_t i = 0; i < n_pooled[0]; i++)
        out->gate[i] = w[i];
    out->gate[n_pooled[0]] = b;
    out->n_gate = n_pooled[0];
    return 0;
}

int ees__learned_open(struct ees__loader *loader, unsigned n_exits, const size_t *n_pooled,
                      struct ees__policy_weights *out, ees_error *err) {
    size_t n = n_exits + 1;
    if (has(loader, "gate.weight"))
        EES_TRY(open_gate(loader, n_exits, n_pooled, out, err));
    if (!has(loader, "ensemble.weight"))
        return 0;
    EES_TRY(ees__load_tensor(loader, "", "ensemble.weight", EES_SHAPE(n, n), &out->member, err));
    return ees__load_tensor(loader, "", "ensemble.bias", EES_SHAPE(n, loader->dims->n_classes), &out->member_bias, err);
}

void ees__learned_close(struct ees__policy_weights *learned) {
    ees__free(learned->gate);
    ees__free(learned->member);
    ees__free(learned->member_bias);
    *learned = (struct ees__policy_weights){0};
}

float ees__gate_compute(const struct ees__policy_weights *learned, const float *pooled) {
    double sum = (double)learned->gate[learned->n_gate];
    for (size_t i = 0; i < learned->n_gate; i++)
        sum += (double)learned->gate[i] * (double)pooled[i];
    return (float)(1.0 / (1.0 + exp(-sum)));
}
