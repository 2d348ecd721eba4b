/* SPDX-License-Identifier: MIT */
/* The lists behind stage_list.h: families are searched and heads are listed in this order. */
#include "stages/stage_list.h"

#include <stddef.h>

/* `ees__family_NAME` in stages/families/; of those that share a backbone, the one with more tensors comes first */
#define FAMILIES(X)                                                                                                    \
    X(hf_vit)                                                                                                          \
    X(lgvit_vit)                                                                                                       \
    X(lgvit_deit)                                                                                                      \
    X(hf_deit_distilled)                                                                                               \
    X(hf_deit)                                                                                                         \
    X(hf_dinov2)                                                                                                       \
    X(hf_dinov2_with_registers)                                                                                        \
    X(dinov2)                                                                                                          \
    X(timm)                                                                                                            \
    X(torchvision_vit)                                                                                                 \
    X(eevit)                                                                                                           \
    X(hf_swin)                                                                                                         \
    X(lgvit_swin)                                                                                                      \
    X(timm_swin)                                                                                                       \
    X(timm_swin_old)                                                                                                   \
    X(torchvision_swin)

/* `ees__head_NAME` in stages/heads/ */
#define HEADS(X)                                                                                                       \
    X(conv1_1)                                                                                                         \
    X(conv2_1)                                                                                                         \
    X(conv_normal)                                                                                                     \
    X(attention_r)                                                                                                     \
    X(self_attention)                                                                                                  \
    X(dummy_mlp)                                                                                                       \
    X(linear)                                                                                                          \
    X(linear_mean)                                                                                                     \
    X(vit)                                                                                                             \
    X(vit_mean)                                                                                                        \
    X(mlp)                                                                                                             \
    X(mlp_ee)                                                                                                          \
    X(vit_ee)                                                                                                          \
    X(cnn_ignore_ee)                                                                                                   \
    X(cnn_add_ee)                                                                                                      \
    X(cnn_project_ee)                                                                                                  \
    X(mixer_ee)                                                                                                        \
    X(resmlp_ee)

/* `ees__policy_NAME` in stages/policies/NAME.c; the name is the user's, too */
#define POLICIES(X)                                                                                                    \
    X(confidence)                                                                                                      \
    X(entropy)                                                                                                         \
    X(entropy_norm)                                                                                                    \
    X(margin)                                                                                                          \
    X(sdn)                                                                                                             \
    X(sdn_most_confident)                                                                                              \
    X(gate)                                                                                                            \
    X(patience)                                                                                                        \
    X(patience_pabee)                                                                                                  \
    X(patient_and_confident)                                                                                           \
    X(pcee)                                                                                                            \
    X(pcee_mean)                                                                                                       \
    X(vote)                                                                                                            \
    X(ensemble)                                                                                                        \
    X(ensemble_additive)                                                                                               \
    X(ensemble_mean)                                                                                                   \
    X(temporal)

#define DECLARE_FAMILY(name) extern const struct ees__family ees__family_##name;
#define DECLARE_HEAD(name)   extern const struct ees__op ees__head_##name;
#define DECLARE_POLICY(name) extern const struct ees__policy ees__policy_##name;
FAMILIES(DECLARE_FAMILY)
HEADS(DECLARE_HEAD)
POLICIES(DECLARE_POLICY)

#define FAMILY_ENTRY(name) &ees__family_##name,
#define HEAD_ENTRY(name)   &ees__head_##name,
#define POLICY_ENTRY(name) &ees__policy_##name,
#define POLICY_NAME(name)  #name,
const struct ees__family *const ees__families[] = {FAMILIES(FAMILY_ENTRY) NULL};
const struct ees__op *const ees__heads[] = {HEADS(HEAD_ENTRY) NULL};
const struct ees__policy *const ees__policies[] = {POLICIES(POLICY_ENTRY) NULL};
const char *const ees__policy_names[] = {POLICIES(POLICY_NAME) "none", NULL};
