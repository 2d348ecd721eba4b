# SPDX-License-Identifier: MIT
"""Swin Transformer (Liu et al. 2021), grids that windows divide. Norms and details as in Hugging
Face's `SwinForImageClassification`; docs/swin.md has the tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .network import Network, Shape, initialise
from .parts import Attention, Block, Classifier, container

EPS = 1e-5  # of the norms of patches and merges, whatever the model's is
MASKED = -100.0  # added to scores between regions that a shift has put side by side


def to_windows(grid: Tensor, side: int) -> Tensor:
    """[B, g, g, C] to [B * windows, side * side, C], windows and tokens row by row."""
    batch, g, _, size = grid.shape
    n = g // side
    return (grid.view(batch, n, side, n, side, size).transpose(2, 3)
            .reshape(batch * n * n, side * side, size))


def from_windows(windows: Tensor, g: int) -> Tensor:
    """The way back."""
    side = round(windows.shape[1] ** 0.5)
    n, size = g // side, windows.shape[2]
    return (windows.view(-1, n, n, side, side, size).transpose(2, 3).reshape(-1, g, g, size))


def relative_index(side: int) -> Tensor:
    """[side^2, side^2]: row of the bias table for query i and key j."""
    place = torch.arange(side)
    rows, columns = place.repeat_interleave(side), place.repeat(side)
    down = rows[:, None] - rows + side - 1
    right = columns[:, None] - columns + side - 1
    return down * (2 * side - 1) + right


def shift_mask(g: int, side: int, shift: int) -> Tensor:
    """[windows, side^2, side^2]: 0 within a region of the rolled grid, MASKED across."""
    place = torch.arange(g)
    band = (place >= g - side).long() + (place >= g - shift).long()
    region = (3 * band[:, None] + band).view(1, g, g, 1)
    region = to_windows(region, side)[..., 0]
    return torch.where(region[:, :, None] == region[:, None, :], 0.0, MASKED)


class WindowAttention(Attention):
    """Attention within windows, with a bias a head and pair of places."""

    def __init__(self, size: int, n_heads: int, g: int, side: int, shift: int) -> None:
        super().__init__(size, n_heads)
        self.g, self.side, self.shift = g, side, shift
        self.rel_bias = nn.Parameter(torch.zeros((2 * side - 1) ** 2, n_heads))
        self.register_buffer("index", relative_index(side), persistent=False)
        self.register_buffer("mask", shift_mask(g, side, shift) if shift else None,
                             persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        grid = x.unflatten(1, (self.g, self.g)).roll((-self.shift, -self.shift), (1, 2))
        windows = self.proj(self._attend(self.qkv(to_windows(grid, self.side))))
        return from_windows(windows, self.g).roll((self.shift, self.shift), (1, 2)).flatten(1, 2)

    def _attend(self, qkv: Tensor) -> Tensor:
        n_windows, tokens, width = qkv.shape
        q, k, v = qkv.view(n_windows, tokens, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.rel_bias[self.index].permute(2, 0, 1)[None]
        if self.mask is not None:
            bias = bias + self.mask.repeat(n_windows // len(self.mask), 1, 1)[:, None]
        scores = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5 + bias
        mixed = scores.softmax(dim=-1).to(v.dtype) @ v
        return mixed.transpose(1, 2).reshape(n_windows, tokens, width // 3)


class Merge(nn.Module):
    """Four neighbours become one token: even and odd rows of even columns, then of odd ones."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * size, eps=EPS)
        self.reduce = nn.Linear(4 * size, 2 * size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        g = round(x.shape[1] ** 0.5)
        grid = x.unflatten(1, (g, g))
        parts = [grid[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.reduce(self.norm(torch.cat(parts, dim=3))).flatten(1, 2)


def _block(s: Shape, block: int) -> Block:
    """Every second block of a stage is shifted, unless one window is the whole grid."""
    here, first = s.at(block), sum(s.depths[:s.stage_of(block)]) + 1
    shift = s.window // 2 if (block - first) % 2 and here.grid > s.window else 0
    made = Block(here.hidden_size, here.n_heads, here.mlp_size, s.norm_eps)
    made.attn = WindowAttention(here.hidden_size, here.n_heads, here.grid, s.window, shift)
    return made


class Swin(Network):
    def __init__(self, shape: Shape) -> None:
        s, size = shape, shape.hidden_size << (len(shape.depths) - 1)
        super().__init__(
            shape, container(patch=nn.Conv2d(3, s.hidden_size, s.patch_size, s.patch_size),
                             norm=nn.LayerNorm(s.hidden_size, eps=EPS)),
            [_block(s, block) for block in range(1, s.n_layers + 1)],
            nn.LayerNorm(size, eps=s.norm_eps), Classifier(size, s.n_classes))
        self.merge = nn.ModuleList(Merge(s.hidden_size << stage)
                                   for stage in range(len(s.depths) - 1))
        self.apply(initialise)

    def _ends(self) -> dict[int, nn.Module]:
        """The merge behind a stage's last block."""
        return {sum(self.shape.depths[:i + 1]): merge for i, merge in enumerate(self.merge)}

    def tokens(self, pixels: Tensor) -> Tensor:
        return self.embed.norm(self.embed.patch(pixels).flatten(2).transpose(1, 2))

    def behind(self, block: int, x: Tensor) -> Tensor:
        merge = self._ends().get(block)
        return x if merge is None else merge(x)

    def between(self, first: int, end: int) -> list[nn.Module]:
        return [*self.blk[first:end],
                *(merge for block, merge in self._ends().items() if first <= block < end)]

    def final(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x).mean(dim=1))
