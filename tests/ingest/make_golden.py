#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes golden.bin: small JPEGs, and what Pillow and numpy make of them, for test_ingest_golden.c.

    python3 make_golden.py golden.bin          needs Pillow and numpy

Layout, little endian: b"EESGOLD1"; two normalisations, each 3 + 3 float64 (mean, std) and 3 x 256 float32 (value of a
level as the Hugging Face processors compute it); uint32 number of cases; each case: 10 uint32 (resize_h, resize_w,
filter, crop, round_half_even, height, width, patch, normalisation, JPEG bytes), the JPEG, height x width x 3 bytes.

Pillow 13 began to resize vertically first when the height shrinks much more than the width, which moves single levels.
The models were trained with horizontal first, so the two passes are asked for one by one here: the same bytes as one
call in Pillow up to 12.
"""
import io
import struct
import sys

import numpy as np
from PIL import Image

NORMS = [((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))]

# picture (width, height, mode, JPEG options), then resize_h, resize_w, filter, crop, round_half_even, h, w, patch, norm
CASES = [
    ((97, 61, "RGB", dict(quality=70, subsampling=2)), 24, 24, 0, 0, 0, 24, 24, 8, 1),
    ((61, 97, "RGB", dict(quality=70, subsampling=2)), 32, 32, 1, 1, 0, 24, 24, 8, 0),
    ((90, 47, "RGB", dict(quality=85, subsampling=0)), 24, 0, 0, 1, 1, 24, 24, 4, 0),
    ((47, 90, "RGB", dict(quality=40, subsampling=1)), 27, 0, 1, 1, 0, 24, 24, 12, 0),
    ((83, 59, "RGB", dict(quality=60, progressive=True)), 27, 0, 1, 1, 1, 24, 16, 8, 0),
    ((70, 70, "L", dict(quality=70)), 25, 0, 0, 1, 1, 24, 24, 8, 1),
    ((52, 40, "CMYK", dict(quality=80)), 24, 24, 1, 0, 0, 24, 24, 8, 0),
    ((32, 32, "RGB", dict(quality=90, subsampling=2)), 28, 0, 0, 1, 1, 28, 28, 14, 0),
    ((9, 7, "RGB", dict(quality=90)), 24, 0, 1, 1, 0, 24, 24, 8, 0),
    ((33, 20, "RGB", dict(quality=75)), 0, 0, 0, 1, 0, 24, 24, 8, 0),
    ((33, 21, "RGB", dict(quality=75)), 0, 0, 0, 1, 1, 24, 24, 8, 0),
    ((1, 130, "RGB", dict(quality=75)), 24, 0, 0, 1, 1, 24, 24, 8, 0),
]


def photo(rng, width, height):
    """Smooth shading, edges and a little noise."""
    y, x = np.mgrid[0:height, 0:width]
    planes = []
    for c in range(3):
        p = 120 + 70 * np.sin(x / (4.0 + c) + c) + 50 * np.cos(y / (6.0 + 2 * c))
        p = p + 40 * (((x - width / 2) ** 2 + (y - height / 2) ** 2) < (min(width, height) / 3) ** 2)
        planes.append(p + rng.normal(0, 4, p.shape))
    return Image.fromarray(np.stack(planes, -1).clip(0, 255).astype(np.uint8))


def crop_axis(pixels, size, axis, half_even):
    n = pixels.shape[axis]
    if n < size:  # zero padding: torchvision puts the odd sample behind, Hugging Face before
        before = (size - n) // 2 if half_even else (size - n + 1) // 2
        padding = [(0, 0)] * 3
        padding[axis] = (before, size - n - before)
        return np.pad(pixels, padding)
    start = int(round((n - size) / 2.0)) if half_even else (n - size) // 2
    return pixels.take(range(start, start + size), axis)


def preprocess(jpeg, resize_h, resize_w, filter_, crop, half_even, height, width):
    image = Image.open(io.BytesIO(jpeg)).convert("RGB")
    if resize_h:
        w, h = image.size
        if not resize_w:
            resize_w, resize_h = (resize_h * w // h, resize_h) if h <= w else (resize_h, resize_h * h // w)
        resample = [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC][filter_]
        image = image.resize((resize_w, h), resample).resize((resize_w, resize_h), resample)
    pixels = np.asarray(image)
    if crop:
        pixels = crop_axis(crop_axis(pixels, height, 0, half_even), width, 1, half_even)
    assert pixels.shape == (height, width, 3), pixels.shape
    return pixels


def main(path):
    rng = np.random.default_rng(20)
    with open(path, "wb") as out:
        out.write(b"EESGOLD1")
        for mean, std in NORMS:
            levels = (np.arange(256).astype(np.float64) * (1 / 255)).astype(np.float32)
            table = (levels[None] - np.array(mean, np.float32)[:, None]) / np.array(std, np.float32)[:, None]
            out.write(struct.pack("<6d", *mean, *std) + table.astype("<f4").tobytes())
        out.write(struct.pack("<I", len(CASES)))
        for (width, height, mode, options), *numbers in CASES:
            buffer = io.BytesIO()
            photo(rng, width, height).convert(mode).save(buffer, "JPEG", **options)
            jpeg = buffer.getvalue()
            out.write(struct.pack("<10I", *numbers, len(jpeg)) + jpeg + preprocess(jpeg, *numbers[:7]).tobytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
