#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How many decisions change with --decode fast.

    tools/measure/decode_modes.py [--eestream build/release/tools/eestream] INPUT...

Runs each input of JPEGs once with exact and once with fast decoding and compares frame by frame: exit taken, class, and
the accuracy where the truth is known. Standard library only.
"""

import json

import eestream


def answers(args, source, decode):
    text = eestream.run(args.eestream, "run", source, "--decode", decode, "--out", "-", "-q", *args.extra)
    return [json.loads(line) for line in text.splitlines()]


def main():
    parser = eestream.parser(__doc__)
    parser.add_argument("--extra", nargs="*", default=[], help="further options of eestream run")
    parser.add_argument("inputs", nargs="+")
    args = parser.parse_args()
    eestream.head("input", "frames", "class differs", "exit differs", "accuracy exact", "accuracy fast")
    for source in args.inputs:
        exact, fast = (answers(args, source, decode) for decode in ("exact", "fast"))
        pairs = [(a, b) for a, b in zip(exact, fast, strict=True) if a["status"] == b["status"] == "ok"]
        known = [(a, b) for a, b in pairs if a.get("truth") is not None]
        right = [100 * sum(r["label"] == r["truth"] for r in side) / len(known) if known else None
                 for side in (([a for a, _ in known]), ([b for _, b in known]))]
        share = [100 * sum(a[key] != b[key] for a, b in pairs) / len(pairs) for key in ("class", "exit")]
        shown = [f"{r:.2f} %" if r is not None else "-" for r in right]
        eestream.row(source, len(pairs), *(f"{x:.2f} %" for x in share), *shown)


if __name__ == "__main__":
    main()
