# SPDX-License-Identifier: MIT
"""Exit heads that end in an MLP, of an imported graph: `mlp` and the seven branches of Multi-Exit ViT. Where the MLP begins
tells which one it is."""

import numpy as np

from .exit_heads import Grid, Stage, all_patches, linear_tensors, read_block
from .parts import Norm, activation_of, expect, mlp_of, norm_of, refuse
from .symbolic import Node, Value, same
from .vit import unwind

MIXER_EPS = 1e-6


def is_activated(x: Value) -> bool:
    """Is it an activation of a linear layer? A pooler's tanh is not meant."""
    node = x.whole()
    return node is not None and node.kind in ("unary", "scale", "mul") and node.attrs.get("name") != "tanh"


def read_mlp(head: Node) -> tuple[dict, Value]:
    """mlp.0, mlp.1, ... with gelu between them, from the last one backwards: their tensors, and what the first reads."""
    layers = [head]
    while is_activated(layers[0].inputs[0]):
        name, leaves = activation_of(layers[0].inputs[0], "an MLP of an exit")
        if name != "gelu":
            refuse(layers[0].inputs[0], f"expected gelu, found {name} (an MLP of an exit)")
        layers.insert(0, expect(leaves[0], "linear", "a layer of an exit's MLP"))
    tensors = {}
    for i, layer in enumerate(layers):
        tensors |= linear_tensors(f"mlp.{i}", layer)
    return tensors, layers[0].inputs[0]


def read_branch(stage: Stage, head: Node) -> tuple[int, str, dict] | None:
    """(block, head's name, its tensors); None: its MLP begins at none of these heads."""
    tensors, x = read_mlp(head)
    node = x.whole()
    if node is not None and node.kind == "maxpool":
        found = read_cnn(stage, node)
    elif node is not None and node.kind == "mean":
        found = read_mixing(stage, node)
    elif len(x.sources) == 1 and x.node.kind == "layernorm":
        found = read_normed_token(stage, x)
    elif len(x.sources) == 1 and id(x.node) in stage.block_of:
        found = class_block(stage, x), "mlp", {}
    else:
        return None
    block, name, own = found
    return block, name, own | tensors


def class_block(stage: Stage, token: Value) -> int:
    block, rows = stage.rows(token, "the token of an exit")
    if rows.tolist() != [0]:
        refuse(token, f"an exit of token {rows.tolist()}, expected the class token")
    return block


def norm_tensors(name: str, norm: Norm) -> dict:
    return {f"{name}.weight": norm.gamma, f"{name}.bias": norm.beta}


def read_normed_token(stage: Stage, x: Value) -> tuple[int, str, dict]:
    """mlp_ee: LN of a block's class token; vit_ee: of one more block's."""
    norm, token = norm_of(x, stage.width, "the norm of an exit")
    stage.model.agree("eps", norm.eps, norm.node)
    tensors, node = norm_tensors("norm", norm), expect(token, "add", "a block's output (an exit)")
    if id(node) in stage.block_of:
        return class_block(stage, token), "mlp_ee", tensors
    if token.index.reshape(-1).tolist() != list(range(stage.width)):
        refuse(token, "an exit with a block of its own reads another token than the class token")
    block, own = read_block(stage, Value((node,)))
    return block, "vit_ee", tensors | own


# ---- Convolutions ---------------------------------------------------------------------------------------------


def read_cnn(stage: Stage, pooled: Node) -> tuple[int, str, dict]:
    """elu(conv 3x3) of the patches, of their sums with the class token, or of a readout of both."""
    what = "a convolution of an exit"
    name, leaves = activation_of(pooled.inputs[0], what)
    if name != "elu":
        refuse(pooled, f"expected elu, found {name} ({what})")
    grid = Grid(leaves[0])
    grid.conv("conv", 3)
    n_in = grid.tensors["conv.weight"].shape[1]
    rows = grid.value.reshape(n_in, -1).move(np.transpose)
    if len(rows.sources) == 1 and id(rows.node) in stage.block_of:
        return all_patches(stage, stage.patch_rows(rows, what), rows), "cnn_ignore_ee", grid.tensors
    node = rows.whole()
    if node is not None and node.kind == "add":
        return both_tokens(stage, *node.inputs), "cnn_add_ee", grid.tensors
    name, leaves = activation_of(rows, f"{what}, readout")
    readout = expect(leaves[0], "linear", f"the readout of {what}")
    if name != "gelu":
        refuse(rows, f"expected gelu, found {name} (the readout of {what})")
    patches, token = (readout.inputs[0].reshape(-1, 2, stage.width).move(lambda index: index[:, i]) for i in (0, 1))
    return both_tokens(stage, patches, token), "cnn_project_ee", grid.tensors | linear_tensors("readout", readout)


def both_tokens(stage: Stage, a: Value, b: Value) -> int:
    """All patches, and beside each the class token."""
    (block, rows), (other, others) = (stage.rows(value, "what an exit reads") for value in (a, b))
    if not np.any(rows):
        rows, others = others, rows
    if block != other or np.any(others) or len(others) != len(rows):
        refuse(a, "expected an exit of all patches with the class token")
    return all_patches(stage, (block, rows - stage.n_special), a)


# ---- Mixing ---------------------------------------------------------------------------------------------------


def read_mixing(stage: Stage, mean: Node) -> tuple[int, str, dict]:
    """The mean over tokens of two residual sums, of which the first mixes tokens."""
    y = mean.inputs[0].reshape(stage.width, -1).move(np.transpose)
    _, sums = unwind(y)
    if len(sums) < 2:
        refuse(mean, "an exit's mean of something else than two residual sums: this head is not known")
    (_, by_token, x), (_, by_channel, u) = sums[-2:]
    block, rows = stage.rows(x, "what an exit mixes")
    if not np.array_equal(rows, np.arange(stage.n_special + stage.grid[0] * stage.grid[1])):
        refuse(mean, "expected an exit that mixes all tokens")
    factors, by_token = peel_factors(by_token)
    channel = mlp_of(by_channel, "channels of an exit")
    if channel.activation != "gelu":
        refuse(by_channel, f"expected gelu, found {channel.activation} (channels of an exit)")
    tensors = linear_tensors("channel.fc1", channel.fc1[0]) | linear_tensors("channel.fc2", channel.fc2)
    outer = turned(by_token, stage.width).whole()
    if outer is None or outer.kind != "linear":
        refuse(by_token, "expected a linear layer over tokens (an exit)")
    if channel.layer_scale is None and factors is None:
        return block, "mixer_ee", tensors | read_mixer(stage, outer, x, channel.input, u)
    ones = np.ones(stage.width, np.float32)
    tensors |= {"ls1": ones if factors is None else factors, "ls2": ones if channel.layer_scale is None else channel.layer_scale}
    tensors |= linear_tensors("token", outer)
    tensors |= read_affine("aff1", turned_back(outer.inputs[0], stage.width), x)
    return block, "resmlp_ee", tensors | read_affine("aff2", channel.input, u)


def turned(value: Value, n: int) -> Value:
    """Rows of n as columns."""
    return value.reshape(-1, n).move(np.transpose)


def turned_back(value: Value, n: int) -> Value:
    return value.reshape(n, -1).move(np.transpose)


def peel_factors(value: Value) -> tuple[np.ndarray | None, Value]:
    """Factors a channel."""
    node = value.node
    if len(value.sources) > 1 or node.kind != "scale":
        return None, value
    factors = np.broadcast_to(node.c, node.shape).reshape(-1, node.shape[-1])
    if np.any(factors != factors[0]):
        refuse(node, "expected one factor a channel (an exit)")
    return factors[0], value.through()


def read_mixer(stage: Stage, outer: Node, x: Value, normed: Value, u: Value) -> dict:
    name, leaves = activation_of(outer.inputs[0], "tokens of an exit")
    inner = expect(leaves[0], "linear", "the tokens' mixing of an exit")
    if name != "gelu":
        refuse(outer, f"expected gelu, found {name} (tokens of an exit)")
    tensors = linear_tensors("token.fc1", inner) | linear_tensors("token.fc2", outer)
    for name, value, stream in (("norm1", turned_back(inner.inputs[0], stage.width), x), ("norm2", normed, u)):
        norm, rows = norm_of(value, stage.width, "a norm of an exit")
        if not same(rows, stream) or abs(norm.eps - MIXER_EPS) > 1e-3 * MIXER_EPS:
            refuse(norm.node, f"expected LN of all tokens with epsilon {MIXER_EPS:g} (an exit)")
        tensors |= norm_tensors(name, norm)
    return tensors


def read_affine(name: str, value: Value, x: Value) -> dict:
    """weight x + bias, a channel each."""
    def along_channels(node: Node) -> np.ndarray:
        rows = np.broadcast_to(node.c, node.shape).reshape(-1, node.shape[-1])
        if np.any(rows != rows[0]):
            refuse(node, f"expected one number a channel ({name} of an exit)")
        return rows[0]
    shift = expect(value, "shift", f"{name} of an exit")
    scale = expect(shift.inputs[0], "scale", f"{name} of an exit")
    if value.whole() is None or not same(scale.inputs[0], x):
        refuse(value, f"expected {name} of all tokens (an exit)")
    return {f"{name}.weight": along_channels(scale), f"{name}.bias": along_channels(shift)}
