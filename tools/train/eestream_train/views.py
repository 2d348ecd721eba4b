# SPDX-License-Identifier: MIT
"""What the network sees of stored pictures: augmented batches in training, plain ones otherwise.

A training batch is a pure function of (seed, step), so that a resumed run repeats nothing and skips
nothing: epochs are permutations, every draw comes from the step's own generator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)  # ImageNet's, of RGB in [0, 1]
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


@dataclass(frozen=True)
class Augmentation:
    """`crop`: least share of the picture's area that a random crop keeps. `cutmix`: probability
    that a batch is mixed: a rectangle of every picture comes from another one, and so do the
    labels, by its area. `jitter`: brightness and contrast change by up to this share."""

    crop: float = 0.5
    flip: bool = True
    jitter: float = 0.0
    cutmix: float = 0.0


def draw(n_pictures: int, batch: int, seed: int, step: int) -> np.ndarray:
    """Indices of one step's pictures: consecutive pieces of one permutation an epoch; the rest of
    the permutation that fills no batch is left out."""
    per_epoch = max(1, n_pictures // batch)
    epoch, place = divmod(step, per_epoch)
    order = np.random.default_rng([seed, epoch]).permutation(n_pictures)
    return order[place * batch:(place + 1) * batch]


def to_tensor(images: np.ndarray) -> Tensor:
    """uint8 [B, S, S, 3] to float [B, 3, S, S] in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255


def normalise(pixels: Tensor) -> Tensor:
    return (pixels - MEAN) / STD


def plain(images: np.ndarray, size: int) -> Tensor:
    """Resized to the input's side as the engine does it: bilinear, widened support when shrinking,
    rounded to 8 bits."""
    pixels = to_tensor(images)
    if pixels.shape[-1] != size:
        pixels = F.interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False,
                               antialias=pixels.shape[-1] > size)
        pixels = (pixels * 255).round() / 255
    return normalise(pixels)


def augmented(images: np.ndarray, labels: np.ndarray, size: int, n_classes: int, a: Augmentation,
              seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Pixels [B, 3, size, size] and targets [B, K], rows of which sum to 1."""
    rng = np.random.default_rng([seed, step, 1])
    pixels = _crop(to_tensor(images), size, a, rng)
    if a.jitter:
        pixels = _jitter(pixels, a.jitter, rng)
    target = F.one_hot(torch.from_numpy(labels), n_classes).float()
    if rng.random() < a.cutmix:
        pixels, target = _cutmix(pixels, target, rng)
    return normalise(pixels), target


def _crop(pixels: Tensor, size: int, a: Augmentation, rng) -> Tensor:
    """Random resized crop (area from a.crop to 1, sides 3:4 to 4:3; none if a.crop is 1) and
    mirroring as one bilinear sampling. Crops smaller than the input are enlarged, so nothing is
    aliased."""
    n = len(pixels)
    area, ratio = rng.uniform(a.crop, 1, n), np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), n))
    ratio = ratio if a.crop < 1 else 1.0
    width = np.minimum(1, np.sqrt(area * ratio))
    height = np.minimum(1, np.sqrt(area / ratio))
    x, y = rng.uniform(-1, 1, (2, n)) * (1 - np.stack([width, height]))
    mirror = np.where(a.flip & (rng.random(n) < 0.5), -1.0, 1.0)
    matrix = np.zeros((n, 2, 3), dtype=np.float32)
    matrix[:, 0, 0], matrix[:, 0, 2] = width * mirror, x
    matrix[:, 1, 1], matrix[:, 1, 2] = height, y
    places = F.affine_grid(torch.from_numpy(matrix), [n, 3, size, size], align_corners=False)
    return F.grid_sample(pixels, places, mode="bilinear", padding_mode="border",
                         align_corners=False)


def _jitter(pixels: Tensor, amount: float, rng) -> Tensor:
    gain, contrast = (torch.from_numpy(rng.uniform(1 - amount, 1 + amount, (len(pixels), 1, 1, 1))
                                       .astype(np.float32)) for _ in range(2))
    mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
    return (((pixels - mean) * contrast + mean) * gain).clamp(0, 1)


def _cutmix(pixels: Tensor, target: Tensor, rng) -> tuple[Tensor, Tensor]:
    """One rectangle for the whole batch, its area uniform in [0, 1]; partners by a roll."""
    size, cut = pixels.shape[-1], np.sqrt(rng.random())
    side = int(round(size * cut))
    top, left = rng.integers(0, size - side + 1, 2)
    box = (slice(None), slice(None), slice(top, top + side), slice(left, left + side))
    pixels = pixels.clone()
    pixels[box] = pixels.roll(1, 0)[box]
    share = side * side / size ** 2
    return pixels, target * (1 - share) + target.roll(1, 0) * share
