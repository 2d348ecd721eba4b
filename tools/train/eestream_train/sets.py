# SPDX-License-Identifier: MIT
"""Labelled pictures for training, as one uint8 array a set.

A data directory is one of three things, told apart by what is in it:

- `train/CLASS.webp`, `dev/CLASS.webp`: atlases, pictures of 32x32 in rows of 25 (CIFAR-100). The
  last row of every training atlas is kept back as set `calibration`.
- `train/CLASS/PICTURE`, `dev/CLASS/PICTURE` (also `val`): image folders. Shorter side to the stored
  side, centre crop. Without a folder `calibration` every 20th training picture becomes that set.
- `train.images.npy`, `val.images.npy`: sets of the procedural world (`eestream_train.data`). The
  second half of `val` is `calibration`.

Classes are indexed in alphabetical order (the world's in its own). Decoded sets are cached.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SETS = ("train", "calibration", "dev")
TILE, COLUMNS = 32, 25  # of an atlas
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm")


@dataclass
class Pictures:
    images: np.ndarray  # uint8 [n, S, S, 3]
    labels: np.ndarray  # int64 [n]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, count: int) -> Pictures:
        """Evenly spread pictures, `count` at most: every class keeps its share."""
        step = max(1, len(self) // max(1, count))
        return Pictures(self.images[::step][:count], self.labels[::step][:count], self.class_names)


def load(directory: Path, name: str, side: int, cache: Path | None = None) -> Pictures:
    """One of SETS. `side`: what image folders are stored at; atlases and worlds have their own."""
    if name not in SETS:
        raise ValueError(f"set {name!r}: expected one of {', '.join(SETS)}")
    directory = Path(directory)
    if (directory / "train.images.npy").exists():
        return _world(directory, name)
    if any((directory / "train").glob("*.webp")):
        return _cached(directory, name, TILE, cache, _atlases)
    if any(path.is_dir() for path in (directory / "train").glob("*")):
        return _cached(directory, name, side, cache, _folders)
    raise ValueError(f"{directory}: neither train/CLASS.webp, train/CLASS/PICTURE nor "
                     "train.images.npy")


def _cached(directory: Path, name: str, side: int, cache: Path | None, read) -> Pictures:
    """Decode once. The labels are written last: their presence means that the set is complete."""
    if cache is None:
        return read(directory, name, side)
    key = hashlib.sha256(f"{directory.resolve()} {side}".encode()).hexdigest()[:12]
    images, labels = (cache / f"{name}-{key}.{part}" for part in ("images.npy", "labels.npz"))
    if not labels.exists():
        cache.mkdir(parents=True, exist_ok=True)
        found = read(directory, name, side)
        np.save(images, found.images)
        np.savez(labels, labels=found.labels, class_names=np.array(found.class_names))
    with np.load(labels) as file:
        return Pictures(np.load(images), file["labels"], tuple(map(str, file["class_names"])))


def _atlases(directory: Path, name: str, side: int) -> Pictures:
    paths = sorted((directory / ("dev" if name == "dev" else "train")).glob("*.webp"))
    images, labels = [], []
    for label, path in enumerate(paths):
        rows = _tiles(path, side)
        part = {"train": rows[:-1], "calibration": rows[-1:], "dev": rows}[name]
        images.append(part.reshape(-1, side, side, 3))
        labels += [label] * len(images[-1])
    return Pictures(np.concatenate(images), np.array(labels), tuple(p.stem for p in paths))


def _tiles(path: Path, side: int) -> np.ndarray:
    """An atlas as uint8 [rows, COLUMNS, side, side, 3]."""
    atlas = np.asarray(Image.open(path).convert("RGB"))
    if atlas.shape[1] != COLUMNS * side or atlas.shape[0] % side:
        raise ValueError(f"{path}: {atlas.shape[1]}x{atlas.shape[0]} pixels, expected "
                         f"{COLUMNS} tiles of {side} a row")
    return atlas.reshape(-1, side, COLUMNS, side, 3).swapaxes(1, 2)


def _folders(directory: Path, name: str, side: int) -> Pictures:
    class_names = tuple(sorted(p.name for p in (directory / "train").iterdir() if p.is_dir()))
    folder = _folder_of(directory, name)
    images, labels = [], []
    for label, class_name in enumerate(class_names):
        paths = sorted(p for p in (folder / class_name).rglob("*")
                       if p.suffix.lower() in _PICTURES)
        if folder.name == "train" and name == "calibration":
            paths = paths[19::20]
        elif name == "train" and not (directory / "calibration").is_dir():
            paths = [p for i, p in enumerate(paths) if i % 20 != 19]
        images += [read_picture(p, side) for p in paths]
        labels += [label] * len(paths)
    if not images:
        raise ValueError(f"{folder}: no pictures ({' '.join(_PICTURES)}) in folders of classes")
    return Pictures(np.stack(images), np.array(labels), class_names)


def _folder_of(directory: Path, name: str) -> Path:
    if name == "dev":
        return next((directory / n for n in ("dev", "val") if (directory / n).is_dir()),
                    directory / "dev")
    own = directory / name
    return own if own.is_dir() else directory / "train"


def read_picture(path: Path, side: int) -> np.ndarray:
    """uint8 [side, side, 3]: shorter side to `side` with Pillow's bilinear filter, centre crop."""
    with Image.open(path) as image:
        image = image.convert("RGB")
    short = min(image.size)
    image = image.resize([max(side, side * length // short) for length in image.size],
                         Image.Resampling.BILINEAR)
    left, top = ((length - side) // 2 for length in image.size)
    return np.asarray(image.crop((left, top, left + side, top + side)))


def write_jpegs(pictures: Pictures, out: Path) -> None:
    """Class folders for `eestream calibrate`, `analyse` and `run`: quality 100, 4:4:4, so that
    levels move by one or two."""
    for name in pictures.class_names:
        (out / name).mkdir(parents=True, exist_ok=True)
    for i, (image, label) in enumerate(zip(pictures.images, pictures.labels)):
        Image.fromarray(image).save(out / pictures.class_names[label] / f"{i:06}.jpg",
                                    quality=100, subsampling="4:4:4")


def _world(directory: Path, name: str) -> Pictures:
    from . import data, shapes
    images, labels, _ = data.load(directory, "train" if name == "train" else "val")
    half = len(labels) // 2
    part = {"train": slice(None), "dev": slice(half), "calibration": slice(half, None)}[name]
    return Pictures(images[part], labels[part], shapes.CLASS_NAMES)
