# SPDX-License-Identifier: MIT
"""Random models as folders that eestream reads, under their Hugging Face names: ViT, DeiT, DINOv2, Swin, and LGViT with its
8 exits.

Weights are scaled so that activations stay of order one. Every peer gets its graph from the folder, so all run the same
numbers.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

LGVIT_HEADS = ["conv1_1"] * 2 + ["conv2_1"] * 2 + ["attention_r2"] * 2 + ["attention_r3"] * 2
LGVIT_BLOCKS = list(range(4, 12))


@dataclass(frozen=True)
class Size:
    width: int
    heads: int
    blocks: int = 12
    patch: int = 16
    image: int = 224
    classes: int = 100

    @property
    def tokens(self):
        return (self.image // self.patch) ** 2 + 1


SIZES = {"vit-ti16": Size(192, 3), "vit-s16": Size(384, 6), "vit-b16": Size(768, 12), "deit-s16": Size(384, 6),
         "dinov2-s14": Size(384, 6, patch=14)}
SWIN_T = {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "window_size": 7}


class Random:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.tensors = {}

    def matrix(self, name, *shape):
        self.tensors[name] = (self.rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    def vector(self, name, *shape, around=0.0):
        self.tensors[name] = (around + 0.1 * self.rng.standard_normal(shape)).astype(np.float32)

    def linear(self, name, *shape, bias=True):
        self.matrix(f"{name}.weight", *shape)
        if bias:
            self.vector(f"{name}.bias", shape[0])

    def norm(self, name, c):
        self.vector(f"{name}.weight", c, around=1)
        self.vector(f"{name}.bias", c)

    def batch_norm(self, name, c):
        self.norm(name, c)
        self.vector(f"{name}.running_mean", c)
        self.tensors[f"{name}.running_var"] = self.rng.uniform(0.5, 1.5, c).astype(np.float32)


def backbone(w, s, prefix):
    c = s.width
    w.vector(f"{prefix}.embeddings.cls_token", 1, 1, c)
    w.vector(f"{prefix}.embeddings.position_embeddings", 1, s.tokens, c)
    w.linear(f"{prefix}.embeddings.patch_embeddings.projection", c, 3, s.patch, s.patch)
    for i in range(s.blocks):
        layer = f"{prefix}.encoder.layer.{i}"
        for name in ("query", "key", "value"):
            w.linear(f"{layer}.attention.attention.{name}", c, c)
        w.linear(f"{layer}.attention.output.dense", c, c)
        w.linear(f"{layer}.intermediate.dense", 4 * c, c)
        w.linear(f"{layer}.output.dense", c, 4 * c)
        w.norm(f"{layer}.layernorm_before", c)
        w.norm(f"{layer}.layernorm_after", c)
    w.norm(f"{prefix}.layernorm", c)
    w.linear("classifier", s.classes, c)


def highway(w, s, name, kind):
    c = s.width
    if kind.startswith("conv"):
        w.linear(f"{name}.mlp.conv1.0", c, c, 1, 1)
        w.batch_norm(f"{name}.mlp.conv1.2", c)
        if kind == "conv1_1":
            w.linear(f"{name}.mlp.proj", c, 1, 3, 3)
            w.batch_norm(f"{name}.mlp.proj_bn", c)
        w.linear(f"{name}.mlp.conv2.0", c, c, 1, 1)
        w.batch_norm(f"{name}.mlp.conv2.1", c)
    else:
        w.linear(f"{name}.mlp.qkv", 3 * c, c, bias=False)
        w.linear(f"{name}.mlp.proj", c, c)
    w.linear(f"{name}.classifier", s.classes, c)


def config(s, **extra):
    return {"hidden_size": s.width, "num_hidden_layers": s.blocks, "num_attention_heads": s.heads,
            "intermediate_size": 4 * s.width, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "image_size": s.image,
            "patch_size": s.patch, "num_channels": 3, "qkv_bias": True,
            "id2label": {str(i): f"class {i}" for i in range(s.classes)}, **extra}


def write(folder, settings, tensors):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings, indent=1))
    save_file(tensors, folder / "model.safetensors")
    return folder


def write_vit(folder, size, seed=1):
    w = Random(seed)
    backbone(w, size, "vit")
    return write(folder, config(size, architectures=["ViTForImageClassification"], model_type="vit"), w.tensors)


def write_deit(folder, size, seed=1):
    """Distilled: a second token and a second classifier."""
    w = Random(seed)
    backbone(w, size, "deit")
    w.vector("deit.embeddings.distillation_token", 1, 1, size.width)
    w.vector("deit.embeddings.position_embeddings", 1, size.tokens + 1, size.width)
    for kind in ("weight", "bias"):
        w.tensors[f"cls_classifier.{kind}"] = w.tensors.pop(f"classifier.{kind}")
    w.linear("distillation_classifier", size.classes, size.width)
    return write(folder, config(size, architectures=["DeiTForImageClassificationWithTeacher"], model_type="deit"), w.tensors)


DINOV2_NAMES = {"layernorm_before": "norm1", "layernorm_after": "norm2", "intermediate.dense": "mlp.fc1"}


def write_dinov2(folder, size, seed=1):
    w = Random(seed)
    backbone(w, size, "dinov2")
    for i in range(size.blocks):
        layer = f"dinov2.encoder.layer.{i}."
        for name in [name for name in w.tensors if name.startswith(layer)]:
            renamed = name.replace(f"{layer}output.dense", f"{layer}mlp.fc2")
            for theirs, ours in DINOV2_NAMES.items():
                renamed = renamed.replace(theirs, ours)
            w.tensors[renamed] = w.tensors.pop(name)
        for half in ("layer_scale1", "layer_scale2"):
            w.vector(f"{layer}{half}.lambda1", size.width, around=1)
    w.linear("classifier", size.classes, 2 * size.width)
    settings = config(size, architectures=["Dinov2ForImageClassification"], model_type="dinov2", mlp_ratio=4)
    return write(folder, settings | {"layer_norm_eps": 1e-6}, w.tensors)


def write_swin(folder, s=SWIN_T, classes=100, seed=1):
    w = Random(seed)
    c = s["embed_dim"]
    w.linear("swin.embeddings.patch_embeddings.projection", c, 3, 4, 4)
    w.norm("swin.embeddings.norm", c)
    for stage, (depth, heads) in enumerate(zip(s["depths"], s["num_heads"], strict=True)):
        layer = f"swin.encoder.layers.{stage}."
        for b in range(depth):
            block = f"{layer}blocks.{b}."
            w.vector(f"{block}attention.self.relative_position_bias_table", (2 * s["window_size"] - 1) ** 2, heads)
            for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
                w.linear(block + name, c, c)
            w.linear(f"{block}intermediate.dense", 4 * c, c)
            w.linear(f"{block}output.dense", c, 4 * c)
            w.norm(f"{block}layernorm_before", c)
            w.norm(f"{block}layernorm_after", c)
        if stage + 1 < len(s["depths"]):
            w.norm(f"{layer}downsample.norm", 4 * c)
            w.linear(f"{layer}downsample.reduction", 2 * c, 4 * c, bias=False)
            c *= 2
    w.norm("swin.layernorm", c)
    w.linear("classifier", classes, c)
    labels = {str(i): f"class {i}" for i in range(classes)}
    return write(folder, {"architectures": ["SwinForImageClassification"], "model_type": "swin", "image_size": 224, "patch_size": 4,
                          "mlp_ratio": 4.0, "layer_norm_eps": 1e-5, "hidden_act": "gelu", "id2label": labels, **s}, w.tensors)


def write_lgvit(folder, size, seed=1):
    w = Random(seed)
    backbone(w, size, "deit")
    for k, kind in enumerate(LGVIT_HEADS):
        highway(w, size, f"deit.encoder.highway.{k}", kind)
    return write(folder, config(size, architectures=["DeiTHighwayForImageClassification"], model_type="deit", backbone="ViT",
                                highway_type="LGViT", num_early_exits=len(LGVIT_HEADS), position_exits=str(LGVIT_BLOCKS),
                                exit_strategy="confidence", threshold=0.8), w.tensors)


WRITERS = {"vit": write_vit, "deit": write_deit, "dinov2": write_dinov2}


def write_plain(folder, arch):
    if arch == "swin-t":
        return write_swin(folder)
    return WRITERS[arch.split("-")[0]](folder, SIZES[arch])
