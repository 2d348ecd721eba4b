# SPDX-License-Identifier: MIT
"""Turns a run into a folder that the engine reads: the averaged weights, thresholds fitted on set
`calibration`, figures of set `dev`, and the engine's word that it computes what PyTorch does."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch

from . import engine, fit, model_folder, recipe as recipes, report, sets
from .backbones import build
from .files import write_json
from .network import Network


def load(run: Path) -> tuple[Network, int]:
    """The averaged weights of a run's checkpoint, finished or not, and its step."""
    recipe = recipes.from_json(json.loads((run / "recipe.json").read_text()))
    saved = torch.load(run / "checkpoint.pt", weights_only=True, map_location="cpu")
    with torch.random.fork_rng():
        network = build(recipe.shape)
    network.load_state_dict(saved["average"])
    return network.eval(), saved["step"]


def export(run: Path, data: Path, folder: Path, max_loss: float, count: int | None = None,
           cache: Path | None = None) -> report.Figures:
    """`count`: pictures of each set used, None: all of them."""
    network, step = load(run)
    shape = network.shape
    calibration, dev = (sets.load(data, name, 256, cache or run) for name in ("calibration", "dev"))
    if count:
        calibration, dev = calibration.take(count), dev.take(count)
    model_folder.write(folder, network, dev.class_names, 1.0)
    cost = report.costs(engine.inspect(folder)["units"], shape.n_layers)
    fitted = report.thresholds(fit.predict(network, calibration, shape.image_size),
                               calibration.labels, cost, max_loss) if shape.exits else []
    model_folder.write(folder, network, dev.class_names, fitted)
    model_folder.check(folder, network, dev)
    found = report.figures(fit.predict(network, dev, shape.image_size), dev.labels, fitted, cost,
                           shape.n_layers)
    write_json(folder / "figures.json", {
        "step": step, "pictures": len(dev), "calibrated_on": len(calibration),
        "max_loss_points": max_loss, "cost_in_blocks": cost.round(4).tolist(), **asdict(found)})
    return found
