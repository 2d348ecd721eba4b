# SPDX-License-Identifier: MIT
"""Turns a training run into the embedded assets: calibrated model folder and reference tensors.

    python -m eestream_train.export --run RUN --out ../assets/world

Thresholds are calibrated on frames of their own stream, the model card's figures come from another
one, and the clip (rendered by eestream_train.clip, if present in --out) is measured as it is.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch

from . import calibrate, clip, data, evaluate, files, folder, reference, shapes
from .model import Config, EarlyExitViT
from .train import load_weights, predict

_CARD = """# World model

A Vision Transformer with four early exits which names the object in a frame of eestream's
procedural world. It ships with eestream so that the demo, the tests and the benchmarks run
without a download. Files: LGViT's `config.json` and tensor names.

| | |
|---|---|
| structure | ViT, {n_layers} blocks, C = {hidden_size}, {n_heads} heads, MLP {intermediate_size}, \
input {image_size}x{image_size}, patch {patch_size}, {tokens} tokens |
| exits | after blocks {exits}: {heads} |
| parameters | {parameters:,} |
| classes | {classes} |

## Data
Rendered by `tools/train` (`eestream_train.world`): one object a frame, its class given by its
outline alone. Colour, texture, size, place, angle, mirroring, tilt, light, clutter, thin covering
strokes, defocus, motion blur and sensor noise are drawn independently of the class; a difficulty in
[0, 1] scales them. Frames are 320x240, pass through a JPEG of quality 70-95 and the preprocessing
of `preprocessor_config.json`. {n_train} training frames; no foreign images.

## Recipe
LGViT's two stages. Stage 1, `alternating_weighted`: {steps1} steps. {stage2} AdamW, batch 128,
bf16 autocast, moving average of the weights; turned, mirrored, shifted and recoloured frames.
{time}

## Figures
{tables}
"Mean blocks" leaves the exit heads' own cost out, as LGViT's speed-up does.

## Calibration
Per-exit confidence thresholds, fitted on {n_calibration} frames of their own stream for the fewest
blocks at a loss of at most {max_loss} points: there {calibrated:.2f} % at {blocks:.2f} blocks, \
against {full:.2f} % at full depth.

## Limits
It knows this world and nothing else: on any other picture it answers with one of its classes. Only
frames with exactly one object, whole and inside the centre square, were seen in training. Most
mistakes are made at difficulties above 0.75 (see the tables); in 40 mistakes looked at by eye the
object could still be named.
Confidences are calibrated for frames drawn like these, not for a particular video.
"""


def _seconds(log: Path) -> tuple[int, float]:
    """Steps and training seconds by a stage's log (128 frames a step)."""
    with open(log, newline="") as file:
        rows = list(csv.DictReader(file))
    steps = [0] + [int(r["step"]) for r in rows]
    return steps[-1], sum((b - a) * 128 / float(r["samples_per_s"])
                          for a, b, r in zip(steps, steps[1:], rows))


def _last_row(log: Path) -> dict[str, str]:
    with open(log, newline="") as file:
        return list(csv.DictReader(file))[-1]


def _stage2_note(run: Path, stage: int) -> str:
    """What became of stage 2: used, run but not used (with the deciding figures), or not run."""
    if not (run / "stage2.csv").exists():
        return "Stage 2 was not run."
    after = [_last_row(run / f"stage{s}.csv") for s in (1, 2)]
    exits = [name for name in after[0] if name.startswith("exit")]
    first, second = (", ".join(f"{100 * float(row[name]):.2f}" for name in exits) for row in after)
    used = "is what is shipped" if stage == 2 else "is **not** what is shipped"
    return (f"Stage 2, exit heads alone, taught by the final logits: {after[1]['step']} steps; it "
            f"{used}.\nOn the validation frames the exits are right for {first} % after stage 1 "
            f"and\nfor {second} % after stage 2.")


def _card(run: Path, stage: int, model: EarlyExitViT, tables: str, fitted: dict,
          n_train: int) -> str:
    c = model.config
    done = [_seconds(run / f"stage{s}.csv") for s in range(1, stage + 1)]
    return _CARD.format(
        **{name: getattr(c, name) for name in (
            "n_layers", "hidden_size", "n_heads", "intermediate_size", "image_size", "patch_size")},
        tokens=c.grid ** 2 + 1, exits=", ".join(map(str, c.exit_blocks)),
        heads=", ".join(c.head_types), parameters=sum(p.numel() for p in model.parameters()),
        classes=", ".join(shapes.CLASS_NAMES), n_train=n_train, steps1=done[0][0],
        stage2=_stage2_note(run, stage),
        time=f"Training time {sum(s for _, s in done) / 60:.0f} minutes on two shared cores, "
             "pauses between two lines of the log included.",
        tables=tables, n_calibration=fitted["frames"], max_loss=fitted["max_loss_points"],
        calibrated=fitted["accuracy"], blocks=fitted["mean_blocks"],
        full=fitted["accuracy_full_depth"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--run", type=Path, required=True, help="directory of checkpoints and logs")
    parser.add_argument("--stage", type=int, choices=(1, 2), default=2, help="default %(default)s")
    parser.add_argument("--out", type=Path, required=True, help="assets directory")
    parser.add_argument("--data", type=Path, required=True, help="directory of the training sets")
    parser.add_argument("--exits", type=int, nargs="+", default=[3, 5, 7, 9],
                        help="as in training (default %(default)s)")
    parser.add_argument("--calibration", type=int, default=12000,
                        help="frames for the thresholds (default %(default)s)")
    parser.add_argument("--test", type=int, default=10000, help="frames (default %(default)s)")
    parser.add_argument("--max-loss", type=float, default=0.6,
                        help="points the thresholds may cost there (default %(default)s)")
    args = parser.parse_args()

    weights = load_weights(args.run / f"stage{args.stage}.pt")
    n_classes, hidden = weights["classifier.weight"].shape
    model = EarlyExitViT(Config(n_classes, hidden_size=hidden, n_heads=hidden // 32,
                                intermediate_size=4 * hidden, exit_blocks=tuple(args.exits)))
    model.load_state_dict(weights)
    images, labels, _ = data.generate(data.CALIBRATION_SEED, args.calibration)
    threshold, fitted = calibrate.calibrate(
        predict(model, images), labels, model.config.exit_blocks, model.config.n_layers,
        args.max_loss)
    config = folder.lgvit_config(model.config, shapes.CLASS_NAMES, threshold)
    target = args.out / "model"
    folder.write(target, model, config)
    result = {"calibration": fitted, "frames": evaluate.measure(
        model, config, data.generate(data.TEST_SEED, args.test))}
    tables = evaluate.table("Fresh frames", result["frames"])
    if (args.out / "clip.avi").exists():
        result["clip"] = evaluate.measure(model, config, clip.read(args.out))
        tables += "\n" + evaluate.table("The clip", result["clip"])
    files.write_json(target / "figures.json", result)
    n_train = len(np.asarray(data.load(args.data, "train")[1]))
    (target / "README.md").write_text(_card(args.run, args.stage, model, tables, fitted, n_train))
    reference.write(args.out / "reference", model, threshold)
    print(tables)


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
