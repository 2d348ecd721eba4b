# SPDX-License-Identifier: MIT
"""Trains an early-exit Vision Transformer after a recipe; started again, it goes on.

    eestream-train RECIPE.toml --data DIR --out RUN
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from . import names, recipe as recipes, sets
from .fit import Loop, Run


def read_weights(folder: Path) -> dict:
    """A folder's or a file's weights under canonical names."""
    from safetensors.torch import load_file
    path = folder if folder.suffix == ".safetensors" else folder / "model.safetensors"
    return names.to_canonical(load_file(path))


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="eestream-train", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("recipe", type=Path, help="TOML file")
    p.add_argument("--data", type=Path, required=True, help="directory of pictures")
    p.add_argument("--out", type=Path, required=True, help="directory of checkpoint and log")
    p.add_argument("--init", type=Path, help="weights to start from (instead of the recipe's)")
    p.add_argument("--cache", type=Path, help="where decoded pictures are kept (default OUT)")
    p.add_argument("--pause-file", type=Path, help="the run waits while this file exists")
    p.add_argument("--threads", type=int, default=2, help="default %(default)s")
    return p


def main(arguments: list[str] | None = None) -> None:
    args = _parser().parse_args(arguments)
    torch.set_num_threads(args.threads)
    cache = args.cache or args.out
    parts = {name: sets.load(args.data, name, 0, cache) for name in ("train", "dev")}
    recipe = recipes.read(args.recipe, len(parts["train"].class_names))
    start = None
    if not (args.out / "checkpoint.pt").exists() and (args.init or recipe.init):
        start = read_weights(args.init or Path(recipe.init))
    run = Run(recipe, args.out, start)
    done = Loop(run, parts["train"], parts["dev"], args.pause_file).go()
    run.log(event="finished" if done else "stopped")


if __name__ == "__main__":
    main()
