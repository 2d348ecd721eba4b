# SPDX-License-Identifier: MIT
"""Files of models and runs."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor


def write_json(path: Path, value) -> None:
    """Indented JSON, but lists of plain values on one line."""
    text = json.dumps(value, indent=2)
    path.write_text(re.sub(r"\[[^][{}]*\]", lambda m: " ".join(m[0].split())
                           .replace("[ ", "[").replace(" ]", "]"), text) + "\n")


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict | None = None) -> None:
    """A safetensors file."""
    save_file({name: value.contiguous() for name, value in tensors.items()}, path, metadata)
    path.chmod(0o644)  # the library creates it for the owner alone


def write_checkpoint(path: Path, state: dict) -> None:
    """Beside the old one, then renamed: a kill leaves one of both whole."""
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)
