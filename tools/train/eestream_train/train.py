# SPDX-License-Identifier: MIT
"""Two-stage training of the embedded model on CPU (LGViT's recipe).

Stage 1 trains backbone and exits together; stage 2 freezes the backbone and trains the exit heads
alone, taught by the final logits. Both stages write DIR/stageN.pt about once a minute (atomically)
and DIR/stageN.csv; started again with the same arguments they go on from there, and a run that was
killed and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import augment, data, losses, shapes
from .files import write_checkpoint
from .model import Config, EarlyExitViT
from .schedule import Average

CHECKPOINT_SECONDS = 60.0


@dataclass
class Options:
    """One stage's settings; the command line fills them."""

    stage: int
    steps: int
    batch: int
    lr: float
    warmup: int
    weight_decay: float
    clip: float
    ema: float
    strategy: str
    alpha: float
    eta: float
    omega: float
    seed: int
    bf16: bool
    eval_every: int


def learning_rate(step: int, o: Options) -> float:
    """Linear warm-up, then a cosine down to 1 % of the peak."""
    if step < o.warmup:
        return o.lr * (step + 1) / o.warmup
    progress = (step - o.warmup) / max(1, o.steps - o.warmup)
    return o.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def _parameter_groups(model: EarlyExitViT, weight_decay: float) -> list[dict]:
    """Decay matrices only: no biases, norms, class token or positions."""
    decay, plain = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            matrix = parameter.ndim > 1 and "embeddings.cls" not in name and "position" not in name
            (decay if matrix else plain).append(parameter)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


class Run:
    """One stage in progress: model, its moving average, optimiser and step counter."""

    def __init__(self, options: Options, config: Config, directory: Path) -> None:
        self.options, self.directory, self.step = options, directory, 0
        torch.manual_seed(options.seed)
        self.model = EarlyExitViT(config)
        if options.stage == 2:
            self.model.load_state_dict(load_weights(directory / "stage1.pt"))
            self.model.freeze_backbone()
        self.average = Average(self.model, options.ema)
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(self.model, options.weight_decay), lr=options.lr, betas=(0.9, 0.98),
            fused=True)
        self.path = directory / f"stage{options.stage}.pt"
        self.log_path = directory / f"stage{options.stage}.csv"
        if self.path.exists():
            self._resume()

    def _resume(self) -> None:
        saved = torch.load(self.path, weights_only=True)
        self.step = saved["step"]
        self.model.load_state_dict(saved["model"])
        self.average.state = saved["average"]
        self.optimizer.load_state_dict(saved["optimizer"])
        with open(self.log_path, newline="") as file:
            rows = [row for row in csv.reader(file)
                    if row[0] == "step" or int(row[0]) <= self.step]
        with open(self.log_path, "w", newline="") as file:
            csv.writer(file).writerows(rows)

    def save(self) -> None:
        write_checkpoint(self.path, {
            "step": self.step, "model": self.model.state_dict(), "average": self.average.state,
            "optimizer": self.optimizer.state_dict()})

    def train_step(self, images: np.ndarray, labels: np.ndarray) -> float:
        """One optimiser step on a batch of uint8 frames; returns the loss."""
        o = self.options
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, o)
        pixels, target = torch.from_numpy(data.normalise(images)), torch.from_numpy(labels)
        self.model.train()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=o.bf16):
            out = self.model(pixels)
        if o.stage == 1:
            loss = losses.stage1(out, target, o.strategy, self.step, self.model.config)
        else:
            loss = losses.stage2(out, target, self.model.config, o.alpha, o.eta, o.omega)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(
            [p for p in self.model.parameters() if p.grad is not None], o.clip)
        self.optimizer.step()
        self.step += 1
        self.average.update(self.model, self.step)
        return loss.item()


def load_weights(path: Path) -> dict[str, Tensor]:
    """The averaged weights of a checkpoint: what is evaluated and exported."""
    return torch.load(path, weights_only=True)["average"]


@torch.no_grad()
def predict(model: EarlyExitViT, images: np.ndarray, batch: int = 250) -> np.ndarray:
    """All logits in fp32, [E + 1, count, K]: every exit, then the final classifier."""
    model.eval()
    parts = []
    for start in range(0, len(images), batch):
        out = model(torch.from_numpy(data.normalise(np.asarray(images[start:start + batch]))))
        parts.append(torch.stack([*out.exit_logits, out.logits]))
    return torch.cat(parts, dim=1).numpy()


def _validate(run: Run, validation) -> list[float]:
    model = EarlyExitViT(run.model.config)
    model.load_state_dict(run.average.state)
    images, labels = validation
    return [float(a) for a in (predict(model, images).argmax(axis=2) == labels).mean(axis=1)]


def train(run: Run, training, validation, stop_after: int | None = None) -> None:
    """Run a stage to its end (or, for tests, to step `stop_after`)."""
    o = run.options
    images, labels, difficulty = training
    by_difficulty = np.argsort(difficulty, kind="stable")
    if run.step == 0:
        with open(run.log_path, "w", newline="") as file:
            csv.writer(file).writerow(
                ["step", "loss", "lr", "samples_per_s"]
                + [f"exit{k}" for k in range(len(run.model.config.exit_blocks))] + ["final"])
    last_save = last_log = time.monotonic()
    total, counted = 0.0, 0
    end = o.steps if stop_after is None else min(stop_after, o.steps)
    while run.step < end:
        drawn = augment.batch(images, labels, by_difficulty, o.batch, o.seed * 2 + o.stage,
                              run.step, o.steps if o.stage == 1 else 0)
        total += run.train_step(*drawn)
        counted += 1
        if run.step % o.eval_every == 0 or run.step == end:
            rate = counted * o.batch / (time.monotonic() - last_log)
            row = [run.step, round(total / counted, 4), f"{learning_rate(run.step, o):.3g}",
                   round(rate, 1)] + [round(a, 4) for a in _validate(run, validation)]
            with open(run.log_path, "a", newline="") as file:
                csv.writer(file).writerow(row)
            print(f"stage {o.stage}", *row, flush=True)
            last_log, total, counted = time.monotonic(), 0.0, 0
        if time.monotonic() - last_save > CHECKPOINT_SECONDS:
            run.save()
            last_save = time.monotonic()
    run.save()


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m eestream_train.train", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True, help="directory with sets train and val")
    p.add_argument("--out", type=Path, required=True, help="directory of checkpoints and logs")
    p.add_argument("--stage", choices=("1", "2", "both"), default="both",
                   help="which stages to run (default %(default)s)")
    p.add_argument("--strategy", choices=losses.STRATEGIES, default="alternating_weighted",
                   help="loss of stage 1 (default %(default)s)")
    p.add_argument("--steps", type=int, default=8000, help="steps of stage 1 (default %(default)s)")
    p.add_argument("--steps2", type=int, default=2000, help="of stage 2 (default %(default)s)")
    p.add_argument("--batch", type=int, default=128, help="frames a step (default %(default)s)")
    p.add_argument("--lr", type=float, default=1.2e-3, help="peak, stage 1 (default %(default)s)")
    p.add_argument("--lr2", type=float, default=1e-3, help="peak, stage 2 (default %(default)s)")
    p.add_argument("--warmup", type=int, default=300, help="steps (default %(default)s)")
    p.add_argument("--weight-decay", type=float, default=0.05, help="default %(default)s")
    p.add_argument("--clip", type=float, default=1.0, help="gradient norm (default %(default)s)")
    p.add_argument("--ema", type=float, default=0.998, help="moving average (default %(default)s)")
    p.add_argument("--alpha", type=float, default=0.3, help="weight of KD (default %(default)s)")
    p.add_argument("--eta", type=float, default=0.01, help="of hete (default %(default)s)")
    p.add_argument("--omega", type=float, default=0.01, help="of homo (default %(default)s)")
    p.add_argument("--exits", type=int, nargs="+", default=[3, 5, 7, 9], metavar="BLOCK",
                   help="1-based blocks followed by an exit: 2, 4, 6 or 8 (default %(default)s)")
    p.add_argument("--hidden", type=int, default=96, help="C, divisible by 8 (default %(default)s)")
    p.add_argument("--seed", type=int, default=777, help="weights and order (default %(default)s)")
    p.add_argument("--threads", type=int, default=2, help="default %(default)s")
    p.add_argument("--fp32", action="store_true", help="no bf16 autocast")
    p.add_argument("--eval-every", type=int, default=250, help="steps (default %(default)s)")
    p.add_argument("--eval-count", type=int, default=2000, help="frames (default %(default)s)")
    return p


def main() -> None:
    args = _parser().parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    images, labels, difficulty = data.load(args.data, "train")
    training = np.asarray(images), labels, difficulty
    images, labels, _ = data.load(args.data, "val")
    validation = np.asarray(images[:args.eval_count]), labels[:args.eval_count]
    config = Config(n_classes=len(shapes.CLASS_NAMES), hidden_size=args.hidden,
                    n_heads=args.hidden // 32, intermediate_size=4 * args.hidden,
                    exit_blocks=tuple(args.exits))
    for stage in (1, 2) if args.stage == "both" else (int(args.stage),):
        options = Options(
            stage=stage, steps=args.steps if stage == 1 else args.steps2, batch=args.batch,
            lr=args.lr if stage == 1 else args.lr2, warmup=args.warmup,
            weight_decay=args.weight_decay, clip=args.clip, ema=args.ema, strategy=args.strategy,
            alpha=args.alpha, eta=args.eta, omega=args.omega, seed=args.seed, bf16=not args.fp32,
            eval_every=args.eval_every)
        train(Run(options, config, args.out), training, validation)


if __name__ == "__main__":
    main()
