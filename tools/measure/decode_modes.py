#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How many decisions change with --decode fast.

    tools/measure/decode_modes.py [--eestream build/release/tools/eestream] INPUT...

Runs each input of JPEGs once with exact and once with fast decoding and compares frame by frame: exit taken, class, and
the accuracy where the truth is known. Standard library only.
"""

import argparse
import json
import subprocess


def run(command, source, decode, extra):
    text = subprocess.run([command, "run", source, "--decode", decode, "--out", "-", "-q", *extra], check=True,
                          stdout=subprocess.PIPE, text=True).stdout
    return [json.loads(line) for line in text.splitlines()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eestream", default="build/release/tools/eestream")
    parser.add_argument("--extra", nargs="*", default=[], help="further options of eestream run")
    parser.add_argument("inputs", nargs="+")
    args = parser.parse_args()
    print("| input | frames | class differs | exit differs | accuracy exact | accuracy fast |")
    print("|---|---|---|---|---|---|")
    for source in args.inputs:
        exact, fast = (run(args.eestream, source, decode, args.extra) for decode in ("exact", "fast"))
        pairs = [(a, b) for a, b in zip(exact, fast, strict=True) if a["status"] == b["status"] == "ok"]
        known = [(a, b) for a, b in pairs if a.get("truth") is not None]
        right = [100 * sum(r["label"] == r["truth"] for r in side) / len(known) if known else None
                 for side in (([a for a, _ in known]), ([b for _, b in known]))]
        share = [100 * sum(a[key] != b[key] for a, b in pairs) / len(pairs) for key in ("class", "exit")]
        shown = [f"{r:.2f} %" if r is not None else "-" for r in right]
        print(f"| {source} | {len(pairs)} | {share[0]:.2f} % | {share[1]:.2f} % | {shown[0]} | {shown[1]} |")


if __name__ == "__main__":
    main()
