# SPDX-License-Identifier: MIT
"""Compares heads, exits and strategies on one budget.

A study is a recipe with a strategy and a budget, and `[[row]]`s that each change some of it:
`name`, `strategy`, `head` (one for all exits), `heads` (one an exit), `blocks` (places of the
exits). Every row is a run of its own in OUT/NAME, so that a study can be stopped and gone on with.
All rows start from the same seed and see the same pictures in the same order.
"""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

from . import export_run, recipe as recipes, report, sets, strategies
from .fit import Run
from .loop import Loop
from .recipe import Recipe

_KEYS = ("name", "strategy", "head", "heads", "blocks")


def rows(text: str, n_classes: int) -> dict[str, Recipe]:
    """The recipes of a study's rows, by name."""
    values = tomllib.loads(text)
    given = values.get("row", [])
    base = recipes.parse(text, n_classes, extra=("row",))
    found = {}
    for row in given:
        unknown = [k for k in row if k not in _KEYS]
        if unknown or "name" not in row:
            raise ValueError(f"row {row}: expected a name and keys among {', '.join(_KEYS)}")
        blocks = row.get("blocks", base.shape.exit_blocks)
        heads = row.get("heads", [row["head"]] * len(blocks) if "head" in row else
                        base.shape.head_types)
        if len(heads) != len(blocks):
            raise ValueError(f"row {row['name']}: {len(heads)} heads for {len(blocks)} exits")
        shape = replace(base.shape, exits=tuple(zip(blocks, heads)))
        phases = strategies.phases(row.get("strategy", values["strategy"]),
                                   recipes.budget(values), shape)
        found[row["name"]] = replace(base, shape=shape, phases=phases)
    return found


def study(path: Path, data: Path, out: Path, max_loss: float, pause_file: Path | None = None,
          cache: Path | None = None, device: str = "cpu",
          start: dict | None = None) -> str | None:
    """Train and measure every row, from the tensors `start` if there are any. @return the table;
    None: a signal came before the end"""
    parts = {name: sets.load(data, name, 256, cache or out) for name in ("train", "dev")}
    recipes_by_name = rows(path.read_text(), len(parts["train"].class_names))
    results, blocks = {}, {}
    for name, recipe in recipes_by_name.items():
        run = Run(recipe, out / name, start, device=device)
        if not Loop(run, parts["train"], parts["dev"], pause_file).go():
            return None
        run.lock.close()
        results[name] = export_run.export(out / name, data, out / name / "model", max_loss,
                                          cache=cache or out)
        blocks[name] = recipe.shape.exit_blocks
        (out / "table.md").write_text(report.table(results, blocks))
    return report.table(results, blocks)
