# SPDX-License-Identifier: MIT
"""A training run as a TOML file: the model, the optimiser, and the phases one after the other.

Every strategy is a list of phases (`strategies` writes the usual ones), so that resuming, logging
and exporting know phases only. Keys are the fields below; an unknown one is an error.
"""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path

from .network import Shape
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


@dataclass(frozen=True)
class Recipe:
    shape: Shape
    phases: tuple[Phase, ...]
    seed: int = 777
    batch: int = 64
    lr: float = 1e-4
    head_lr: float = 1e-3
    layer_decay: float = 1.0
    weight_decay: float = 0.05
    clip: float = 1.0
    ema: float = 0.999
    bf16: bool = True
    init: str | None = None  # folder of the weights to start from
    teacher: str | None = None  # folder of a trained model of eestream-train
    store_side: int = 256  # of image folders
    eval_every: int = 400  # steps
    eval_count: int = 1000  # pictures of dev; all of them at the end of a phase

    def steps_of(self, n_pictures: int) -> list[int]:
        """Steps of every phase."""
        per_epoch = max(1, n_pictures // self.batch)
        return [p.steps if p.steps is not None else round(p.epochs * per_epoch)
                for p in self.phases]


def _make(kind, values: dict, where: str):
    """A dataclass from a table of the file; lists become tuples."""
    known = {f.name: f for f in fields(kind)}
    for key in values:
        if key not in known:
            raise ValueError(f"{where}: unknown key {key!r}; known are {', '.join(known)}")
    missing = [f.name for f in fields(kind) if f.name not in values
               and f.default is MISSING and f.default_factory is MISSING]
    if missing:
        raise ValueError(f"{where}: {', '.join(missing)} missing")
    return kind(**{k: _tuples(v) for k, v in values.items()})


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _phase(values: dict, where: str) -> Phase:
    values = dict(values)
    if "augment" in values:
        values["augment"] = _make(Augmentation, values["augment"], f"{where}.augment")
    phase = _make(Phase, values, where)
    for name, known in (("objective", OBJECTIVES), ("train", PARTS)):
        if getattr(phase, name) not in known:
            raise ValueError(f"{where}: {name} {getattr(phase, name)!r}: expected one of "
                             f"{', '.join(known)}")
    return phase


def parse(text: str, n_classes: int) -> Recipe:
    values = tomllib.loads(text)
    shape = _make(Shape, {"n_classes": n_classes, **values.pop("model", {})}, "model")
    phases = tuple(_phase(v, f"phase {i + 1}") for i, v in enumerate(values.pop("phase", [])))
    return _make(Recipe, {**values, "shape": shape, "phases": phases}, "recipe")


def read(path: Path, n_classes: int) -> Recipe:
    try:
        return parse(Path(path).read_text(), n_classes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def with_phases(recipe: Recipe, phases: tuple[Phase, ...]) -> Recipe:
    return replace(recipe, phases=phases)


def as_json(recipe: Recipe) -> dict:
    return asdict(recipe)
