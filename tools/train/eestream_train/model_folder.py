# SPDX-License-Identifier: MIT
"""Writes a trained network as a folder that the engine reads, and lets the engine check it."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from . import engine, names, views
from .backbones import build
from .files import write_json, write_tensors
from .network import Network, Shape
from .sets import Pictures

_ARCHITECTURE = {"vit": "ViTForImageClassification",
                 "deit": "DeiTForImageClassificationWithTeacher",
                 "dinov2": "Dinov2ForImageClassification",
                 "swin": "SwinForImageClassification"}


def config(shape: Shape, class_names: tuple[str, ...], thresholds: list[float] | float) -> dict:
    """`config.json`: Hugging Face's keys, and the exits."""
    found = {
        "architectures": [_ARCHITECTURE[shape.family]],
        "model_type": shape.family,
        "hidden_act": "gelu",
        "layer_norm_eps": shape.norm_eps,
        "image_size": shape.image_size,
        "patch_size": shape.patch_size,
        "num_channels": 3,
        "qkv_bias": True,
        "id2label": {str(i): name for i, name in enumerate(class_names)},
        **_sizes(shape),
    }
    if shape.exits:
        found["early_exits"] = {
            "exits": [{"after_block": block, "head": head} for block, head in shape.exits],
            "policy": {"name": "confidence", "thresholds": thresholds}}
    return found


def _sizes(shape: Shape) -> dict:
    """The keys that families spell in their own way."""
    ratio = shape.mlp_size / shape.hidden_size
    if shape.family == "swin":
        return {"embed_dim": shape.hidden_size, "depths": list(shape.depths), "mlp_ratio": ratio,
                "num_heads": [shape.n_heads << s for s in range(len(shape.depths))],
                "window_size": shape.window, "use_absolute_embeddings": False}
    found = {"hidden_size": shape.hidden_size, "num_hidden_layers": shape.n_layers,
             "num_attention_heads": shape.n_heads}
    if shape.family == "dinov2":
        return found | {"mlp_ratio": ratio, "use_swiglu_ffn": False}
    return found | {"intermediate_size": shape.mlp_size}


def preprocessor(size: int) -> dict:
    """Shorter side to the input's, bilinear, centre crop, ImageNet's mean and deviation: what
    `views.plain` does."""
    return {
        "do_resize": True, "size": {"shortest_edge": size},
        "resample": int(Image.Resampling.BILINEAR),
        "do_center_crop": True, "crop_size": {"height": size, "width": size},
        "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": views.MEAN.flatten().tolist(), "image_std": views.STD.flatten().tolist(),
    }


def write(folder: Path, network: Network, class_names: tuple[str, ...],
          thresholds: list[float] | float) -> None:
    """Config, preprocessing and weights, F32."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config(network.shape, class_names, thresholds))
    write_json(folder / "preprocessor_config.json", preprocessor(network.shape.image_size))
    tensors = {name: value for name, value in network.state_dict().items()
               if not name.endswith("num_batches_tracked")}
    write_tensors(folder / "model.safetensors", names.to_hf(tensors, network.shape),
                  {"format": "pt"})


@torch.no_grad()
def check(folder: Path, network: Network, pictures: Pictures) -> str:
    """Let the engine compare itself with PyTorch on four pictures: the state after every block and
    every logit. The reference tensors stay beside the folder's weights. @return its report"""
    pixels = views.plain(pictures.take(4).images, network.shape.image_size)
    out = network.eval()(pixels)
    expected = {"embeddings": out.embeddings, "logits": out.logits}
    expected |= {f"hidden.{i}": x for i, x in enumerate(out.hidden)}
    expected |= {f"exit.{k}.logits": z for k, z in enumerate(out.exit_logits)}
    reference = folder / "reference"
    reference.mkdir(exist_ok=True)
    write_tensors(reference / "inputs.safetensors", {"pixel_values": pixels})
    write_tensors(reference / "expected.safetensors", expected)
    return engine.verify(folder, reference / "inputs.safetensors",
                         reference / "expected.safetensors")


def read(folder: Path) -> Network:
    """A folder as a network, in eval mode."""
    sizes, tensors = engine.read(folder)
    with torch.random.fork_rng():
        network = build(Shape(**sizes))
    counters = {k: v for k, v in network.state_dict().items() if k.endswith("num_batches_tracked")}
    network.load_state_dict(counters | tensors)
    return network.eval()
