# SPDX-License-Identifier: MIT
"""Exit heads, after docs/heads.md: a head maps a block's raw output [B, T, C] to (features
[B, n, C], logits [B, K]), features None where it makes none before pooling; tensor names are the
canonical ones behind `exit.K.`.

LGViT's heads classify W (mean of the features + class token); with a distillation token the mean of
two such classifiers; on a Swin, which has neither, W (mean of the normed features). Source: Xu et
al. 2023 and the code published with it.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from . import branches
from .parts import Attention, Block, Classifier, on_grid

SWIN_EPS = 1e-5  # of a Swin head's norm
GAH_HEADS = 8  # attention heads of a global aggregation head, whatever the backbone has


class PooledHead(nn.Module):
    """What LGViT's heads have in common. Subclasses map patches [B, N, C] to features."""

    def __init__(self, shape) -> None:
        super().__init__()
        self.n_special = shape.n_special
        self.norm = None if self.n_special else nn.LayerNorm(shape.hidden_size, eps=SWIN_EPS)
        self.head = Classifier(shape.hidden_size, shape.n_classes, shape.n_special == 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x[:, self.n_special:])
        if self.norm is not None:
            return features, self.head(self.norm(features).mean(dim=1))
        pooled = features.mean(dim=1)
        return features, self.head(pooled + x[:, 0], pooled + x[:, self.n_special - 1])

    def features(self, patches: Tensor) -> Tensor:
        raise NotImplementedError


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


class PlainConvolution(PooledHead):
    """conv_normal: Y = BN(gelu(conv 3x3)), no residual."""

    def __init__(self, shape) -> None:
        super().__init__(shape)
        size = shape.hidden_size
        self.conv, self.bn1 = nn.Conv2d(size, size, 3, padding=1), nn.BatchNorm2d(size)

    def features(self, patches: Tensor) -> Tensor:
        return self.bn1(F.gelu(self.conv(on_grid(patches)))).flatten(2).transpose(1, 2)


class SelfAttention(PooledHead):
    """self_attention: the backbone's attention on all patches; no LN, no residual."""

    def __init__(self, shape) -> None:
        super().__init__(shape)
        self.attn = Attention(shape.hidden_size, shape.n_heads)

    def features(self, patches: Tensor) -> Tensor:
        return self.attn(patches)


class DummyMlp(PooledHead):
    """dummy_mlp, EEVIT's test vehicle: C -> 10, ReLU, 10 -> C a patch."""

    def __init__(self, shape, width: int = 10) -> None:
        super().__init__(shape)
        self.fc1 = nn.Linear(shape.hidden_size, width)
        self.fc2 = nn.Linear(width, shape.hidden_size)

    def features(self, patches: Tensor) -> Tensor:
        return self.fc2(F.relu(self.fc1(patches)))


class MeanLinear(PooledHead):
    """linear on a Swin: the end of its heads alone."""

    def features(self, patches: Tensor) -> Tensor:
        return patches


class Linear(nn.Module):
    """linear: tanh of a dense layer on the class token; with a distillation token both tokens
    behind a norm of their own."""

    def __init__(self, shape) -> None:
        super().__init__()
        size, self.has_dist = shape.hidden_size, shape.n_special == 2
        if self.has_dist:
            self.norm = nn.LayerNorm(size, eps=shape.norm_eps)
        else:
            self.pool = nn.Linear(size, size)
        self.head = Classifier(size, shape.n_classes, self.has_dist)

    def forward(self, x: Tensor) -> tuple[None, Tensor]:
        if self.has_dist:
            x = self.norm(x[:, :2])
            return None, self.head(x[:, 0], x[:, 1])
        return None, self.head(self.pool(x[:, 0]).tanh())


class BlockThenLinear(Linear):
    """vit: one more block on all tokens, then the linear head."""

    def __init__(self, shape) -> None:
        super().__init__(shape)
        self.blk = Block(shape.hidden_size, shape.n_heads, shape.mlp_size, shape.norm_eps)

    def forward(self, x: Tensor) -> tuple[None, Tensor]:
        return super().forward(self.blk(x))


_KINDS = {
    "conv1_1": lambda shape: LocalPerception(shape, depthwise=True),
    "conv2_1": lambda shape: LocalPerception(shape, depthwise=False),
    **{f"attention_r{r}": lambda shape, r=r: GlobalAggregation(shape, r) for r in range(1, 10)},
    "conv_normal": PlainConvolution,
    "self_attention": SelfAttention,
    "dummy_mlp": DummyMlp,
    "linear": Linear,
    "vit": BlockThenLinear,
    **branches.KINDS,
}
NAMES = tuple(_KINDS)
_SWIN_KINDS = {name: make for name, make in _KINDS.items()
               if name in ("conv1_1", "conv2_1") or name.startswith("attention_r")} | {
    "linear": MeanLinear}


def make(name: str, shape) -> nn.Module:
    kinds = _KINDS if shape.n_special else _SWIN_KINDS
    if name not in kinds:
        raise ValueError(f"exit head {name!r}: expected one of {', '.join(kinds)}")
    return kinds[name](shape)
