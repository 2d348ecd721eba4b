# SPDX-License-Identifier: MIT
"""Small model folders of random weights, with any exits (docs/heads.md): numpy alone."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import support

from eestream_convert import folder

BLOCK_WIDTH, FILTERS, READOUT, TOKEN_WIDTH, HIDDEN, DUMMY = 19, 5, 11, 6, 13, 10


@dataclass
class Tensors:
    """Weights in which every one matters, by name; activations stay near 1."""

    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))
    values: dict = field(default_factory=dict)

    def put(self, name: str, *shape: int, scale: float = 1.0, offset: float = 0.0) -> None:
        self.values[name] = (offset + scale * self.rng.normal(0, 1, shape)).astype(np.float32)

    def linear(self, name: str, *shape: int, bias: bool = True) -> None:
        """(out, in, ...)"""
        self.put(f"{name}.weight", *shape, scale=float(np.prod(shape[1:])) ** -0.5)
        if bias:
            self.put(f"{name}.bias", shape[0], scale=0.2)

    def norm(self, name: str, c: int) -> None:
        self.put(f"{name}.weight", c, scale=0.3, offset=1.0)
        self.put(f"{name}.bias", c, scale=0.2)

    def batch_norm(self, name: str, c: int) -> None:
        self.norm(name, c)
        self.put(f"{name}.running_mean", c, scale=0.3)
        self.values[f"{name}.running_var"] = self.rng.uniform(0.5, 1.5, c).astype(np.float32)

    def parts(self, name: str, names: tuple[str, ...], *shape: int) -> None:
        for part in names:
            self.linear(f"{name}.{part}", *shape)

    def mlp_list(self, name: str, *widths: int) -> None:
        for i, (k, n) in enumerate(zip(widths, widths[1:])):
            self.linear(f"{name}.mlp.{i}", n, k)


@dataclass(frozen=True)
class Place:
    """What a head stands on."""

    c: int
    k: int
    grid: tuple[int, int]
    n_special: int  # 0: a Swin
    distilled: bool = False


def put_head(t: Tensors, prefix: str, head: str, at: Place) -> None:
    c, k, n_tokens = at.c, at.k, at.grid[0] * at.grid[1] + at.n_special
    if head in ("vit", "vit_ee"):
        put_block(t, f"{prefix}.blk", c)
    if head in ("mlp_ee", "vit_ee"):
        t.norm(f"{prefix}.norm", c)
    if head.endswith("_ee") or head == "mlp":
        put_branch(t, prefix, head, at, n_tokens)
        return
    if head in ("conv1_1", "conv2_1"):
        t.linear(f"{prefix}.conv1", c, c, 1, 1)
        t.linear(f"{prefix}.conv2", c, c, 1, 1)
        for name in ("bn1", "bn3"):
            t.batch_norm(f"{prefix}.{name}", c)
    if head == "conv1_1":
        t.linear(f"{prefix}.dw", c, 1, 3, 3)
        t.batch_norm(f"{prefix}.bn2", c)
    if head == "conv_normal":
        t.linear(f"{prefix}.conv", c, c, 3, 3)
        t.batch_norm(f"{prefix}.bn1", c)
    if "attention" in head:
        t.linear(f"{prefix}.attn.qkv", 3 * c, c, bias=head == "self_attention")
        t.linear(f"{prefix}.attn.proj", c, c)
    if head == "dummy_mlp":
        t.linear(f"{prefix}.fc1", DUMMY, c)
        t.linear(f"{prefix}.fc2", c, DUMMY)
    if at.n_special == 0 or (head in ("linear", "vit") and at.distilled):
        t.norm(f"{prefix}.norm", c)
    elif head in ("linear", "vit"):
        t.linear(f"{prefix}.pool", c, c)
    t.parts(f"{prefix}.head", ("cls", "dist") if at.distilled else ("cls",), k, c)


def put_block(t: Tensors, prefix: str, c: int) -> None:
    t.norm(f"{prefix}.norm1", c)
    t.linear(f"{prefix}.attn.qkv", 3 * c, c)
    t.linear(f"{prefix}.attn.proj", c, c)
    t.norm(f"{prefix}.norm2", c)
    t.linear(f"{prefix}.mlp.fc1", BLOCK_WIDTH, c)
    t.linear(f"{prefix}.mlp.fc2", c, BLOCK_WIDTH)


def put_branch(t: Tensors, prefix: str, head: str, at: Place, n_tokens: int) -> None:
    c, n_inputs = at.c, at.c
    if head.startswith("cnn"):
        if head == "cnn_project_ee":
            t.linear(f"{prefix}.readout", READOUT, 2 * c)
        t.linear(f"{prefix}.conv", FILTERS, READOUT if head == "cnn_project_ee" else c, 3, 3)
        n_inputs = FILTERS * (at.grid[0] // 2) * (at.grid[1] // 2)
    if head == "mixer_ee":
        t.norm(f"{prefix}.norm1", c)
        t.norm(f"{prefix}.norm2", c)
        t.linear(f"{prefix}.token.fc1", TOKEN_WIDTH, n_tokens)
        t.linear(f"{prefix}.token.fc2", n_tokens, TOKEN_WIDTH)
    if head == "resmlp_ee":
        for name in ("aff1", "aff2"):
            t.norm(f"{prefix}.{name}", c)
        for name in ("ls1", "ls2"):
            t.put(f"{prefix}.{name}", c)
        t.linear(f"{prefix}.token", n_tokens, n_tokens)
    if head in ("mixer_ee", "resmlp_ee"):
        t.linear(f"{prefix}.channel.fc1", 2 * c, c)
        t.linear(f"{prefix}.channel.fc2", c, 2 * c)
    t.mlp_list(prefix, n_inputs, *((HIDDEN,) if head != "mixer_ee" else ()), at.k)


def early_exits(heads: list[str], after: list[int]) -> dict:
    return {"exits": [{"after_block": block, "head": head} for block, head in zip(after, heads)],
            "policy": {"name": "confidence", "thresholds": 0.5}}


def write(directory: Path, config: dict, t: Tensors) -> Path:
    directory.mkdir(exist_ok=True)
    folder.write_json(directory / "config.json", config)
    support.write_arrays(directory / "model.safetensors", t.values)
    return directory


# ---- ViT, DeiT, DINOv2 --------------------------------------------------------------------------------------

VIT_CLASSES = {"vit": ("ViTForImageClassification", 1), "deit": ("DeiTForImageClassificationWithTeacher", 2),
               "dinov2_with_registers": ("Dinov2WithRegistersForImageClassification", 4)}


def write_vit(directory: Path, kind: str, heads: list[str], n_blocks: int, size=(20, 28), c: int = 24, n_heads: int = 3,
              k: int = 4, patch: int = 4) -> Path:
    """`size`: (height, width). Exit i is behind block i + 1."""
    t, mlp_width = Tensors(), 4 * c
    architecture, n_special = VIT_CLASSES[kind]
    grid = (size[0] // patch, size[1] // patch)
    put_vit(t, kind, n_blocks, Place(c, k, grid, n_special, kind == "deit"), patch, mlp_width)
    for i, head in enumerate(heads):
        put_head(t, f"exit.{i}", head, Place(c, k, grid, n_special, kind == "deit"))
    return write(directory, {
        "model_type": kind, "architectures": [architecture], "hidden_size": c, "intermediate_size": mlp_width,
        "num_hidden_layers": n_blocks, "num_attention_heads": n_heads, "image_size": list(size), "patch_size": patch,
        "num_register_tokens": n_special - 1, "hidden_act": "gelu", "id2label": {str(i): str(i) for i in range(k)},
        "early_exits": early_exits(heads, list(range(1, len(heads) + 1)))}, t)


def put_vit(t: Tensors, kind: str, n_blocks: int, at: Place, patch: int, mlp_width: int) -> None:
    root, c, dino = kind, at.c, kind.startswith("dinov2")
    n_patches = at.grid[0] * at.grid[1]
    embeddings = {"cls_token": 1} | ({"distillation_token": 1} if at.distilled else {})
    embeddings |= {"register_tokens": at.n_special - 1} if dino else {}
    for name, n in embeddings.items():
        t.put(f"{root}.embeddings.{name}", 1, n, c, scale=0.5)
    t.put(f"{root}.embeddings.position_embeddings", 1, n_patches + (1 if dino else at.n_special), c, scale=0.5)
    t.linear(f"{root}.embeddings.patch_embeddings.projection", c, 3, patch, patch)
    for i in range(n_blocks):
        layer = f"{root}.encoder.layer.{i}"
        t.parts(f"{layer}.attention.attention", ("query", "key", "value"), c, c)
        t.linear(f"{layer}.attention.output.dense", c, c)
        for name in ("norm1", "norm2") if dino else ("layernorm_before", "layernorm_after"):
            t.norm(f"{layer}.{name}", c)
        t.linear(f"{layer}.mlp.fc1" if dino else f"{layer}.intermediate.dense", mlp_width, c)
        t.linear(f"{layer}.mlp.fc2" if dino else f"{layer}.output.dense", c, mlp_width)
        if dino:
            for half in (1, 2):
                t.put(f"{layer}.layer_scale{half}.lambda1", c, scale=0.3, offset=1.0)
    t.norm(f"{root}.layernorm", c)
    if at.distilled:
        t.linear("cls_classifier", at.k, c)
        t.linear("distillation_classifier", at.k, c)
    else:
        t.linear("classifier", at.k, 2 * c if dino else c)


def write_timm(directory: Path, heads: list[str], n_registers: int, n_blocks: int, size=(20, 28), c: int = 24,
               n_heads: int = 3, k: int = 4, patch: int = 4) -> Path:
    """A ViT of timm without a class token, with a norm in front and norms of queries and keys; it answers by a mean."""
    t, grid = Tensors(), (size[0] // patch, size[1] // patch)
    t.put("pos_embed", 1, grid[0] * grid[1], c, scale=0.5)
    if n_registers:
        t.put("reg_token", 1, n_registers, c, scale=0.5)
    t.linear("patch_embed.proj", c, 3, patch, patch, bias=False)
    for name in ("norm_pre", "fc_norm"):
        t.norm(name, c)
    for i in range(n_blocks):
        block = f"blocks.{i}"
        for name in ("norm1", "norm2"):
            t.norm(f"{block}.{name}", c)
        for name in ("q_norm", "k_norm"):
            t.norm(f"{block}.attn.{name}", c // n_heads)
        t.linear(f"{block}.attn.qkv", 3 * c, c)
        t.linear(f"{block}.attn.proj", c, c)
        t.linear(f"{block}.mlp.fc1", 3 * c, c)
        t.linear(f"{block}.mlp.fc2", c, 3 * c)
    t.linear("head", k, c)
    for i, head in enumerate(heads):
        put_head(t, f"exit.{i}", head, Place(c, k, grid, 0))
    return write(directory, {
        "architecture": "vit_x", "num_classes": k, "global_pool": "avg",
        "model_args": {"img_size": list(size), "num_heads": n_heads, "class_token": False, "no_embed_class": True},
        "early_exits": early_exits(heads, list(range(1, len(heads) + 1)))}, t)


def write_torchvision(directory: Path, side: int = 20, c: int = 24, n_heads: int = 3, k: int = 4, patch: int = 4,
                      pooled: int = 17) -> Path:
    """A ViT of torchvision with a representation_size."""
    t = Tensors()
    t.put("class_token", 1, 1, c, scale=0.5)
    t.put("encoder.pos_embedding", 1, 1 + (side // patch) ** 2, c, scale=0.5)
    t.linear("conv_proj", c, 3, patch, patch)
    for i in range(2):
        layer = f"encoder.layers.encoder_layer_{i}"
        for name in ("ln_1", "ln_2"):
            t.norm(f"{layer}.{name}", c)
        t.put(f"{layer}.self_attention.in_proj_weight", 3 * c, c, scale=c ** -0.5)
        t.put(f"{layer}.self_attention.in_proj_bias", 3 * c, scale=0.2)
        t.linear(f"{layer}.self_attention.out_proj", c, c)
        t.linear(f"{layer}.mlp.0", 2 * c, c)
        t.linear(f"{layer}.mlp.3", c, 2 * c)
    t.norm("encoder.ln", c)
    t.linear("heads.pre_logits", pooled, c)
    t.linear("heads.head", k, pooled)
    return write(directory, {"args": {"image_size": side, "num_heads": n_heads}}, t)


# ---- Swin ---------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class SwinNames:
    """Of a framework. `merge` takes the stage in front."""

    block: str
    norms: tuple[str, str]
    projections: tuple[str, ...]  # of attention: three names, or one of three times the width
    table: str
    out: str
    mlp: tuple[str, str]
    merge: object
    rest: tuple[str, str, str, str]  # patches, their norm, final norm, classifier


HF_SWIN = SwinNames("swin.encoder.layers.{s}.blocks.{b}", ("layernorm_before", "layernorm_after"),
                    tuple(f"attention.self.{name}" for name in ("query", "key", "value")),
                    "attention.self.relative_position_bias_table", "attention.output.dense",
                    ("intermediate.dense", "output.dense"), lambda s: f"swin.encoder.layers.{s}.downsample",
                    ("swin.embeddings.patch_embeddings.projection", "swin.embeddings.norm", "swin.layernorm", "classifier"))
TIMM_SWIN = SwinNames("layers.{s}.blocks.{b}", ("norm1", "norm2"), ("attn.qkv",), "attn.relative_position_bias_table",
                      "attn.proj", ("mlp.fc1", "mlp.fc2"), lambda s: f"layers.{s + 1}.downsample",
                      ("patch_embed.proj", "patch_embed.norm", "norm", "head.fc"))
TIMM_SWIN_OLD = SwinNames(*(getattr(TIMM_SWIN, name) for name in ("block", "norms", "projections", "table", "out", "mlp")),
                          lambda s: f"layers.{s}.downsample", TIMM_SWIN.rest[:3] + ("head",))


def write_swin(directory: Path, names: SwinNames, heads: list[str], depths: list[int], size: tuple[int, int], c: int = 16,
               n_heads: int = 2, k: int = 4, patch: int = 2, window: int = 3) -> Path:
    """Exit i is behind block i + 1. Attention heads and channels double with each stage."""
    t = Tensors()
    grid, first = tuple(-(-side // patch) for side in size), 0
    t.linear(names.rest[0], c, 3, patch, patch)
    t.norm(names.rest[1], c)
    for s, n_blocks in enumerate(depths):
        wide = c << s
        for b in range(n_blocks):
            put_swin_block(t, names, names.block.format(s=s, b=b), wide, n_heads << s, window)
        for i in range(first, min(first + n_blocks, len(heads))):
            put_head(t, f"exit.{i}", heads[i], Place(wide, k, grid, 0))
        first += n_blocks
        if s + 1 < len(depths):
            t.norm(f"{names.merge(s)}.norm", 4 * wide)
            t.linear(f"{names.merge(s)}.reduction", 2 * wide, 4 * wide, bias=False)
        grid = tuple((side + 1) // 2 for side in grid)
    t.norm(names.rest[2], wide)
    t.linear(names.rest[3], k, wide)
    sizes = {"embed_dim": c, "depths": depths, "num_heads": [n_heads << s for s in range(len(depths))],
             "window_size": window, "mlp_ratio": 2.0, "patch_size": patch}
    config = {"early_exits": early_exits(heads, list(range(1, len(heads) + 1)))} if heads else {}
    if names is HF_SWIN:
        config |= {"model_type": "swin", "architectures": ["SwinForImageClassification"], "image_size": list(size),
                   "hidden_act": "relu", "layer_norm_eps": 1e-3, "id2label": {str(i): str(i) for i in range(k)}} | sizes
    else:
        config |= {"architecture": "swin_x", "num_classes": k, "model_args": {"img_size": list(size)} | sizes}
    return write(directory, config, t)


def put_swin_block(t: Tensors, names: SwinNames, block: str, c: int, n_heads: int, window: int) -> None:
    for name in names.norms:
        t.norm(f"{block}.{name}", c)
    t.parts(block, names.projections, 3 * c // len(names.projections), c)
    t.linear(f"{block}.{names.out}", c, c)
    t.put(f"{block}.{names.table}", (2 * window - 1) ** 2, n_heads)
    t.linear(f"{block}.{names.mlp[0]}", 2 * c, c)
    t.linear(f"{block}.{names.mlp[1]}", c, 2 * c)
