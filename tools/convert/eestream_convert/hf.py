# SPDX-License-Identifier: MIT
"""Writing a recognised network down as Hugging Face would: config.json and tensor names.

A ViT with layer scale, registers, a gated MLP or a classifier of the patches' mean is a DINOv2 there. Its classifier
reads [class ; mean of patches], so one that reads only half of that gets zeros for the other half: the same sums.
"""

import numpy as np

from .errors import ConvertError
from .vit import Model

NAMES = {
    "embed.patch": "{p}.embeddings.patch_embeddings.projection",
    "embed.cls": "{p}.embeddings.cls_token",
    "embed.dist": "{p}.embeddings.distillation_token",
    "embed.reg": "{p}.embeddings.register_tokens",
    "embed.pos": "{p}.embeddings.position_embeddings",
    "norm1": "{p}.encoder.layer.{i}.layernorm_before",
    "norm2": "{p}.encoder.layer.{i}.layernorm_after",
    "attn.proj": "{p}.encoder.layer.{i}.attention.output.dense",
    "mlp.fc1": "{p}.encoder.layer.{i}.intermediate.dense",
    "mlp.fc2": "{p}.encoder.layer.{i}.output.dense",
    "norm": "{p}.layernorm",
    "head.cls": "classifier",
    "head.dist": "distillation_classifier",
}
NAMES_DINOV2 = NAMES | {
    "norm1": "{p}.encoder.layer.{i}.norm1",
    "norm2": "{p}.encoder.layer.{i}.norm2",
    "mlp.fc1": "{p}.encoder.layer.{i}.mlp.fc1",
    "mlp.fc2": "{p}.encoder.layer.{i}.mlp.fc2",
    "mlp.w12": "{p}.encoder.layer.{i}.mlp.weights_in",
    "mlp.w3": "{p}.encoder.layer.{i}.mlp.weights_out",
    "ls1": "{p}.encoder.layer.{i}.layer_scale1.lambda1",
    "ls2": "{p}.encoder.layer.{i}.layer_scale2.lambda1",
}
QKV = "{p}.encoder.layer.{i}.attention.attention."
ENDINGS = (".weight", ".bias")


def model_type(model: Model) -> tuple[str, str]:
    """(model_type, architecture)"""
    has_scale = "blk.0.ls1" in model.tensors
    dinov2 = has_scale or model.n_registers or model.activation == "silu_gate" or model.pool in ("mean", "class_mean")
    if dinov2 and model.has_dist:
        raise ConvertError("a distillation token beside DINOv2's layer scale, registers, gate or pooling is not known")
    if dinov2:
        return ("dinov2_with_registers", "Dinov2WithRegistersForImageClassification") if model.n_registers else \
            ("dinov2", "Dinov2ForImageClassification")
    if model.pool == "class_dist":
        return "deit", "DeiTForImageClassificationWithTeacher"
    if model.has_dist:
        return "deit", "DeiTForImageClassification"
    return "vit", "ViTForImageClassification"


def config(model: Model, labels: list[str]) -> dict:
    kind, architecture = model_type(model)
    height, width = model.image
    result = {
        "architectures": [architecture],
        "model_type": kind,
        "hidden_size": model.width,
        "num_hidden_layers": model.n_blocks,
        "num_attention_heads": model.n_heads,
        "hidden_act": {"gelu_tanh": "gelu_pytorch_tanh", "silu_gate": "gelu"}.get(model.activation, model.activation),
        "layer_norm_eps": model.eps,
        "image_size": height if height == width else [height, width],
        "patch_size": model.patch,
        "num_channels": 3,
        "qkv_bias": model.qkv_bias,
        "id2label": {str(i): label for i, label in enumerate(labels)},
    }
    if not kind.startswith("dinov2"):
        return result | {"intermediate_size": model.mlp_width}
    result |= {"mlp_ratio": mlp_ratio(model), "use_swiglu_ffn": model.activation == "silu_gate", "layerscale_value": 1.0}
    return result | ({"num_register_tokens": model.n_registers} if model.n_registers else {})


def mlp_ratio(model: Model) -> float:
    """The width a gated MLP gets is two thirds, rounded up to a multiple of 8."""
    if model.activation != "silu_gate":
        return model.mlp_width / model.width
    ratio = model.mlp_width * 1.5 / model.width
    if (int(int(model.width * ratio) * 2 / 3) + 7) // 8 * 8 != model.mlp_width:
        raise ConvertError(f"a gated MLP is {model.mlp_width} wide, expected a multiple of 8")
    return ratio


def tensors(model: Model) -> dict:
    kind, _ = model_type(model)
    names = NAMES_DINOV2 if kind.startswith("dinov2") else NAMES
    if model.pool == "class_dist":
        names = names | {"head.cls": "cls_classifier"}
    source = dict(model.tensors)
    if kind.startswith("dinov2"):
        complete_dinov2(model, source)
    result = {}
    for canonical, value in source.items():
        result.update(spell(canonical, value, kind, names))
    return result


def complete_dinov2(model: Model, source: dict) -> None:
    ones = np.ones(model.width, np.float32)
    for i in range(model.n_blocks):
        source.setdefault(f"blk.{i}.ls1", ones)
        source.setdefault(f"blk.{i}.ls2", ones)
    head = source["head.cls.weight"]
    if model.pool != "class_mean":
        zeros = np.zeros_like(head)
        source["head.cls.weight"] = np.concatenate([head, zeros] if model.pool == "class" else [zeros, head], axis=1)


def spell(canonical: str, value, prefix: str, names: dict) -> dict:
    """Hugging Face's name or names of one tensor. Those of exits stay canonical."""
    if canonical.startswith("exit."):
        return {canonical: value}
    ending = next((text for text in ENDINGS if canonical.endswith(text)), "")
    base = canonical.removesuffix(ending)
    i, key = "", base
    if base.startswith("blk."):
        _, i, key = base.split(".", 2)
    if key == "attn.qkv":
        return {QKV.format(p=prefix, i=i) + part + ending: array
                for part, array in zip(("query", "key", "value"), value, strict=True)}
    return {names[key].format(p=prefix, i=i) + ending: value}


def preprocessor(model: Model, mean: list[float], std: list[float]) -> dict:
    """What the graph does not tell: the shorter side to the input's, its centre, these mean and standard deviation."""
    height, width = model.image
    return {
        "do_resize": True,
        "size": {"shortest_edge": max(height, width)},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": mean,
        "image_std": std,
    }
