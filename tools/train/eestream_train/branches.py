# SPDX-License-Identifier: MIT
"""Exit heads of Multi-Exit ViT (Bakhtiarnia, Zhang, Iosifidis), and a plain MLP on the class token.

What mixes tokens or flattens the grid is made for one input side; docs/heads.md says which.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .parts import Block, Mlp, container, on_grid

N_FILTERS = 16  # of the CNN branches
MIXER_EPS = 1e-6
RESMLP_SCALE = 1e-4  # layer scale at the start


def _classifier(n_inputs: int, n_classes: int) -> Mlp:
    return Mlp(n_inputs, 4 * n_inputs, n_inputs, n_classes)


class ClassMlp(nn.Module):
    """mlp: of the class token as it is; mlp_ee: behind a norm."""

    def __init__(self, shape, has_norm: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(shape.hidden_size, eps=shape.norm_eps) if has_norm else None
        self.mlp = _classifier(shape.hidden_size, shape.n_classes)

    def forward(self, x: Tensor) -> tuple[None, Tensor]:
        token = x[:, 0] if self.norm is None else self.norm(x[:, 0])
        return None, self.mlp(token)


class BlockMlp(ClassMlp):
    """vit_ee: one block on all tokens, then mlp_ee."""

    def __init__(self, shape) -> None:
        super().__init__(shape, has_norm=True)
        self.blk = Block(shape.hidden_size, shape.n_heads, shape.mlp_size, shape.norm_eps)

    def forward(self, x: Tensor) -> tuple[None, Tensor]:
        return super().forward(self.blk(x))


class Cnn(nn.Module):
    """mlp(flatten(maxpool 2x2(elu(conv 3x3 of the patches)))); the class token is left out
    (cnn_ignore_ee), added to every patch (cnn_add_ee) or read out with it (cnn_project_ee)."""

    def __init__(self, shape, readout: str) -> None:
        super().__init__()
        size, self.n_special, self.adds = shape.hidden_size, shape.n_special, readout == "add"
        self.readout = nn.Linear(2 * size, size) if readout == "project" else None
        self.conv = nn.Conv2d(size, N_FILTERS, 3, padding=1)
        self.mlp = _classifier(N_FILTERS * (shape.grid // 2) ** 2, shape.n_classes)

    def forward(self, x: Tensor) -> tuple[None, Tensor]:
        patches, token = x[:, self.n_special:], x[:, :1]
        if self.adds:
            patches = patches + token
        if self.readout is not None:
            both = torch.cat([patches, token.expand_as(patches)], dim=2)
            patches = F.gelu(self.readout(both))
        return None, self.mlp(F.max_pool2d(F.elu(self.conv(on_grid(patches))), 2).flatten(1))


class Mixer(nn.Module):
    """mixer_ee: one MLP-Mixer layer on all tokens, mean, MLP."""

    def __init__(self, shape) -> None:
        super().__init__()
        size, n_tokens = shape.hidden_size, shape.n_special + shape.grid ** 2
        self.norm1 = nn.LayerNorm(size, eps=MIXER_EPS)
        self.token = container(fc1=nn.Linear(n_tokens, size // 2),
                               fc2=nn.Linear(size // 2, n_tokens))
        self.norm2 = nn.LayerNorm(size, eps=MIXER_EPS)
        self.channel = container(fc1=nn.Linear(size, 4 * size), fc2=nn.Linear(4 * size, size))
        self.mlp = _classifier(size, shape.n_classes)

    def forward(self, x: Tensor) -> tuple[None, Tensor]:
        mixed = self.token.fc2(F.gelu(self.token.fc1(self.norm1(x).transpose(1, 2))))
        x = x + mixed.transpose(1, 2)
        x = x + self.channel.fc2(F.gelu(self.channel.fc1(self.norm2(x))))
        return None, self.mlp(x.mean(dim=1))


class Affine(nn.Module):
    """weight * x + bias a channel."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight + self.bias


class ResMlp(nn.Module):
    """resmlp_ee: one ResMLP layer on all tokens, mean, MLP."""

    def __init__(self, shape) -> None:
        super().__init__()
        size, n_tokens = shape.hidden_size, shape.n_special + shape.grid ** 2
        self.aff1, self.token = Affine(size), nn.Linear(n_tokens, n_tokens)
        self.aff2 = Affine(size)
        self.channel = container(fc1=nn.Linear(size, 4 * size), fc2=nn.Linear(4 * size, size))
        self.ls1 = nn.Parameter(torch.full((size,), RESMLP_SCALE))
        self.ls2 = nn.Parameter(torch.full((size,), RESMLP_SCALE))
        self.mlp = _classifier(size, shape.n_classes)

    def forward(self, x: Tensor) -> tuple[None, Tensor]:
        x = x + self.ls1 * self.token(self.aff1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.ls2 * self.channel.fc2(F.gelu(self.channel.fc1(self.aff2(x))))
        return None, self.mlp(x.mean(dim=1))


KINDS = {
    "mlp": lambda shape: ClassMlp(shape, has_norm=False),
    "mlp_ee": lambda shape: ClassMlp(shape, has_norm=True),
    "vit_ee": BlockMlp,
    **{f"cnn_{how}_ee": lambda shape, how=how: Cnn(shape, how)
       for how in ("ignore", "add", "project")},
    "mixer_ee": Mixer,
    "resmlp_ee": ResMlp,
}
