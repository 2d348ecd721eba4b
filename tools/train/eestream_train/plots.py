# SPDX-License-Identifier: MIT
"""Pictures of a run: the learning curve, and accuracy against work (needs extra `plots`)."""

from __future__ import annotations

import json
from pathlib import Path

from .fit import read_log


def curve(run: Path, out: Path) -> None:
    """Loss, and accuracy by exit, over the hours of training."""
    import matplotlib
    matplotlib.use("svg")
    from matplotlib import pyplot
    lines = read_log(run / "log.jsonl")
    exits = json.loads((run / "recipe.json").read_text())["shape"]["exits"]
    steps = [line for line in lines if "loss" in line]
    evaluated = [line for line in lines if "accuracy" in line]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.plot([line["step"] for line in steps], [line["loss"] for line in steps])
    left.set(xlabel="step", ylabel="loss")
    for k, name in enumerate([*(f"after {b}, {head}" for b, head in exits), "full depth"]):
        right.plot([line["step"] for line in evaluated],
                   [100 * line["accuracy"][k] for line in evaluated], label=name)
    right.set(xlabel="step", ylabel="right, % of dev")
    right.legend(fontsize="small")
    right.grid(alpha=0.3)
    figure.savefig(out)


def work(folders: list[Path], out: Path) -> None:
    """Accuracy of every exit against the work up to it, one line a model folder."""
    import matplotlib
    matplotlib.use("svg")
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for folder in folders:
        figures = json.loads((folder / "figures.json").read_text())
        axes.plot(figures["cost_in_blocks"], [*figures["exits"], figures["full"]], marker="o",
                  label=folder.parent.name if folder.name == "model" else folder.name)
    axes.set(xlabel="work, in blocks", ylabel="right, % of dev")
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    figure.savefig(out)
