# SPDX-License-Identifier: MIT
"""Tensor names of other frameworks, to and from the canonical ones.

A row of _TABLE is a canonical name and what a naming calls it; `#` is an index, `{a,b,c}` stacked
tensors, `@` the family's prefix. The engine's own table is `stages/names.c`; this one holds what is
trained here.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

_HF = {
    "embed.patch": "@.embeddings.patch_embeddings.projection",
    "embed.cls": "@.embeddings.cls_token",
    "embed.dist": "@.embeddings.distillation_token",
    "embed.pos": "@.embeddings.position_embeddings",
    "blk.#.norm1": "@.encoder.layer.#.layernorm_before",
    "blk.#.attn.qkv": "@.encoder.layer.#.attention.attention.{query,key,value}",
    "blk.#.attn.proj": "@.encoder.layer.#.attention.output.dense",
    "blk.#.norm2": "@.encoder.layer.#.layernorm_after",
    "blk.#.mlp.fc1": "@.encoder.layer.#.intermediate.dense",
    "blk.#.mlp.fc2": "@.encoder.layer.#.output.dense",
    "norm": "@.layernorm",
    "head.cls": "classifier",
}
_TIMM = {
    "embed.patch": "patch_embed.proj", "embed.cls": "cls_token", "embed.dist": "dist_token",
    "embed.pos": "pos_embed", "blk.#.norm1": "blocks.#.norm1", "blk.#.attn.qkv": "blocks.#.attn.qkv",
    "blk.#.attn.proj": "blocks.#.attn.proj", "blk.#.ls1": "blocks.#.ls1.gamma",
    "blk.#.norm2": "blocks.#.norm2", "blk.#.mlp.fc1": "blocks.#.mlp.fc1",
    "blk.#.mlp.fc2": "blocks.#.mlp.fc2", "blk.#.ls2": "blocks.#.ls2.gamma", "norm": "norm",
    "head.cls": "head", "head.dist": "head_dist",
}
_LAYER = "encoder.layers.encoder_layer_#."
_TORCHVISION = {
    "embed.patch": "conv_proj", "embed.cls": "class_token", "embed.pos": "encoder.pos_embedding",
    "blk.#.norm1": _LAYER + "ln_1", "blk.#.attn.qkv": _LAYER + "self_attention.in_proj_~",
    "blk.#.attn.proj": _LAYER + "self_attention.out_proj", "blk.#.norm2": _LAYER + "ln_2",
    "blk.#.mlp.fc1": _LAYER + "mlp.0", "blk.#.mlp.fc2": _LAYER + "mlp.3", "norm": "encoder.ln",
    "head.cls": "heads.head",
}
_DINOV2 = {**_HF, "blk.#.norm1": "@.encoder.layer.#.norm1", "blk.#.norm2": "@.encoder.layer.#.norm2",
           "blk.#.ls1": "@.encoder.layer.#.layer_scale1.lambda1",
           "blk.#.ls2": "@.encoder.layer.#.layer_scale2.lambda1",
           "blk.#.mlp.fc1": "@.encoder.layer.#.mlp.fc1",
           "blk.#.mlp.fc2": "@.encoder.layer.#.mlp.fc2"}
_DISTILLED = {**_HF, "head.cls": "cls_classifier", "head.dist": "distillation_classifier"}

# Naming -> (prefix, table). "deit" is the distilled DeiT of Hugging Face.
NAMINGS = {"vit": ("vit", _HF), "deit": ("deit", _DISTILLED), "dinov2": ("dinov2", _DINOV2),
           "timm": ("", _TIMM), "torchvision": ("", _TORCHVISION)}
_UNUSED = re.compile(r"mask_token$|pooler\.|num_batches_tracked$")


def naming_of(tensors) -> str:
    """Which naming a file has, told by its tensors."""
    names = set(tensors)
    for naming, marker in (("timm", "blocks.0.attn.qkv.weight"),
                           ("torchvision", "encoder.layers.encoder_layer_0.ln_1.weight")):
        if marker in names:
            return naming
    for naming, (prefix, table) in NAMINGS.items():
        if prefix and _foreign(table["blk.#.norm1"], prefix, "0") + ".weight" in {
                _with_prefix(n, prefix) for n in names}:
            return naming
    raise ValueError("the tensors have no naming known here (Hugging Face ViT, DeiT or DINOv2, "
                     "timm, torchvision)")


def _with_prefix(name: str, prefix: str) -> str:
    """A bare backbone's file leaves the prefix out."""
    return f"{prefix}.{name}" if name.startswith(("embeddings.", "encoder.")) else name


def _foreign(pattern: str, prefix: str, index: str) -> str:
    return pattern.replace("@", prefix).replace("#", index)


def _split(canonical: str) -> tuple[str, str, str]:
    """"blk.3.attn.qkv.weight" -> "blk.#.attn.qkv", "3", ".weight"."""
    base, dot, suffix = canonical.rpartition(".")
    if suffix not in ("weight", "bias"):
        base, dot, suffix = canonical, "", ""
    index = re.search(r"\.(\d+)\.", base)
    generic = re.sub(r"\.\d+\.", ".#.", base, count=1)
    return generic, index.group(1) if index else "", dot + suffix


def _parts(canonical: str, naming: str) -> list[str] | None:
    """The names of a canonical tensor's stacked parts; None: the naming has none."""
    prefix, table = NAMINGS[naming]
    generic, index, suffix = _split(canonical)
    if generic not in table:
        return None
    name = _foreign(table[generic], prefix, index)
    name = name.replace("~", suffix[1:]) if "~" in name else name + suffix
    choice = re.search(r"\{(.*)\}", name)
    if not choice:
        return [name]
    return [name[:choice.start()] + c + name[choice.end():] for c in choice.group(1).split(",")]


def to_canonical(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of any known naming under canonical names. Left out: what no result depends on.
    Already canonical ones (exits beside a Hugging Face backbone) stay."""
    naming = naming_of(tensors)
    prefix = NAMINGS[naming][0]
    left = {_with_prefix(k, prefix): v for k, v in tensors.items() if not _UNUSED.search(k)}
    n_layers = 1 + max(int(m.group(1)) for m in (
        re.search(r"(?:layer|blocks|encoder_layer)[._](\d+)\.", name) for name in left) if m)
    found = {k: left.pop(k) for k in list(left) if k.startswith("exit.")}
    for canonical in _all_names(n_layers):
        parts = _parts(canonical, naming)
        if parts and parts[0] in left:
            found[canonical] = torch.cat([left.pop(p) for p in parts])
    if left:
        raise ValueError(f"unknown tensors: {', '.join(sorted(left)[:5])}")
    return found


def _all_names(n_layers: int):
    for generic in dict.fromkeys([*_HF, *_TIMM]):
        for index in range(n_layers) if "#" in generic else (0,):
            name = generic.replace("#", str(index))
            yield from (name, name + ".weight", name + ".bias")


def to_hf(tensors: dict[str, Tensor], family: str) -> dict[str, Tensor]:
    """A network's tensors as a Hugging Face folder has them; exits keep their canonical names."""
    found = {}
    for canonical, value in tensors.items():
        parts = _parts(canonical, family) or [canonical]
        for part, piece in zip(parts, value.chunk(len(parts))):
            found[part] = piece.contiguous()
    return found
