# SPDX-License-Identifier: MIT
"""eestream and its peers on the same random models, alternating in one run: one table.

    tools/peers/compare [--cells NAME...] [--rounds 11] [--out DIR]        # sets up everything, then calls this

A cell is a model, a precision and a way to use the cores. All contenders of a cell are started first, then timed one after
the other, round by round, each round beginning with another; the figure is the median of the rounds' ratios to eestream.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

from eestream_peers.cells import CELLS, Workshop, contenders
from eestream_peers.table import markdown, summary


def cpu_model():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def measure(cell, workshop, cores, rounds):
    """Seconds of each contender in each round, and what they answered."""
    runners = contenders(cell, workshop, cores)
    try:
        want = runners[0].logits()
        for runner in runners:
            runner.seconds(max(2, cell.frames // 8))
        answers = {r.name: float(np.abs(r.logits() - want).max()) for r in runners[1:]}
        seconds = {r.name: [] for r in runners}
        for i in range(rounds):
            for k in range(len(runners)):
                runner = runners[(i + k) % len(runners)]
                seconds[runner.name].append(runner.seconds(cell.frames))
        return {"cell": cell.name, "cores": cell.cores, "mode": cell.mode, "frames": cell.frames, "seconds": seconds,
                "logits_differ": answers, "logits_spread": float(np.ptp(want)),
                "max_rss_mib": {r.name: r.max_rss_mib() for r in runners}}
    finally:
        for runner in runners:
            runner.close()


def main():
    parser = argparse.ArgumentParser(prog="compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True, help="the release build: eestream, stream_worker")
    parser.add_argument("--cells", nargs="+", metavar="NAME", choices=list(CELLS), default=list(CELLS), help=", ".join(CELLS))
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--mix", type=Path, default=Path("../shared/data/lgvit_cifar100_exits.json"),
                        help="recorded exits, replayed by cells with exits")
    parser.add_argument("--out", type=Path, help="folder for peers.md and peers.json")
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    document = {"cpu": cpu_model(), "cores_allowed": len(cores), "rounds": args.rounds, "cells": [],
                "versions": {n: version(n) for n in ("onnxruntime", "openvino", "nncf", "torch", "numpy")}}
    with tempfile.TemporaryDirectory(prefix="eestream-peers-") as folder:
        workshop = Workshop(Path(folder), args.build, args.mix)
        for name in args.cells:
            cell = CELLS[name]
            if cell.cores > len(cores):
                print(f"{name}: skipped, needs {cell.cores} cores and has {len(cores)}", file=sys.stderr)
                continue
            document["cells"].append(measure(cell, workshop, cores[:cell.cores], args.rounds))
            print(summary(document["cells"][-1]), flush=True)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "peers.json").write_text(json.dumps(document, indent=1) + "\n")
        (args.out / "peers.md").write_text(markdown(document))


if __name__ == "__main__":
    main()
