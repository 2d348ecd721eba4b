#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A stream whose exit mix switches midway (shallow, deep, shallow), and cores that are taken away and given back.

Throughput of each part, from two seconds after its beginning on, under the plan that follows the stream ("auto") and under
static plans, alternating round by round; each ratio is to the static plan that was best in that part. Then one run whose
second core is taken and returned.

    tools/measure/switching.py [--eestream build/release/tools/eestream] [--rounds N] [--seconds S]
"""
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import eestream

SETTLE_S = 2.0
SHALLOW = [0.70, 0.15, 0.10, 0.03, 0.02]
DEEP = [0.05, 0.05, 0.10, 0.20, 0.60]
STATIC = ["replicas", "1-4,5-12", "1-6,7-12"]


def write_mix(path, shares, n):
    """n lines with the exits of one mix, each due as soon as its share calls for it."""
    used = [0] * len(shares)
    with open(path, "a") as out:
        for i in range(n):
            best = max(range(len(shares)), key=lambda e: shares[e] * (i + 1) - used[e])
            used[best] += 1
            out.write(json.dumps({"exit": best}) + "\n")


def arrivals(command, n_frames, replay, plan, extra=()):
    """Seconds from the start at which each answer arrived, and the process' last words."""
    process = subprocess.Popen([command, "run", f"synthetic:320x240,frames={n_frames}", "--plan", plan, "--replay-exits",
                                replay, "-o", "-", *extra], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    begin = time.monotonic()
    times = [time.monotonic() - begin for _ in process.stdout]
    return times, process.stderr.read().decode(), process.wait()


def rate(times, first, end):
    """Answers a second in frames [first, end), the first SETTLE_S of them left out."""
    kept = [t for t in times[first:end] if t - times[first] >= SETTLE_S]
    return (len(kept) - 1) / (kept[-1] - kept[0]) if len(kept) > 10 else float("nan")


def fps_of(command, shares, folder):
    path = folder / "probe.jsonl"
    path.unlink(missing_ok=True)
    write_mix(path, shares, 1000)
    times, _, _ = arrivals(command, 1000, path, "replicas")
    return len(times) / times[-1]


def switch(command, rounds, seconds, folder):
    counts = [int(seconds * fps_of(command, mix, folder)) for mix in (SHALLOW, DEEP, SHALLOW)]
    replay = folder / "switch.jsonl"
    for mix, n in zip((SHALLOW, DEEP, SHALLOW), counts):
        write_mix(replay, mix, n)
    bounds = [0, counts[0], counts[0] + counts[1], sum(counts)]
    seen = {plan: [[], [], []] for plan in ["auto", *STATIC]}
    replans = []
    for _ in range(rounds):
        for plan in seen:
            times, err, code = arrivals(command, bounds[-1], replay, plan)
            assert code == 0 and len(times) == bounds[-1], err
            replans += [line for line in err.splitlines() if plan == "auto" and "plan" in line]
            for part in range(3):
                seen[plan][part].append(rate(times, bounds[part], bounds[part + 1]))
    eestream.head("plan", *(f"part {p + 1}, fps: median (min-max)" for p in range(3)))
    for plan, parts in seen.items():
        eestream.row(plan, *(f"{statistics.median(x):.0f} ({min(x):.0f}-{max(x):.0f})" for x in parts))
    ratios = []
    for part in range(3):
        best = max(STATIC, key=lambda plan: statistics.median(seen[plan][part]))
        pairs = [a / b for a, b in zip(seen["auto"][part], seen[best][part])]
        ratios.append(f"{eestream.spread(pairs)} of {best}")
    eestream.row("auto to the best static", *ratios)
    print("\n" + "\n".join(dict.fromkeys(replans)))


def take_cores(command, seconds, folder):
    """Both cores, one, both again; the same number of answers either way."""
    replay = folder / "cores.jsonl"
    write_mix(replay, SHALLOW, 1000)
    n = int(3 * seconds * fps_of(command, SHALLOW, folder))
    process = subprocess.Popen([command, "run", f"synthetic:320x240,frames={n}", "--replay-exits", replay, "-o", "-"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    cores = sorted(os.sched_getaffinity(0))
    begin, changes, times = time.monotonic(), [(seconds, cores[:1]), (2 * seconds, cores)], []
    for _ in process.stdout:
        now = time.monotonic() - begin
        times.append(now)
        if changes and now > changes[0][0]:
            for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir():
                os.sched_setaffinity(int(task.name), changes[0][1])
            changes.pop(0)
    process.wait()
    assert len(times) == n, process.stderr.read().decode()
    bounds = [0] + [next((i for i, t in enumerate(times) if t > k * seconds), n) for k in (1, 2)] + [n]
    rates = [rate(times, bounds[p], bounds[p + 1]) for p in range(3)]
    print(f"\ncores {len(cores)} -> 1 -> {len(cores)}: {rates[0]:.0f} -> {rates[1]:.0f} -> {rates[2]:.0f} fps, "
          f"{n} answers of {n} frames; with one core {rates[1] / rates[0]:.2f}, afterwards {rates[2] / rates[0]:.2f} of before")


def main():
    parser = eestream.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        switch(args.eestream, args.rounds, args.seconds, pathlib.Path(folder))
        take_cores(args.eestream, args.seconds, pathlib.Path(folder))


if __name__ == "__main__":
    main()
