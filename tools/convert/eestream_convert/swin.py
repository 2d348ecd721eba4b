# SPDX-License-Identifier: MIT
"""Swin, recognised from its logits backwards: stages of window attention, merges between them, no class token."""

import math

import numpy as np

from .parts import attention_of, expect, mlp_of, norm_of, refuse
from .symbolic import Node, Value, arange, same
from .vit import Model, put_patches, put_stack, unwind
from .windows import Windows, merge_rows


def rows_or_zeros(value: Value, width: int, what: str) -> tuple[Node, np.ndarray]:
    """Rows of one node among rows of zeros: that node, and which row each is; as many as there are for zeros."""
    index = value.index.reshape(-1, width)
    start, found, zeros = 0, None, np.zeros(len(index), bool)
    for node in value.sources:
        inside = (index[:, 0] >= start) & (index[:, 0] < start + node.size)
        if node.kind == "const" and not np.any(node.array):
            zeros |= inside
        elif found is None:
            found, first = node, start
        else:
            refuse(node, f"expected rows of one LayerNorm and zeros ({what})")
        start += node.size
    if found is None:
        refuse(value, f"expected rows of a LayerNorm ({what})")
    rows = (index[:, 0] - first) // width
    if not np.array_equal(index[~zeros], first + rows[~zeros, None] * width + arange(width)):
        refuse(found, f"expected whole rows of {width} channels ({what})")
    return found, np.where(zeros, found.size // width, rows)


def split_stages(x: Value) -> tuple[Value, list[tuple[list, Node | None]]]:
    """The first block's input, and for each stage its residual sums and the merge's linear layer in front of it."""
    stages = []
    while True:
        first, sums = unwind(x)
        merge = first.whole()
        merge = merge if merge is not None and merge.kind == "linear" else None
        stages.append((sums, merge))
        if merge is None:
            return first, stages[::-1]
        norm = expect(merge.inputs[0], "layernorm", "a LayerNorm between two stages")
        x = Value(tuple(node for node in norm.inputs[0].sources if node.kind != "const"))
        if len(x.sources) != 1:
            refuse(norm, "expected the tokens of one stage to be merged")


def find_windows(tokens: np.ndarray, grid: tuple[int, int], where) -> Windows:
    """The windows that put tokens so. Hugging Face's rules: shifted by half a window, after the padding."""
    side = math.isqrt(tokens.shape[1])
    for shift in (0, side // 2):
        windows = Windows(grid, (side, side), (shift, shift))
        if side * side == tokens.shape[1] and windows.tokens().shape == tokens.shape and \
                np.array_equal(windows.tokens(), tokens):
            return windows
    refuse(where, f"windows of {tokens.shape[1]} of {grid[0]} x {grid[1]} tokens are cut in a way that is not known: a square, "
                  "shifted by half of it or not; a grid that has to be padded, padded before it is shifted")


def relative_table(added: np.ndarray, windows: Windows, where) -> np.ndarray:
    """The table of relative positions that was added to the scores, beside the mask."""
    mask = windows.mask()
    bias = added if mask is None else added - mask[:, None]
    if np.abs(bias - bias[:1]).max() > 1e-4:
        refuse(where, "what is added to the scores differs from window to window in another way than a shift's mask")
    rows, values = windows.relative().reshape(-1), bias[0].reshape(added.shape[1], -1).T
    table = np.zeros(((2 * windows.window[0] - 1) * (2 * windows.window[1] - 1), added.shape[1]), np.float32)
    table[rows] = values
    if np.abs(table[rows] - values).max() > 1e-4:
        refuse(where, "what is added to the scores is no function of relative positions")
    return table


class SwinReader:
    def __init__(self, model: Model):
        self.model, self.block = model, 0

    def stage(self, x: Value, sums: list, grid: tuple[int, int]) -> dict:
        model = self.model
        if not sums or len(sums) % 2:
            refuse(x, f"expected blocks of two residual sums each, found {len(sums)} sums in a stage")
        model.n_heads = model.mlp_width = 0
        width = sums[0][0].shape[-1]
        for i in range(0, len(sums), 2):
            self.put_attention(sums[i][1], sums[i][2], grid, width)
            self.put_mlp(sums[i + 1][1], sums[i + 1][2], width)
            self.block += 1
        if abs(model.mlp_width / width - model.mlp_ratio) > 1e-9 and model.mlp_ratio:
            refuse(x, f"the MLPs are {model.mlp_width} wide, expected {model.mlp_ratio} times the width {width} as before")
        model.mlp_ratio = model.mlp_width / width
        return {"depth": len(sums) // 2, "heads": model.n_heads, "width": width, "grid": grid}

    def put_attention(self, branch: Value, x: Value, grid: tuple[int, int], width: int) -> None:
        what, prefix, model = f"attention of block {self.block}", f"blk.{self.block}", self.model
        found = attention_of(branch, width, what)
        node, rows = rows_or_zeros(found.input, width, what)
        if node.kind != "layernorm":
            refuse(node, f"expected a LayerNorm ({what})")
        norm, inner = norm_of(Value((node,)), width, what)
        windows = find_windows(rows.reshape(found.n_windows, -1), grid, node)
        n = grid[0] * grid[1]
        if not same(inner, x) or not np.array_equal(rows[found.out_rows], np.arange(n)):
            refuse(branch, f"expected each token to get the result of its own place in a window ({what})")
        added = found.added if found.added is not None else np.zeros((1, found.n_heads, rows.size // found.n_windows, 1))
        side = windows.window[0]
        model.agree("window", side, node)
        self.check_shift(windows, grid, node)
        model.agree("n_heads", found.n_heads, node)
        model.put(f"{prefix}.norm1", norm)
        put_stack(model, f"{prefix}.attn.qkv", [found.q, found.k, found.v])
        model.put(f"{prefix}.attn.proj", found.proj)
        full = np.broadcast_to(added, (found.n_windows, found.n_heads, side * side, side * side))
        model.tensors[f"{prefix}.attn.rel_bias"] = relative_table(full, windows, node)

    def check_shift(self, windows: Windows, grid: tuple[int, int], where) -> None:
        """Every second block of a stage is shifted, where the grid is larger than a window."""
        expected = self.in_stage % 2 == 1 and min(grid) > windows.window[0]
        if expected != any(windows.shift):
            refuse(where, f"block {self.block} is {'not ' if expected else ''}shifted, expected every second one of a stage "
                          "whose grid is larger than a window")
        self.in_stage += 1

    def put_mlp(self, branch: Value, x: Value, width: int) -> None:
        what, prefix, model = f"MLP of block {self.block}", f"blk.{self.block}", self.model
        found = mlp_of(branch, what)
        norm, inner = norm_of(found.input, width, what)
        if not same(inner, x) or len(found.fc1) != 1 or found.layer_scale is not None:
            refuse(branch, f"expected the MLP of the stream, neither gated nor scaled ({what})")
        model.agree("activation", found.activation, norm.node)
        model.agree("mlp_width", found.fc2.w.shape[1], norm.node)
        model.put(f"{prefix}.norm2", norm)
        model.put(f"{prefix}.mlp.fc1", found.fc1[0])
        model.put(f"{prefix}.mlp.fc2", found.fc2)

    def put_merge(self, s: int, merge: Node, grid: tuple[int, int]) -> None:
        what, width = f"merge {s}", merge.w.shape[1]
        norm_node = expect(merge.inputs[0], "layernorm", f"a LayerNorm ({what})")
        norm, x = norm_of(merge.inputs[0], width, what)
        node, rows = rows_or_zeros(x, width // 4, what)
        if not np.array_equal(rows.reshape(-1, 4), merge_rows(grid)) or merge.b is not None:
            refuse(norm_node, f"expected 2 x 2 tokens side by side, columns of two rows first, and no bias ({what})")
        self.model.tensors |= {f"merge.{s}.norm.weight": norm.gamma, f"merge.{s}.norm.bias": norm.beta,
                               f"merge.{s}.reduce.weight": merge.w}


def put_embedding(model: Model, first: Value, image: Node) -> tuple[int, int]:
    """@return the first stage's grid"""
    node = expect(first, "layernorm", "the patches' LayerNorm in front of the first block")
    c = node.shape[-1]
    norm, x = norm_of(first, c, "embedding")
    conv = expect(x, "conv", "one patch convolution")
    n = conv.shape[2] * conv.shape[3]
    if not np.array_equal(x.index.reshape(n, c), arange(c)[None, :] * n + arange(n)[:, None]):
        refuse(conv, "expected its patches row by row")
    put_patches(model, conv, image)
    model.tensors |= {"embed.norm.weight": norm.gamma, "embed.norm.bias": norm.beta}
    return conv.shape[2], conv.shape[3]


def read_swin(model: Model, stream: Value, image: Node) -> list:
    """Everything in front of the final norm. @return the residual sums of all blocks"""
    first, stages = split_stages(stream)
    grid, reader = put_embedding(model, first, image), SwinReader(model)
    for s, (sums, merge) in enumerate(stages):
        if merge is not None:
            reader.put_merge(s - 1, merge, grid)
            grid = (-(-grid[0] // 2), -(-grid[1] // 2))
        reader.in_stage = 0
        model.stages.append(reader.stage(first, sums, grid))
    model.n_blocks, model.pool = reader.block, "norm_mean"
    model.qkv_bias = "blk.0.attn.qkv.bias" in model.tensors
    return [entry for sums, _ in stages for entry in sums]
