# SPDX-License-Identifier: MIT
"""The usual strategies as lists of phases, all on the same budget of steps.

| name | what |
|---|---|
| `joint` | backbone and exits together, exits weighted by depth (PABEE, LGViT's `weighted`) |
| `joint_uniform` | the same with equal weights (LGViT's `normal`) |
| `alternating` | even steps the final classifier alone, odd steps as `joint` (LGViT's stage 1) |
| `two_stage` | LGViT: `alternating`, then the exits on the frozen backbone, taught by its end |
| `classifier_wise` | the backbone alone, then the exits on the frozen backbone (DeeBERT, SDN) |
| `layer_wise` | exit 0 with all blocks up to it, then exit 1 with all blocks up to it, ... |
| `branch_wise` | exit 0 with its blocks, then exit 1 with the blocks between both, ... |
"""

from __future__ import annotations

from dataclasses import replace

from .network import Shape
from .phase import Phase

HEADS_SHARE = 0.3  # of the budget, for the second stage


def _parts(budget: Phase, shares: list[float]) -> list[Phase]:
    """The budget's steps or epochs divided; every part has the whole course of rates."""
    def part(share: float) -> Phase:
        if budget.steps is not None:
            return replace(budget, steps=max(1, round(budget.steps * share)))
        return replace(budget, epochs=budget.epochs * share)

    return [part(share / sum(shares)) for share in shares]


def _two_stages(budget: Phase, first: dict, second: dict) -> list[Phase]:
    a, b = _parts(budget, [1 - HEADS_SHARE, HEADS_SHARE])
    return [replace(a, **first), replace(b, **second)]


def _by_depth(budget: Phase, shape: Shape, train: str) -> list[Phase]:
    """One exit after the other, then the final classifier; shares by the blocks that run."""
    *exits, last = _parts(budget, [*shape.exit_blocks, shape.n_layers])
    phases = [replace(p, objective="exit", train=train, exit=k) for k, p in enumerate(exits)]
    rest = "backbone" if train == "all" else train
    return [*phases, replace(last, objective="final", train=rest, exit=len(exits))]


STRATEGIES = {
    "joint": lambda b, s: [replace(b, objective="joint", weights="depth")],
    "joint_uniform": lambda b, s: [replace(b, objective="joint", weights="uniform")],
    "alternating": lambda b, s: [replace(b, objective="alternating", weights="depth")],
    "two_stage": lambda b, s: _two_stages(b, {"objective": "alternating"},
                                          {"objective": "heads", "train": "heads"}),
    "classifier_wise": lambda b, s: _two_stages(
        b, {"objective": "final", "train": "backbone"},
        {"objective": "joint", "train": "heads", "weights": "uniform"}),
    "layer_wise": lambda b, s: _by_depth(b, s, "all"),
    "branch_wise": lambda b, s: _by_depth(b, s, "branch"),
}


def phases(name: str, budget: Phase, shape: Shape) -> tuple[Phase, ...]:
    if name not in STRATEGIES:
        raise ValueError(f"strategy {name!r}: expected one of {', '.join(STRATEGIES)}")
    return tuple(STRATEGIES[name](budget, shape))
