# SPDX-License-Identifier: MIT
"""Measures a model folder: accuracy at full depth, per exit and with thresholds, and mean blocks.

    python -m eestream_train.evaluate --model ../assets/world/model --clip ../assets/world

Frames come from a stream that neither training nor calibration has seen. Prints a table and, with
--json, writes the figures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from . import clip, data, files, folder, policies
from .train import predict

BINS = ((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))


def figures(logits: np.ndarray, labels: np.ndarray, difficulty: np.ndarray, threshold,
            exit_blocks: tuple[int, ...], n_layers: int) -> dict:
    """All figures of one set. Accuracies in per cent; `per_exit` answers every frame at that exit,
    `left` counts the frames which leave there under the thresholds."""
    hit = logits.argmax(axis=-1) == labels
    taken = policies.by_confidence(logits, threshold)
    blocks = policies.blocks_run(taken, exit_blocks, n_layers)
    answered = hit[taken, np.arange(len(labels))]
    per_exit = []
    for k, block in enumerate((*exit_blocks, n_layers)):
        here = taken == k
        per_exit.append({
            "block": block, "accuracy_all_frames": 100 * float(hit[k].mean()),
            "left": int(here.sum()),
            "accuracy_of_left": 100 * float(answered[here].mean()) if here.any() else None})
    by_difficulty = []
    for low, high in BINS:
        here = (difficulty >= low) & ((difficulty < high) | (high == 1.0))
        if here.any():
            by_difficulty.append({
                "from": low, "to": high, "frames": int(here.sum()),
                "accuracy_full_depth": 100 * float(hit[-1][here].mean()),
                "accuracy": 100 * float(answered[here].mean()),
                "mean_blocks": float(blocks[here].mean())})
    return {
        "frames": len(labels),
        "accuracy_full_depth": 100 * float(hit[-1].mean()),
        "accuracy": 100 * float(answered.mean()),
        "mean_blocks": float(blocks.mean()),
        "block_speedup": n_layers / float(blocks.mean()),
        "threshold": [float(t) for t in np.broadcast_to(threshold, len(exit_blocks))],
        "per_exit": per_exit,
        "by_difficulty": by_difficulty,
    }


def table(name: str, f: dict) -> str:
    """The figures as Markdown."""
    lines = [
        f"{name}: {f['frames']} frames, full depth {f['accuracy_full_depth']:.2f} %, with exits "
        f"{f['accuracy']:.2f} %, {f['mean_blocks']:.2f} blocks on average "
        f"({f['block_speedup']:.2f}x fewer)", "",
        "| after block | threshold | right, all frames | frames leaving here | of these right |",
        "|---|---|---|---|---|"]
    for k, e in enumerate(f["per_exit"]):
        limit = f"{f['threshold'][k]:.3f}" if k < len(f["threshold"]) else "–"
        right = "–" if e["accuracy_of_left"] is None else f"{e['accuracy_of_left']:.2f} %"
        lines.append(f"| {e['block']} | {limit} | {e['accuracy_all_frames']:.2f} % | "
                     f"{100 * e['left'] / f['frames']:.1f} % | {right} |")
    lines += ["", "| difficulty | full depth | with exits | mean blocks |", "|---|---|---|---|"]
    lines += [f"| {b['from']:.2f}–{b['to']:.2f} | {b['accuracy_full_depth']:.2f} % | "
              f"{b['accuracy']:.2f} % | {b['mean_blocks']:.2f} |" for b in f["by_difficulty"]]
    return "\n".join(lines) + "\n"


def measure(model, config: dict, frames) -> dict:
    """Figures of a model on (images, labels, difficulty) with the thresholds of its config."""
    images, labels, difficulty = frames
    return figures(predict(model, images), labels, difficulty, config["threshold"],
                   model.config.exit_blocks, model.config.n_layers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--clip", type=Path, help="directory of clip.avi and clip.truth.csv")
    parser.add_argument("--seed", type=int, default=data.TEST_SEED, help="default %(default)s")
    parser.add_argument("--count", type=int, default=10000,
                        help="freshly generated frames (default %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="default %(default)s")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    model, config = folder.read(args.model)
    result = {"frames": measure(model, config, data.generate(args.seed, args.count, args.workers))}
    print(table("Fresh frames", result["frames"]))
    if args.clip:
        result["clip"] = measure(model, config, clip.read(args.clip))
        print(table("Clip", result["clip"]))
    if args.json:
        files.write_json(args.json, result)


if __name__ == "__main__":
    main()
