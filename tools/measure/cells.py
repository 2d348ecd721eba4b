#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Planned pipeline against replicas of the same exiting model, and against full depth, for every model and exit mix.

    tools/measure/cells.py [--eestream build/release/tools/eestream] [--archs vit-ti16 vit-s16 vit-b16] [--reps N] [--load SHARE]
                           [--thresholds 0.8 0.9 0.99] [--mixes ../shared/data/lgvit_cifar100_exits.json]

Each cell is one `eestream bench` (1 worker, replicas and plan, with and without exits, alternating). "of the ideal" is the
speed-up over full depth divided by the one that unit costs and exit mix allow, from the same costs for both: decode and
heads included, which every frame pays.
"""
import pathlib
import statistics
import sys

import eestream

RUNS = {"0.8": "orin_onnx_cpu", "0.9": "pytorch_gpu_th90_again", "0.99": "pytorch_gpu_th99_again"}
FRAMES = {"vit-ti16": 128, "vit-s16": 64, "vit-b16": 64}


def bench(args, arch, run):
    mixes, extra = args.mixes, ["--load", args.load] if args.load else []
    document = eestream.report(args.eestream, "bench", "--arch", arch, "--replay-exits", mixes, "--replay-run", run,
                               "--frames", FRAMES.get(arch, 128), "--reps", args.reps, *extra)
    return document, {c["name"]: c for c in document["models"][0]["configurations"]}


def expected_work(args, arch, run, depth):
    """A frame's expected work in milliseconds on one core, by the kept profile."""
    mix = ["--exit-share", ",".join(["0"] * 8 + ["1"])] if depth else ["--replay-exits", args.mixes, "--replay-run", run]
    units = eestream.report(args.eestream, "plan", "--arch", arch, "--plan", "replicas", "--workers", 1, *mix)["units"]
    return sum(u["cold_ms"] * (0 if depth and "exit" in u["name"] else u["reach"]) for u in units)


def fps(configuration):
    return [rep["fps"] for rep in configuration["reps"]]


def main():
    parser = eestream.parser(__doc__)
    parser.add_argument("--archs", nargs="+", default=list(FRAMES))
    parser.add_argument("--reps", type=int, default=4)
    parser.add_argument("--load", type=float, default=0)
    parser.add_argument("--thresholds", nargs="+", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--mixes", type=pathlib.Path,
                        default=pathlib.Path(__file__).resolve().parents[3] / "shared/data/lgvit_cifar100_exits.json")
    args = parser.parse_args()
    if not args.mixes.exists():
        sys.exit(f"{args.mixes}: not there; --mixes names the file with the measured exit mixes")
    if args.load:
        eestream.head("model", "mix", "load", "p50 ms: replicas", "plan", "p99 ms: replicas", "plan",
                      "plan / replicas, p99 by round")
    else:
        eestream.head("model", "mix", "replicas fps", "plan fps", "plan / replicas", "exits / full depth, plan",
                      "of the ideal", "plan")
    for arch in args.archs:
        for name in args.thresholds:
            run = RUNS[name]
            document, c = bench(args, arch, run)
            replicas, plan, full = c["replicas + exits"], c["plan + exits"], c["plan"]
            if args.load:
                a, b, ratio = replicas["load"]["latency_ms"], plan["load"]["latency_ms"], plan["load"]["p99_ratio_replicas"]
                eestream.row(arch, name, args.load, *(f"{x[p]:.1f}" for p in ("p50", "p99") for x in (a, b)),
                             f"{ratio['median']:.3f} ({ratio['min']:.3f}-{ratio['max']:.3f})")
                continue
            ratio = [p / r for p, r in zip(fps(plan), fps(replicas))]
            speedup = [p / f for p, f in zip(fps(plan), fps(full))]
            ideal = expected_work(args, arch, run, True) / expected_work(args, arch, run, False)
            eestream.row(arch, name, f"{replicas['fps']['median']:.1f}", f"{plan['fps']['median']:.1f}", eestream.spread(ratio),
                         eestream.spread(speedup), f"{statistics.median(speedup) / ideal:.3f} of {ideal:.2f}", plan["plan"])
        none = [p / r for p, r in zip(fps(c["plan"]), fps(c["replicas"]))] if not args.load else None
        if none:
            eestream.row(arch, "none", f"{c['replicas']['fps']['median']:.1f}", f"{c['plan']['fps']['median']:.1f}",
                         eestream.spread(none), "-", "-", c["plan"]["plan"])
    print(f"\n{document['cpu']}, {document['cores_allowed']} cores, {args.reps} rounds")


if __name__ == "__main__":
    main()
