# SPDX-License-Identifier: MIT
"""One stretch of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field

from .views import Augmentation

OBJECTIVES = ("final", "joint", "alternating", "exit", "heads")
PARTS = ("all", "backbone", "heads", "branch")


@dataclass(frozen=True)
class Phase:
    """One stretch of training.

    objective: `final` the final classifier alone; `joint` one weighted sum over all exits;
    `alternating` even steps final, odd steps joint; `exit` exit number `exit` alone, blocks behind
    it don't run; `heads` LGViT's second stage, teacher the final logits.
    train: `all`; `backbone` with the final classifier; `heads` the exits; `branch` exit `exit` and
    the blocks since the exit before it."""

    objective: str = "joint"
    train: str = "all"
    epochs: float = 1.0
    steps: int | None = None  # instead of epochs
    size: int | None = None  # input side, None: the model's
    lr: tuple[float, float] = (1.0, 0.01)  # of the peak rates, at the start and at the end
    warmup: int = 0  # steps of linear rise
    exit: int = 0
    weights: str | tuple[float, ...] = "depth"  # or "uniform"; or one a exit and one for the end
    distil: float = 0.0  # share of an exit's loss that comes from the final logits
    teach: float = 0.0  # share of the final loss that comes from the teacher model
    alpha: float = 0.3  # objective heads: of KD, of hete, of homo
    eta: float = 0.01
    omega: float = 0.01
    smoothing: float = 0.0
    augment: Augmentation = field(default_factory=Augmentation)
