# SPDX-License-Identifier: MIT
"""Canonical tensor names as Hugging Face spells them. Reading any naming is `engine.read`'s: the
engine has the whole table."""

from __future__ import annotations

import re

from torch import Tensor

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
_HEADS = {"deit": {"head.cls": "cls_classifier", "head.dist": "distillation_classifier"}}
_QKV = "encoder.layer.#.attention.attention."


def _spell(canonical: str, family: str) -> list[str]:
    """Hugging Face's name or, of packed q, k and v, names."""
    base, ending = re.fullmatch(r"(.*?)(\.weight|\.bias)?", canonical).groups(default="")
    heads = _HEADS.get(family, {"head.cls": "classifier"})
    if base in heads:
        return [heads[base] + ending]
    block = re.match(r"blk\.(\d+)\.", base)
    number = block.group(1) if block else ""
    generic = re.sub(r"^blk\.\d+\.", "blk.#.", base)
    if generic == "blk.#.attn.qkv":
        names = [_QKV + part for part in ("query", "key", "value")]
    else:
        names = [(_DINOV2 if family == "dinov2" else _VIT)[generic]]
    return [f"{family}.{name.replace('#', number)}{ending}" for name in names]


def to_hf(tensors: dict[str, Tensor], family: str) -> dict[str, Tensor]:
    """A network's tensors under Hugging Face's names; exits keep their canonical ones."""
    found = {}
    for canonical, value in tensors.items():
        names = [canonical] if canonical.startswith("exit.") else _spell(canonical, family)
        for name, piece in zip(names, value.chunk(len(names))):
            found[name] = piece.contiguous()
    return found
