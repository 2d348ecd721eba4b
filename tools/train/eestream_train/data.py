# SPDX-License-Identifier: MIT
"""Frames as the engine sees them: JPEG round trip, the model's preprocessing, and stored sets.

Preprocessing is the LGViT row of the preprocessing table: shorter side to S with Pillow's bilinear
filter, centre crop S, /255, ImageNet mean and standard deviation. Stored sets hold the uint8 crop;
normalisation happens on the batch.

    python -m eestream_train.data --out DIR --name train --seed 1 --count 60000
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
from pathlib import Path

import numpy as np
from PIL import Image

from . import shapes, world

IMAGE_SIZE = 64
MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)

# Streams of frames that never meet: world.frame_rngs() seeds with (stream, index).
TRAIN_SEED, CALIBRATION_SEED, TEST_SEED, CLIP_SEED, REFERENCE_SEED = 1, 2, 3, 4, 5

_CHUNK = 500


def jpeg(frame: np.ndarray, quality: int) -> bytes:
    """Baseline JPEG, 4:2:0, as a camera's MJPEG stream would carry it."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return buffer.getvalue()


def preprocess(encoded: bytes) -> np.ndarray:
    """Decode, resize and crop: uint8 [S, S, 3]. The long side is truncated and the crop offset
    rounded half to even, as torchvision does."""
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    short, long = min(image.size), max(image.size)
    scaled = int(IMAGE_SIZE * long / short)
    size = (scaled, IMAGE_SIZE) if image.width >= image.height else (IMAGE_SIZE, scaled)
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (round((side - IMAGE_SIZE) / 2) for side in image.size)
    return np.asarray(image.crop((left, top, left + IMAGE_SIZE, top + IMAGE_SIZE)))


def normalise(images: np.ndarray) -> np.ndarray:
    """uint8 [B, S, S, 3] to float32 [B, 3, S, S], as the model's first layer expects."""
    scaled = (images.astype(np.float32) / np.float32(255) - MEAN) / STD
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def preprocessor_config() -> dict:
    """The same steps in the keys of a Hugging Face image processor."""
    return {
        "do_resize": True,
        "size": {"shortest_edge": IMAGE_SIZE},
        "resample": int(Image.Resampling.BILINEAR),
        "do_center_crop": True,
        "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "image_processor_type": "DeiTImageProcessor",
    }


def _render_chunk(task: tuple[int, int, int]):
    seed, first, count = task
    images = np.empty((count, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    labels = np.empty(count, dtype=np.int64)
    difficulty = np.empty(count, dtype=np.float32)
    for i in range(count):
        frame, scene, difficulty[i] = world.iid_frame(seed, first + i)
        images[i] = preprocess(jpeg(frame, scene.jpeg_quality))
        labels[i] = scene.class_id
    return first, images, labels, difficulty


def generate(seed: int, count: int, workers: int = 2, progress: bool = False):
    """Render frames 0 .. count-1 of stream `seed`: images, labels, difficulty."""
    images = np.empty((count, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    labels = np.empty(count, dtype=np.int64)
    difficulty = np.empty(count, dtype=np.float32)
    tasks = [(seed, i, min(_CHUNK, count - i)) for i in range(0, count, _CHUNK)]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for first, *parts in pool.imap_unordered(_render_chunk, tasks):
            here = slice(first, first + len(parts[1]))
            images[here], labels[here], difficulty[here] = parts
            if progress:
                print(f"rendered {here.stop} of {count}", flush=True)
    return images, labels, difficulty


def save(directory: Path, name: str, images, labels, difficulty) -> None:
    """Write a set; the images last, so that their presence means that the set is complete."""
    directory.mkdir(parents=True, exist_ok=True)
    np.savez(directory / f"{name}.labels.npz", labels=labels, difficulty=difficulty,
             class_names=np.array(shapes.CLASS_NAMES))
    temporary = directory / f"{name}.tmp.npy"
    np.save(temporary, images)
    temporary.rename(directory / f"{name}.images.npy")


def load(directory: Path, name: str):
    """Read a set back: images (memory-mapped), labels, difficulty."""
    images = np.load(directory / f"{name}.images.npy", mmap_mode="r")
    with np.load(directory / f"{name}.labels.npz") as file:
        if tuple(file["class_names"]) != shapes.CLASS_NAMES:
            raise ValueError(f"{directory}/{name}: rendered with other classes; render it again")
        return images, file["labels"], file["difficulty"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Render a set of frames for training or tests.")
    parser.add_argument("--out", type=Path, required=True, help="directory of the set")
    parser.add_argument("--name", required=True, help="name of the set, e.g. train")
    parser.add_argument("--seed", type=int, default=TRAIN_SEED, help="stream (default %(default)s)")
    parser.add_argument("--count", type=int, default=60000, help="frames (default %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default %(default)s)")
    args = parser.parse_args()
    save(args.out, args.name, *generate(args.seed, args.count, args.workers, progress=True))


if __name__ == "__main__":
    main()
