#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How far the simulator is from this machine: predicted and measured frames a second.

    tools/measure/simulator_accuracy.py [--eestream build/release/tools/eestream] [--models vit-ti16 ...] [--json FILE]

For each model and exit mix: unit costs are measured (eestream plan --save-profile), then one worker and two are run for real
(eestream bench), then the same frames are simulated from the costs alone (eestream plan --simulate). Then again with a spinner
pinned to the second core, which it keeps busy for a known share of the time; the simulator is told "fast=1@1,slow=1@SPEED" with
SPEED what the spinner left. Prints a Markdown table; "other jobs" is the part of all cores' time that others used meanwhile: rows
where it is more than a few per cent mean little. About six minutes on two free cores. Standard library only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import eestream

# Published counts: LGViT ViT-B/16 on CIFAR-100 at these thresholds, frames by exit, the final classifier last.
MIXES = {"0.8": [4330, 1556, 943, 894, 1136, 498, 236, 94, 313],
         "0.9": [3234, 1481, 878, 991, 1539, 675, 317, 174, 711],
         "0.99": [1149, 1105, 663, 999, 2103, 1087, 539, 316, 2039]}
SPUN_MIXES = ("0.8", "0.99")
PERIOD_S = 0.01


def spin(cpu, share):
    """Keep a core busy for a share of the time until told to stop; then say which share it really was."""
    os.sched_setaffinity(0, {cpu})
    print("ready", flush=True)
    sys.stdin.readline()
    start, before = time.monotonic(), time.thread_time()
    wake = start
    os.set_blocking(0, False)
    while not sys.stdin.read(1):
        enough = time.thread_time() + share * PERIOD_S
        while time.thread_time() < enough:
            pass
        wake = max(wake + PERIOD_S, time.monotonic())
        time.sleep(max(0, wake - time.monotonic()))
    print((time.thread_time() - before) / (time.monotonic() - start), flush=True)


class Spinner:
    """spin() in a process of its own."""

    def __init__(self, cpu, share):
        self.process = subprocess.Popen([sys.executable, __file__, "--spin", str(cpu), str(share)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def stop(self):
        out, _ = self.process.communicate("stop\n")
        return float(out)


class Others:
    """CPU time that neither this process nor its children used, as a part of all cores' time: other jobs spoil the comparison."""

    def __init__(self):
        self.start = self.read()

    @staticmethod
    def read():
        with open("/proc/stat", encoding="ascii") as f:
            ticks = list(map(int, f.readline().split()[1:9]))
        idle = ticks[3] + ticks[4]
        return sum(ticks) / os.sysconf("SC_CLK_TCK"), idle / os.sysconf("SC_CLK_TCK"), sum(os.times()[:4])

    def share(self, spun_share):
        """spun_share: of one core, by a spinner that has not been waited for at the start."""
        total, idle, own = (now - then for now, then in zip(self.read(), self.start))
        return max(0, (total - idle - own) / total - spun_share / os.cpu_count())


def counts_file(folder, mix):
    names = [f"exit_{k}" for k in range(len(mix) - 1)] + ["final"]
    path = os.path.join(folder, "counts.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump({"runs": {"mix": {"exits": {n: {"count": c} for n, c in zip(names, mix)}}}}, f)
    return path


def bench(args, folder, model, mix):
    data = eestream.report(args.eestream, "bench", "--arch", model, "--replay-exits", counts_file(folder, MIXES[mix]), "--workers", 2,
                           "--reps", args.reps, "--min-time", 0.5, "--no-profile-cache")
    return {c["name"]: c for c in data["models"][0]["configurations"]}


def simulate(args, profile, model, config, cores):
    """The frames of a bench configuration; its exits as they were counted."""
    mix = ["--exit-share", ",".join(map(str, config["by_exit"]))] if config["exits"] else ["--full-depth"]
    return eestream.report(args.eestream, "plan", "--arch", model, "--profile", profile, "--simulate", "--cores", cores, "--plan",
                           config["plan"], "--frames", config["frames"], *mix)


class Table:
    def __init__(self):
        self.rows = []
        eestream.head("model", "exit mix", "cores", "predicted fps", "measured fps (min-max)", "predicted / measured", "other jobs")

    def add(self, model, mix, cores, predicted, config, others):
        fps = config["fps"]
        ratio = predicted["fps"] / fps["median"]
        self.rows.append({"model": model, "mix": mix, "cores": cores, "predicted_fps": predicted["fps"],
                          "measured_fps": fps["median"], "ratio": ratio, "others": others})
        eestream.row(model, mix, cores, f"{predicted['fps']:.2f}", f"{fps['median']:.2f} ({fps['min']:.2f}-{fps['max']:.2f})",
                     f"{ratio:.3f}", f"{others:.1%}")


def with_and_without_exits(mix, first):
    """Each bench also runs at full depth; the first mix's is shown."""
    return [(mix, " + exits")] + ([("none", "")] if first else [])


def measure_free(args, folder, table, model, mix, profile):
    others = Others()
    configs = bench(args, folder, model, mix)
    others = others.share(0)
    for name, suffix in with_and_without_exits(mix, mix == args.mixes[0]):
        for cores, kind in (("1", "1 worker"), ("2", "plan")):
            config = configs[kind + suffix]
            table.add(model, name, cores, simulate(args, profile, model, config, cores), config, others)


def measure_spun(args, folder, table, model, mix, profile):
    spinner, others = Spinner(args.cpus[1], args.spin_share), Others()
    try:
        configs = bench(args, folder, model, mix)
        others = others.share(args.spin_share)
    finally:
        speed = 1 - spinner.stop()
    for name, suffix in with_and_without_exits(mix, mix == args.mixes[0]):
        config = configs["replicas" + suffix]
        predicted = simulate(args, profile, model, config, f"fast=1@1,slow=1@{speed:.3f}")
        table.add(model, name, f"1 + 1 at {speed:.2f}", predicted, config, others)


def measure(args):
    table = Table()
    with tempfile.TemporaryDirectory() as folder:
        for model in args.models:
            for mix in args.mixes:
                profile = os.path.join(folder, "profile.json")
                eestream.run(args.eestream, "plan", "--arch", model, "--no-profile-cache", "--save-profile", profile)
                measure_free(args, folder, table, model, mix, profile)
                if mix in SPUN_MIXES and not args.no_spin:
                    measure_spun(args, folder, table, model, mix, profile)
    worst = max(table.rows, key=lambda row: abs(row["ratio"] - 1))
    inside = sum(abs(row["ratio"] - 1) <= 0.1 for row in table.rows)
    print(f"\n{inside} of {len(table.rows)} within 10 %; farthest: {worst['model']}, mix {worst['mix']}, cores {worst['cores']}: "
          f"{worst['ratio']:.3f}")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump(table.rows, f, indent=1)


def main():
    parser = eestream.parser(__doc__)
    parser.add_argument("--models", nargs="*", default=["vit-ti16", "vit-s16", "vit-b16"])
    parser.add_argument("--mixes", nargs="*", default=list(MIXES), choices=list(MIXES))
    parser.add_argument("--reps", type=int, default=1, help="rounds of each bench")
    parser.add_argument("--spin-share", type=float, default=0.4, help="of the second core that the spinner takes")
    parser.add_argument("--no-spin", action="store_true", help="leave the slowed core out")
    parser.add_argument("--json", help="also write the rows there")
    parser.add_argument("--spin", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.spin:
        spin(int(args.spin[0]), float(args.spin[1]))
        return
    args.cpus = sorted(os.sched_getaffinity(0))
    if len(args.cpus) < 2:
        parser.error("two cores are needed")
    measure(args)


if __name__ == "__main__":
    main()
