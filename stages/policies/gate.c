/* SPDX-License-Identifier: MIT */
/* "gate": leave if the learned gate's estimate of the error, sigmoid(w h + b) of the exit's pooled vector h, is <
 * threshold (BERxiT "learning to exit", default .005). One gate for all exits; its weights are the model's tensors
 * gate.weight and gate.bias. */
#include "stages/policies/policy.h"

static float score(const struct ees__scores *scores) { return scores->gate; }

const struct ees__policy ees__policy_gate = {
    .name = "gate",
    .direction = EES__LEAVES_BELOW,
    .threshold = 0.005f,
    .needs_gate = true,
    .score = score,
};
