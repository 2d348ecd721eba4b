# SPDX-License-Identifier: MIT
"""The classes of the world: outlines in object coordinates, and their anti-aliased masks.

A class is an outline and nothing else: colour, texture, size, angle, mirroring and place are drawn
independently of it (world.py). Every outline is centred on the origin and scaled so that its
farthest point lies at distance 1, so classes do not differ in the radius they are drawn at.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

SUPERSAMPLE = 4  # mask pixels per output pixel and axis; 16 grey levels at an edge before rounding

# One outline: polygons painted in order, each with the mask value it paints (255 body, 0 hole).
Outline = list[tuple[np.ndarray, int]]


def _polar(angles: np.ndarray, radii: np.ndarray | float) -> np.ndarray:
    return np.stack([np.cos(angles) * radii, np.sin(angles) * radii], axis=1)


def _regular(n: int) -> np.ndarray:
    return _polar(np.arange(n) * (2 * np.pi / n), 1.0)


def _circle(radius: float = 1.0, centre: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    return _regular(72) * radius + np.asarray(centre)


def _star() -> np.ndarray:
    angles = np.arange(10) * (np.pi / 5)
    return _polar(angles, np.where(np.arange(10) % 2 == 0, 1.0, 0.42))


def _cross() -> np.ndarray:
    a, b = 0.32, 1.0
    return np.array([(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a),
                     (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)])


def _arrow() -> np.ndarray:
    return np.array([(1.0, 0.0), (0.1, 0.85), (0.1, 0.32), (-1.0, 0.32),
                     (-1.0, -0.32), (0.1, -0.32), (0.1, -0.85)])


def _heart() -> np.ndarray:
    """The usual sextic heart curve, x = 16 sin^3 t, y = 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t."""
    t = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y], axis=1)


def _gear() -> np.ndarray:
    """Eight teeth: four corners each, alternating between the tip and the root circle."""
    step = 2 * np.pi / 8
    offsets = np.array([-0.24, -0.17, 0.17, 0.24]) * step
    angles = (np.arange(8)[:, None] * step + offsets * 1.25).ravel()
    return _polar(angles, np.tile([0.70, 1.0, 1.0, 0.70], 8))


def _drop() -> np.ndarray:
    """A disc with its upper side drawn out to a point: the tangents from there to the circle."""
    tip = 2.1
    touch = np.arcsin(1 / tip)
    angles = np.linspace(-touch, np.pi + touch, 60)
    return np.vstack([_polar(angles, 1.0), [(0.0, -tip)]])


def _bolt() -> np.ndarray:
    return np.array([(0.25, -1.0), (-0.60, 0.15), (-0.08, 0.15), (-0.30, 1.0),
                     (0.60, -0.22), (0.10, -0.22), (0.62, -1.0)])


def _hourglass() -> np.ndarray:
    return np.array([(-0.75, -1.0), (0.75, -1.0), (0.12, 0.0),
                     (0.75, 1.0), (-0.75, 1.0), (-0.12, 0.0)])


def _chevron() -> np.ndarray:
    return np.array([(-0.95, 0.75), (-0.95, 0.10), (0.0, -0.75),
                     (0.95, 0.10), (0.95, 0.75), (0.0, -0.10)])


def _dome() -> np.ndarray:
    return _polar(np.linspace(0, np.pi, 40), 1.0)


def _normalise(outline: Outline) -> Outline:
    """Centre on the middle of the smallest-looking circle (two refinement steps are enough here)
    and scale to radius 1."""
    body = outline[0][0]
    centre = body.mean(axis=0)
    for step in np.linspace(0.5, 0.005, 200):
        far = body[np.argmax(np.linalg.norm(body - centre, axis=1))]
        centre = centre + (far - centre) * step * 0.2
    radius = np.linalg.norm(body - centre, axis=1).max()
    return [((points - centre) / radius, value) for points, value in outline]


_OUTLINES: dict[str, Outline] = {
    name: _normalise(outline)
    for name, outline in {
        "arrow": [(_arrow(), 255)],
        "bolt": [(_bolt(), 255)],
        "chevron": [(_chevron(), 255)],
        "crescent": [(_circle(), 255), (_circle(0.82, (0.48, 0.0)), 0)],
        "cross": [(_cross(), 255)],
        "disc": [(_circle(), 255)],
        "dome": [(_dome(), 255)],
        "drop": [(_drop(), 255)],
        "gear": [(_gear(), 255), (_circle(0.28), 0)],
        "heart": [(_heart(), 255)],
        "hexagon": [(_regular(6), 255)],
        "hourglass": [(_hourglass(), 255)],
        "ring": [(_circle(), 255), (_circle(0.55), 0)],
        "square": [(_regular(4), 255)],
        "star": [(_star(), 255)],
        "triangle": [(_regular(3), 255)],
    }.items()
}

CLASS_NAMES: tuple[str, ...] = tuple(_OUTLINES)  # alphabetical; the index is the class id


def outline(class_id: int) -> Outline:
    """The outline of one class, radius 1, y pointing down."""
    return _OUTLINES[CLASS_NAMES[class_id]]


def paint_mask(polygons: Outline, width: int, height: int) -> np.ndarray:
    """Rasterise polygons given in pixels; returns float32 [height, width] coverage in [0, 1]."""
    canvas = Image.new("L", (width * SUPERSAMPLE, height * SUPERSAMPLE))
    draw = ImageDraw.Draw(canvas)
    for points, value in polygons:
        draw.polygon((points * SUPERSAMPLE).ravel().tolist(), fill=value)
    return np.asarray(canvas.reduce(SUPERSAMPLE), dtype=np.float32) * np.float32(1 / 255)
