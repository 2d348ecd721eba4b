# SPDX-License-Identifier: MIT
"""eestream-train: trains early-exit Vision Transformers, compares them, exports them.

    eestream-train run RECIPE.toml --data DIR --out RUN      started again, it goes on
    eestream-train export RUN FOLDER --data DIR              to a folder the engine reads
    eestream-train study STUDY.toml --data DIR --out DIR     heads, exits, strategies on one budget
    eestream-train plot RUN_OR_FOLDER... --out FILE.svg
    eestream-train frames calibration --data DIR --out DIR   a set as JPEGs in class folders
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import torch

from . import engine, export_run, fit, model_folder, plots, recipe as recipes, report, sets, study
from .loop import Loop

STOPPED = "eestream-train: stopped; the same command goes on"


def run(args) -> None:
    parts = {name: sets.load(args.data, name, 256, args.cache or args.out)
             for name in ("train", "dev")}
    recipe = recipes.read(args.recipe, len(parts["train"].class_names))
    init, teacher = args.init or recipe.init, args.teacher or recipe.teacher
    started = (args.out / "checkpoint.pt").exists()
    start = read_start(init) if not started else None
    teaches = teacher and any(phase.teach for phase in recipe.phases)
    one = fit.Run(recipe, args.out, start, model_folder.read(Path(teacher)) if teaches else None,
                  args.device)
    done = Loop(one, parts["train"], parts["dev"], args.pause_file).go()
    one.log(event="finished" if done else "stopped")
    write_csv(one.log_path)
    if not done:
        sys.exit(STOPPED)


def read_start(folder: str | Path | None) -> dict | None:
    """The tensors to start from."""
    return engine.read(Path(folder))[1] if folder else None


def write_csv(log: Path) -> None:
    """The log's lines with a loss once more as a table, for spreadsheets."""
    lines = [line for line in fit.read_log(log) if "loss" in line]
    n_answers = max((len(line["accuracy"]) for line in lines if "accuracy" in line), default=0)
    columns = ["seconds", "step", "epoch", "phase", "size", "lr", "loss"]
    with open(log.with_suffix(".csv"), "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns + [f"exit{k}" for k in range(n_answers - 1)] + ["final"])
        for line in lines:
            writer.writerow([line[c] for c in columns] + line.get("accuracy", []))


def export(args) -> None:
    found = export_run.export(args.run, args.data, args.folder, args.max_loss, args.count,
                              args.cache)
    shape = export_run.load(args.run)[0].shape
    print(report.table({str(args.folder): found}, {str(args.folder): shape.exit_blocks}))


def compare(args) -> None:
    table = study.study(args.study, args.data, args.out, args.max_loss, args.pause_file,
                        args.cache, args.device, read_start(args.init))
    if table is None:
        sys.exit(STOPPED)
    print(table)


def plot(args) -> None:
    if (args.sources[0] / "log.jsonl").exists():
        plots.curve(args.sources[0], args.out)
    else:
        plots.work(args.sources, args.out)


def frames(args) -> None:
    sets.write_jpegs(sets.load(args.data, args.set, 256, args.cache), args.out)


def _parser() -> argparse.ArgumentParser:
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument("--data", type=Path, required=True, help="directory of pictures: atlases, "
                      "image folders or a rendered world (see the README)")
    data.add_argument("--cache", type=Path, help="where decoded pictures are kept "
                      "(default: with the run)")
    fitting = argparse.ArgumentParser(add_help=False)
    fitting.add_argument("--out", type=Path, required=True, help="directory of checkpoints, logs")
    fitting.add_argument("--pause-file", type=Path, help="waits while this file exists")
    fitting.add_argument("--init", type=Path, help="model folder to start from")
    fitting.add_argument("--device", default="cpu", help="cpu or cuda (default %(default)s)")
    loss = argparse.ArgumentParser(add_help=False)
    loss.add_argument("--max-loss", type=float, default=1.0,
                      help="points the thresholds may cost (default %(default)s)")

    p = argparse.ArgumentParser(prog="eestream-train", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--threads", type=int, default=2, help="default %(default)s")
    verbs = p.add_subparsers(required=True)

    def verb(function, name: str, *parents) -> argparse.ArgumentParser:
        parser = verbs.add_parser(name, parents=parents)
        parser.set_defaults(function=function)
        return parser

    one = verb(run, "run", data, fitting)
    one.add_argument("recipe", type=Path, help="TOML file")
    one.add_argument("--teacher", type=Path, help="model folder that teaches")
    one = verb(export, "export", data, loss)
    one.add_argument("run", type=Path, help="the --out of a run, finished or not")
    one.add_argument("folder", type=Path, help="model folder to write")
    one.add_argument("--count", type=int, help="pictures for thresholds and for figures, for a "
                     "quick look (default: all)")
    one = verb(compare, "study", data, fitting, loss)
    one.add_argument("study", type=Path, help="TOML file")
    one = verb(plot, "plot")
    one.add_argument("sources", type=Path, nargs="+", help="a run, or exported folders")
    one.add_argument("--out", type=Path, required=True, help="picture (.svg)")
    one = verb(frames, "frames", data)
    one.add_argument("set", choices=sets.SETS)
    one.add_argument("--out", type=Path, required=True, help="directory of class folders")
    return p


def main(arguments: list[str] | None = None) -> None:
    args = _parser().parse_args(arguments)
    torch.set_num_threads(args.threads)
    try:
        args.function(args)
    except (ValueError, OSError) as error:
        sys.exit(f"eestream-train: {error}")


if __name__ == "__main__":
    main()
