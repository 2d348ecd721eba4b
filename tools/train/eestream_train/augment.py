# SPDX-License-Identifier: MIT
"""Batches for training: a pure function of (seed, step), so that a resumed run repeats nothing and
skips nothing."""

from __future__ import annotations

import numpy as np

MAX_SHIFT = 5  # pixels of the model's input, either way
CURRICULUM_START, CURRICULUM_END = 0.35, 0.30


def easiest_share(step: int, steps: int) -> float:
    """Share of the set, easiest first, that may be drawn at a step: grows linearly from
    CURRICULUM_START to all over the first CURRICULUM_END of the run; 0 steps: no curriculum."""
    if steps == 0:
        return 1.0
    progress = step / (steps * CURRICULUM_END)
    return min(1.0, CURRICULUM_START + (1 - CURRICULUM_START) * progress)


def batch(images: np.ndarray, labels: np.ndarray, by_difficulty: np.ndarray, size: int, seed: int,
          step: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw and augment the batch of one step: uint8 [B, S, S, 3] and labels [B].

    Classes are outlines, so turning by quarters, mirroring, shifting and exchanging or inverting
    colour channels all keep the label."""
    rng = np.random.default_rng([seed, step])
    allowed = int(len(by_difficulty) * easiest_share(step, steps))
    chosen = by_difficulty[rng.integers(allowed, size=size)]
    drawn = np.empty((size, *images.shape[1:]), dtype=np.uint8)
    turns, flips = rng.integers(4, size=size), rng.integers(2, size=size)
    shifts = rng.integers(-MAX_SHIFT, MAX_SHIFT + 1, size=(size, 2))
    inverted = rng.integers(2, size=size)
    for i, source in enumerate(chosen):
        image = np.rot90(images[source], turns[i])
        image = image[:, ::-1] if flips[i] else image
        drawn[i] = _shift(image[:, :, rng.permutation(3)], *shifts[i])
    drawn[inverted == 1] = 255 - drawn[inverted == 1]
    return drawn, labels[chosen]


def _shift(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """Move by whole pixels, repeating the border."""
    height, width = image.shape[:2]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return image[rows[:, None], columns]
