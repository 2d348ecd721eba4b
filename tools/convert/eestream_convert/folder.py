# SPDX-License-Identifier: MIT
"""The folder that eestream reads: config.json, model.safetensors, perhaps preprocessor_config.json. Tensors are written and
read one at a time, so that the file is never in memory as a whole."""

import json
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .errors import ConvertError

HEADER_ALIGNMENT = 8
DTYPES = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "I64": "<i8", "I32": "<i4", "BF16": "<u2"}


@dataclass(frozen=True)
class Stored:
    """A tensor on its way into a file. It writes its n_bytes when its turn comes, so that no two tensors are held."""

    dtype: str  # as safetensors names it: "F32"
    shape: tuple[int, ...]
    n_bytes: int
    write: Callable[[BinaryIO], object]


def store_f32(value) -> Stored:
    """An array, or a list of arrays to be stacked along the first axis."""
    parts = value if isinstance(value, list) else [value]
    shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:]) if parts[0].shape else ()

    def write(out: BinaryIO) -> None:
        for part in parts:
            out.write(np.ascontiguousarray(part, "<f4").data)

    return Stored("F32", shape, 4 * int(np.prod(shape, dtype=np.int64)), write)


def write_tensors(path: Path, tensors: Mapping[str, Stored]) -> None:
    """model.safetensors, in one piece or not at all. Wide elements first, so that each tensor is aligned."""
    order = sorted(tensors, key=lambda name: (-element_bytes(tensors[name]), name))
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name in order:
        begin, end = end, end + tensors[name].n_bytes
        header[name] = {"dtype": tensors[name].dtype, "shape": list(tensors[name].shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % HEADER_ALIGNMENT)
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            for name in order:
                tensors[name].write(out)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def element_bytes(tensor: Stored) -> int:
    n_elements = 1
    for side in tensor.shape:
        n_elements *= side
    return tensor.n_bytes // n_elements if n_elements else 0


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


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
