# SPDX-License-Identifier: MIT
"""What the live tests share: models of other libraries with random weights, saved as those libraries save them, and the
numbers they compute in the layout `eestream verify` compares with."""

import math
import os
import re
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[3]
COMMAND = os.environ.get("EES_COMMAND", str(ROOT / "build/release/tools/eestream"))
SHARED = Path(os.environ.get("EES_SHARED_DATA", ROOT.parent / "shared/data"))
TOKENS = re.compile(r"token|pos|register|table")


def shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{name} is not in the shared data")
    return path


@torch.no_grad()
def randomize(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Values with which every tensor matters: no bias of zero, no factor of one, no flat position table. Activations
    stay near 1, so that 1e-4 is far above rounding and far below any mistake."""
    draw = torch.Generator().manual_seed(seed)

    def normal(shape):
        return torch.randn(shape, generator=draw)
    for name, value in model.named_parameters():
        if TOKENS.search(name):
            value.copy_(0.5 * normal(value.shape))
        elif value.dim() > 1:
            value.copy_(normal(value.shape) / math.sqrt(value[0].numel()))
        elif name.endswith("bias"):
            value.copy_(0.2 * normal(value.shape))
        else:  # of norms and layer scales
            value.copy_(1.0 + 0.3 * normal(value.shape))
    for name, value in model.named_buffers():
        if name.endswith("running_mean"):
            value.copy_(0.3 * normal(value.shape))
        elif name.endswith("running_var"):
            value.copy_(0.5 + torch.rand(value.shape, generator=draw))
    return model.eval()


def random_pixels(n: int, height: int, width: int, seed: int = 7) -> torch.Tensor:
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(seed))


def blocks_of(model: torch.nn.Module, *class_names: str) -> list:
    found = [module for module in model.modules() if type(module).__name__ in class_names]
    assert found, f"none of {class_names} in {type(model).__name__}"
    return found


def as_rows(value) -> torch.Tensor:
    """(B, T, C), whatever a block hands on: a tuple, or a grid."""
    value = value[0] if isinstance(value, tuple) else value
    return value.flatten(1, 2) if value.dim() == 4 else value


@torch.no_grad()
def record(model: torch.nn.Module, blocks: list, call) -> dict[str, torch.Tensor]:
    """`embeddings` and `hidden.{i}` of one call, and what it returns as `logits`."""
    seen, hooks = {}, []

    def before(module, args, kwargs):
        seen["embeddings"] = as_rows(args[0] if args else kwargs["hidden_states"]).clone()

    def after(index):
        def hook(module, args, kwargs, output):
            seen[f"hidden.{index}"] = as_rows(output).clone()
        return hook
    hooks.append(blocks[0].register_forward_pre_hook(before, with_kwargs=True))
    hooks += [block.register_forward_hook(after(i), with_kwargs=True) for i, block in enumerate(blocks)]
    try:
        seen["logits"] = call()
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def save_reference(folder: Path, pixels: torch.Tensor, expected: dict[str, torch.Tensor]) -> None:
    """inputs.safetensors and expected.safetensors beside the model."""
    logits = expected["logits"]
    expected = expected | {"prediction": logits.argmax(-1).int()}
    save_file({"pixel_values": pixels.contiguous()}, folder / "inputs.safetensors")
    save_file({name: value.contiguous() for name, value in expected.items()}, folder / "expected.safetensors")


def eestream(*args) -> subprocess.CompletedProcess:
    return subprocess.run([COMMAND, *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, text=True)


def verify(folder: Path, *args, n_tensors: int | None = None) -> str:
    """Our numbers are the reference's; with n_tensors, none was left out of the comparison."""
    done = eestream("verify", folder, *args)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"^verify: (\d+) tensors, .*: ok$", done.stdout, re.M)
    assert found and n_tensors in (None, int(found[1])), done.stdout
    return done.stdout


def check(folder: Path, model: torch.nn.Module, blocks: list, pixels: torch.Tensor, call) -> None:
    """Record and verify with the best kernels and with the plain ones."""
    expected = record(model, blocks, call)
    save_reference(folder, pixels, expected)
    for kernels in ([], ["--kernels", "scalar"]):
        verify(folder, *kernels, n_tensors=len(expected) + 1)
