# SPDX-License-Identifier: MIT
"""A run of a recipe: one step, moving average, log, checkpoint (`loop` walks through the phases).

A run lives in one directory: `checkpoint.pt` (written about every five minutes, atomically),
`log.jsonl` and `recipe.json`. Started again with the same arguments it goes on from the checkpoint;
pictures and augmentation are functions of the step, so nothing is repeated or left out. Phases that
are over may not change; those to come may.
"""

from __future__ import annotations

import fcntl
import functools
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import losses, recipe as recipes, schedule, thin, views
from .backbones import build
from .files import write_checkpoint
from .network import Network, Outputs
from .phase import Phase
from .recipe import Recipe
from .sets import Pictures
from .vit import resample_positions

_FORMAT = 1


class Run:
    """A network in training and all that a checkpoint holds of it."""

    def __init__(self, recipe: Recipe, directory: Path, start: dict[str, Tensor] | None = None,
                 teacher: Network | None = None, device: str = "cpu") -> None:
        """`start`: canonical tensors to begin with, where there is no checkpoint yet."""
        self.recipe, self.directory, self.device = recipe, directory, torch.device(device)
        self.teacher = teacher.to(device).requires_grad_(False) if teacher else None
        self.step, self.seconds = 0, 0.0
        torch.manual_seed(recipe.seed)
        self.network = build(recipe.shape)
        if start:
            load_matching(self.network, start)
        self.network.to(device)
        self.average = schedule.Average(self.network, recipe.ema)
        self.optimizer = torch.optim.AdamW(
            schedule.parameter_groups(self.network, recipe.lr, recipe.head_lr, recipe.layer_decay,
                                      recipe.weight_decay), betas=(0.9, 0.98), fused=True)
        directory.mkdir(parents=True, exist_ok=True)
        self.lock = _lock(directory)
        if self.path.exists():
            self._resume()
        recipe_text = json.dumps(recipes.as_json(recipe), indent=1)
        (directory / "recipe.json").write_text(recipe_text + "\n")

    @property
    def path(self) -> Path:
        return self.directory / "checkpoint.pt"

    @property
    def log_path(self) -> Path:
        return self.directory / "log.jsonl"

    def _resume(self) -> None:
        """Go on from the checkpoint; the log forgets what came after it."""
        saved = torch.load(self.path, weights_only=True, map_location=self.device)
        self.step, self.seconds = saved["step"], saved["seconds"]
        self.network.load_state_dict(saved["network"])
        self.average.state = saved["average"]
        self.optimizer.load_state_dict(saved["optimizer"])
        kept = [line for line in read_log(self.log_path) if line["step"] <= self.step]
        self.log_path.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def autocast(self):
        return torch.autocast(self.device.type, dtype=torch.bfloat16,
                              enabled=self.recipe.bf16 and has_bf16(self.device))

    def save(self) -> None:
        write_checkpoint(self.path, {
            "format": _FORMAT, "step": self.step, "seconds": self.seconds,
            "network": self.network.state_dict(), "average": self.average.state,
            "optimizer": self.optimizer.state_dict()})

    def averaged(self) -> Network:
        """The moving average as a network: what is evaluated and exported."""
        with torch.random.fork_rng():
            network = build(self.recipe.shape).to(self.device)
        network.load_state_dict(self.average.state)
        return network.eval()

    def log(self, **values) -> None:
        line = {"time": round(time.time(), 1), "seconds": round(self.seconds, 1),
                "step": self.step, **values}
        with open(self.log_path, "a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def train_step(self, phase: Phase, pixels: Tensor, target: Tensor, lr: float,
                   step: int) -> float:
        """One optimiser step with rates `lr` times their peaks; `step` counts in the phase."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["peak"]
        pixels, target = pixels.to(self.device), target.to(self.device)
        self.network.train()
        with self.autocast():
            out = forward(self.network, phase, pixels)
            taught = self._teach(phase, pixels)
        loss = objective(self.network, phase, out, target, step, taught)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(
            [p for p in self.network.parameters() if p.grad is not None], self.recipe.clip)
        self.optimizer.step()
        self.step += 1
        self.average.update(self.network, self.step)
        return loss.item()

    @torch.no_grad()
    def _teach(self, phase: Phase, pixels: Tensor) -> Tensor | None:
        if not phase.teach:
            return None
        if self.teacher is None:
            raise ValueError("a phase has 'teach' above 0, but the recipe names no teacher")
        size = self.recipe.teacher_size or self.teacher.shape.image_size
        return self.teacher(at_size(pixels, size), exits=()).logits


@functools.cache
def has_bf16(device: torch.device) -> bool:
    """Does the processor multiply bf16? Elsewhere it is slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    flags = set(Path("/proc/cpuinfo").read_text().split())
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def read_log(path: Path) -> list[dict]:
    """The lines of a run's log; one that a kill cut off is left out."""
    lines = path.read_text().split("\n") if path.exists() else [""]
    return [json.loads(line) for line in lines[:-1]]


def at_size(pixels: Tensor, size: int) -> Tensor:
    if pixels.shape[-1] == size:
        return pixels
    return torch.nn.functional.interpolate(pixels, size=(size, size), mode="bilinear",
                                           antialias=pixels.shape[-1] > size)


def _lock(directory: Path):
    """Two processes on one directory would overwrite each other's checkpoints."""
    file = open(directory / "lock", "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(f"{directory}: another process trains here") from None
    return file


def load_matching(network: Network, tensors: dict[str, Tensor]) -> None:
    """Take the given weights. The position table is resampled; a larger network's are thinned; a
    classifier for other classes and exits that aren't in the file keep their fresh weights;
    anything else missing is an error."""
    shape, own = network.shape, network.state_dict()
    found = dict(tensors)
    if "embed.pos" in found:
        found["embed.pos"] = resample_positions(found["embed.pos"].float(), shape.n_special,
                                                (shape.grid, shape.grid), antialias=True)
    if shape.family != "swin":
        found = thin.thinned(found, {k: v.shape for k, v in own.items()},
                             shape.hidden_size // shape.n_heads)
    fits = {k: v.to(own[k].dtype) for k, v in found.items()
            if k in own and own[k].shape == v.shape}
    fresh = [k for k in own if k not in fits and not k.startswith(("exit.", "head."))]
    if fresh:
        raise ValueError(f"the weights to start from lack {', '.join(fresh[:5])}, or have other "
                         "shapes there")
    network.load_state_dict({**own, **fits})


def forward(network: Network, phase: Phase, pixels: Tensor) -> Outputs:
    """The pass that an objective needs."""
    if phase.objective == "exit":
        return network(pixels, exits=(phase.exit,), to_end=False)
    return network(pixels, exits=() if phase.objective == "final" else None)


def objective(network: Network, phase: Phase, out: Outputs, target: Tensor, step: int,
              taught: Tensor | None) -> Tensor:
    """The loss of one step."""
    shape, smoothing = network.shape, phase.smoothing
    if phase.objective == "exit":
        return losses.cross_entropy(out.exit_logits[0], target, smoothing)
    if phase.objective == "heads":
        return losses.stage2(out, target, shape, phase.alpha, phase.eta, phase.omega)
    weights = phase.weights
    if isinstance(weights, str):
        weights = losses.weights_of("weighted" if weights == "depth" else "normal", shape)
    final_only = phase.objective == "final" or (phase.objective == "alternating" and step % 2 == 0)
    if final_only:
        loss = losses.cross_entropy(out.logits, target, smoothing)
    else:
        loss = losses.joint(out, target, weights, smoothing, phase.distil)
    if taught is None:
        return loss
    kd = taught.shape[-1] * losses.distillation(out.logits, taught)
    return (1 - phase.teach) * loss + phase.teach * kd


def set_trainable(network: Network, phase: Phase) -> None:
    """Freeze what the phase leaves alone."""
    network.requires_grad_(phase.train in ("all", "backbone"))
    if phase.train == "backbone":
        network.exit.requires_grad_(False)
    elif phase.train == "heads":
        network.exit.requires_grad_(True)
    elif phase.train == "branch":
        for part in _branch(network, phase.exit):
            part.requires_grad_(True)


def _branch(network: Network, k: int) -> list[torch.nn.Module]:
    """Exit k and the blocks since the exit before it; behind the last exit the final classifier."""
    ends = [0, *network.shape.exit_blocks, network.shape.n_layers]
    parts = network.between(ends[k], ends[k + 1]) + ([network.embed] if k == 0 else [])
    return parts + ([network.exit[k]] if k < len(network.exit) else [network.norm, network.head])


@torch.no_grad()
def predict(network: Network, pictures: Pictures, size: int, batch: int = 125) -> np.ndarray:
    """All logits in fp32, [E + 1, count, K]: every exit, then the final classifier."""
    network.eval()
    device, parts = network.norm.weight.device, []
    for start in range(0, len(pictures), batch):
        out = network(views.plain(pictures.images[start:start + batch], size).to(device))
        parts.append(torch.stack([*out.exit_logits, out.logits]).float().cpu())
    return torch.cat(parts, dim=1).numpy()
