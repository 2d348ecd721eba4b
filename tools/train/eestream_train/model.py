# SPDX-License-Identifier: MIT
"""LGViT's early-exit Vision Transformer (backbone "ViT") in plain torch.

Modules are nested so that `state_dict()` has the official checkpoint's tensor names. Shapes:
B frames, T = N + 1 tokens (class token first), C channels, H attention heads, K classes, g x g grid
of N patches. Sources: Dosovitskiy et al. 2021 (pre-LN blocks), Xu et al. 2023 (LGViT: exit heads).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .parts import container, packed_attention

# LGViT's layouts: heads in order of depth, by number of exits.
LGVIT_HEADS = {
    2: ("conv1_1", "attention_r2"),
    4: ("conv1_1", "conv2_1", "attention_r2", "attention_r3"),
    6: ("conv1_1", "conv2_1") + ("attention_r2",) * 2 + ("attention_r3",) * 2,
    8: ("conv1_1",) * 2 + ("conv2_1",) * 2 + ("attention_r2",) * 2 + ("attention_r3",) * 2,
}
GAH_HEADS = 8  # attention heads of a global aggregation head, whatever the backbone has


@dataclass(frozen=True)
class Config:
    """Sizes of one model. Exits sit after the 1-based blocks `exit_blocks`."""

    n_classes: int
    image_size: int = 64
    patch_size: int = 8
    hidden_size: int = 96
    n_layers: int = 12
    n_heads: int = 3
    intermediate_size: int = 384
    layer_norm_eps: float = 1e-12
    exit_blocks: tuple[int, ...] = (3, 5, 7, 9)
    n_special: int = 1  # tokens before the patches

    @property
    def grid(self) -> int:
        return self.image_size // self.patch_size

    @property
    def head_types(self) -> tuple[str, ...]:
        return LGVIT_HEADS[len(self.exit_blocks)]

    @classmethod
    def from_lgvit(cls, config: dict) -> Config:
        """Read an LGViT `config.json`; `position_exits` is a string there."""
        if config["backbone"] != "ViT" or config["highway_type"] != "LGViT":
            raise ValueError("only backbone ViT with highway_type LGViT is supported")
        return cls(
            n_classes=len(config["id2label"]),
            image_size=config["image_size"],
            patch_size=config["patch_size"],
            hidden_size=config["hidden_size"],
            n_layers=config["num_hidden_layers"],
            n_heads=config["num_attention_heads"],
            intermediate_size=config["intermediate_size"],
            layer_norm_eps=config["layer_norm_eps"],
            exit_blocks=tuple(json.loads(config["position_exits"])),
        )


class Outputs:
    """What a forward pass gives. Exit entries are in order of depth."""

    def __init__(self) -> None:
        self.embeddings: Tensor
        self.hidden: list[Tensor] = []  # [B, T, C] after each block
        self.exit_features: list[Tensor] = []  # [B, n, C] each head's output before pooling
        self.exit_logits: list[Tensor] = []  # [B, K]
        self.logits: Tensor


class Embeddings(nn.Module):
    """Patch convolution, class token in front, plus position embeddings."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.patch_embeddings = container(
            projection=nn.Conv2d(3, c.hidden_size, c.patch_size, stride=c.patch_size))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, c.hidden_size))
        self.position_embeddings = nn.Parameter(_sincos_positions(c.grid, c.hidden_size))

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embeddings.projection(pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(pixels), -1, -1), patches], dim=1)
        return tokens + self.position_embeddings


def _sincos_positions(grid: int, channels: int) -> Tensor:
    """Start of the learned table: sines and cosines of row and column, base 100 (a grid has few
    positions), scaled like the other embeddings; the class token's row is 0. [1, g*g + 1, C]"""
    quarter = channels // 4
    frequency = 100.0 ** (-torch.arange(quarter) / quarter)
    phase = torch.arange(grid)[:, None] * frequency
    axis = torch.cat([phase.sin(), phase.cos()], dim=1)
    row = axis[:, None].expand(grid, grid, -1)
    table = torch.cat([row, row.transpose(0, 1)], dim=2).reshape(grid * grid, channels)
    return torch.cat([torch.zeros(1, channels), 0.2 * table])[None]


class Block(nn.Module):
    """Pre-LN block: x += Wo attn(LN1 x), then x += W2 gelu(W1 LN2 x), erf gelu, all with bias."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        size = c.hidden_size
        self.n_heads = c.n_heads
        self.attention = container(
            attention=container(query=nn.Linear(size, size), key=nn.Linear(size, size),
                              value=nn.Linear(size, size)),
            output=container(dense=nn.Linear(size, size)))
        self.intermediate = container(dense=nn.Linear(size, c.intermediate_size))
        self.output = container(dense=nn.Linear(c.intermediate_size, size))
        self.layernorm_before = nn.LayerNorm(size, eps=c.layer_norm_eps)
        self.layernorm_after = nn.LayerNorm(size, eps=c.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention.output.dense(self._attend(self.layernorm_before(x)))
        inner = F.gelu(self.intermediate.dense(self.layernorm_after(x)))
        return x + self.output.dense(inner)

    def _attend(self, x: Tensor) -> Tensor:
        """softmax(Q K^T / sqrt(C/H)) V; head h owns columns h*C/H .. (h+1)*C/H - 1."""
        one = self.attention.attention
        weight = torch.cat([one.query.weight, one.key.weight, one.value.weight])
        bias = torch.cat([one.query.bias, one.key.bias, one.value.bias])
        return packed_attention(F.linear(x, weight, bias), self.n_heads)


class LocalPerception(nn.Module):
    """LGViT's convolution heads on the patch grid, as its code has them:
    conv1_1: a = BN(gelu(conv 1x1)), d = BN(gelu(depthwise 3x3 a)), Y = BN(conv 1x1 d) + patches;
    conv2_1 leaves out the depthwise step."""

    def __init__(self, channels: int, grid: int, depthwise: bool) -> None:
        super().__init__()
        self.grid = grid
        self.depthwise = depthwise
        self.conv1 = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.GELU(),
                                   nn.BatchNorm2d(channels))
        if depthwise:
            self.proj = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
            self.proj_bn = nn.BatchNorm2d(channels)
        self.conv2 = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))

    def forward(self, patches: Tensor) -> Tensor:
        image = patches.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        x = self.conv1(image)
        if self.depthwise:
            x = self.proj_bn(F.gelu(self.proj(x)))
        return (self.conv2(x) + image).flatten(2).transpose(1, 2)


class GlobalAggregation(nn.Module):
    """LGViT's attention heads: every r-th row and column of the grid (a pooling of kernel 1 and
    stride r), 8-head attention with packed qkv without bias, projection; no LN, no residual."""

    def __init__(self, channels: int, grid: int, ratio: int) -> None:
        super().__init__()
        self.grid = grid
        self.ratio = ratio
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.proj = nn.Linear(channels, channels)

    def forward(self, patches: Tensor) -> Tensor:
        kept = patches.unflatten(1, (self.grid, self.grid))[:, ::self.ratio, ::self.ratio]
        return self.proj(packed_attention(self.qkv(kept.flatten(1, 2)), GAH_HEADS))


def _make_head(kind: str, channels: int, grid: int) -> nn.Module:
    if kind.startswith("attention_r"):
        return GlobalAggregation(channels, grid, int(kind[-1]))
    return LocalPerception(channels, grid, depthwise=kind == "conv1_1")


class ExitHead(nn.Module):
    """One exit: module `mlp` on the raw patch tokens, then W (mean of its output + class token)."""

    def __init__(self, kind: str, c: Config) -> None:
        super().__init__()
        self.mlp = _make_head(kind, c.hidden_size, c.grid)
        self.classifier = nn.Linear(c.hidden_size, c.n_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.mlp(x[:, 1:])
        return features, self.classifier(features.mean(dim=1) + x[:, 0])


class EarlyExitViT(nn.Module):
    """Backbone, exits and the final classifier: the whole `DeiTHighwayForImageClassification`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        c = self.config = config
        self.deit = container(
            embeddings=Embeddings(c),
            encoder=container(
                layer=nn.ModuleList(Block(c) for _ in range(c.n_layers)),
                highway=nn.ModuleList(ExitHead(kind, c) for kind in c.head_types)),
            layernorm=nn.LayerNorm(c.hidden_size, eps=c.layer_norm_eps),
            pooler=container(dense=nn.Linear(c.hidden_size, c.hidden_size)))
        self.classifier = nn.Linear(c.hidden_size, c.n_classes)
        self.apply(_initialise)
        nn.init.trunc_normal_(self.deit.embeddings.cls_token, std=0.02)
        # The official checkpoints hold a pooler that no result depends on.
        self.deit.pooler.requires_grad_(False)

    def forward(self, pixels: Tensor) -> Outputs:
        """Run every block and every exit, whatever a policy would do. pixels [B, 3, S, S]."""
        out = Outputs()
        x = out.embeddings = self.deit.embeddings(pixels)
        exits = dict(zip(self.config.exit_blocks, self.deit.encoder.highway))
        for block, layer in enumerate(self.deit.encoder.layer, start=1):
            x = layer(x)
            out.hidden.append(x)
            if block in exits:
                features, logits = exits[block](x)
                out.exit_features.append(features)
                out.exit_logits.append(logits)
        out.logits = self.classifier(self.deit.layernorm(x[:, 0]))
        return out

    def freeze_backbone(self) -> None:
        """Leave only the exit heads trainable (stage 2)."""
        self.requires_grad_(False)
        self.deit.encoder.highway.requires_grad_(True)


def _initialise(module: nn.Module) -> None:
    """Truncated normal weights, zero biases (BERT/ViT practice, sigma 0.02 at C = 768, here
    scaled with 1/sqrt(fan-in) because the layers are narrow)."""
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        fan_in = module.weight[0].numel()
        nn.init.trunc_normal_(module.weight, std=fan_in ** -0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
