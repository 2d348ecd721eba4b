# SPDX-License-Identifier: MIT
"""A model's weights as ONNX nodes: the layers that blocks and heads are made of. `x` is (B, T, C), tokens in rows."""

import numpy as np

from .graph import Graph
from .source import Source

BATCH_NORM_EPS = 1e-5


class Layers:
    """What nodes need to know about the model. Layers go into the graph they are given; weights are shared."""

    def __init__(self, source: Source, batch: int):
        self.source, self.info, self.batch = source, source.info, batch
        self.eps = self.info["norm_eps"]
        self.activation = self.info["activation"]
        width, height = self.info["input_px"]
        self.image = (height, width)
        self.grid = (height // self.info["patch_px"], width // self.info["patch_px"])
        self.heads = self.info["heads"]
        self.distilled = self.info["pool"] == "class_dist"
        self.pooled = None  # what the classifier of the head at hand reads, (B, P)

    def weight(self, g: Graph, name: str, change=lambda array: array) -> str:
        return name if name in g.root.shapes else g.weight(name, change(self.source.read(name)))

    def linear(self, g: Graph, x: str, prefix: str) -> str:
        """x W^T + b; the file's (out, in, ...) becomes (in, out)."""
        w = self.weight(g, f"{prefix}.weight", lambda array: array.reshape(len(array), -1).T)
        y = g.matmul(x, w)
        return g.plus(y, self.weight(g, f"{prefix}.bias")) if f"{prefix}.bias" in self.source else y

    def norm(self, g: Graph, x: str, prefix: str, eps: float | None = None) -> str:
        gamma, beta = self.weight(g, f"{prefix}.weight"), self.weight(g, f"{prefix}.bias")
        return g.add("LayerNormalization", [x, gamma, beta], g.shape(x), axis=-1, epsilon=self.eps if eps is None else eps)

    def batch_norm(self, g: Graph, x: str, prefix: str) -> str:
        inputs = [self.weight(g, f"{prefix}.{end}") for end in ("weight", "bias", "running_mean", "running_var")]
        return g.add("BatchNormalization", [x, *inputs], g.shape(x), epsilon=BATCH_NORM_EPS)

    def conv(self, g: Graph, x: str, prefix: str, pad: int = 0, group: int = 1, stride: int = 1) -> str:
        w = self.weight(g, f"{prefix}.weight")
        kernel = self.source.shapes[f"{prefix}.weight"][2]
        batch, _, h, wide = g.shape(x)
        shape = (batch, g.shape(w)[0], (h + 2 * pad - kernel) // stride + 1, (wide + 2 * pad - kernel) // stride + 1)
        bias = [self.weight(g, f"{prefix}.bias")] if f"{prefix}.bias" in self.source else []
        return g.add("Conv", [x, w, *bias], shape, kernel_shape=[kernel, kernel],
                     pads=[pad] * 4, group=group, strides=[stride, stride])

    def split_heads(self, g: Graph, qkv: str, n_heads: int) -> list[str]:
        """(B, T, 3C) -> q, k, v of (B, H, T, D)."""
        b, t, c3 = g.shape(qkv)
        packed = g.transpose(g.reshape(qkv, b, t, 3, n_heads, c3 // 3 // n_heads), 2, 0, 3, 1, 4)
        return [g.pick(packed, 0, i) for i in range(3)]

    def attention(self, g: Graph, x: str, prefix: str, n_heads: int, added: str | None = None) -> str:
        """The projections under `prefix`.qkv and .proj around attention over all rows of x."""
        b, t, _ = g.shape(x)
        q, k, v = self.split_heads(g, self.linear(g, x, f"{prefix}.qkv"), n_heads)
        if f"{prefix}.q_norm.weight" in self.source:
            q, k = self.norm(g, q, f"{prefix}.q_norm"), self.norm(g, k, f"{prefix}.k_norm")
        merged = g.transpose(g.attention(q, k, v, added), 0, 2, 1, 3)
        return self.linear(g, g.reshape(merged, b, t, g.shape(q)[1] * g.shape(q)[3]), f"{prefix}.proj")

    def classify_mean(self, g: Graph, y: str, prefix: str) -> str:
        """The pooling of heads without a class token."""
        self.pooled = g.mean(self.norm(g, y, f"{prefix}.norm"), 1)
        return self.linear(g, self.pooled, f"{prefix}.head.cls")

    def scaled(self, g: Graph, x: str, name: str) -> str:
        return g.times(x, self.weight(g, name)) if name in self.source else x

    def mlp(self, g: Graph, x: str, prefix: str, activation: str) -> str:
        if f"{prefix}.w12.weight" not in self.source:
            return self.linear(g, g.activate(self.linear(g, x, f"{prefix}.fc1"), activation), f"{prefix}.fc2")
        both = self.linear(g, x, f"{prefix}.w12")
        half = g.shape(both)[-1] // 2
        gate = g.activate(g.slice(both, 2, 0, half), "silu")
        return self.linear(g, g.times(gate, g.slice(both, 2, half, 2 * half)), f"{prefix}.w3")

    def block(self, g: Graph, x: str, prefix: str, attend, eps: float | None = None, activation: str | None = None) -> str:
        """x + attention(LN(x)), then x + mlp(LN(x)). None: the backbone's"""
        branch = attend(g, self.norm(g, x, f"{prefix}.norm1", eps), f"{prefix}.attn")
        x = g.plus(x, self.scaled(g, branch, f"{prefix}.ls1"))
        branch = self.mlp(g, self.norm(g, x, f"{prefix}.norm2", eps), f"{prefix}.mlp", activation or self.activation)
        return g.plus(x, self.scaled(g, branch, f"{prefix}.ls2"))

    def to_grid(self, g: Graph, patches: str, grid: tuple[int, int]) -> str:
        """(B, N, C) -> (B, C, h, w)"""
        return g.reshape(g.transpose(patches, 0, 2, 1), self.batch, g.shape(patches)[2], *grid)

    def from_grid(self, g: Graph, x: str) -> str:
        b, c, h, w = g.shape(x)
        return g.transpose(g.reshape(x, b, c, h * w), 0, 2, 1)

    def broadcast_rows(self, rows: np.ndarray) -> np.ndarray:
        """(n, C) for every frame of the batch."""
        return np.repeat(rows[None].astype(np.float32), self.batch, 0)
