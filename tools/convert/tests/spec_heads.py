# SPDX-License-Identifier: MIT
"""Every exit head written anew in PyTorch from its definition, with the tensor names of docs/heads.md."""

from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Backbone:
    """What a head has to know of the model it sits in."""

    channels: int
    heads: int  # of attention
    classes: int
    grid: tuple[int, int]
    special: int  # tokens in front of the patches; 0: a Swin's stage
    distilled: bool = False
    eps: float = 1e-12
    qkv_bias: bool = True

    @property
    def tokens(self) -> int:
        return self.special + self.grid[0] * self.grid[1]


def attend(qkv: torch.Tensor, heads: int) -> torch.Tensor:
    """(B, T, 3C), rows [Q; K; V], each head after head -> (B, T, C)."""
    b, t, c = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    q, k, v = qkv.reshape(b, t, 3, heads, c // heads).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-1, -2) * (c // heads) ** -0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).reshape(b, t, c)


class Attention(nn.Module):
    def __init__(self, channels: int, heads: int, bias: bool):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels, bias=bias)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x):
        return self.proj(attend(self.qkv(x), self.heads))


class Head(nn.Module):
    def __init__(self, b: Backbone):
        super().__init__()
        self.b = b

    def patches(self, x):
        return x[:, self.b.special:]

    def planes(self, patches):
        """(B, N, C) -> (B, C, g_h, g_w)"""
        return patches.transpose(1, 2).unflatten(2, self.b.grid)

    def add_classifiers(self):
        names = ("cls", "dist") if self.b.distilled else ("cls",)
        self.head = nn.ModuleDict({name: nn.Linear(self.b.channels, self.b.classes) for name in names})

    def classify(self, cls, dist):
        if self.b.distilled:
            return (self.head["cls"](cls) + self.head["dist"](dist)) / 2
        return self.head["cls"](cls)


class Pooled(Head):
    """The mean of a module's output is added to the class token, and to the distillation token. Without these it is of
    the normed output."""

    def __init__(self, b: Backbone):
        super().__init__(b)
        if not b.special:
            self.norm = nn.LayerNorm(b.channels, eps=b.eps)
        self.add_classifiers()

    def forward(self, x):
        y = self.compute(self.patches(x))
        if not self.b.special:
            return self.classify(self.norm(y).mean(1), None)
        return self.classify(y.mean(1) + x[:, 0], y.mean(1) + x[:, 1])


class Conv(Pooled):
    def __init__(self, b: Backbone, depthwise: bool):
        super().__init__(b)
        c = b.channels
        self.conv1, self.bn1 = nn.Conv2d(c, c, 1), nn.BatchNorm2d(c)
        if depthwise:
            self.dw, self.bn2 = nn.Conv2d(c, c, 3, padding=1, groups=c), nn.BatchNorm2d(c)
        self.conv2, self.bn3 = nn.Conv2d(c, c, 1), nn.BatchNorm2d(c)

    def compute(self, patches):
        x = self.planes(patches)
        y = self.bn1(F.gelu(self.conv1(x)))
        if hasattr(self, "dw"):
            y = self.bn2(F.gelu(self.dw(y)))
        return (self.bn3(self.conv2(y)) + x).flatten(2).transpose(1, 2)


class ConvNormal(Pooled):
    def __init__(self, b: Backbone):
        super().__init__(b)
        self.conv, self.bn1 = nn.Conv2d(b.channels, b.channels, 3, padding=1), nn.BatchNorm2d(b.channels)

    def compute(self, patches):
        return self.bn1(F.gelu(self.conv(self.planes(patches)))).flatten(2).transpose(1, 2)


class Aggregation(Pooled):
    def __init__(self, b: Backbone, ratio: int):
        super().__init__(b)
        self.ratio = ratio
        self.attn = Attention(b.channels, 8, bias=False)

    def compute(self, patches):
        kept = self.planes(patches)[:, :, ::self.ratio, ::self.ratio]
        return self.attn(kept.flatten(2).transpose(1, 2))


class SelfAttention(Pooled):
    def __init__(self, b: Backbone):
        super().__init__(b)
        self.attn = Attention(b.channels, b.heads, b.qkv_bias)

    def compute(self, patches):
        return self.attn(patches)


class DummyMlp(Pooled):
    def __init__(self, b: Backbone):
        super().__init__(b)
        self.fc1, self.fc2 = nn.Linear(b.channels, 10), nn.Linear(10, b.channels)

    def compute(self, patches):
        return self.fc2(F.relu(self.fc1(patches)))


class Linear(Head):
    def __init__(self, b: Backbone):
        super().__init__(b)
        if b.distilled:
            self.norm = nn.LayerNorm(b.channels, eps=b.eps)
        else:
            self.pool = nn.Linear(b.channels, b.channels)
        self.add_classifiers()

    def forward(self, x):
        if self.b.distilled:
            z = self.norm(x)
            return self.classify(z[:, 0], z[:, 1])
        return self.classify(torch.tanh(self.pool(x[:, 0])), None)


class Mlp(nn.Module):
    def __init__(self, channels: int, width: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(channels, width), nn.Linear(width, channels)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, b: Backbone, width: int):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(b.channels, eps=b.eps) for _ in range(2))
        self.attn = Attention(b.channels, b.heads, b.qkv_bias)
        self.mlp = Mlp(b.channels, width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Vit(Linear):
    def __init__(self, b: Backbone):
        super().__init__(b)
        self.blk = Block(b, 2 * b.channels + 3)

    def forward(self, x):
        return super().forward(self.blk(x))


class SwinLinear(Pooled):
    def compute(self, patches):
        return patches


class SwinVit(Pooled):
    """A block as DeiT has it, whatever the Swin is."""

    def __init__(self, b: Backbone):
        super().__init__(b)
        self.blk = Block(replace(b, heads=8, eps=1e-12, qkv_bias=True), 2 * b.channels + 3)

    def compute(self, patches):
        return self.blk(patches)


def mlp_list(*widths: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(k, n) for k, n in zip(widths, widths[1:]))


def run_mlp(layers: nn.ModuleList, x):
    for layer in layers[:-1]:
        x = F.gelu(layer(x))
    return layers[-1](x)


class ClassMlp(Head):
    """`mlp`, and with a norm `mlp_ee`."""

    def __init__(self, b: Backbone, norm: bool, hidden: tuple[int, ...]):
        super().__init__(b)
        if norm:
            self.norm = nn.LayerNorm(b.channels, eps=b.eps)
        self.mlp = mlp_list(b.channels, *hidden, b.classes)

    def forward(self, x):
        return run_mlp(self.mlp, self.norm(x[:, 0]) if hasattr(self, "norm") else x[:, 0])


class VitEe(Head):
    def __init__(self, b: Backbone):
        super().__init__(b)
        self.blk = Block(b, 3 * b.channels)
        self.norm = nn.LayerNorm(b.channels, eps=b.eps)
        self.mlp = mlp_list(b.channels, 4 * b.channels, b.channels, b.classes)

    def forward(self, x):
        return run_mlp(self.mlp, self.norm(self.blk(x)[:, 0]))


class Cnn(Head):
    def __init__(self, b: Backbone, readout: str):
        super().__init__(b)
        self.kind, n_in = readout, b.channels
        if readout == "project":
            n_in = b.channels - 7
            self.readout = nn.Linear(2 * b.channels, n_in)
        self.conv = nn.Conv2d(n_in, 13, 3, padding=1)
        flat = 13 * (b.grid[0] // 2) * (b.grid[1] // 2)
        self.mlp = mlp_list(flat, 2 * flat, flat, b.classes)

    def forward(self, x):
        patches, cls = self.patches(x), x[:, :1].expand_as(self.patches(x))
        if self.kind == "add":
            patches = patches + cls
        elif self.kind == "project":
            patches = F.gelu(self.readout(torch.cat([patches, cls], -1)))
        y = F.max_pool2d(F.elu(self.conv(self.planes(patches))), 2)
        return run_mlp(self.mlp, y.flatten(1))


class Mixer(Head):
    def __init__(self, b: Backbone):
        super().__init__(b)
        self.norm1, self.norm2 = (nn.LayerNorm(b.channels, eps=1e-6) for _ in range(2))
        self.token, self.channel = Mlp(b.tokens, b.channels // 2 + 1), Mlp(b.channels, 4 * b.channels)
        self.mlp = mlp_list(b.channels, b.classes)

    def forward(self, x):
        x = x + self.token(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.channel(self.norm2(x))
        return run_mlp(self.mlp, x.mean(1))


class Affine(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        return x * self.weight + self.bias


class ResMlp(Head):
    def __init__(self, b: Backbone):
        super().__init__(b)
        self.aff1, self.aff2 = Affine(b.channels), Affine(b.channels)
        self.token, self.channel = nn.Linear(b.tokens, b.tokens), Mlp(b.channels, 4 * b.channels)
        self.ls1, self.ls2 = (nn.Parameter(torch.ones(b.channels)) for _ in range(2))
        self.mlp = mlp_list(b.channels, b.channels + 5, b.classes)

    def forward(self, x):
        x = x + self.ls1 * self.token(self.aff1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.ls2 * self.channel(self.aff2(x))
        return run_mlp(self.mlp, x.mean(1))


HEADS = {
    "conv1_1": lambda b: Conv(b, depthwise=True),
    "conv2_1": lambda b: Conv(b, depthwise=False),
    "conv_normal": ConvNormal,
    "attention_r1": lambda b: Aggregation(b, 1),
    "attention_r2": lambda b: Aggregation(b, 2),
    "attention_r3": lambda b: Aggregation(b, 3),
    "self_attention": SelfAttention,
    "dummy_mlp": DummyMlp,
    "linear": Linear,
    "vit": Vit,
    "mlp": lambda b: ClassMlp(b, False, (31,)),
    "mlp_ee": lambda b: ClassMlp(b, True, (4 * b.channels, b.channels)),
    "vit_ee": VitEe,
    "cnn_ignore_ee": lambda b: Cnn(b, "ignore"),
    "cnn_add_ee": lambda b: Cnn(b, "add"),
    "cnn_project_ee": lambda b: Cnn(b, "project"),
    "mixer_ee": Mixer,
    "resmlp_ee": ResMlp,
}
POOLED = ("conv1_1", "conv2_1", "conv_normal", "attention_r1", "attention_r2", "attention_r3", "self_attention")
SWIN_HEADS = {name: HEADS[name] for name in POOLED} | {"linear": SwinLinear, "vit": SwinVit}
