# SPDX-License-Identifier: MIT
"""A smaller network's start out of a larger one's weights (Xu et al. 2024, "Initializing models with
larger ones": uniform selection): its first blocks, and of every dimension evenly spaced elements.
Attention keeps or drops whole heads."""

from __future__ import annotations

import torch
from torch import Tensor


def thinned(tensors: dict[str, Tensor], wanted: dict[str, torch.Size],
            head_size: int) -> dict[str, Tensor]:
    """Every tensor whose wanted shape is smaller, cut down to it; the rest as it is. Exits stay
    as they are, and so does a classifier of other classes."""
    return {name: _cut(name, value, wanted[name], head_size)
            if name in wanted and _can_be_cut(name, value, wanted[name]) else value
            for name, value in tensors.items()}


def _can_be_cut(name: str, value: Tensor, shape: torch.Size) -> bool:
    if name.startswith("exit.") or name.startswith("head.") and value.shape[0] != shape[0]:
        return False
    return value.shape != shape and value.ndim == len(shape) and all(
        new <= old for new, old in zip(shape, value.shape))


def _cut(name: str, value: Tensor, shape: torch.Size, head_size: int) -> Tensor:
    for dim, n in enumerate(shape):
        by_head = ".attn.qkv." in name and dim == 0 or name.endswith(".attn.proj.weight") and dim
        value = value.index_select(dim, _spread(value.shape[dim], n, head_size if by_head else 1))
    return value


def _spread(n_old: int, n_new: int, group: int) -> Tensor:
    """`n_new` of `n_old` indices in whole groups, evenly spaced."""
    first = torch.arange(n_new // group) * (n_old // group) // (n_new // group) * group
    return (first[:, None] + torch.arange(group)).flatten()
