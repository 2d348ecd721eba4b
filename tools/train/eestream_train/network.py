# SPDX-License-Identifier: MIT
"""An early-exit Vision Transformer of any of the families trained here, under canonical names.

`state_dict()` has the canonical tensor names (`blk.3.attn.qkv.weight`, `exit.0.head.cls.weight`), so
that files of every framework are read and written through `names` alone. Shapes: B frames, C
channels, H attention heads, K classes, g x g grid of N patches, T tokens: the special ones (class,
with DeiT also distillation) first, then the patches row by row. Sources: Dosovitskiy et al. 2021,
Touvron et al. 2021 (distillation token), Oquab et al. 2023 (DINOv2: layer scale, class and mean).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import heads
from .parts import Block, Classifier, container

FAMILIES = ("vit", "deit", "dinov2")


@dataclass(frozen=True)
class Shape:
    """Sizes of one model. `exits` are (1-based block, head name), in order of depth."""

    n_classes: int
    family: str = "vit"
    image_size: int = 224
    patch_size: int = 16
    hidden_size: int = 384
    n_layers: int = 12
    n_heads: int = 6
    mlp_size: int = 1536
    norm_eps: float = 1e-6
    exits: tuple[tuple[int, str], ...] = ()

    def __post_init__(self) -> None:
        blocks = [block for block, _ in self.exits]
        if self.family not in FAMILIES:
            raise ValueError(f"family {self.family!r}: expected one of {', '.join(FAMILIES)}")
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is no multiple of {self.patch_size}")
        if blocks != sorted(set(blocks)) or not all(1 <= b <= self.n_layers for b in blocks):
            raise ValueError(f"exits after blocks {blocks}: expected strictly increasing ones from "
                             f"1 to {self.n_layers}")

    @property
    def grid(self) -> int:
        return self.image_size // self.patch_size

    @property
    def n_special(self) -> int:
        return 2 if self.family == "deit" else 1

    @property
    def exit_blocks(self) -> tuple[int, ...]:
        return tuple(block for block, _ in self.exits)

    @property
    def head_types(self) -> tuple[str, ...]:
        return tuple(head for _, head in self.exits)


@dataclass
class Outputs:
    """What a forward pass gives. Exit entries are in order of depth; `logits` is None where the
    pass ended at an exit."""

    embeddings: Tensor
    hidden: list[Tensor] = field(default_factory=list)  # [B, T, C] after each block
    exit_features: list[Tensor] = field(default_factory=list)  # [B, n, C] before pooling, or empty
    exit_logits: list[Tensor] = field(default_factory=list)  # [B, K]
    logits: Tensor | None = None


class Network(nn.Module):
    """Backbone, exits and final classifier."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        s = self.shape = shape
        size, has_dist = s.hidden_size, s.n_special == 2
        self.embed = container(patch=nn.Conv2d(3, size, s.patch_size, stride=s.patch_size))
        self.embed.cls = nn.Parameter(torch.zeros(1, 1, size))
        if has_dist:
            self.embed.dist = nn.Parameter(torch.zeros(1, 1, size))
        self.embed.pos = nn.Parameter(torch.zeros(1, s.n_special + s.grid ** 2, size))
        self.blk = nn.ModuleList(
            Block(size, s.n_heads, s.mlp_size, s.norm_eps, layer_scale=s.family == "dinov2")
            for _ in range(s.n_layers))
        self.norm = nn.LayerNorm(size, eps=s.norm_eps)
        self.head = Classifier(2 * size if s.family == "dinov2" else size, s.n_classes, has_dist)
        self.exit = nn.ModuleList(heads.make(name, s) for _, name in s.exits)
        self.apply(_initialise)
        for name, parameter in self.embed.named_parameters():
            if name in ("cls", "dist", "pos"):
                nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, pixels: Tensor, exits: tuple[int, ...] | None = None,
                to_end: bool = True) -> Outputs:
        """Run blocks and the exits of the given indices (None: all), whatever a policy would do;
        without `to_end` stop at the last of them. pixels [B, 3, S, S]; S may be any multiple of
        the patch: the position table is resampled."""
        s = self.shape
        wanted = range(len(s.exits)) if exits is None else exits
        exit_at = {s.exits[k][0]: self.exit[k] for k in wanted}
        x = self._tokens(pixels)
        out = Outputs(x)
        last = s.n_layers if to_end else max(exit_at)
        for block in range(1, last + 1):
            x = self.blk[block - 1](x)
            out.hidden.append(x)
            if block in exit_at:
                features, logits = exit_at[block](x)
                out.exit_features.append(features)
                out.exit_logits.append(logits)
        if to_end:
            out.logits = self._final(x)
        return out

    def _tokens(self, pixels: Tensor) -> Tensor:
        patches = self.embed.patch(pixels)
        grid = tuple(patches.shape[2:])
        special = [self.embed.cls, self.embed.dist] if self.shape.n_special == 2 else [
            self.embed.cls]
        special = [token.expand(len(pixels), -1, -1) for token in special]
        tokens = torch.cat([*special, patches.flatten(2).transpose(1, 2)], dim=1)
        return tokens + resample_positions(self.embed.pos, self.shape.n_special, grid)

    def _final(self, x: Tensor) -> Tensor:
        if self.shape.family != "dinov2":
            special = self.norm(x[:, :self.shape.n_special])
            return self.head(special[:, 0], special[:, -1])
        x = self.norm(x)
        return self.head(torch.cat([x[:, 0], x[:, 1:].mean(dim=1)], dim=1))


def resample_positions(table: Tensor, n_special: int, grid: tuple[int, int],
                       antialias: bool = False) -> Tensor:
    """A square position table [1, T, C] for another grid (rows, columns): the special tokens' rows
    are kept, the patches' are resampled bicubically, as transformers does for ViT and DINOv2."""
    old = round((table.shape[1] - n_special) ** 0.5)
    if grid == (old, old):
        return table
    image = table[:, n_special:].transpose(1, 2).unflatten(2, (old, old))
    image = F.interpolate(image, size=grid, mode="bicubic", align_corners=False,
                          antialias=antialias)
    return torch.cat([table[:, :n_special], image.flatten(2).transpose(1, 2)], dim=1)


def _initialise(module: nn.Module) -> None:
    """Truncated normal weights (sigma 1/sqrt(fan-in)), zero biases."""
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        fan_in = module.weight[0].numel()
        nn.init.trunc_normal_(module.weight, std=fan_in ** -0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
