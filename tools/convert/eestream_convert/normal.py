# SPDX-License-Identifier: MIT
"""The normal form of what computes. ONNX spells one thing in many ways; these constructors make one node of it.

    linear      x [.., in] W^T + b           w (out, in), b (out,) or None
    conv        x [1, in, h, w]              w, b, strides, pads, group
    matmul      of two activations           [.., n, k] x [.., k, m]
    mix         W x over the last but one axis, W constant (n, m)
    shift       x + c       scale   x * c    c constant, of x's shape by broadcasting
    add sub mul div         of two activations of one shape
    mean        over the last axis of the input, which is gone in the result
    layernorm   over the last axis           gamma, beta, eps
    batchnorm   over axis 1                  gamma, beta, mean, var, eps
    softmax     over the last axis
    unary       name: erf, tanh, gelu, ...   with attrs of its own
    control     what only decides: comparisons, maxima
"""

import numpy as np

from .symbolic import Node, Value


def make(kind: str, shape, inputs, origin, **attrs) -> Value:
    return Value((Node(kind, tuple(int(n) for n in shape), tuple(inputs), attrs, origin),))


def kind_of(value: Value) -> str:
    node = value.whole()
    return node.kind if node else ""


def linear(x: Value, w: np.ndarray, b: np.ndarray | None, origin) -> Value:
    return make("linear", (*x.shape[:-1], w.shape[0]), [x], origin, w=w, b=b)


def is_scalar(c: np.ndarray) -> bool:
    return c.size > 0 and bool(np.all(c == c.flat[0]))


def vector(c: np.ndarray, n: int) -> np.ndarray | None:
    """A constant that only depends on the last axis, as (n,)."""
    if c.size == 1:
        return np.full(n, c.reshape(-1)[0], c.dtype)
    return c.reshape(-1) if c.ndim and c.shape[-1] == c.size == n else None


def shift(x: Value, c: np.ndarray, origin) -> Value:
    """x + c, which ends a linear layer or a LayerNorm spelled out."""
    shape = np.broadcast_shapes(x.shape, c.shape)
    node, bias = x.whole(), vector(c, shape[-1]) if shape else None
    if node and bias is not None and shape == x.shape and node.shape[-1:] == x.shape[-1:]:
        if node.kind == "linear" and node.b is None:
            return linear(node.inputs[0], node.w, bias, node.origin).reshape(*shape)
        norm = spelled_layernorm(node, bias)
        if norm:
            return norm.reshape(*shape)
    return make("shift", shape, [x.broadcast(shape)], origin, c=c)


def scale(x: Value, c: np.ndarray, origin) -> Value:
    shape = np.broadcast_shapes(x.shape, c.shape)
    return make("scale", shape, [x.broadcast(shape)], origin, c=c)


def unbroadcast(value: Value) -> Node | None:
    """The node whose rows a value repeats along its last axis: [.., n] of [.., 1]."""
    index = value.index
    if index.ndim == 0 or not np.array_equal(index, np.broadcast_to(index[..., :1], index.shape)):
        return None
    return Value(value.sources, index[..., 0]).whole()


def spelled_layernorm(node: Node, beta: np.ndarray) -> Value | None:
    """shift of: (x - mean x) / sqrt(mean (x - mean x)^2 + eps) * gamma, in PyTorch's order of operations."""
    def inner(value: Value, kind: str) -> Node | None:
        found = value.whole()
        return found if found and found.kind == kind else None

    gamma = vector(node.c, node.shape[-1]) if node.kind == "scale" else None
    ratio = inner(node.inputs[0], "div") if gamma is not None else None
    centred = inner(ratio.inputs[0], "sub") if ratio else None
    root = unbroadcast(ratio.inputs[1]) if centred else None
    if not root or root.kind != "unary" or root.name != "sqrt":
        return None
    variance = inner(root.inputs[0], "shift")
    mean = inner(variance.inputs[0], "mean") if variance and is_scalar(variance.c) else None
    square = inner(mean.inputs[0], "unary") if mean else None
    squared = inner(square.inputs[0], "sub") if square and square.name == "pow" and square.exponent == 2 else None
    average = unbroadcast(centred.inputs[1])
    if squared is not centred or not average or average.kind != "mean" or average.inputs[0].size != centred.size:
        return None
    x = centred.inputs[0]
    return make("layernorm", node.shape, [x], centred.origin, gamma=gamma, beta=beta, eps=float(variance.c.flat[0]))
