# SPDX-License-Identifier: MIT
"""Tensors of a model's file as arrays: read mapped, written one at a time."""

import json
import struct
from pathlib import Path

import numpy as np

from .errors import ConvertError
from .folder import Stored

DTYPES = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "I64": "<i8", "I32": "<i4", "BF16": "<u2"}


def stored(value) -> Stored:
    """F32. `value`: an array, or a list of arrays to be stacked along the first axis."""
    parts = value if isinstance(value, list) else [value]
    shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])

    def write(out) -> None:
        for part in parts:
            out.write(np.ascontiguousarray(part, "<f4").data)
    return Stored("F32", shape, 4 * int(np.prod(shape, dtype=np.int64)), write)


class Tensors:
    """The tensors of a safetensors file."""

    def __init__(self, path: Path):
        self.path = path
        with open(path, "rb") as file:
            (n,) = struct.unpack("<Q", file.read(8))
            self.header = json.loads(file.read(n))
        self.header.pop("__metadata__", None)
        self.start = 8 + n

    def read(self, name: str) -> np.ndarray:
        """As float32 (bf16 and f16 widened)."""
        if name not in self.header:
            raise ConvertError(f"{self.path}: tensor '{name}' is missing")
        entry = self.header[name]
        if entry["dtype"] not in DTYPES:
            raise ConvertError(f"{self.path}: tensor '{name}' is {entry['dtype']}, expected one of {', '.join(DTYPES)}")
        offset = self.start + entry["data_offsets"][0]
        array = np.memmap(self.path, DTYPES[entry["dtype"]], "r", offset, tuple(entry["shape"]) or (1,))
        if entry["dtype"] == "BF16":
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array.astype(np.float32, copy=False)
