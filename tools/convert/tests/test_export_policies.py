# SPDX-License-Identifier: MIT
"""Every policy that one frame decides, written as nested If: ONNX Runtime leaves where the engine leaves, with its class."""

import json
import subprocess

import numpy as np
import onnx
import pytest
import random_folders
import support
from safetensors.numpy import load_file

from eestream_convert.errors import ConvertError
from eestream_convert.onnx_export import export_onnx
from eestream_convert.policies import COMBINE, DECIDE

SIZE, N_FRAMES = (16, 12), 24
HEADS = ["conv1_1", "attention_r1", "linear", "self_attention", "dummy_mlp"]
N = len(HEADS)
COUNTS = [("patience", 2), ("patience", 3), ("patience_pabee", 1), ("patience_pabee", 2), ("vote", 2), ("vote", 3)]
SCORES = [("confidence", {}), ("entropy", {}), ("entropy_norm", {}), ("margin", {}), ("sdn", {}), ("sdn_most_confident", {}),
          ("gate", {}), ("patient_and_confident", dict(patience=2)), ("pcee", dict(patience=2)),
          ("pcee_mean", dict(patience=2)), ("pcee_mean", dict(patience=3)), ("ensemble", {}), ("ensemble_additive", {}),
          ("ensemble_mean", {}), ("ensemble_mean", dict(exit_weights="1,2,0.5,1,3,1"))]
CASES = [(policy, dict(patience=n)) for policy, n in COUNTS] + SCORES


def make_folder(directory, learned: bool):
    """An exit behind each block. `learned`: with a gate and an ensemble's weights."""
    random_folders.write_vit(directory, "vit", HEADS, N + 1, size=SIZE)
    tensors, rng = load_file(directory / "model.safetensors"), np.random.default_rng(4)
    k, c = tensors["classifier.weight"].shape
    for name in tensors:
        if name.endswith("head.cls.weight"):
            tensors[name] *= 2  # confidences far apart
    if learned:
        tensors |= {"gate.weight": rng.normal(0, 0.5, (1, c)), "gate.bias": rng.normal(0, 0.2, 1),
                    "ensemble.weight": rng.normal(0, 0.5, (N + 1, N + 1)), "ensemble.bias": rng.normal(-1, 0.5, (N + 1, k))}
    support.write_arrays(directory / "model.safetensors", {name: np.float32(value) for name, value in tensors.items()})
    return directory


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "learned"])
def model(request, tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("policies") / "model", request.param), request.param


def run_engine(directory, frames: np.ndarray, policy: str, options: dict) -> list[dict]:
    args = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    done = subprocess.run([support.COMMAND, "run", "-", "--raw", f"rgb24:{SIZE[1]}x{SIZE[0]}", "--model", directory,
                           "--policy", policy, *args, "--plan", "replicas", "-q", "-o", "-"],
                          input=frames.tobytes(), capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Pictures of one colour under noise: nets of random weights tell them apart."""
    rng = np.random.default_rng(6)
    colours, noise = rng.integers(0, 256, (N_FRAMES, 1, 1, 3)), rng.normal(0, 40, (N_FRAMES, *SIZE, 3))
    return np.clip(colours + noise, 0, 255).astype(np.uint8)


def run_graph(path, frames: np.ndarray, names: list[str], options: dict) -> list[np.ndarray]:
    """Where the graph takes thresholds, under those of several that tell frames apart best, which options then has."""
    pixels = ((np.float32(frames) / 255 - 0.5) / 0.5).transpose(0, 3, 1, 2)
    if not any(entry.name == "threshold" for entry in support.session(path).get_overridable_initializers()):
        return support.run_images(path, pixels, names)
    found = []
    runner, rng = support.session(path), np.random.default_rng(7)
    for thresholds in rng.uniform(0, 1.3, (16, N)).astype(np.float32):
        rows = [runner.run(names, {"image": pixels[i:i + 1], "threshold": thresholds}) for i in range(len(pixels))]
        results = [np.concatenate(columns) for columns in zip(*rows)]
        found.append((len(set(results[1])), thresholds, results))
    _, thresholds, results = max(found, key=lambda entry: entry[0])
    options["threshold"] = ",".join(map(repr, map(float, thresholds)))
    return results


@pytest.mark.parametrize("policy,options", CASES, ids=str)
def test_decisions_are_the_engines(policy, options, model, frames, tmp_path):
    (directory, learned), options = model, dict(options)
    if not learned and policy in ("gate", "ensemble_additive"):
        with pytest.raises(ConvertError, match=policy):
            export_onnx(directory, tmp_path / "x.onnx", "nested", policy=policy, **options)
        return
    path = tmp_path / "nested.onnx"
    export_onnx(directory, path, "nested", policy=policy, **options)
    onnx.checker.check_model(str(path), full_check=True)
    names = ["logits", "exit"] + (["class"] if policy in COMBINE else [])
    logits, exits, *rest = run_graph(path, frames, names, options)
    lines = run_engine(directory, frames, policy, options)
    assert exits.tolist() == [line["exit"] for line in lines]
    assert (rest[0] if rest else logits.argmax(1)).tolist() == [line["class"] for line in lines]
    assert len(set(exits)) > 1, "the case says little"


def test_every_policy_of_a_frame_is_there():
    assert {policy for policy, _ in CASES} == set(DECIDE)


def test_full_depth_needs_no_if(tmp_path):
    directory = make_folder(tmp_path / "model", False)
    export_onnx(directory, tmp_path / "none.onnx", "nested", policy="none")
    assert not any(node.op_type == "If" for node in onnx.load(tmp_path / "none.onnx").graph.node)
    pixels = np.zeros((2, 3, *SIZE), np.float32)
    assert support.run_images(tmp_path / "none.onnx", pixels, ["exit"])[0].tolist() == [N, N]


def test_earlier_frames_are_not_in_a_graph(tmp_path):
    directory = make_folder(tmp_path / "model", False)
    with pytest.raises(ConvertError, match="'temporal' compares frames with earlier ones"):
        export_onnx(directory, tmp_path / "x.onnx", "nested", policy="temporal")
