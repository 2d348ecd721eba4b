# SPDX-License-Identifier: MIT
"""The procedural world: a scene with one object, rendered as a 320x240 camera would see it.

`sample_scene(class_id, rng)` draws everything that stays constant in a shot; `render(scene, time,
difficulty, rng)` draws one frame of it. The difficulty dial d in [0, 1] scales every nuisance: for
each of them the scene holds a share s in [0.35, 1] and its strength is d * s, so two frames of the
same d are hard for different reasons. Nothing but the outline depends on the class.

What keeps d = 1 decidable: the object stays whole inside the centre square, is at least 92 px wide,
covers keep at most MAX_COVERED of its area, distractors are at most 0.3 of its radius, and contrast
after dimming stays above the noise left by a 3.75-fold reduction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from . import shapes, textures

WIDTH, HEIGHT = 320, 240
MAX_COVERED = 0.16  # of the object's area, by all covering strokes together
N_CLUTTER, N_COVERS = 14, 3

NUISANCES = ("size", "tilt", "contrast", "object_texture", "background_texture", "clutter",
             "cover", "light", "defocus", "motion", "noise")


@dataclass(frozen=True)
class Scene:
    """Everything constant in a shot. Lengths in pixels of the 320x240 frame, times in frames."""

    class_id: int
    share: dict[str, float]  # per nuisance, multiplies the dial
    size: float  # in [0, 1], the place in the range of radii
    mirrored: bool
    tilt_angle: float
    angle: float
    spin: float  # radians a frame
    sway: np.ndarray  # [2, 3] per axis: share of the free way, period, phase
    colours: np.ndarray  # [4, 3] background a, b, object a, b
    object_texture: textures.Texture
    background_texture: textures.Texture
    drift: np.ndarray  # [2] background, pixels a frame
    clutter: list[tuple[np.ndarray, np.ndarray]]  # polygon in pixels, colour
    covers: list[tuple[np.ndarray, np.ndarray]]  # polygon in object radii, colour
    light_angle: float
    jpeg_quality: int


def _lerp(a: float, b: float, t: float) -> float:
    return a + (b - a) * t


def _stroke(rng: np.random.Generator, centre, length: float, width: float) -> np.ndarray:
    """A bent bar as a polygon: three points along a direction, thickened on both sides."""
    angle = rng.uniform(0, 2 * np.pi)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    bend = rng.uniform(-0.25, 0.25) * length
    spine = np.array([-along * length / 2, across * bend, along * length / 2]) + centre
    return np.vstack([spine + across * width / 2, (spine - across * width / 2)[::-1]])


def _blob(rng: np.random.Generator, centre, radius: float) -> np.ndarray:
    """An irregular lump: a circle with three random harmonics, which resembles no class."""
    t = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    r = 1 + sum(rng.uniform(0.1, 0.3) * np.cos(k * t + rng.uniform(0, 6.28)) for k in (2, 3, 5))
    return np.stack([np.cos(t), np.sin(t)], axis=1) * (r * radius / r.max())[:, None] + centre


def _sample_colours(rng: np.random.Generator) -> np.ndarray:
    """Two background and two object colours; each object colour is far from both backgrounds."""
    background = rng.random((2, 3))
    background[1] = background[0] + (background[1] - background[0]) * 0.5
    while True:
        pair = rng.random((2, 3))
        pair[1] = pair[0] + (pair[1] - pair[0]) * 0.7
        distance = np.linalg.norm(pair[:, None] - background[None], axis=2)
        luma = np.abs((pair[:, None] - background[None]) @ (0.299, 0.587, 0.114))
        if distance.min() > 0.5 and luma.min() > 0.15:
            return np.vstack([background, pair]).astype(np.float32)


def sample_scene(class_id: int, rng: np.random.Generator) -> Scene:
    """Draw a scene. The class enters only as the stored id: no draw depends on it."""
    clutter = []
    for _ in range(N_CLUTTER):
        centre = rng.uniform((0, 0), (WIDTH, HEIGHT))
        if rng.random() < 0.6:
            polygon = _stroke(rng, centre, rng.uniform(25, 110), rng.uniform(2, 7))
        else:
            polygon = _blob(rng, centre, rng.uniform(4, 14))
        clutter.append((polygon, rng.random(3, dtype=np.float32)))
    covers = []
    for _ in range(N_COVERS):
        polygon = _stroke(rng, rng.uniform(-0.6, 0.6, 2), 2.6, rng.uniform(0.06, 0.16))
        covers.append((polygon, rng.random(3, dtype=np.float32)))
    return Scene(
        class_id=class_id,
        share={name: rng.uniform(0.35, 1) for name in NUISANCES},
        size=rng.random(),
        mirrored=bool(rng.random() < 0.5),
        tilt_angle=rng.uniform(0, np.pi),
        angle=rng.uniform(0, 2 * np.pi),
        spin=rng.uniform(-0.06, 0.06),
        sway=np.stack([[rng.uniform(0.2, 1), rng.uniform(26, 70), rng.uniform(0, 2 * np.pi)]
                       for _ in range(2)]),
        colours=_sample_colours(rng),
        object_texture=textures.sample(rng, 12, 48),
        background_texture=textures.sample(rng, 14, 90),
        drift=rng.uniform(-1, 1, 2),
        clutter=clutter,
        covers=covers,
        light_angle=rng.uniform(0, 2 * np.pi),
        jpeg_quality=int(rng.integers(70, 96)),
    )


def _placement(scene: Scene, time: float, level: dict[str, float]):
    """Radius, centre and velocity (pixels a frame) at a time; the object never leaves the centre
    square."""
    radius = _lerp(60 + 32 * scene.size, 46 + 26 * scene.size, level["size"])
    room = HEIGHT / 2 - radius - 5
    share, period, phase = scene.sway.T
    angle = 2 * np.pi * time / period + phase
    centre = np.array([WIDTH / 2, HEIGHT / 2]) + room * share * np.sin(angle)
    velocity = room * share * np.cos(angle) * 2 * np.pi / period
    return radius, centre, velocity


def _object_matrix(scene: Scene, time: float, level: dict[str, float]) -> np.ndarray:
    """2x2 matrix from outline coordinates to object radii: mirror, turn, then foreshorten."""
    angle = scene.angle + scene.spin * time
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]]) @ np.diag([-1.0 if scene.mirrored else 1.0, 1.0])
    axis = np.array([np.cos(scene.tilt_angle), np.sin(scene.tilt_angle)])
    return (np.eye(2) - 0.3 * level["tilt"] * np.outer(axis, axis)) @ turn


def _smear(layer: np.ndarray, velocity: np.ndarray, exposure: float) -> np.ndarray:
    """Motion blur: the mean of the layer at even places along the way made while the shutter is
    open. Whole-pixel steps; the layer has an empty margin."""
    way = velocity * exposure
    n_taps = int(np.abs(way).max()) + 1
    if n_taps < 2:
        return layer
    taps = np.rint(np.linspace(-0.5, 0.5, n_taps)[:, None] * way[::-1]).astype(int)
    return sum(np.roll(layer, tuple(tap), axis=(0, 1)) for tap in taps) * np.float32(1 / n_taps)


def _paint(frame: np.ndarray, polygon: np.ndarray, colour: np.ndarray, alpha: float) -> None:
    """Blend one polygon (pixels) into the frame, in place, touching its bounding box only."""
    low = np.maximum(np.floor(polygon.min(axis=0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(polygon.max(axis=0)).astype(int) + 1, frame.shape[1::-1])
    if (high <= low).any():
        return
    mask = shapes.paint_mask([(polygon - low, 255)], *(high - low))[..., None] * np.float32(alpha)
    part = frame[low[1]:high[1], low[0]:high[0]]
    part += (colour - part) * mask


def _covering(scene: Scene, mask: np.ndarray, radius: float, centre, amount: float):
    """The covering strokes as masks, thinned until at most MAX_COVERED of the object is hidden."""
    height, width = mask.shape
    for index, (polygon, colour) in enumerate(scene.covers):
        alpha = float(np.clip(amount * N_COVERS - index, 0, 1))
        if alpha == 0:
            return
        cover = shapes.paint_mask([(polygon * radius + centre, 255)], width, height)
        hidden = float((cover * mask).sum() / mask.sum())
        thin = min(1.0, MAX_COVERED / N_COVERS / max(hidden, 1e-6))
        yield cover * np.float32(alpha * thin), colour


def render(scene: Scene, time: float, difficulty: float, rng: np.random.Generator) -> np.ndarray:
    """Render one frame, uint8 RGB [240, 320, 3]. `rng` supplies the sensor noise only."""
    level = {name: difficulty * share for name, share in scene.share.items()}
    frame = _background(scene, time, level)
    _compose(frame, *_object_layer(scene, time, level))
    return _camera(scene, frame, level, rng)


def _background(scene: Scene, time: float, level: dict[str, float]) -> np.ndarray:
    """Two colours mixed by a texture that drifts, then distractors; float32 [240, 320, 3]."""
    back_a, back_b = scene.colours[:2]
    u = np.arange(WIDTH, dtype=np.float32)[None] + np.float32(scene.drift[0] * time)
    v = np.arange(HEIGHT, dtype=np.float32)[:, None] + np.float32(scene.drift[1] * time)
    mix = (scene.background_texture.field(u, v) - np.float32(0.5))[..., None]
    amount = np.float32(_lerp(0.15, 1.0, level["background_texture"]))
    frame = (back_a + back_b) / 2 + mix * ((back_b - back_a) * amount)
    for index, (polygon, colour) in enumerate(scene.clutter):
        alpha = float(np.clip(level["clutter"] * N_CLUTTER - index, 0, 1))
        if alpha > 0:
            _paint(frame, polygon + scene.drift * time, colour, 0.85 * alpha)
    return frame


def _object_layer(scene: Scene, time: float, level: dict[str, float]):
    """The object and what covers it as a square premultiplied RGBA patch, smeared by its motion,
    and the patch's origin in the frame."""
    radius, centre, velocity = _placement(scene, time, level)
    exposure = _lerp(0.05, 1.0, level["motion"])
    margin = int(np.abs(velocity).max() * exposure / 2) + 3
    half = int(radius) + margin
    origin = np.rint(centre).astype(int) - half
    side = 2 * half + 1
    local = centre - origin
    matrix = _object_matrix(scene, time, level) * radius
    mask = shapes.paint_mask(
        [(points @ matrix.T + local, value) for points, value in shapes.outline(scene.class_id)],
        side, side)
    body = _object_colours(scene, side, local, np.linalg.inv(matrix) * radius, level)
    layer = np.concatenate([body * mask[..., None], mask[..., None]], axis=2)
    for cover, colour in _covering(scene, mask, radius, local, level["cover"]):
        cover = cover[..., None]
        layer *= 1 - cover
        layer += np.append(colour, np.float32(1)) * cover
    return _smear(layer, velocity, exposure), origin


def _object_colours(scene: Scene, side: int, centre, inverse: np.ndarray,
                    level: dict[str, float]) -> np.ndarray:
    """The object's surface over the whole patch: its texture in its own coordinates, its colours
    drawn towards the background's by the contrast."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    x, y = x - np.float32(centre[0]), y - np.float32(centre[1])
    mix = scene.object_texture.field(
        x * np.float32(inverse[0, 0]) + y * np.float32(inverse[0, 1]),
        x * np.float32(inverse[1, 0]) + y * np.float32(inverse[1, 1]))[..., None]
    back_a, back_b, obj_a, obj_b = scene.colours
    back = (back_a + back_b) / 2
    contrast = np.float32(_lerp(1.0, 0.55, level["contrast"]))
    amount = np.float32(_lerp(0.1, 1.0, level["object_texture"]))
    return back + (obj_a - back) * contrast + (mix - np.float32(0.5)) * ((obj_b - obj_a) * amount)


def _compose(frame: np.ndarray, layer: np.ndarray, origin: np.ndarray) -> None:
    """Premultiplied "over", in place; the patch may overhang the frame by its empty margin."""
    x0, y0 = np.maximum(origin, 0)
    x1, y1 = np.minimum(origin + layer.shape[0], (WIDTH, HEIGHT))
    patch = layer[y0 - origin[1]:y1 - origin[1], x0 - origin[0]:x1 - origin[0]]
    part = frame[y0:y1, x0:x1]
    part *= 1 - patch[..., 3:]
    part += patch[..., :3]


def _camera(scene: Scene, frame: np.ndarray, level: dict[str, float], rng) -> np.ndarray:
    """Lighting, lens and sensor: a light gradient and dimming, defocus, noise, 8 bits."""
    cos, sin = np.cos(scene.light_angle), np.sin(scene.light_angle)
    x = np.linspace(-cos, cos, WIDTH, dtype=np.float32)[None]
    y = np.linspace(-sin, sin, HEIGHT, dtype=np.float32)[:, None]
    gain = np.float32(_lerp(1.0, 0.5, level["light"]))
    frame *= (gain * (1 + np.float32(0.35 * level["light"]) * (x + y)))[..., None]
    noise = np.float32(_lerp(0.004, 0.065, level["noise"]) * 255)
    image = Image.fromarray(np.clip(frame * np.float32(255), 0, 255).astype(np.uint8))
    image = image.filter(ImageFilter.GaussianBlur(_lerp(0.3, 3.2, level["defocus"])))
    grain = rng.standard_normal((HEIGHT, WIDTH, 1), dtype=np.float32)
    tint = rng.standard_normal((HEIGHT // 2, WIDTH // 2, 3), dtype=np.float32)
    tint = tint.repeat(2, axis=0).repeat(2, axis=1)
    noisy = np.asarray(image, dtype=np.float32) + grain * noise + tint * (noise * np.float32(0.4))
    return np.clip(noisy + np.float32(0.5), 0, 255).astype(np.uint8)


def frame_rngs(seed: int, index: int) -> tuple[np.random.Generator, np.random.Generator]:
    """Generators for frame `index` of stream `seed`: one for the scene, one for the sensor."""
    scene, sensor = np.random.SeedSequence([seed, index]).spawn(2)
    return np.random.default_rng(scene), np.random.default_rng(sensor)


def iid_frame(seed: int, index: int, difficulty: float | None = None):
    """Frame `index` of an endless independent stream: (frame, scene, difficulty).
    Difficulty is uniform in [0, 1] unless given."""
    rng, sensor = frame_rngs(seed, index)
    class_id = int(rng.integers(len(shapes.CLASS_NAMES)))
    drawn = float(rng.random())
    scene = sample_scene(class_id, rng)
    used = drawn if difficulty is None else difficulty
    return render(scene, 0.0, used, sensor), scene, used
