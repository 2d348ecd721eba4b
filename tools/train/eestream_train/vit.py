# SPDX-License-Identifier: MIT
"""ViT, distilled DeiT and DINOv2 (Dosovitskiy et al. 2021; Touvron et al. 2021: distillation token;
Oquab et al. 2023: layer scale, and a classifier of class token and mean)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .network import Network, Shape, initialise
from .parts import Block, Classifier, container


class Vit(Network):
    def __init__(self, shape: Shape) -> None:
        s, size, has_dist = shape, shape.hidden_size, shape.n_special == 2
        super().__init__(
            shape, container(patch=nn.Conv2d(3, size, s.patch_size, stride=s.patch_size)),
            [Block(size, s.n_heads, s.mlp_size, s.norm_eps, layer_scale=s.family == "dinov2")
             for _ in range(s.n_layers)],
            nn.LayerNorm(size, eps=s.norm_eps),
            Classifier(2 * size if s.family == "dinov2" else size, s.n_classes, has_dist))
        self.apply(initialise)
        rows = {"cls": 1, **({"dist": 1} if has_dist else {}), "pos": s.n_special + s.grid ** 2}
        for name, n in rows.items():
            start = nn.init.trunc_normal_(torch.empty(1, n, size), std=0.02)
            self.embed.register_parameter(name, nn.Parameter(start))

    def tokens(self, pixels: Tensor) -> Tensor:
        patches = self.embed.patch(pixels)
        special = [self.embed.cls]
        if self.shape.n_special == 2:
            special.append(self.embed.dist)
        special = [token.expand(len(pixels), -1, -1) for token in special]
        tokens = torch.cat([*special, patches.flatten(2).transpose(1, 2)], dim=1)
        return tokens + resample_positions(self.embed.pos, self.shape.n_special,
                                           tuple(patches.shape[2:]))

    def final(self, x: Tensor) -> Tensor:
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
