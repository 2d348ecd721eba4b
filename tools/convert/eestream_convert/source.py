# SPDX-License-Identifier: MIT
"""A model folder as `eestream inspect --tensors` tells it: sizes, exits, and the weights by canonical name. So what a
framework calls its tensors is known in one place, the engine's table."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np

from .errors import ConvertError
from .folder import Tensors


def find_command(given: str | None) -> str:
    """--eestream, $EESTREAM, the PATH, this source tree."""
    here = Path(__file__).resolve().parents[3] / "build/release/tools/eestream"
    for candidate in (given, os.environ.get("EESTREAM"), shutil.which("eestream"), here if here.exists() else None):
        if candidate:
            return str(candidate)
    raise ConvertError("the eestream command is needed to read a model folder: install it, or give --eestream PATH")


class Source:
    """`options`: further ones of `eestream inspect`, as image-size or threshold; those that are None are left out."""

    def __init__(self, directory: Path, command: str | None = None, **options):
        args = [find_command(command), "inspect", str(directory), "--tensors", "--format", "json"]
        for name, value in options.items():
            args += [f"--{name.replace('_', '-')}", str(value)] if value is not None else []
        done = subprocess.run(args, capture_output=True, text=True)
        if done.returncode:
            raise ConvertError(done.stderr.strip().removeprefix("eestream: "))
        self.info = json.loads(done.stdout)
        self.parts = {tensor["name"]: tensor["parts"] for tensor in self.info["tensors"]}
        self.shapes = {tensor["name"]: tuple(tensor["shape"]) for tensor in self.info["tensors"]}
        self.file = Tensors(directory / "model.safetensors")

    def __contains__(self, name: str) -> bool:
        return name in self.parts

    def read(self, name: str) -> np.ndarray:
        if name not in self.parts:
            raise ConvertError(f"the model has no tensor '{name}'")
        parts = [self.file.read(part) for part in self.parts[name]]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
