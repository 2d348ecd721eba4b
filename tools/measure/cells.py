# SPDX-License-Identifier: MIT
"""Planned pipeline against replicas of the same exiting model, and against full depth, for every model and exit mix.

    tools/measure/cells.py build/release/tools/eestream [--archs vit-ti16 vit-s16 vit-b16] [--reps N] [--load SHARE]
                           [--thresholds 0.8 0.9 0.99] [--mixes ../shared/data/lgvit_cifar100_exits.json]

Each cell is one `eestream bench` (1 worker, replicas and plan, with and without exits, alternating). "of the ideal" is the
speed-up over full depth divided by the one that unit costs and exit mix allow, from the same costs for both: decode and
heads included, which every frame pays.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys

RUNS = {"0.8": "orin_onnx_cpu", "0.9": "pytorch_gpu_th90_again", "0.99": "pytorch_gpu_th99_again"}
FRAMES = {"vit-ti16": 128, "vit-s16": 64, "vit-b16": 64}


def bench(command, arch, mixes, run, args):
    extra = ["--load", str(args.load)] if args.load else []
    done = subprocess.run([command, "bench", "--arch", arch, "--replay-exits", mixes, "--replay-run", run, "--frames",
                           str(FRAMES.get(arch, 128)), "--reps", str(args.reps), "--format", "json", *extra],
                          stdout=subprocess.PIPE, check=True)
    document = json.loads(done.stdout)
    return document, {c["name"]: c for c in document["models"][0]["configurations"]}


def expected_work(command, arch, mixes, run, depth):
    """A frame's expected work in milliseconds on one core, by the kept profile."""
    mix = ["--exit-share", ",".join(["0"] * 8 + ["1"])] if depth else ["--replay-exits", mixes, "--replay-run", run]
    done = subprocess.run([command, "plan", "--arch", arch, "--plan", "replicas", "--workers", "1", *mix, "--format", "json"],
                          stdout=subprocess.PIPE, check=True)
    units = json.loads(done.stdout)["units"]
    return sum(u["cold_ms"] * (0 if depth and "exit" in u["name"] else u["reach"]) for u in units)


def spread(values):
    return f"{statistics.median(values):.3f} ({min(values):.3f}-{max(values):.3f})"


def fps(configuration):
    return [rep["fps"] for rep in configuration["reps"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command")
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
        print("| model | mix | load | p50 ms: replicas | plan | p99 ms: replicas | plan | plan / replicas, p99 by round |\n|---|---|---|---|---|---|---|---|")
    else:
        print("| model | mix | replicas fps | plan fps | plan / replicas | exits / full depth, plan | of the ideal | plan |")
        print("|---|---|---|---|---|---|---|---|")
    for arch in args.archs:
        for name in args.thresholds:
            run = RUNS[name]
            document, c = bench(args.command, arch, args.mixes, run, args)
            replicas, plan, full = c["replicas + exits"], c["plan + exits"], c["plan"]
            if args.load:
                a, b, ratio = replicas["load"]["latency_ms"], plan["load"]["latency_ms"], plan["load"]["p99_ratio_replicas"]
                print(f"| {arch} | {name} | {args.load} | {a['p50']:.1f} | {b['p50']:.1f} | {a['p99']:.1f} | {b['p99']:.1f} | "
                      f"{ratio['median']:.3f} ({ratio['min']:.3f}-{ratio['max']:.3f}) |", flush=True)
                continue
            ratio = [p / r for p, r in zip(fps(plan), fps(replicas))]
            speedup = [p / f for p, f in zip(fps(plan), fps(full))]
            ideal = (expected_work(args.command, arch, args.mixes, run, True) /
                     expected_work(args.command, arch, args.mixes, run, False))
            print(f"| {arch} | {name} | {replicas['fps']['median']:.1f} | {plan['fps']['median']:.1f} | {spread(ratio)} | "
                  f"{spread(speedup)} | {statistics.median(speedup) / ideal:.3f} of {ideal:.2f} | {plan['plan']} |", flush=True)
        none = [p / r for p, r in zip(fps(c["plan"]), fps(c["replicas"]))] if not args.load else None
        if none:
            print(f"| {arch} | none | {c['replicas']['fps']['median']:.1f} | {c['plan']['fps']['median']:.1f} | {spread(none)} | - | - | "
                  f"{c['plan']['plan']} |", flush=True)
    print(f"\n{document['cpu']}, {document['cores_allowed']} cores, {args.reps} rounds")


if __name__ == "__main__":
    main()
