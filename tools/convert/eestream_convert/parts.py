# SPDX-License-Identifier: MIT
"""The parts transformers are made of, recognised in the normal form: rows, LayerNorm, activations, attention, MLP."""

import math
from dataclasses import dataclass

import numpy as np

from .errors import ConvertError, NodeError
from .symbolic import Node, Value, arange, same


def refuse(where, why: str):
    """Name the ONNX node that a value or node came from."""
    node = where.sources[-1] if isinstance(where, Value) else where
    if node.origin is None:
        raise ConvertError(f"the {node.kind} of shape {node.shape}: {why}")
    raise NodeError(node.origin, why)


def expect(value: Value, kind: str, what: str) -> Node:
    """The node of this kind that all elements come from."""
    if len(value.sources) != 1 or value.node.kind != kind:
        refuse(value, f"expected {what}")
    return value.node


def rows_of(value: Value, width: int, what: str) -> np.ndarray:
    """Of a value that is whole rows of its node: which ones, in order."""
    index = value.index.reshape(-1, width)
    rows = index[:, 0] // width
    if value.node.shape[-1] != width or not np.array_equal(index, rows[:, None] * width + arange(width)):
        refuse(value, f"expected whole rows of {width} channels ({what})")
    return rows


def take_rows(value: Value, width: int, rows: np.ndarray) -> Value:
    """Rows of a value, itself if those are all."""
    n = value.size // width
    if len(rows) == n and np.array_equal(rows, arange(n)):
        return value.reshape(n, width)
    return Value(value.sources, value.index.reshape(n, width)[rows])


def peel_scales(value: Value) -> tuple[Value, float]:
    """Look through products with one number."""
    factor = 1.0
    while len(value.sources) == 1 and value.node.kind == "scale" and np.all(value.node.c == value.node.c.flat[0]):
        factor *= float(value.node.c.flat[0])
        value = value.through()
    return value, factor


# ---- LayerNorm --------------------------------------------------------------------------------------------


@dataclass
class Norm:
    gamma: np.ndarray
    beta: np.ndarray
    eps: float
    node: Node


def norm_of(value: Value, width: int, what: str) -> tuple[Norm, Value]:
    """value = LN(x): the norm, and x in the order of value's rows."""
    node = expect(value, "layernorm", f"a LayerNorm ({what})")
    rows = rows_of(value, width, what)
    return Norm(node.gamma, node.beta, node.eps, node), take_rows(node.inputs[0], width, rows)


# ---- Activations ------------------------------------------------------------------------------------------

GRID = np.linspace(-6, 6, 241)
ERF = np.vectorize(math.erf, otypes=[np.float64])
UNARY = {
    "erf": ERF,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "exp": np.exp,
    "abs": np.abs,
    "sqrt": lambda x: np.sqrt(np.maximum(x, 0)),
    "reciprocal": lambda x: 1 / x,
    "gelu": lambda x: x / 2 * (1 + ERF(x / math.sqrt(2))),
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + np.exp(-x)),
}
PAIRS = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}


class Elementwise:
    """A tree of elementwise nodes over a few other values, its leaves: a function that is known by its values."""

    def __init__(self, value: Value):
        self.leaves: list[Value] = []
        self.tree = self.grow(value)

    def leaf(self, value: Value):
        for i, known in enumerate(self.leaves):
            if same(known, value):
                return i
        self.leaves.append(value)
        return len(self.leaves) - 1

    def grow(self, value: Value):
        node = value.whole()
        if node is None or node.kind not in ("unary", "scale", "shift", *PAIRS):
            return self.leaf(value)
        if node.kind in ("scale", "shift") and not np.all(node.c == node.c.flat[0]):
            return self.leaf(value)
        return node, [self.grow(inner) for inner in node.inputs]

    def at(self, points: list[np.ndarray], tree=None) -> np.ndarray:
        tree = self.tree if tree is None else tree
        if isinstance(tree, int):
            return points[tree]
        node, inner = tree
        x = [self.at(points, branch) for branch in inner]
        if node.kind == "unary":
            return x[0] ** node.exponent if node.name == "pow" else UNARY[node.name](x[0])
        if node.kind in PAIRS:
            return PAIRS[node.kind](*x)
        c = float(node.c.flat[0])
        return x[0] * c if node.kind == "scale" else x[0] + c


def activation_of(value: Value, what: str) -> tuple[str, list[Value]]:
    """The function's name and what it is of: ("silu_gate", [a, b]) is silu(a) * b."""
    found = Elementwise(value)
    with np.errstate(all="ignore"):
        if len(found.leaves) == 1 and not isinstance(found.tree, int):
            y = found.at([GRID])
            for name in ("gelu", "gelu_tanh", "relu", "silu", "elu", "tanh"):
                if np.allclose(y, UNARY[name](GRID), rtol=0, atol=2e-6):
                    return name, found.leaves
        if len(found.leaves) == 2:
            for a, b in ((0, 1), (1, 0)):
                points = [GRID, np.cos(GRID * 3)]
                if np.allclose(found.at([points[a], points[b]]), UNARY["silu"](GRID) * points[1], rtol=0, atol=2e-6):
                    return "silu_gate", [found.leaves[a], found.leaves[b]]
    refuse(value, f"an activation that is none of gelu, tanh gelu, silu ({what})")


# ---- Linear layers ----------------------------------------------------------------------------------------


@dataclass
class Linear:
    w: np.ndarray  # (out, in)
    b: np.ndarray | None

    def rows(self, which: np.ndarray) -> "Linear":
        first = int(which[0])
        if np.array_equal(which, np.arange(first, first + len(which))):
            which = slice(first, first + len(which))
        return Linear(self.w[which], None if self.b is None else self.b[which])


def scaled_linear(value: Value, what: str) -> tuple[Linear, np.ndarray | None, Value, np.ndarray]:
    """linear(x), times a factor a channel (layer scale): the layer, the factors, x and which row of the result each row
    of value is."""
    factors = None
    if len(value.sources) == 1 and value.node.kind == "scale":
        node = value.node
        factors = np.broadcast_to(node.c, node.shape).reshape(-1, node.shape[-1])
        if np.any(factors != factors[0]):
            refuse(node, "expected one factor a channel")
        factors, value = factors[0], value.through()
    node = expect(value, "linear", f"a linear layer ({what})")
    rows = rows_of(value, node.shape[-1], what)
    return Linear(node.w, node.b), factors, node.inputs[0], rows


# ---- Attention --------------------------------------------------------------------------------------------


@dataclass
class Attention:
    q: Linear
    k: Linear
    v: Linear
    proj: Linear
    layer_scale: np.ndarray | None
    n_heads: int
    added: np.ndarray | None  # onto scores before the softmax: (windows, H, T, T)
    input: Value              # (rows, C), what the projections read, window by window
    out_rows: np.ndarray      # row of the result that each token gets


def strip_scores(value: Value) -> tuple[Node, float, np.ndarray | None]:
    """softmax's input = factor * q k^T + added."""
    factor, added = 1.0, None
    while True:
        node = value.whole()
        if node is None or node.kind not in ("scale", "shift", "matmul"):
            refuse(value, "expected the scores of an attention: a product of queries and keys, scaled, masked")
        if node.kind == "matmul":
            return node, factor, added
        if node.kind == "scale":
            if not np.all(node.c == node.c.flat[0]):
                refuse(node, "expected one scale for all scores")
            factor *= float(node.c.flat[0])
        else:
            c = np.broadcast_to(node.c, node.shape) * np.float32(factor)
            added = c if added is None else added + c.reshape(added.shape)
        value = node.inputs[0]


def projection_of(value: Value, shape: tuple[int, int, int, int], what: str) -> tuple[Linear, np.ndarray, Value]:
    """Heads (windows, H, T, D) of a linear layer: the layer's rows that make them, which row of its input each token is,
    and that input."""
    node = expect(value, "linear", f"the {what} of an attention")
    width = node.shape[-1]
    index = value.index.reshape(shape)
    rows, columns = index[:, 0, :, 0] // width, index[0, :, 0, :] % width
    if not np.array_equal(index, rows[:, None, :, None] * width + columns[None, :, None, :]):
        refuse(value, f"the {what} are not cut into heads of {shape[-1]} channels")
    return Linear(node.w, node.b).rows(columns.reshape(-1)), rows.reshape(-1), node.inputs[0]


def attention_of(value: Value, width: int, what: str) -> Attention:
    proj, factors, merged, out_rows = scaled_linear(value, f"{what}, output projection")
    product = expect(merged, "matmul", f"softmax(q k^T) v ({what})")
    weights, values = product.inputs
    softmax = weights.whole()
    if softmax is None or softmax.kind != "softmax":
        refuse(product, f"expected softmax(q k^T) v ({what})")
    t, d = product.shape[-2:]
    n_inner = proj.w.shape[1]
    n_heads = n_inner // d
    n_windows = product.size // (t * n_inner)
    shape = (n_windows, n_heads, t, d)
    order = arange(product.size).reshape(shape).transpose(0, 2, 1, 3).reshape(-1)
    if not np.array_equal(merged.index.reshape(-1), order):
        refuse(product, f"heads are not put side by side ({what})")
    scores, factor, added = strip_scores(softmax.inputs[0])
    queries, q_factor = peel_scales(scores.inputs[0])
    keys, k_factor = peel_scales(scores.inputs[1])
    keys = keys.move(lambda index: index.swapaxes(-1, -2))
    made = [projection_of(x, shape, name) for x, name in ((queries, "queries"), (keys, "keys"), (values, "values"))]
    (q, q_rows, x), (k, k_rows, x_k), (v, v_rows, x_v) = made
    if not (same(x, x_k) and same(x, x_v) and np.array_equal(q_rows, k_rows) and np.array_equal(q_rows, v_rows)):
        refuse(scores, f"queries, keys and values are not of the same tokens ({what})")
    extra = factor * q_factor * k_factor * math.sqrt(d)
    if abs(extra - 1) > 1e-5:
        q = Linear(q.w * np.float32(extra), None if q.b is None else q.b * np.float32(extra))
    if added is not None:
        added = np.broadcast_to(added.reshape(scores.shape), scores.shape).reshape(n_windows, n_heads, t, t)
        added = added if np.any(added) else None
    return Attention(q, k, v, proj, factors, n_heads, added, take_rows(x, x.shape[-1], q_rows), out_rows)


# ---- MLP --------------------------------------------------------------------------------------------------


@dataclass
class Mlp:
    fc1: list[Linear]  # one; of a gated MLP two, the gate first
    fc2: Linear
    layer_scale: np.ndarray | None
    activation: str
    input: Value


def columns_of(value: Value, what: str) -> tuple[Linear, Value]:
    """Some columns of a linear layer's result, for every row: the layer cut down to them, and its input."""
    node = expect(value, "linear", f"a linear layer before the activation ({what})")
    width = node.shape[-1]
    index = value.index.reshape(-1, value.shape[-1])
    columns = index[0] % width
    if not np.array_equal(index, arange(len(index))[:, None] * width + columns):
        refuse(value, f"expected columns of one layer ({what})")
    return Linear(node.w, node.b).rows(columns), node.inputs[0]


def mlp_of(value: Value, what: str) -> Mlp:
    fc2, factors, hidden, rows = scaled_linear(value, what)
    if not np.array_equal(rows, arange(len(rows))):
        refuse(value, f"expected one row a token ({what})")
    name, leaves = activation_of(hidden, what)
    made = [columns_of(leaf, what) for leaf in leaves]
    if not all(same(x, made[0][1]) for _, x in made):
        refuse(leaves[-1], f"the gate is of other tokens ({what})")
    return Mlp([layer for layer, _ in made], fc2, factors, name, made[0][1])
