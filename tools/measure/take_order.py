#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Which frame a worker takes when its own group has none: the three orders side by side, simulated.

    tools/measure/take_order.py [--eestream build/release/tools/eestream] [--arch vit-s16] [--profile FILE]

Prints a Markdown table over cores, plans and orders: frames a second with always a next frame there; then, with a steady source at
80 % and 95 % of what deepest-first does, the time from the moment a frame is due to its answer, milliseconds p50 / p99, in order
and as ready. Units vary by 5 %. Standard library only.
"""

import os
import tempfile

import eestream

ORDERS = ("deepest", "oldest", "upstream")
LOADS = (0.8, 0.95)


def simulate(args, cores, plan, *more):
    return eestream.report(args.eestream, "plan", "--arch", args.arch, "--profile", args.profile, "--simulate", "--jitter", 0.05,
                           "--cores", cores, "--plan", plan, *more)


def plans(cores):
    """From two groups to as many as there are cores (or blocks). One group has nobody to help."""
    half = cores // 2
    return dict.fromkeys([f"1-3x{half},4-12x{cores - half}", f"equal:{min(4, cores)}", f"equal:{min(12, cores)}"])


def measure(args, cores, plan):
    full = {order: simulate(args, cores, plan, "--take", order) for order in ORDERS}
    for order in ORDERS:
        cells = [f"{full[order]['fps']:.1f}"]
        for ordered in ([], ["--unordered"]):
            for load in LOADS:
                rate = load * full["deepest"]["fps"]
                latency = simulate(args, cores, plan, "--take", order, "--rate", rate, *ordered)["latency_ms"]
                cells.append(f"{latency['p50']:.0f} / {latency['p99']:.0f}")
        eestream.row(cores, plan, order, *cells)


def main():
    parser = eestream.parser(__doc__)
    parser.add_argument("--arch", default="vit-s16")
    parser.add_argument("--profile", help="costs measured before (eestream plan --save-profile); default: measured now")
    parser.add_argument("--cores", type=int, nargs="*", default=[4, 8, 32])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not args.profile:
            args.profile = os.path.join(folder, "profile.json")
            eestream.run(args.eestream, "plan", "--arch", args.arch, "--save-profile", args.profile)
        eestream.head("cores", "plan", "order", "fps, full", "80 %", "95 %", "80 %, as ready", "95 %, as ready")
        for cores in args.cores:
            for plan in plans(cores):
                measure(args, cores, plan)


if __name__ == "__main__":
    main()
