# SPDX-License-Identifier: MIT
"""Running what was converted: the `eestream` command, ONNX Runtime, and files for `eestream verify`."""

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from eestream_convert import folder

ROOT = Path(__file__).resolve().parents[3]
EESTREAM = os.environ.get("EESTREAM", str(ROOT / "build/release/tools/eestream"))
SHARED = ROOT.parent / "shared" / "data"


def eestream(*args) -> subprocess.CompletedProcess:
    return subprocess.run([EESTREAM, *map(str, args)], capture_output=True, text=True, timeout=300)


def session(model: Path | bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model if isinstance(model, bytes) else str(model), options,
                                        providers=["CPUExecutionProvider"])


def with_outputs(path: Path, names: list[str]) -> bytes:
    """The model with inner tensors as its only outputs."""
    model = onnx.load(path)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return model.SerializeToString()


def run_images(model: Path | bytes, pixels: np.ndarray, names: list[str] | None = None, **feeds) -> list[np.ndarray]:
    """One image at a time; results stacked."""
    runner = session(model)
    image = next(entry.name for entry in runner.get_inputs() if len(entry.shape) == 4)
    rows = [runner.run(names, {image: pixels[i:i + 1], **feeds}) for i in range(len(pixels))]
    return [np.concatenate(columns) for columns in zip(*rows)]


def verify(model_dir: Path, pixels: np.ndarray, expected: dict[str, np.ndarray], tmp: Path) -> str:
    """`eestream verify` against these numbers; fails with what it printed."""
    folder.write_tensors(tmp / "inputs.safetensors", {"pixel_values": pixels})
    folder.write_tensors(tmp / "expected.safetensors", expected)
    done = eestream("verify", model_dir, "--inputs", tmp / "inputs.safetensors", "--expected", tmp / "expected.safetensors")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
