# SPDX-License-Identifier: MIT
"""A model folder: `config.json`, `preprocessor_config.json`, `model.safetensors`. Tensors are written and read one at a
time, so that the file is never in memory as a whole."""

import json
import struct
from pathlib import Path

import numpy as np

from .errors import ConvertError

DTYPES = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "I64": "<i8", "I32": "<i4", "BF16": "<u2"}


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def as_parts(value) -> list[np.ndarray]:
    return value if isinstance(value, list) else [value]


def write_tensors(path: Path, tensors: dict) -> None:
    """F32. A value is an array, or a list of arrays to be stacked along the first axis."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, value in tensors.items():
        parts = as_parts(value)
        shape = [sum(part.shape[0] for part in parts), *parts[0].shape[1:]]
        start, end = end, end + 4 * int(np.prod(shape, dtype=np.int64))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for value in tensors.values():
            for part in as_parts(value):
                file.write(np.ascontiguousarray(part, "<f4").data)


class Tensors:
    """The tensors of a safetensors file, mapped."""

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
