# SPDX-License-Identifier: MIT
"""Canonical tensor names as Hugging Face spells them. Reading any naming is `engine.read`'s: the
engine has the whole table."""

from __future__ import annotations

import re

from torch import Tensor

from .network import Shape

# Canonical -> Hugging Face; `#` is the block.
_VIT = {
    "embed.patch": "embeddings.patch_embeddings.projection",
    "embed.cls": "embeddings.cls_token",
    "embed.dist": "embeddings.distillation_token",
    "embed.pos": "embeddings.position_embeddings",
    "blk.#.norm1": "encoder.layer.#.layernorm_before",
    "blk.#.attn.proj": "encoder.layer.#.attention.output.dense",
    "blk.#.norm2": "encoder.layer.#.layernorm_after",
    "blk.#.mlp.fc1": "encoder.layer.#.intermediate.dense",
    "blk.#.mlp.fc2": "encoder.layer.#.output.dense",
    "norm": "layernorm",
}
_DINOV2 = _VIT | {
    "blk.#.norm1": "encoder.layer.#.norm1",
    "blk.#.ls1": "encoder.layer.#.layer_scale1.lambda1",
    "blk.#.norm2": "encoder.layer.#.norm2",
    "blk.#.ls2": "encoder.layer.#.layer_scale2.lambda1",
    "blk.#.mlp.fc1": "encoder.layer.#.mlp.fc1",
    "blk.#.mlp.fc2": "encoder.layer.#.mlp.fc2",
}
_SWIN = {
    "embed.patch": _VIT["embed.patch"],
    "embed.norm": "embeddings.norm",
    "blk.#.norm1": "encoder.layers.#.layernorm_before",
    "blk.#.attn.proj": "encoder.layers.#.attention.output.dense",
    "blk.#.attn.rel_bias": "encoder.layers.#.attention.self.relative_position_bias_table",
    "blk.#.norm2": "encoder.layers.#.layernorm_after",
    "blk.#.mlp.fc1": "encoder.layers.#.intermediate.dense",
    "blk.#.mlp.fc2": "encoder.layers.#.output.dense",
    "merge.#.norm": "encoder.layers.#.downsample.norm",
    "merge.#.reduce": "encoder.layers.#.downsample.reduction",
    "norm": "layernorm",
}
_TABLES = {"vit": _VIT, "deit": _VIT, "dinov2": _DINOV2, "swin": _SWIN}
_HEADS = {"deit": {"head.cls": "cls_classifier", "head.dist": "distillation_classifier"}}
_QKV = {"swin": "encoder.layers.#.attention.self."}


def _spell(canonical: str, shape: Shape) -> list[str]:
    """Hugging Face's name or, of packed q, k and v, names."""
    base, ending = re.fullmatch(r"(.*?)(\.weight|\.bias)?", canonical).groups(default="")
    heads = _HEADS.get(shape.family, {"head.cls": "classifier"})
    if base in heads:
        return [heads[base] + ending]
    generic, number = base, ""
    if found := re.match(r"(blk|merge)\.(\d+)\.", base):
        generic = f"{found[1]}.#.{base[found.end():]}"
        number = _place(shape, found[1], int(found[2]))
    if generic == "blk.#.attn.qkv":
        start = _QKV.get(shape.family, "encoder.layer.#.attention.attention.")
        names = [start + part for part in ("query", "key", "value")]
    else:
        names = [_TABLES[shape.family][generic]]
    return [f"{shape.family}.{name.replace('#', number)}{ending}" for name in names]


def _place(shape: Shape, part: str, number: int) -> str:
    """What Hugging Face counts: a Swin's blocks within their stages."""
    if shape.family != "swin" or part == "merge":
        return str(number)
    stage = shape.stage_of(number + 1)
    return f"{stage}.blocks.{number - sum(shape.depths[:stage])}"


def to_hf(tensors: dict[str, Tensor], shape: Shape) -> dict[str, Tensor]:
    """A network's tensors under Hugging Face's names; exits keep their canonical ones."""
    found = {}
    for canonical, value in tensors.items():
        names = [canonical] if canonical.startswith("exit.") else _spell(canonical, shape)
        for name, piece in zip(names, value.chunk(len(names))):
            found[name] = piece.contiguous()
    return found
