# SPDX-License-Identifier: MIT
"""How far overload may lower a finished model's thresholds: `degraded_threshold` in its config.json.

Calibrated like the thresholds themselves, with a larger loss allowed, never above them. The engine computes the logits (every exit
in turn, forced), so PyTorch isn't needed.

    python -m eestream_train.degrade --eestream ../../build/release/tools/eestream --model DIR [--max-loss 3] [--write]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from . import calibrate, data, policies, world
from .folder_json import write_json


def frames(seed: int, count: int) -> tuple[bytes, np.ndarray]:
    """JPEGs one after the other, and their classes."""
    encoded, labels = [], np.empty(count, dtype=np.int64)
    for i in range(count):
        frame, scene, _ = world.iid_frame(seed, i)
        encoded.append(data.jpeg(frame, scene.jpeg_quality))
        labels[i] = scene.class_id
    return b"".join(encoded), labels


def all_logits(eestream: Path, model: Path, stream: bytes, n_exits: int) -> np.ndarray:
    """[E + 1, B, K]: what every exit says of every frame."""
    logits = []
    for forced in range(n_exits + 1):
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as replay:
            replay.write(json.dumps({"exit": forced}) + "\n")
            replay.flush()
            done = subprocess.run([eestream, "run", "-", "--model", model, "--replay-exits", replay.name, "--logits", "-q", "-o", "-"],
                                  input=stream, stdout=subprocess.PIPE, check=True)
        logits.append([json.loads(line)["logits"] for line in done.stdout.splitlines()])
    return np.array(logits, dtype=np.float32)


def measure(logits: np.ndarray, labels: np.ndarray, thresholds, blocks) -> tuple[float, float]:
    """Accuracy in percent and mean blocks."""
    taken = policies.first_firing(policies.confidence(logits[:-1]) > np.array(thresholds, dtype=np.float32)[:, None])
    hit = logits.argmax(axis=-1) == labels
    return 100 * float(hit[taken, np.arange(len(labels))].mean()), float(np.array(blocks, dtype=float)[taken].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eestream", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--max-loss", type=float, default=3.0, help="points below full depth on the calibration frames")
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--write", action="store_true", help="put the result into the model's config.json")
    args = parser.parse_args()
    path = args.model / "config.json"
    config = json.loads(path.read_text())
    exits, n_layers = json.loads(config["position_exits"]), config["num_hidden_layers"]
    stream, labels = frames(data.CALIBRATION_SEED, args.count)
    logits = all_logits(args.eestream, args.model, stream, len(exits))
    found, _ = calibrate.calibrate(logits, labels, exits, n_layers, args.max_loss)
    degraded = [min(a, b) for a, b in zip(found, config["threshold"])]
    print(f"degraded_threshold {degraded}")
    stream, labels = frames(data.TEST_SEED, args.count)
    logits = all_logits(args.eestream, args.model, stream, len(exits))
    for name, thresholds in ("full depth", [calibrate.NEVER] * len(exits)), ("thresholds", config["threshold"]), ("degraded", degraded):
        points, depth = measure(logits, labels, thresholds, [*exits, n_layers])
        print(f"{name:10} {points:.2f} % right, {depth:.2f} of {n_layers} blocks, on {args.count} fresh frames")
    if args.write:
        config["degraded_threshold"] = degraded
        write_json(path, config)


if __name__ == "__main__":
    main()
