# SPDX-License-Identifier: MIT
"""Grey patterns in [0, 1] for objects and backgrounds, as functions of coordinates in pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

KINDS = ("flat", "gradient", "stripes", "checks", "dots", "noise")


@dataclass(frozen=True)
class Texture:
    """One pattern: its kind, direction, spatial period in pixels, phase, and a grid for "noise"."""

    kind: str
    angle: float
    period_px: float
    phase: float
    grid: np.ndarray

    def field(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Evaluate at pixel coordinates u [1, W] and v [H, 1] (or both [H, W]); float32 [H, W]."""
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        scale = np.float32(2 * np.pi / self.period_px)
        a = (u * cos + v * sin) * scale + np.float32(self.phase)
        if self.kind == "flat":
            return np.full(np.broadcast_shapes(u.shape, v.shape), 0.5, dtype=np.float32)
        if self.kind == "gradient":
            return np.float32(0.5) + np.float32(0.5) * np.sin(a * np.float32(0.15))
        if self.kind == "stripes":
            return _square_wave(np.sin(a))
        b = (v * cos - u * sin) * scale
        if self.kind == "checks":
            return _square_wave(np.sin(a) * np.sin(b) * np.float32(2))
        if self.kind == "dots":
            return _square_wave(np.sin(a) + np.sin(b) - np.float32(0.8))
        return self._noise(*np.broadcast_shapes(u.shape, v.shape))

    def _noise(self, height: int, width: int) -> np.ndarray:
        """Value noise: the grid enlarged so that one cell is half a period, cut to size. Fixed to
        the picture, unlike the patterns given by formulas."""
        cell = self.period_px / 2
        box = (0, 0, min(self.grid.shape[1], width / cell), min(self.grid.shape[0], height / cell))
        image = Image.fromarray(self.grid, mode="F")
        return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, box=box))


def _square_wave(wave: np.ndarray) -> np.ndarray:
    """A sine with clipped tops: edges stay a few pixels wide, so they do not alias."""
    return np.clip(np.float32(0.5) + np.float32(1.6) * wave, 0, 1, dtype=np.float32)


def sample(rng: np.random.Generator, min_period_px: float, max_period_px: float) -> Texture:
    """Draw a texture; the period is uniform in its logarithm."""
    return Texture(
        kind=KINDS[rng.integers(len(KINDS))],
        angle=rng.uniform(0, np.pi),
        period_px=float(np.exp(rng.uniform(np.log(min_period_px), np.log(max_period_px)))),
        phase=rng.uniform(0, 2 * np.pi),
        grid=rng.random((48, 48), dtype=np.float32),
    )
