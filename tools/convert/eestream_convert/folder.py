# SPDX-License-Identifier: MIT
"""The folder that eestream reads: config.json, model.safetensors, perhaps preprocessor_config.json."""

import json
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

HEADER_ALIGNMENT = 8


@dataclass(frozen=True)
class Stored:
    """A tensor on its way into a file. It writes its n_bytes when its turn comes, so that no two tensors are held."""

    dtype: str  # as safetensors names it: "F32"
    shape: tuple[int, ...]
    n_bytes: int
    write: Callable[[BinaryIO], object]


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
