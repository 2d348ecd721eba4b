# SPDX-License-Identifier: MIT
"""Reference tensors of the trained model for the C tests, in the layout of the numeric fixtures:
inputs.safetensors, expected.safetensors and policies.json.

Four frames that leave at different exits are chosen so that every policy decision has a margin of
at least MIN_MARGIN: correct programs must then agree exactly.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from . import data, files, policies
from .model import EarlyExitViT
from .train import predict

MIN_MARGIN = 0.01
_N_IMAGES, _N_CANDIDATES = 4, 3000


def cases(threshold: list[float]) -> list[dict]:
    """The policy cases: the model's own thresholds, and settings of LGViT."""
    def case(name, policy, official, **parameters):
        return {"id": name, "policy": policy, **parameters,
                "official": {"exit_strategy": policy, "config_threshold": official}}

    n = len(threshold)
    return [
        case("confidence_calibrated", "confidence", threshold, threshold=threshold),
        case("confidence_0.5", "confidence", 0.5, threshold=0.5),
        case("confidence_0.8", "confidence", 0.8, threshold=0.8),
        case("confidence_default", "confidence", None, threshold=0.865),
        case("entropy_0.3", "entropy", 0.3, threshold=0.3),
        case("entropy_default", "entropy", None, threshold=0.6),
        case("patience_2", "patience", [2], patience=2),
        case("patience_3", "patience", [3], patience=3),
        case("patient_and_confident_0.5_x2", "patient_and_confident", [0.5] * n + [2],
             threshold=0.5, patience=2),
    ]


def _decide(case: dict, logits: np.ndarray) -> np.ndarray:
    return policies.decide(case["policy"], logits, case.get("threshold"), case.get("patience"))


def _score(case: dict, answer: np.ndarray) -> np.ndarray:
    """The score LGViT's forward returns with the answer: confidence, entropy, or the class."""
    if case["policy"] == "patience":
        return answer.argmax(axis=-1).astype(np.float32)
    score = policies.confidence if case["policy"] == "confidence" else policies.entropy
    return score(answer).astype(np.float32)


def choose(logits: np.ndarray, all_cases: list[dict]) -> list[int]:
    """Indices of frames which are decided with a margin in every case, spread over the exits taken
    with the model's own thresholds."""
    safe = np.all([policies.margins(c["policy"], logits, c.get("threshold")) >= MIN_MARGIN
                   for c in all_cases], axis=0)
    taken = _decide(all_cases[0], logits)
    chosen: list[int] = []
    rounds = [np.flatnonzero(safe & (taken == k)) for k in range(len(logits))]
    while len(chosen) < _N_IMAGES:
        if not any(len(r) for r in rounds):
            raise ValueError("too few candidate frames with a safe margin")
        # Deepest exits first: they are the rare ones.
        for k in reversed(range(len(rounds))):
            if len(rounds[k]) and len(chosen) < _N_IMAGES:
                chosen.append(int(rounds[k][0]))
                rounds[k] = rounds[k][1:]
    return sorted(chosen)


def _tensors(model: EarlyExitViT, pixels: np.ndarray) -> tuple[dict, np.ndarray]:
    """Everything a forward pass gives; the large tensors for the first frame only."""
    with torch.no_grad():
        out = model.eval()(torch.from_numpy(pixels))
    found = {"embeddings": out.embeddings[:1], "logits": out.logits}
    for i, hidden in enumerate(out.hidden):
        found[f"hidden.{i}"] = hidden[:1]
    for e, (features, logits) in enumerate(zip(out.exit_features, out.exit_logits)):
        found[f"exit.{e}.head_out"] = features[:1]
        found[f"exit.{e}.logits"] = logits
    logits = torch.stack([*out.exit_logits, out.logits]).numpy()
    return {name: np.ascontiguousarray(value.numpy()) for name, value in found.items()}, logits


def write(directory: Path, model: EarlyExitViT, threshold: list[float]) -> None:
    """Choose the frames and write the three files."""
    directory.mkdir(parents=True, exist_ok=True)
    images, _, _ = data.generate(data.REFERENCE_SEED, _N_CANDIDATES)
    all_cases = cases(threshold)
    pixels = data.normalise(images[choose(predict(model, images), all_cases)])
    expected, logits = _tensors(model, pixels)
    c = model.config
    for case in all_cases:
        taken = _decide(case, logits)
        answer = policies.answers(logits, taken)
        results = {
            "exit_index": taken.astype(np.int32),
            "blocks_run": policies.blocks_run(taken, c.exit_blocks, c.n_layers).astype(np.int32),
            "prediction": answer.argmax(axis=-1).astype(np.int32),
            "score": _score(case, answer)}
        expected |= {f"policy.{case['id']}.{name}": value for name, value in results.items()}
        case |= {name: value.tolist() for name, value in results.items()}
        case["score"] = [round(s, 7) for s in case["score"]]
        case["min_margin"] = round(float(
            policies.margins(case["policy"], logits, case.get("threshold")).min()), 5)
    found = {"inputs": {"pixel_values": pixels}, "expected": expected}
    for name, arrays in found.items():
        files.write_tensors(directory / f"{name}.safetensors",
                            {key: torch.from_numpy(value) for key, value in arrays.items()})
    files.write_json(directory / "policies.json", {
        "num_exits": len(c.exit_blocks), "final_exit_index": len(c.exit_blocks),
        "batch": len(pixels),
        "exits": [{"index": k, "block": block - 1, "block_1based": block,
                   "module": f"deit.encoder.highway.{k}", "head": kind}
                  for k, (block, kind) in enumerate(zip(c.exit_blocks, c.head_types))],
        "note": "exit_index counts exits from 0, final_exit_index means the final classifier",
        "cases": all_cases})
