# SPDX-License-Identifier: MIT
"""One exit head of an imported graph: from its classifier back to the block it stands on."""

import numpy as np

from .parts import Norm, activation_of, attention_of, expect, mlp_of, norm_of, refuse, rows_of
from .symbolic import Node, Value
from .vit import Model, ends_in_linear, pooled_rows, put_attention, put_mlp, put_stack, unwind

BATCH_NORM_EPS = 1e-5
LGVIT_HEADS = 8
SWIN_VIT = LGVIT_HEADS, "gelu", 1e-12  # attention heads, activation and epsilon of the block of a Swin's `vit`


class Stage:
    """Where heads may sit: the stream behind each block of one width. A ViT is one stage."""

    def __init__(self, model: Model, sums: list, grid: tuple[int, int], width: int, n_heads: int):
        self.model, self.grid, self.width, self.n_heads = model, grid, width, n_heads
        self.n_special = 0 if model.stages else 1 + model.has_dist + model.n_registers
        self.block_of = {id(node): i // 2 + 1 for i, (node, _, _) in enumerate(sums) if i % 2}

    def rows(self, value: Value, what: str) -> tuple[int, np.ndarray]:
        """(1-based block, token numbers) of rows of a block's output."""
        node = expect(value, "add", f"a block's output ({what})")
        if id(node) not in self.block_of:
            refuse(node, f"expected a block's output ({what})")
        return self.block_of[id(node)], rows_of(value, self.width, what)

    def patch_rows(self, value: Value, what: str) -> tuple[int, np.ndarray]:
        """The same for patches, numbered from 0."""
        block, rows = self.rows(value, what)
        return block, rows - self.n_special


def stages_of(model: Model, sums: list) -> dict[int, Stage]:
    """By width."""
    if model.stages:
        return {stage["width"]: Stage(model, sums, stage["grid"], stage["width"], stage["heads"]) for stage in model.stages}
    grid = (model.image[0] // model.patch, model.image[1] // model.patch)
    return {model.width: Stage(model, sums, grid, model.width, model.n_heads)}


def linear_tensors(name: str, layer) -> dict:
    """`layer`: anything with w and b."""
    return {f"{name}.weight": layer.w, f"{name}.bias": np.zeros(len(layer.w), np.float32) if layer.b is None else layer.b}


def place_pooled(stage: Stage, head: Node) -> tuple[int, str, dict, int]:
    """A classifier of mean(Y) + token, LGViT's pooling; or of tanh(pool(class token)); or, one of two, of LN(token)."""
    x = head.inputs[0]
    node = x.whole()
    if node is not None and node.kind == "unary" and node.name == "tanh":
        pool = expect(node.inputs[0], "linear", "the pooler of an exit")
        block, name, tensors, rows = read_state(stage, pool.inputs[0])
        return block, name, tensors | linear_tensors("pool", pool), int(rows[0])
    if len(x.sources) == 1 and x.node.kind == "layernorm":
        norm, x = norm_of(x, stage.width, "the norm of an exit")
        block, name, tensors, rows = read_state(stage, x)
        return block, name, tensors | norm_tensors(stage, norm), int(rows[0])
    if node is None or node.kind != "add":
        refuse(head, "an exit whose classifier reads neither mean + token nor a pooler nor a norm: this head is not known")
    mean, token = node.inputs
    if mean.whole() is None or mean.whole().kind != "mean":
        mean, token = token, mean
    mean = expect(mean, "mean", "the mean over an exit's tokens")
    block, number = stage.rows(token, "the token an exit adds")
    y = mean.inputs[0].reshape(stage.width, -1).move(np.transpose)
    name, tensors, at = read_module(stage, y)
    if at != block:
        refuse(head, "an exit reads two blocks")
    return block, name, tensors, int(number[0])


def place_normed(stage: Stage, head: Node) -> tuple[int, str, dict, int]:
    """A classifier of mean(LN(Y)), a Swin's."""
    norm, rows, is_mean = pooled_rows(head.inputs[0], stage.width)
    if not is_mean:
        refuse(head, "an exit without a class token whose classifier reads no mean: this head is not known")
    node = rows.whole()
    if node is not None and node.kind == "add" and any(map(ends_in_linear, node.inputs)):
        block, name, tensors, _ = read_state(stage, rows)
    else:
        name, tensors, block = read_module(stage, rows)
    return block, name, tensors | norm_tensors(stage, norm), 0


def norm_tensors(stage: Stage, norm: Norm) -> dict:
    stage.model.agree("eps", norm.eps, norm.node)
    return {"norm.weight": norm.gamma, "norm.bias": norm.beta}


def read_state(stage: Stage, x: Value) -> tuple[int, str, dict, np.ndarray]:
    """Tokens of a block's output, what `linear` reads, or of one more block on it, `vit`: (block, head's name, its
    tensors, token numbers)."""
    node = expect(x, "add", "a block's output (an exit)")
    rows = rows_of(x, stage.width, "tokens of an exit")
    if id(node) in stage.block_of:
        return stage.block_of[id(node)], "linear", {}, rows
    block, tensors = read_block(stage, Value((node,)))
    return block, "vit", tensors, rows


def read_block(stage: Stage, y: Value) -> tuple[int, dict]:
    """One more block on all tokens: the backbone's kind, on a Swin one of DeiT's defaults and 8 attention heads."""
    model, (_, sums) = stage.model, unwind(y)
    if len(sums) < 2:
        refuse(y, "expected a block of two residual sums (an exit)")
    (_, attention, x), (_, mlp, inner) = sums[-2:]
    part = Model(model.image, width=stage.width)
    put_attention(part, 0, attention, x)
    put_mlp(part, 0, mlp, inner)
    activation = "gelu" if model.activation == "silu_gate" else model.activation
    n_heads, activation, eps = (stage.n_heads, activation, model.eps) if stage.n_special else SWIN_VIT
    if (part.n_heads, part.activation) != (n_heads, activation) or abs(part.eps - eps) > 1e-3 * eps:
        refuse(y, f"an exit's block has {part.n_heads} attention heads, {part.activation} and norms of epsilon {part.eps:g}, "
                  f"expected {n_heads}, {activation} and {eps:g}")
    block, rows = stage.rows(x, "an exit's input")
    if not np.array_equal(rows, np.arange(stage.n_special + stage.grid[0] * stage.grid[1])):
        refuse(y, "expected an exit's block on all tokens")
    return block, {name.replace("blk.0.", "blk."): value for name, value in stacked(part).items()}


def stacked(part: Model) -> dict:
    return {key: np.concatenate(value) if isinstance(value, list) else value for key, value in part.tensors.items()}


def read_module(stage: Stage, y: Value) -> tuple[str, dict, int]:
    if len(y.sources) == 1 and y.node.kind == "linear":
        attends = y.node.inputs[0].sources[0].kind == "matmul"
        return read_attention(stage, y) if attends else read_dummy_mlp(stage, y)
    node = y.whole()
    if node is not None and node.kind == "add":
        a, b = node.inputs
        branch, patches = (b, a) if a.sources[0].kind == "add" and len(a.sources) == 1 else (a, b)
        return read_perception(stage, branch, patches)
    return read_conv_normal(stage, y)


def read_dummy_mlp(stage: Stage, y: Value) -> tuple[str, dict, int]:
    what = "an MLP of each patch of an exit"
    found = mlp_of(y, what)
    if found.activation != "relu" or found.layer_scale is not None:
        refuse(y, f"expected relu, found {found.activation} ({what})")
    tensors = linear_tensors("fc1", found.fc1[0]) | linear_tensors("fc2", found.fc2)
    return "dummy_mlp", tensors, all_patches(stage, stage.patch_rows(found.input, what), y)


def kept_rows(grid: tuple[int, int], ratio: int) -> np.ndarray:
    return np.arange(grid[0] * grid[1]).reshape(grid)[::ratio, ::ratio].reshape(-1)


def read_attention(stage: Stage, y: Value) -> tuple[str, dict, int]:
    """Global aggregation: 8 heads without bias over rows and columns 0, r, 2r, ..., or the stage's own attention."""
    what = "attention of an exit"
    found = attention_of(y, stage.width, what)
    block, rows = stage.patch_rows(found.input, what)
    ratio = next((r for r in range(1, 10) if np.array_equal(rows, kept_rows(stage.grid, r))), 0)
    has_bias = found.q.b is not None
    if has_bias and ratio == 1 and found.n_heads == stage.n_heads:
        name = "self_attention"
    elif ratio and found.n_heads == LGVIT_HEADS and not has_bias:
        name = f"attention_r{ratio}"
    else:
        refuse(y, f"an attention of {found.n_heads} heads over {len(rows)} patches is no exit head that is known")
    part = Model(stage.model.image)
    put_stack(part, "attn.qkv", [found.q, found.k, found.v])
    part.put("attn.proj", found.proj)
    return name, stacked(part), block


class Grid:
    """Walks down a head's convolutions; BatchNorms that an exporter folded into them become ones that do nothing."""

    def __init__(self, value: Value):
        self.value, self.tensors = value, {}

    def batch_norm(self, name: str) -> None:
        node = self.value.whole()
        n = self.value.shape[1] if node is None else node.shape[1]
        gamma, beta, mean, var = np.ones(n), np.zeros(n), np.zeros(n), np.full(n, 1 - BATCH_NORM_EPS)
        if node is not None and node.kind == "batchnorm":
            gamma, beta, mean, var = node.gamma, node.beta, node.mean, node.var + (node.eps - BATCH_NORM_EPS)
            self.value = node.inputs[0]
        for ending, array in zip(("weight", "bias", "running_mean", "running_var"), (gamma, beta, mean, var)):
            self.tensors[f"{name}.{ending}"] = array.astype(np.float32)

    def conv(self, name: str, kernel: int, grouped: bool = False) -> None:
        node = expect(self.value, "conv", f"a convolution of an exit ({name})")
        pad = kernel // 2
        if node.w.shape[2:] != (kernel, kernel) or node.strides != [1, 1] or node.pads != [pad] * 4 or \
                node.group != (node.shape[1] if grouped else 1):
            refuse(node, f"expected a {kernel} x {kernel} convolution with stride 1 ({name})")
        self.tensors[f"{name}.weight"] = node.w
        self.tensors[f"{name}.bias"] = np.zeros(len(node.w), np.float32) if node.b is None else node.b
        self.value = node.inputs[0]

    def gelu(self, what: str) -> None:
        name, leaves = activation_of(self.value, what)
        if name != "gelu":
            refuse(self.value, f"expected gelu, found {name} ({what})")
        self.value = leaves[0]

    def input_rows(self, stage: Stage) -> tuple[int, np.ndarray]:
        """The patches the first convolution reads, from (C, h, w) back to rows."""
        return stage.patch_rows(self.value.reshape(stage.width, -1).move(np.transpose), "an exit's input")


def on_grid(stage: Stage, rows: Value) -> Value:
    """Tokens in rows that are a convolution's result, as (1, C, h, w)."""
    return rows.reshape(-1, stage.width).move(np.transpose).reshape(1, stage.width, *stage.grid)


def all_patches(stage: Stage, place: tuple[int, np.ndarray], where) -> int:
    block, rows = place
    if not np.array_equal(rows, np.arange(stage.grid[0] * stage.grid[1])):
        refuse(where, "expected an exit on all patches")
    return block


def read_perception(stage: Stage, branch: Value, patches: Value) -> tuple[str, dict, int]:
    """conv1_1 and conv2_1: two 1x1 convolutions, with or without a depthwise one between them, and a residual."""
    grid = Grid(on_grid(stage, branch))
    grid.batch_norm("bn3")
    grid.conv("conv2", 1)
    has_dw = has_depthwise(grid.value)
    if has_dw:
        grid.batch_norm("bn2")
        grid.gelu("an exit, behind the depthwise convolution")
        grid.conv("dw", 3, grouped=True)
    grid.batch_norm("bn1")
    grid.gelu("an exit, behind the first convolution")
    grid.conv("conv1", 1)
    block = all_patches(stage, grid.input_rows(stage), branch)
    if all_patches(stage, stage.patch_rows(patches, "an exit's residual"), patches) != block:
        refuse(branch, "an exit reads two blocks")
    return "conv1_1" if has_dw else "conv2_1", grid.tensors, block


def has_depthwise(value: Value) -> bool:
    inner = value.whole()
    inner = inner.inputs[0] if inner is not None and inner.kind == "batchnorm" else value
    _, leaves = activation_of(inner, "an exit, behind a convolution")
    node = leaves[0].whole()
    return node is not None and node.kind == "conv" and node.group > 1


def read_conv_normal(stage: Stage, y: Value) -> tuple[str, dict, int]:
    grid = Grid(on_grid(stage, y))
    grid.batch_norm("bn1")
    grid.gelu("an exit, behind its convolution")
    grid.conv("conv", 3)
    return "conv_normal", grid.tensors, all_patches(stage, grid.input_rows(stage), y)
