# SPDX-License-Identifier: MIT
"""Exit heads. A head maps a block's raw output [B, T, C] to (features [B, n, C], logits [B, K]);
tensor names are the canonical ones behind `exit.K.`.

LGViT's heads classify W (mean of the features + class token); with a distillation token the mean of
two such classifiers. Source: Xu et al. 2023 and the code published with it.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .parts import Attention, Classifier

GAH_HEADS = 8  # attention heads of a global aggregation head, whatever the backbone has


class PooledHead(nn.Module):
    """What LGViT's heads have in common. Subclasses map patches [B, N, C] to features."""

    def __init__(self, shape) -> None:
        super().__init__()
        self.n_special = shape.n_special
        self.head = Classifier(shape.hidden_size, shape.n_classes, shape.n_special == 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x[:, self.n_special:])
        pooled = features.mean(dim=1)
        return features, self.head(pooled + x[:, 0], pooled + x[:, self.n_special - 1])

    def features(self, patches: Tensor) -> Tensor:
        raise NotImplementedError


def on_grid(patches: Tensor) -> Tensor:
    """[B, N, C] to [B, C, g, g]."""
    grid = round(patches.shape[1] ** 0.5)
    return patches.transpose(1, 2).unflatten(2, (grid, grid))


def pointwise(convolution: nn.Conv2d, patches: Tensor) -> Tensor:
    """A 1x1 convolution on tokens, where it is a matrix product."""
    return F.linear(patches, convolution.weight.flatten(1), convolution.bias)


def per_channel(norm: nn.BatchNorm2d, patches: Tensor) -> Tensor:
    """BatchNorm on tokens."""
    return norm(patches.flatten(0, 1)[..., None, None]).view_as(patches)


class LocalPerception(PooledHead):
    """conv1_1: a = BN(gelu(conv 1x1)), d = BN(gelu(depthwise 3x3 a)), Y = BN(conv 1x1 d) + patches;
    conv2_1 leaves out the depthwise step."""

    def __init__(self, shape, depthwise: bool) -> None:
        super().__init__(shape)
        size = shape.hidden_size
        self.conv1, self.bn1 = nn.Conv2d(size, size, 1), nn.BatchNorm2d(size)
        self.dw = nn.Conv2d(size, size, 3, padding=1, groups=size) if depthwise else None
        if depthwise:
            self.bn2 = nn.BatchNorm2d(size)
        self.conv2, self.bn3 = nn.Conv2d(size, size, 1), nn.BatchNorm2d(size)

    def features(self, patches: Tensor) -> Tensor:
        x = per_channel(self.bn1, F.gelu(pointwise(self.conv1, patches)))
        if self.dw is not None:
            x = F.gelu(self.dw(on_grid(x))).flatten(2).transpose(1, 2)
            x = per_channel(self.bn2, x)
        return per_channel(self.bn3, pointwise(self.conv2, x)) + patches


class GlobalAggregation(PooledHead):
    """attention_rN: every N-th row and column of the grid, 8-head attention without qkv bias,
    projection; no LN, no residual."""

    def __init__(self, shape, ratio: int) -> None:
        super().__init__(shape)
        self.ratio = ratio
        self.attn = Attention(shape.hidden_size, GAH_HEADS, bias=False)

    def features(self, patches: Tensor) -> Tensor:
        grid = round(patches.shape[1] ** 0.5)
        kept = patches.unflatten(1, (grid, grid))[:, ::self.ratio, ::self.ratio]
        return self.attn(kept.flatten(1, 2))


_KINDS = {
    "conv1_1": lambda shape: LocalPerception(shape, depthwise=True),
    "conv2_1": lambda shape: LocalPerception(shape, depthwise=False),
    **{f"attention_r{r}": lambda shape, r=r: GlobalAggregation(shape, r) for r in range(1, 10)},
}
NAMES = tuple(_KINDS)


def make(name: str, shape) -> nn.Module:
    if name not in _KINDS:
        raise ValueError(f"exit head {name!r}: expected one of {', '.join(NAMES)}")
    return _KINDS[name](shape)
