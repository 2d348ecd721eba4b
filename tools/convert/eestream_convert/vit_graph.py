# SPDX-License-Identifier: MIT
"""ViT, DeiT and DINOv2 as ONNX nodes: embedding, blocks, final classifier."""

import numpy as np

from .errors import ConvertError
from .graph import Graph
from .layers import Layers
from .resample import resample_table


class Vit:
    has_deit_block = False

    def __init__(self, layers: Layers):
        self.layers = layers
        self.n_blocks = layers.info["blocks"]
        source = layers.source
        self.special = [source.read(name)[0] for name in ("embed.cls", "embed.dist", "embed.reg") if name in source]
        self.n_special = sum(len(rows) for rows in self.special)
        self.bare = "embed.cls" not in source

    def embed(self, g: Graph, image: str) -> str:
        """Special tokens, patches behind them, positions on all."""
        layers = self.layers
        patches = layers.from_grid(g, layers.conv(g, image, "embed.patch", stride=layers.info["patch_px"]))
        special = [g.weight("embed.special", layers.broadcast_rows(np.concatenate(self.special)))] if self.special else []
        x = g.plus(g.concat([*special, patches], 1), g.weight("embed.pos", self.positions()))
        return layers.norm(g, x, "embed.norm") if "embed.norm.weight" in layers.source else x

    def positions(self) -> np.ndarray:
        """(T, C): zeros for tokens without a position, the patches' for the grid at hand."""
        layers = self.layers
        stored = layers.source.read("embed.pos")[0]
        about = layers.info["position_table"]
        grid = tuple(about["grid"][::-1])
        n_fixed = len(stored) - grid[0] * grid[1]
        if n_fixed < 0 or n_fixed > self.n_special:
            raise ConvertError(f"the position table has {len(stored)} rows, expected {grid[0]} x {grid[1]} and special ones")
        patches = resample_table(stored[n_fixed:], grid, layers.grid, about["filter"])
        fixed = np.zeros((self.n_special, stored.shape[1]), np.float32)
        fixed[:n_fixed] = stored[:n_fixed]
        return np.concatenate([fixed, patches])

    def block(self, g: Graph, x: str, i: int) -> str:
        layers = self.layers
        return layers.block(g, x, f"blk.{i}", lambda g, y, prefix: layers.attention(g, y, prefix, layers.heads))

    def token(self, g: Graph, x: str, i: int) -> str:
        """(B, T, C) -> (B, 1, C)"""
        return g.slice(x, 1, i, i + 1)

    def patches(self, g: Graph, x: str) -> str:
        return g.slice(x, 1, self.n_special, g.shape(x)[1])

    def grid_at(self, g: Graph, x: str) -> tuple[int, int]:
        return self.layers.grid

    def heads_at(self, g: Graph, x: str) -> int:
        return self.layers.heads

    def classify_exit(self, g: Graph, y: str, x: str, prefix: str) -> str:
        """The pooling of LGViT's heads: classifiers of mean(Y) + token."""
        if self.bare:
            return self.layers.classify_mean(g, y, prefix)
        mean = g.mean(y, 1)
        rows = [g.plus(mean, g.pick(x, 1, i)) for i in range(2 if self.layers.distilled else 1)]
        return self.classify_tokens(g, rows, f"{prefix}.head")

    def final(self, g: Graph, x: str) -> str:
        """Logits (B, K)."""
        layers, pool = self.layers, self.layers.info["pool"]
        flat = (layers.batch, g.shape(x)[2])
        if pool == "mean_norm":
            mean = g.reshape(g.mean(self.patches(g, x), 1), flat[0], 1, flat[1])
            return self.classify(g, g.reshape(layers.norm(g, mean, "fc_norm"), *flat), "head.cls")
        if pool in ("class", "class_dist"):
            rows = [g.reshape(layers.norm(g, self.token(g, x, i), "norm"), *flat) for i in range(2 if pool != "class" else 1)]
            if "pool.weight" in layers.source:
                rows = [g.activate(self.classify(g, rows[0], "pool"), "tanh")]
            return self.classify_tokens(g, rows, "head")
        normed = layers.norm(g, x, "norm")
        mean = g.mean(self.patches(g, normed), 1)
        if pool == "norm_mean":
            return self.classify(g, mean, "head.cls")
        return self.classify(g, g.concat([g.pick(normed, 1, 0), mean], 1), "head.cls")

    def classify(self, g: Graph, x: str, prefix: str) -> str:
        return self.layers.linear(g, x, prefix)

    def classify_tokens(self, g: Graph, rows: list[str], prefix: str) -> str:
        """One classifier of the class token, or the mean of two."""
        self.layers.pooled = rows[0] if len(rows) == 1 else g.concat(rows, 1)
        logits = self.classify(g, rows[0], f"{prefix}.cls")
        if len(rows) == 1:
            return logits
        return g.times(g.plus(logits, self.classify(g, rows[1], f"{prefix}.dist")), g.number(0.5))
