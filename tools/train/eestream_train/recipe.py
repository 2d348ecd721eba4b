# SPDX-License-Identifier: MIT
"""A training run as a TOML file: the model, the optimiser, and the phases one after the other.

A recipe lists its `[[phase]]`s, or names a `strategy` and its `[budget]` (a phase without objective
and train), which `strategies` turns into phases: resuming, logging and exporting know phases only.
Keys are the fields of the classes below; an unknown one is an error.
"""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path

from . import strategies
from .network import Shape
from .phase import OBJECTIVES, PARTS, Phase
from .views import Augmentation

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
    bf16: bool = True  # autocast, where the processor has it
    init: str | None = None  # folder of the weights to start from
    teacher: str | None = None  # folder of a trained model
    teacher_size: int | None = None  # input side it teaches at, None: its own
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


def parse(text: str, n_classes: int, extra: tuple[str, ...] = ()) -> Recipe:
    """`extra`: keys that are somebody else's."""
    values = {k: v for k, v in tomllib.loads(text).items() if k not in extra}
    shape = _make(Shape, {"n_classes": n_classes, **values.pop("model", {})}, "model")
    phases = tuple(_phase(v, f"phase {i + 1}") for i, v in enumerate(values.pop("phase", [])))
    strategy, steps = values.pop("strategy", None), budget(values)
    values.pop("budget", None)
    if (strategy is None) == (not phases):
        raise ValueError("expected either [[phase]]s, or a strategy and its [budget]")
    if strategy is not None:
        phases = strategies.phases(strategy, steps, shape)
    return _make(Recipe, {**values, "shape": shape, "phases": phases}, "recipe")


def budget(values: dict) -> Phase:
    """The table [budget] of a file."""
    return _phase(values.get("budget", {}), "budget")


def read(path: Path, n_classes: int) -> Recipe:
    try:
        return parse(Path(path).read_text(), n_classes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def as_json(recipe: Recipe) -> dict:
    return asdict(recipe)


def from_json(values: dict) -> Recipe:
    """What as_json() wrote, read back from a file."""
    values = dict(values)
    shape = _make(Shape, values.pop("shape"), "shape")
    phases = tuple(_phase(v, f"phase {i + 1}") for i, v in enumerate(values.pop("phases")))
    return _make(Recipe, {**values, "shape": shape, "phases": phases}, "recipe")
