# SPDX-License-Identifier: MIT
"""Exit heads as ONNX nodes. A head is a function (g, x, prefix, number) to logits (B, K); x is the block's output as it is,
prefix "exit.K". Tensors and definitions: docs/heads.md."""


from .errors import ConvertError
from .graph import Graph
from .layers import Layers

LGVIT_HEADS = 8
MIXER_EPS = 1e-6
SWIN_VIT_HEADS, SWIN_VIT = 8, {"eps": 1e-12, "activation": "gelu"}
HEADS = {}


def head(name: str):
    def enter(function):
        HEADS[name] = function
        return function
    return enter


def head_of(name: str):
    """A head by its name in the config, and the number of a numbered one."""
    if name in HEADS:
        return HEADS[name], 0
    if name[:-1] in HEADS and name[-1:].isdigit():
        return HEADS[name[:-1]], int(name[-1])
    raise ConvertError(f"head '{name}' can't be written as ONNX yet; known are {', '.join(sorted(HEADS))}")


class HeadContext:
    """The network a head sits on."""

    def __init__(self, layers: Layers, network):
        self.layers, self.network = layers, network

    def patches(self, g: Graph, x: str) -> str:
        return self.network.patches(g, x)

    def rows(self, g: Graph, x: str) -> list[str]:
        """The class token as (B, C), of a distilled model the distillation token too."""
        return [g.pick(x, 1, i) for i in range(2 if self.layers.distilled else 1)]

    def mlp_list(self, g: Graph, x: str, prefix: str) -> str:
        """mlp.0, mlp.1, ...: gelu between them."""
        i = 0
        while f"{prefix}.mlp.{i}.weight" in self.layers.source:
            x = self.layers.linear(g, g.activate(x, "gelu") if i else x, f"{prefix}.mlp.{i}")
            i += 1
        return x


@head("conv1_1")
def conv1_1(c: HeadContext, g: Graph, x: str, prefix: str, number: int) -> str:
    layers, patches = c.layers, c.patches(g, x)
    y = layers.conv(g, layers.to_grid(g, patches, c.network.grid_at(g, x)), f"{prefix}.conv1")
    y = layers.batch_norm(g, g.activate(y, "gelu"), f"{prefix}.bn1")
    if f"{prefix}.dw.weight" in layers.source:
        y = layers.conv(g, y, f"{prefix}.dw", pad=1, group=g.shape(y)[1])
        y = layers.batch_norm(g, g.activate(y, "gelu"), f"{prefix}.bn2")
    y = layers.batch_norm(g, layers.conv(g, y, f"{prefix}.conv2"), f"{prefix}.bn3")
    return c.network.classify_exit(g, g.plus(layers.from_grid(g, y), patches), x, prefix)


HEADS["conv2_1"] = conv1_1  # the same without dw and bn2


@head("conv_normal")
def conv_normal(c: HeadContext, g: Graph, x: str, prefix: str, number: int) -> str:
    layers = c.layers
    y = layers.conv(g, layers.to_grid(g, c.patches(g, x), c.network.grid_at(g, x)), f"{prefix}.conv", pad=1)
    y = layers.batch_norm(g, g.activate(y, "gelu"), f"{prefix}.bn1")
    return c.network.classify_exit(g, layers.from_grid(g, y), x, prefix)


@head("attention_r")
def attention_r(c: HeadContext, g: Graph, x: str, prefix: str, number: int) -> str:
    """Rows and columns 0, r, 2r, ... of the grid."""
    (h, w), patches = c.network.grid_at(g, x), c.patches(g, x)
    width = g.shape(patches)[2]
    kept = g.reshape(patches, c.layers.batch, h, w, width)
    kept = g.slice(g.slice(kept, 1, 0, h, number), 2, 0, w, number)
    rows = g.reshape(kept, c.layers.batch, g.shape(kept)[1] * g.shape(kept)[2], width)
    return c.network.classify_exit(g, c.layers.attention(g, rows, f"{prefix}.attn", LGVIT_HEADS), x, prefix)


@head("self_attention")
def self_attention(c: HeadContext, g: Graph, x: str, prefix: str, number: int) -> str:
    y = c.layers.attention(g, c.patches(g, x), f"{prefix}.attn", c.network.heads_at(g, x))
    return c.network.classify_exit(g, y, x, prefix)


@head("dummy_mlp")
def dummy_mlp(c: HeadContext, g: Graph, x: str, prefix: str, number: int) -> str:
    hidden = g.activate(c.layers.linear(g, c.patches(g, x), f"{prefix}.fc1"), "relu")
    return c.network.classify_exit(g, c.layers.linear(g, hidden, f"{prefix}.fc2"), x, prefix)


@head("linear")
def linear(c: HeadContext, g: Graph, x: str, prefix: str, number: int) -> str:
    if c.network.bare:
        return c.network.classify_exit(g, c.patches(g, x), x, prefix)
    if c.layers.distilled:
        rows = [c.layers.norm(g, row, f"{prefix}.norm") for row in c.rows(g, x)]
    else:
        rows = [g.activate(c.layers.linear(g, g.pick(x, 1, 0), f"{prefix}.pool"), "tanh")]
    return c.network.classify_tokens(g, rows, f"{prefix}.head")


def own_block(c: HeadContext, g: Graph, x: str, prefix: str) -> str:
    """The backbone's kind; on a Swin one of DeiT's defaults with 8 attention heads."""
    n_heads, own = (SWIN_VIT_HEADS, SWIN_VIT) if c.network.has_deit_block else (c.layers.heads, {})
    return c.layers.block(g, x, f"{prefix}.blk", lambda g, y, inner: c.layers.attention(g, y, inner, n_heads), **own)


@head("vit")
def vit(c: HeadContext, g: Graph, x: str, prefix: str, number: int) -> str:
    return linear(c, g, own_block(c, g, x, prefix), prefix, number)


@head("mlp")
def mlp(c: HeadContext, g: Graph, x: str, prefix: str, number: int) -> str:
    return c.mlp_list(g, g.pick(x, 1, 0), prefix)


@head("mlp_ee")
def mlp_ee(c: HeadContext, g: Graph, x: str, prefix: str, number: int) -> str:
    return c.mlp_list(g, c.layers.norm(g, g.pick(x, 1, 0), f"{prefix}.norm"), prefix)


@head("vit_ee")
def vit_ee(c: HeadContext, g: Graph, x: str, prefix: str, number: int) -> str:
    return mlp_ee(c, g, own_block(c, g, x, prefix), prefix, number)


def convolve(c: HeadContext, g: Graph, patches: str, x: str, prefix: str) -> str:
    """conv 3x3, elu, max-pool 2x2, flattened as [filter, row, column], mlp."""
    y = c.layers.conv(g, c.layers.to_grid(g, patches, c.network.grid_at(g, x)), f"{prefix}.conv", pad=1)
    b, n, h, w = g.shape(y)
    y = g.add("MaxPool", [g.activate(y, "elu")], (b, n, h // 2, w // 2), kernel_shape=[2, 2], strides=[2, 2])
    return c.mlp_list(g, g.reshape(y, b, n * (h // 2) * (w // 2)), prefix)


@head("cnn_ignore_ee")
def cnn_ignore_ee(c: HeadContext, g: Graph, x: str, prefix: str, number: int) -> str:
    return convolve(c, g, c.patches(g, x), x, prefix)


@head("cnn_add_ee")
def cnn_add_ee(c: HeadContext, g: Graph, x: str, prefix: str, number: int) -> str:
    return convolve(c, g, g.plus(c.patches(g, x), c.network.token(g, x, 0)), x, prefix)


@head("cnn_project_ee")
def cnn_project_ee(c: HeadContext, g: Graph, x: str, prefix: str, number: int) -> str:
    patches = c.patches(g, x)
    token = g.add("Expand", [c.network.token(g, x, 0), g.ints(*g.shape(patches))], g.shape(patches))
    both = g.concat([patches, token], 2)
    return convolve(c, g, g.activate(c.layers.linear(g, both, f"{prefix}.readout"), "gelu"), x, prefix)


def mix_tokens(c: HeadContext, g: Graph, x: str, inner) -> str:
    return g.transpose(inner(g.transpose(x, 0, 2, 1)), 0, 2, 1)


def channel_mlp(c: HeadContext, g: Graph, x: str, prefix: str) -> str:
    return c.layers.linear(g, g.activate(c.layers.linear(g, x, f"{prefix}.fc1"), "gelu"), f"{prefix}.fc2")


@head("mixer_ee")
def mixer_ee(c: HeadContext, g: Graph, x: str, prefix: str, number: int) -> str:
    normed = c.layers.norm(g, x, f"{prefix}.norm1", MIXER_EPS)
    u = g.plus(x, mix_tokens(c, g, normed, lambda rows: channel_mlp(c, g, rows, f"{prefix}.token")))
    normed = c.layers.norm(g, u, f"{prefix}.norm2", MIXER_EPS)
    y = g.plus(u, channel_mlp(c, g, normed, f"{prefix}.channel"))
    return c.mlp_list(g, g.mean(y, 1), prefix)


def affine(c: HeadContext, g: Graph, x: str, prefix: str) -> str:
    return g.plus(g.times(x, c.layers.weight(g, f"{prefix}.weight")), c.layers.weight(g, f"{prefix}.bias"))


@head("resmlp_ee")
def resmlp_ee(c: HeadContext, g: Graph, x: str, prefix: str, number: int) -> str:
    mixed = mix_tokens(c, g, affine(c, g, x, f"{prefix}.aff1"), lambda rows: c.layers.linear(g, rows, f"{prefix}.token"))
    u = g.plus(x, g.times(mixed, c.layers.weight(g, f"{prefix}.ls1")))
    inner = channel_mlp(c, g, affine(c, g, u, f"{prefix}.aff2"), f"{prefix}.channel")
    y = g.plus(u, g.times(inner, c.layers.weight(g, f"{prefix}.ls2")))
    return c.mlp_list(g, g.mean(y, 1), prefix)
