# SPDX-License-Identifier: MIT
"""Labelled frames as JPEGs in class folders, for `eestream calibrate`, `analyse` and `run`.

    python -m eestream_train.frames --out frames --count 5000 [--stream 3]

The default stream is the one kept for calibration.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from . import data, shapes, world


def write(out: Path, seed: int, count: int) -> None:
    for name in shapes.CLASS_NAMES:
        (out / name).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        frame, scene, _ = world.iid_frame(seed, i)
        (out / shapes.CLASS_NAMES[scene.class_id] / f"{i:06}.jpg").write_bytes(data.jpeg(frame, scene.jpeg_quality))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--stream", type=int, default=data.CALIBRATION_SEED, help="seed (default %(default)s)")
    args = parser.parse_args()
    write(args.out, args.stream, args.count)


if __name__ == "__main__":
    main()
