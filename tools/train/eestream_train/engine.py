# SPDX-License-Identifier: MIT
"""The eestream command, where training needs it: it knows every framework's tensor names, and says
whether its answers are PyTorch's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

_BUILT = Path(__file__).resolve().parents[3] / "build/release/tools/eestream"
_FAMILY = {("class_mean", 1): "dinov2", ("class_dist", 2): "deit", ("class", 1): "vit"}


def command() -> str:
    """$EESTREAM, this source tree's build, or the one installed."""
    found = os.environ.get("EESTREAM") or (_BUILT if _BUILT.exists() else shutil.which("eestream"))
    if not found:
        raise ValueError("the eestream command is needed: build it, or set EESTREAM to its path")
    return str(found)


def _run(*arguments) -> str:
    done = subprocess.run([command(), *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(done.stderr.strip() or done.stdout.strip())
    return done.stdout


def inspect(folder: Path, *options: str) -> dict:
    """What the engine tells about a model folder."""
    return json.loads(_run("inspect", folder, "--format", "json", *options))


def read(folder: Path) -> tuple[dict, dict[str, Tensor]]:
    """A model folder of any framework: the sizes of a Shape, and the tensors by canonical name."""
    told = inspect(folder, "--tensors")
    file = load_file(Path(folder) / "model.safetensors")
    tensors = {t["name"]: torch.cat([file[part] for part in t["parts"]]).float()
               for t in told["tensors"] if not t["name"].endswith("rel_index")}
    windows = [stage for stage in told.get("stages", []) if any(stage["window"])]
    family = "swin" if windows else _FAMILY.get(
        (told["pool"], 2 if "embed.dist" in tensors else 1))
    if family is None or "embed.reg" in tensors:
        raise ValueError(f"{folder}: {told['family']} with pool {told['pool']!r} can't be trained "
                         "here: only ViT, distilled DeiT, Swin, and DINOv2 without registers")
    if told["input_px"][0] != told["input_px"][1]:
        raise ValueError(f"{folder}: input {told['input_px']}: only square ones are trained here")
    sizes = {"family": family, "n_classes": told["classes"], "image_size": told["input_px"][0],
             "patch_size": told["patch_px"], "hidden_size": told["width"],
             "n_layers": told["blocks"], "n_heads": told["heads"], "mlp_size": told["mlp_width"],
             "norm_eps": told["norm_eps"],
             "exits": tuple((e["after_block"], e["head"]) for e in told["exits"])}
    if windows:
        sizes |= {"depths": tuple(stage["blocks"] for stage in windows),
                  "window": windows[0]["window"][0]}
    return sizes, tensors


def verify(folder: Path, inputs: Path, expected: Path) -> str:
    """The engine's report; raises if it differs from the expected tensors by more than rounding."""
    return _run("verify", folder, "--inputs", inputs, "--expected", expected)
