# SPDX-License-Identifier: MIT
"""Every exit head and every layout of a Swin, on small random models: what ONNX Runtime makes of the exported graphs is
what the engine computes."""

import numpy as np
import onnx
import pytest
import random_folders
import support
from random_folders import HF_SWIN, TIMM_SWIN, TIMM_SWIN_OLD

from eestream_convert.head_graphs import HEADS
from eestream_convert.onnx_export import export_onnx

NUMBERED = {"attention_r": ["attention_r1", "attention_r2", "attention_r3"]}
ALL_HEADS = [name for head in HEADS for name in NUMBERED.get(head, [head])]
SWIN_HEADS = ["conv1_1", "conv2_1", "conv_normal", "attention_r1", "attention_r2", "self_attention", "linear", "vit"]


def check(directory, tmp_path, size, n_images: int = 2) -> None:
    """`all-exits` against the engine, then `nested`, made to leave at each exit in turn, against `all-exits`."""
    pixels = np.random.default_rng(5).normal(0, 1, (n_images, 3, *size)).astype(np.float32)
    info = export_onnx(directory, tmp_path / "all.onnx", "all-exits", batch=n_images)
    onnx.checker.check_model(str(tmp_path / "all.onnx"), full_check=True)
    n = len(info["exits"])
    names = [f"exit.{k}" for k in range(n)] + ["logits"]
    answers = support.session(tmp_path / "all.onnx").run(names, {"image": pixels})
    expected = {name if name == "logits" else f"{name}.logits": array for name, array in zip(names, answers)}
    assert f"verify: {n + 1} tensors" in support.verify(directory, pixels, expected, tmp_path)
    export_onnx(directory, tmp_path / "nested.onnx", "nested")
    onnx.checker.check_model(str(tmp_path / "nested.onnx"), full_check=True)
    nested = support.session(tmp_path / "nested.onnx")
    for k in range(n + 1 if n else 0):
        threshold = np.float32([1] * k + [0] * (n - k))
        logits, taken = nested.run(["logits", "exit"], {"image": pixels[:1], "threshold": threshold})
        assert taken == [k]
        assert np.abs(logits - answers[k][:1]).max() < 1e-5, info["exits"][k] if k < n else "final"


@pytest.mark.parametrize("kind", random_folders.VIT_CLASSES)
def test_every_head(kind, tmp_path):
    """On a grid of 5 x 7."""
    directory = random_folders.write_vit(tmp_path / "model", kind, ALL_HEADS, len(ALL_HEADS) + 1)
    check(directory, tmp_path, (20, 28))


@pytest.mark.parametrize("n_registers", [0, 2])
def test_every_head_without_a_class_token(n_registers, tmp_path):
    """And norms in front, of queries and of keys."""
    directory = random_folders.write_timm(tmp_path / "model", SWIN_HEADS, n_registers, len(SWIN_HEADS) + 1)
    check(directory, tmp_path, (20, 28))


def test_a_pooler_in_front_of_the_classifier(tmp_path):
    check(random_folders.write_torchvision(tmp_path / "model"), tmp_path, (20, 20))


def test_every_head_of_a_swin(tmp_path):
    """Windows of 3 on grids of 9 x 7 and 5 x 4: padded, shifted, and odd in front of the merge."""
    directory = random_folders.write_swin(tmp_path / "model", HF_SWIN, SWIN_HEADS + SWIN_HEADS[::-1], [9, 8], (18, 14))
    check(directory, tmp_path, (18, 14))


@pytest.mark.parametrize("names", [HF_SWIN, TIMM_SWIN, TIMM_SWIN_OLD], ids=["hf", "timm", "timm-old"])
@pytest.mark.parametrize("size", [(12, 24), (18, 14)], ids=["one side is a window", "padded"])
def test_windows(names, size, tmp_path):
    """Grids of 3 x 6 and of 5 x 4 in the second stage."""
    check(random_folders.write_swin(tmp_path / "model", names, [], [2, 2], size), tmp_path, size)


def test_a_rim_that_fills_no_patch(tmp_path):
    size = (17, 14)
    check(random_folders.write_swin(tmp_path / "model", HF_SWIN, [], [2, 2], size), tmp_path, size)
