# SPDX-License-Identifier: MIT
"""Loss terms of LGViT's two training stages (Xu et al. 2023; as its code computes them).

L_k is the mean cross-entropy of exit k, L_f that of the final classifier, i_k the 1-based block of
exit k, E the number of exits, L the number of blocks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .parts import on_grid

STRATEGIES = ("normal", "weighted", "alternating", "alternating_weighted")
TEMPERATURE = 2.0  # of the distillation term


def stage1(out, labels: Tensor, strategy: str, step: int, config) -> Tensor:
    """Joint loss of the backbone and all exits.

    normal: (sum L_k + L_f) / (E + 1). weighted: (sum i_k L_k + L L_f) / (sum i_k + L).
    alternating*: even steps L_f alone, odd steps the loss named."""
    if strategy.startswith("alternating") and step % 2 == 0:
        return cross_entropy(out.logits, labels)
    return joint(out, labels, weights_of(strategy, config))


def weights_of(strategy: str, config) -> tuple[float, ...]:
    """Weights of the exits and, last, of the final classifier."""
    if strategy.endswith("weighted"):
        return (*config.exit_blocks, config.n_layers)
    return (1,) * (len(config.exit_blocks) + 1)


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean over the batch, in fp32; labels are classes [B] or distributions [B, K]."""
    return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)


def joint(out, labels: Tensor, weights: tuple[float, ...], smoothing: float = 0.0,
          distil: float = 0.0) -> Tensor:
    """sum w_k [(1 - distil) L_k + distil * K * KD_k] + w_f L_f over the sum of the weights. KD's
    teacher is the final classifier, detached; times K it is a mean over the batch alone, which
    makes it as large as the cross-entropy it replaces a share of."""
    total = weights[-1] * cross_entropy(out.logits, labels, smoothing)
    teacher, n_classes = out.logits.detach(), out.logits.shape[-1]
    for weight, logits in zip(weights, out.exit_logits):
        term = (1 - distil) * cross_entropy(logits, labels, smoothing)
        if distil:
            term = term + distil * n_classes * distillation(logits, teacher)
        total = total + weight * term
    return total / sum(weights)


def distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """KD_k = T^2 / (B K) * sum p_t (ln p_t - ln p_s), p = softmax(z / T). Note the division by
    B * K, not by B."""
    log_s = F.log_softmax(student.float() / TEMPERATURE, dim=-1)
    log_t = F.log_softmax(teacher.float() / TEMPERATURE, dim=-1)
    return (log_t.exp() * (log_t - log_s)).mean() * TEMPERATURE ** 2


def heterogeneous(student: Tensor, teacher: Tensor) -> Tensor:
    """KL between softmaxes over channels, summed over tokens and channels, divided by B."""
    return F.kl_div(F.log_softmax(student.float(), dim=-1), F.log_softmax(teacher.float(), dim=-1),
                    reduction="batchmean", log_target=True)


def gram_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error of the C x C Gram matrices F^T F; token counts may differ."""
    student, teacher = student.float(), teacher.float()
    return F.mse_loss(student.transpose(1, 2) @ student, teacher.transpose(1, 2) @ teacher)


def _per_token(features: Tensor) -> Tensor:
    """Scale [B, n, C] so that its Gram matrix is a mean over the n tokens."""
    return features * features.shape[1] ** -0.5


def stage2(out, labels: Tensor, config, alpha: float, eta: float, omega: float) -> Tensor:
    """Loss of the exit heads on a frozen backbone:
    sum_k [(1 - alpha) L_k + alpha KD_k] + eta * hete + omega * homo.

    LGViT defines it for 8 exits; the 4-exit layout keeps the same pairs. hete draws the first and
    last convolution head to the last block's patches X, and the first and last attention head to X
    subsampled like the head. homo draws every convolution head to the last of its kind, and every
    attention head likewise through Gram matrices. Heads that make no features have neither.

    Four deviations from the published code, all of them repairs: KD's teacher is the real final
    logits (with the final LN); X leaves out one token for backbone ViT; teacher features are
    detached; Gram matrices are divided by the number of tokens. Without the last, heads of 16 and
    of 9 tokens can't agree, and the term's gradient on the embedded model is a hundred times that
    of all others."""
    teacher_logits = out.logits.detach()
    loss = sum((1 - alpha) * cross_entropy(z, labels) + alpha * distillation(z, teacher_logits)
               for z in out.exit_logits)
    last = on_grid(out.hidden[-1][:, config.n_special:].detach())
    hete = homo = torch.zeros((), device=last.device)
    for attention in (False, True):
        group = [(_ratio(kind), features) for kind, features in zip(config.head_types,
                                                                    out.exit_features)
                 if features is not None and ("attention" in kind) == attention]
        if not group:
            continue
        for ratio, features in group if len(group) < 2 else (group[0], group[-1]):
            kept = last[:, :, ::ratio, ::ratio].flatten(2).transpose(1, 2)
            hete = hete + heterogeneous(features, kept)
        teacher = _per_token(group[-1][1].detach()) if attention else group[-1][1].detach()
        for _, features in group[:-1]:
            homo = homo + (gram_mse(_per_token(features), teacher) if attention
                           else F.mse_loss(features.float(), teacher.float()))
    return loss + eta * hete + omega * homo


def _ratio(kind: str) -> int:
    """Every how-manieth row and column of the grid a head keeps."""
    return int(kind[-1]) if kind.startswith("attention_r") else 1
