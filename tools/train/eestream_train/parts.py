# SPDX-License-Identifier: MIT
"""What backbones and exit heads share: attention, blocks, classifiers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def container(**children: nn.Module) -> nn.Module:
    """A bare module that only contributes a level to the tensor names."""
    module = nn.Module()
    for name, child in children.items():
        module.add_module(name, child)
    return module


def packed_attention(qkv: Tensor, n_heads: int) -> Tensor:
    """softmax(Q K^T / sqrt(D)) V on packed [Q; K; V] columns, [B, T, 3C] -> [B, T, C].

    Spelled out: with some tens of tokens the fused CPU kernel trains at half the speed of two
    products."""
    batch, tokens, width = qkv.shape
    head_size = width // 3 // n_heads
    q, k, v = (qkv.view(batch, tokens, 3, n_heads, head_size).permute(2, 0, 3, 1, 4)
               .reshape(3, batch * n_heads, tokens, head_size))
    scores = torch.bmm(q, k.transpose(1, 2)) * head_size ** -0.5
    mixed = torch.bmm(scores.softmax(dim=-1).to(v.dtype), v)
    return (mixed.view(batch, n_heads, tokens, head_size).transpose(1, 2)
            .reshape(batch, tokens, width // 3))


class Attention(nn.Module):
    """Packed [Q; K; V] rows, each head-major, and the projection behind."""

    def __init__(self, size: int, n_heads: int, bias: bool = True) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(size, 3 * size, bias=bias)
        self.proj = nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(packed_attention(self.qkv(x), self.n_heads))


class Block(nn.Module):
    """Pre-LN block: x += ls1 * attn(LN1 x), then x += ls2 * W2 gelu(W1 LN2 x), erf gelu."""

    def __init__(self, size: int, n_heads: int, mlp_size: int, eps: float,
                 layer_scale: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(size, eps=eps)
        self.attn = Attention(size, n_heads)
        self.norm2 = nn.LayerNorm(size, eps=eps)
        self.mlp = container(fc1=nn.Linear(size, mlp_size), fc2=nn.Linear(mlp_size, size))
        for name in ("ls1", "ls2"):
            self.register_parameter(name, nn.Parameter(torch.ones(size)) if layer_scale else None)

    def forward(self, x: Tensor) -> Tensor:
        x = x + _scale(self.attn(self.norm1(x)), self.ls1)
        inner = F.gelu(self.mlp.fc1(self.norm2(x)))
        return x + _scale(self.mlp.fc2(inner), self.ls2)


def _scale(x: Tensor, by: Tensor | None) -> Tensor:
    return x if by is None else x * by


class Classifier(nn.Module):
    """Logits of one vector, or the mean of two classifiers' where there is a distillation token."""

    def __init__(self, size: int, n_classes: int, has_dist: bool = False) -> None:
        super().__init__()
        self.cls = nn.Linear(size, n_classes)
        self.dist = nn.Linear(size, n_classes) if has_dist else None

    def forward(self, x: Tensor, second: Tensor | None = None) -> Tensor:
        return self.cls(x) if self.dist is None else (self.cls(x) + self.dist(second)) / 2


def on_grid(patches: Tensor) -> Tensor:
    """[B, N, C] to [B, C, g, g]."""
    grid = round(patches.shape[1] ** 0.5)
    return patches.transpose(1, 2).unflatten(2, (grid, grid))


class Mlp(nn.ModuleList):
    """Linear layers with gelu between them, none behind the last."""

    def __init__(self, *widths: int) -> None:
        super().__init__(nn.Linear(a, b) for a, b in zip(widths, widths[1:]))

    def forward(self, x: Tensor) -> Tensor:
        for layer in list(self)[:-1]:
            x = F.gelu(layer(x))
        return self[-1](x)
