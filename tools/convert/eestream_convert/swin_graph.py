# SPDX-License-Identifier: MIT
"""Swin as ONNX nodes. Cutting into windows and putting them back are one Gather each."""

import numpy as np

from .graph import Graph
from .layers import Layers
from .windows import Windows, merge_rows

EPS = 1e-5  # of the embedding and the merges, whatever the config says of the blocks'


class Swin:
    bare = has_deit_block = True

    def __init__(self, layers: Layers):
        """Sizes of stages are (width, height) in what `inspect` tells, (rows, columns) from here on."""
        self.layers, turned = layers, ("grid", "window", "shift")
        self.stages = [stage | {key: tuple(stage[key][::-1]) for key in turned} for stage in layers.info["stages"]]
        self.n_blocks = layers.info["blocks"]
        self.starts = np.cumsum([0] + [stage["blocks"] for stage in self.stages])

    def stage_of(self, i: int) -> tuple[int, int]:
        """(stage, block in it), from 0."""
        s = int(np.searchsorted(self.starts, i, side="right")) - 1
        return s, i - int(self.starts[s])

    def windows(self, s: int, shifted: bool) -> Windows:
        stage = self.stages[s]
        return Windows(stage["grid"], stage["window"], stage["shift"] if shifted else (0, 0), stage["rolls_first"])

    def embed(self, g: Graph, image: str) -> str:
        """Hugging Face fills a rim that makes no patch up with zeros: its grid is larger than the picture's."""
        layers, patch = self.layers, self.layers.info["patch_px"]
        rim = (max(side * patch - pixels, 0) for side, pixels in zip(self.stages[0]["grid"], layers.image))
        x = layers.from_grid(g, layers.conv(g, g.pad_ends(image, 0, 0, *rim), "embed.patch", stride=patch))
        x = layers.norm(g, x, "embed.norm", EPS)
        return g.plus(x, layers.weight(g, "embed.pos")) if "embed.pos" in layers.source else x

    def gather(self, g: Graph, x: str, index: np.ndarray, name: str) -> str:
        """Rows of (B, N, C) by number; N is a row of zeros."""
        b, n, c = g.shape(x)
        if np.any(index == n):
            x = g.concat([x, g.weight(f"zeros.{b}.{c}", np.zeros((b, 1, c), np.float32))], 1)
        return g.add("Gather", [x, g.weight(name, index.reshape(-1).astype(np.int64))], (b, index.size, c), axis=1)

    def attend(self, g: Graph, x: str, prefix: str, s: int, shifted: bool) -> str:
        layers, windows = self.layers, self.windows(s, shifted)
        b, n, c = g.shape(x)
        tokens = windows.tokens()
        (n_windows, t), key = tokens.shape, f"stage.{s}.{'shifted' if any(windows.shift) else 'plain'}"
        rows = g.reshape(self.gather(g, x, tokens, f"{key}.tokens"), b * n_windows, t, c)
        heads = self.stages[s]["heads"]
        q, k, v = layers.split_heads(g, layers.linear(g, rows, f"{prefix}.qkv"), heads)
        bias = layers.weight(g, f"{prefix}.rel_bias", lambda table: table[windows.relative()].transpose(2, 0, 1))
        merged = g.transpose(self.attend_heads(g, q, k, v, bias, windows, key), 0, 2, 1, 3)
        y = layers.linear(g, g.reshape(merged, b, n_windows * t, c), f"{prefix}.proj")
        back = np.argsort(tokens.reshape(-1), kind="stable")[:n]
        return self.gather(g, y, back, f"{key}.back")

    def attend_heads(self, g: Graph, q: str, k: str, v: str, bias: str, windows: Windows, key: str) -> str:
        """(B * windows, H, T, D), the mask by window."""
        mask = windows.mask()
        if mask is None:
            return g.attention(q, k, v, bias)
        shape, n_windows = g.shape(q), len(mask)
        q, k, v = (g.reshape(x, shape[0] // n_windows, n_windows, *shape[1:]) for x in (q, k, v))
        added = g.plus(bias, g.weight(f"{key}.mask", mask[:, None]))
        return g.reshape(g.attention(q, k, v, added), *shape)

    def block(self, g: Graph, x: str, i: int) -> str:
        s, b = self.stage_of(i)
        if b == 0 and s > 0:
            x = self.merge(g, x, s - 1)
        return self.layers.block(g, x, f"blk.{i}", lambda g, y, prefix: self.attend(g, y, prefix, s, b % 2 == 1))

    def merge(self, g: Graph, x: str, s: int) -> str:
        """Four tokens beside each other become one, between two stages."""
        b, _, c = g.shape(x)
        index = merge_rows(self.stages[s]["grid"])
        rows = g.reshape(self.gather(g, x, index, f"merge.{s}.tokens"), b, len(index), 4 * c)
        return self.layers.linear(g, self.layers.norm(g, rows, f"merge.{s}.norm", EPS), f"merge.{s}.reduce")

    def grid_at(self, g: Graph, x: str) -> tuple[int, int]:
        return self.stage_at(g, x)["grid"]

    def heads_at(self, g: Graph, x: str) -> int:
        return self.stage_at(g, x)["heads"]

    def stage_at(self, g: Graph, x: str) -> dict:
        return next(stage for stage in self.stages if stage["width"] == g.shape(x)[2])

    def patches(self, g: Graph, x: str) -> str:
        return x

    def final(self, g: Graph, x: str) -> str:
        return self.layers.linear(g, g.mean(self.layers.norm(g, x, "norm"), 1), "head.cls")

    def classify_exit(self, g: Graph, y: str, x: str, prefix: str) -> str:
        return self.layers.classify_mean(g, y, prefix)
