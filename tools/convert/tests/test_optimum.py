# SPDX-License-Identifier: MIT
"""Exports of Hugging Face's optimum, whose pictures have open sides, imported: the folder's logits are the model's. Needs the
extra "optimum", which asks for an older transformers than the other tests and so for an environment of its own."""

import json

import numpy as np
import pytest
import support

torch = pytest.importorskip("torch")
optimum = pytest.importorskip("optimum.exporters.onnx", reason="optimum is not installed: pip install -e '.[test,optimum]'")
import transformers  # noqa: E402

from eestream_convert import onnx_import  # noqa: E402
from eestream_convert.errors import ConvertError  # noqa: E402

pytestmark = pytest.mark.torch

VIT = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=80, image_size=40, patch_size=8,
           num_labels=7)
MODELS = {
    "ViT": VIT,
    "DeiT": VIT,
    "Dinov2": dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, mlp_ratio=3, image_size=42, patch_size=14,
                   num_labels=5),
    "Swin": dict(embed_dim=16, depths=[2, 2], num_heads=[2, 4], patch_size=4, num_labels=7, image_size=48, window_size=3),
}


@torch.no_grad()
def make(name: str):
    model = getattr(transformers, f"{name}ForImageClassification")(getattr(transformers, f"{name}Config")(**MODELS[name]))
    draw = torch.Generator().manual_seed(1)
    for parameter, value in model.named_parameters():
        is_gain = parameter.endswith("weight") and value.ndim == 1
        value.copy_(torch.randn(value.shape, generator=draw) * 0.2 + (1 if is_gain else 0))
    return model.eval()


def export(model, folder):
    model.save_pretrained(folder / "model")
    side = model.config.image_size
    (folder / "model/preprocessor_config.json").write_text(json.dumps({"image_processor_type": "ViTImageProcessor",
                                                                       "size": {"height": side, "width": side}}))
    optimum.main_export(str(folder / "model"), folder / "onnx", task="image-classification", do_validation=False)
    return folder / "onnx/model.onnx"


@pytest.mark.parametrize("name", MODELS)
def test_exports_are_read(name, tmp_path):
    model = make(name)
    path, side = export(model, tmp_path), model.config.image_size
    pixels = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits = model(pixels).logits.numpy()
    assert logits.std(0).min() > 1e-3  # the picture matters
    found = onnx_import.import_onnx(path, image_size=(side, side))
    onnx_import.write(found, tmp_path / "out", [f"c{i}" for i in range(logits.shape[1])], [0.5] * 3, [0.5] * 3)
    support.verify(tmp_path / "out", pixels.numpy(), {"logits": np.ascontiguousarray(logits)}, tmp_path)


def test_open_sides_are_asked_for(tmp_path):
    with pytest.raises(ConvertError, match="no fixed size: give --image-size"):
        onnx_import.import_onnx(export(make("ViT"), tmp_path))
