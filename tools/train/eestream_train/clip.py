# SPDX-License-Identifier: MIT
"""Renders the demo video: shots of one object each, easy and hard stretches, and its truth file.

    python -m eestream_train.clip --out ../assets/world

Writes clip.avi (MJPEG, 320x240) and clip.truth.csv with the header frame,class,label,difficulty.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import avi, data, shapes, world

RATE_HZ = 30
QUALITY = 75
_EASY, _HARD = (0.0, 0.3), (0.7, 1.0)
_RAMP = 8  # frames from one stretch's difficulty to the next one's


@dataclass(frozen=True)
class Frame:
    jpeg: bytes
    class_id: int
    difficulty: float


def _stretches(rng: np.random.Generator, n_frames: int) -> np.ndarray:
    """Difficulty of every frame: easy and hard stretches of 36-66 frames take turns, with short
    ramps between them and a slow ripple inside."""
    target, hard = [], False
    while len(target) < n_frames:
        level = rng.uniform(*(_HARD if hard else _EASY))
        target += [level] * int(rng.integers(36, 67))
        hard = not hard
    ramp = np.convolve(np.pad(target[:n_frames], _RAMP // 2, mode="edge"),
                       np.ones(_RAMP + 1) / (_RAMP + 1), mode="valid")
    ripple = 0.05 * np.sin(2 * np.pi * np.arange(n_frames) / rng.uniform(20, 40))
    return np.clip(ramp + ripple, 0, 1)


def _classes(rng: np.random.Generator):
    """Every class once in random order, then again."""
    while True:
        yield from (int(c) for c in rng.permutation(len(shapes.CLASS_NAMES)))


def render(seed: int, n_frames: int, quality: int = QUALITY) -> list[Frame]:
    """The clip of one seed. The class is constant within a shot of 24-60 frames."""
    rng = np.random.default_rng([seed, 0])
    difficulty = _stretches(rng, n_frames)
    classes = _classes(rng)
    frames: list[Frame] = []
    while len(frames) < n_frames:
        first = len(frames)
        left = n_frames - first
        length = int(rng.integers(24, 41))
        length = left if left < length + 24 and left <= 60 else length
        scene_rng, sensor = world.frame_rngs(seed, 1 + first)
        scene = world.sample_scene(next(classes), scene_rng)
        for i in range(length):
            d = float(difficulty[first + i])
            pixels = world.render(scene, float(i), d, sensor)
            frames.append(Frame(data.jpeg(pixels, quality), scene.class_id, d))
    return frames


def write(directory: Path, frames: list[Frame]) -> None:
    """Write clip.avi and clip.truth.csv."""
    directory.mkdir(parents=True, exist_ok=True)
    avi.write(directory / "clip.avi", [f.jpeg for f in frames], world.WIDTH, world.HEIGHT, RATE_HZ)
    with open(directory / "clip.truth.csv", "w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["frame", "class", "label", "difficulty"])
        for index, f in enumerate(frames):
            rows.writerow([index, f.class_id, shapes.CLASS_NAMES[f.class_id],
                           f"{f.difficulty:.3f}"])


def read(directory: Path):
    """Preprocessed frames uint8 [N, S, S, 3], labels and difficulty of a written clip."""
    images = np.stack([data.preprocess(f) for f in avi.read(directory / "clip.avi")])
    with open(directory / "clip.truth.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return (images, np.array([int(r["class"]) for r in rows]),
            np.array([float(r["difficulty"]) for r in rows]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="directory of the two files")
    parser.add_argument("--seed", type=int, default=data.CLIP_SEED, help="default %(default)s")
    parser.add_argument("--frames", type=int, default=240, help="default %(default)s")
    parser.add_argument("--quality", type=int, default=QUALITY, help="JPEG (default %(default)s)")
    args = parser.parse_args()
    frames = render(args.seed, args.frames, args.quality)
    write(args.out, frames)
    print(f"{len(frames)} frames, {(args.out / 'clip.avi').stat().st_size} bytes")


if __name__ == "__main__":
    main()
