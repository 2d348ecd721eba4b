# SPDX-License-Identifier: MIT
"""Learning rates, parameter groups and the moving average of the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .network import Network, Shape


def factor(progress: float, start: float, end: float) -> float:
    """A straight line from `start` to `end` over a phase; progress in [0, 1]."""
    return start + (end - start) * progress


def _is_plain(name: str, parameter: Tensor) -> bool:
    """No weight decay: biases, norms, layer scale, special tokens, positions."""
    return parameter.ndim < 2 or name in ("embed.cls", "embed.dist", "embed.pos") or (
        name.endswith("rel_bias"))


def _depth(name: str, shape: Shape) -> int:
    """Blocks behind a tensor: 0 at the end of the backbone, n_layers in the embedding."""
    part, _, rest = name.partition(".")
    if part == "embed":
        return shape.n_layers
    if part not in ("blk", "merge"):
        return 0
    number = int(rest.split(".")[0])
    return shape.n_layers - (number + 1 if part == "blk" else sum(shape.depths[:number + 1]))


def parameter_groups(network: Network, lr: float, head_lr: float, layer_decay: float,
                     weight_decay: float) -> list[dict]:
    """AdamW groups with their own peak rate `peak`: exits and final classifier learn with
    `head_lr`, block b of L with lr * layer_decay^(L - b)."""
    groups: dict[tuple, dict] = {}
    for name, parameter in network.named_parameters():
        is_head = name.startswith(("exit.", "head."))
        depth = _depth(name, network.shape)
        peak = head_lr if is_head else lr * layer_decay ** depth
        decay = 0.0 if _is_plain(name, parameter) else weight_decay
        group = groups.setdefault((peak, decay), {"params": [], "peak": peak, "lr": peak,
                                                  "weight_decay": decay})
        group["params"].append(parameter)
    return list(groups.values())


class Average:
    """Exponential moving average of weights and running statistics. The memory is short at first,
    so that the start is forgotten."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {k: v.detach().clone() for k, v in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        mine, new = [], []
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                mine.append(self.state[name])
                new.append(value)
            else:
                self.state[name].copy_(value)
        torch._foreach_lerp_(mine, new, weight)
