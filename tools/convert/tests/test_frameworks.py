# SPDX-License-Identifier: MIT
"""Exports of PyTorch models, by both exporters, imported: the folder's logits are the model's. Random weights, odd shapes."""

import json
import logging
import warnings

import numpy as np
import pytest
import support
from safetensors.numpy import load_file
from test_import import import_to

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

EXPORTERS = {
    "script14": {"dynamo": False, "opset_version": 14},
    "script17": {"dynamo": False, "opset_version": 17},
    "dynamo18": {"dynamo": True, "opset_version": 18},
    "dynamo23": {"dynamo": True, "opset_version": 23},
}
VIT = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 80, "image_size": 40,
       "patch_size": 8, "num_labels": 7}
DINO = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "mlp_ratio": 3, "image_size": 42, "patch_size": 14,
        "num_labels": 5}
TIMM = {"img_size": 40, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3, "num_classes": 7}


def hf(name: str, **config):
    import transformers

    return getattr(transformers, f"{name}ForImageClassification")(
        getattr(transformers, f"{name}Config")(**config))


def distilled(**config):
    import transformers

    return transformers.DeiTForImageClassificationWithTeacher(transformers.DeiTConfig(**config))


def timm_vit(**config):
    import timm

    return timm.models.VisionTransformer(**TIMM | config)


def timm_distilled():
    import timm

    return timm.models.deit.VisionTransformerDistilled(**TIMM)


def timm_swin():
    import timm

    return timm.models.SwinTransformer(img_size=48, embed_dim=16, depths=(2, 2), num_heads=(2, 4), window_size=3, num_classes=7)


def torchvision_vit():
    import torchvision

    return torchvision.models.VisionTransformer(image_size=40, patch_size=8, num_layers=3, num_heads=3, hidden_dim=48, mlp_dim=80,
                                                num_classes=7)


def torchvision_swin():
    import torchvision

    return torchvision.models.SwinTransformer([4, 4], 16, [2, 2], [2, 4], [3, 3], num_classes=7)


SWIN = {"embed_dim": 16, "depths": [2, 3], "num_heads": [2, 4], "patch_size": 4, "num_labels": 7, "attn_implementation": "eager"}
MODELS = {
    "hf vit": (lambda: hf("ViT", **VIT), (40, 40)),
    "hf vit, eager, no bias, tanh": (lambda: hf("ViT", **VIT, attn_implementation="eager", qkv_bias=False,
                                                hidden_act="gelu_pytorch_tanh"), (40, 40)),
    "hf deit": (lambda: hf("DeiT", **VIT), (40, 40)),
    "hf deit, distilled": (lambda: distilled(**VIT), (40, 40)),
    "hf dinov2": (lambda: hf("Dinov2", **DINO), (42, 42)),
    "hf dinov2, other input": (lambda: hf("Dinov2", **DINO), (56, 28)),
    "hf dinov2, registers and gate": (lambda: hf("Dinov2WithRegisters", **DINO, use_swiglu_ffn=True), (42, 42)),
    "hf swin": (lambda: hf("Swin", **SWIN, window_size=3, image_size=48), (48, 48)),
    "hf swin, padded": (lambda: hf("Swin", **SWIN, window_size=4, image_size=36), (36, 36)),
    "timm vit": (timm_vit, (40, 40)),
    "timm vit, mean": (lambda: timm_vit(global_pool="avg", fc_norm=False), (40, 40)),
    "timm vit, layer scale and registers": (lambda: timm_vit(img_size=(40, 24), init_values=1e-2, reg_tokens=3,
                                                             no_embed_class=True), (40, 24)),
    "timm deit, distilled": (timm_distilled, (40, 40)),
    "timm swin": (timm_swin, (48, 48)),
    "torchvision vit": (torchvision_vit, (40, 40)),
    "torchvision swin": (torchvision_swin, (48, 48)),
}
# what PyTorch itself can't export: antialiased resampling of positions by TorchScript
NOT_EXPORTED = {("hf dinov2, registers and gate", "script14"), ("hf dinov2, registers and gate", "script17")}


class Logits(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        result = self.model(x)
        return result if isinstance(result, torch.Tensor) else result.logits


def randomise(model):
    """No weight is at its initial value; norms stay near 1, so that logits spread."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        is_gain = name.endswith("weight") and parameter.ndim == 1
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2 + (1 if is_gain else 0))
    return Logits(model).eval()


def export(model, x, path, **options):
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (x,), str(path), verbose=False, **options)


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", MODELS)
def test_exports_are_read(name, exporter, tmp_path):
    if (name, exporter) in NOT_EXPORTED:
        pytest.xfail("PyTorch can't export this")
    make, size = MODELS[name]
    torch.manual_seed(0)
    model, pixels = randomise(make()), torch.randn(3, 3, *size)
    with torch.no_grad():
        logits = model(pixels).numpy()
    assert logits.std(0).min() > 1e-3  # the picture matters
    export(model, pixels[:1], tmp_path / "m.onnx", **EXPORTERS[exporter])
    import_to(tmp_path / "m.onnx", tmp_path / "out", logits.shape[1])
    support.verify(tmp_path / "out", pixels.numpy(), {"logits": logits}, tmp_path)


def test_a_dynamic_batch_is_one(tmp_path):
    model, pixels = randomise(timm_vit()), torch.randn(1, 3, 40, 40)
    export(model, pixels, tmp_path / "m.onnx", dynamo=False, opset_version=17, input_names=["x"],
           dynamic_axes={"x": {0: "batch"}})
    import_to(tmp_path / "m.onnx", tmp_path / "out", 7)
    support.verify(tmp_path / "out", pixels.numpy(), {"logits": model(pixels).detach().numpy()}, tmp_path)


@pytest.mark.parametrize("threshold", [0.5, 0.9])
def test_a_chain_of_ifs_is_read(threshold, tmp_path):
    """EEVIT's control flow with the reference weights: exits, thresholds and every logit come back."""
    from eevit import EEVIT

    folder = support.SHARED / "fixtures/eevit_8exits"
    if not folder.exists():
        pytest.skip(f"no reference data in {support.SHARED}")
    weights = {name: torch.from_numpy(array) for name, array in load_file(folder / "model.safetensors").items()}
    config = json.loads((folder / "config.json").read_text())["model"]
    pixels, expected = load_file(folder / "inputs.safetensors")["pixel_values"], load_file(folder / "expected.safetensors")
    model = EEVIT(weights, config, threshold).eval()
    export(model, torch.from_numpy(pixels[:1]), tmp_path / "m.onnx", dynamo=True)
    found = import_to(tmp_path / "m.onnx", tmp_path / "out", 10)
    assert [exit["after_block"] for exit in found.exits] == [entry[0] + 1 for entry in config["early_exit_config"]["exits"]]
    assert found.policy == {"name": "confidence", "thresholds": [threshold] * 8}
    names = ["logits"] + [f"exit.{k}.logits" for k in range(8)]
    support.verify(tmp_path / "out", pixels, {name: expected[name] for name in names}, tmp_path)
    (row,) = support.run_images(tmp_path / "m.onnx", pixels)
    assert np.abs(row - expected[f"policy.confidence_{threshold}.output"]).max() < 1e-5
