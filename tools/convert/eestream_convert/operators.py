# SPDX-License-Identifier: MIT
"""ONNX operators that compute, into the normal form. One function an operator; `args` are the node's inputs with missing
ones as None, `a` its attributes with their defaults left out."""

import numpy as np

from . import normal
from .errors import NodeError
from .symbolic import Value

OPERATORS = {}


def operator(*names: str):
    def enter(function):
        OPERATORS.update({name: function for name in names})
        return function
    return enter


def is_constant(arg) -> bool:
    return isinstance(arg, np.ndarray)


def axis_of(axis: int, rank: int) -> int:
    return axis % rank if rank else 0


@operator("Add", "Sub", "Mul", "Div")
def arithmetic(node, args, a, opset):
    x, y = args
    op = node.op_type
    if is_constant(y):
        c = y.astype(np.float32, copy=False)
        if op in ("Add", "Sub"):
            return normal.shift(x, c if op == "Add" else -c, node)
        return normal.scale(x, c if op == "Mul" else 1 / c, node)
    if is_constant(x):
        c = x.astype(np.float32, copy=False)
        if op == "Add":
            return normal.shift(y, c, node)
        if op == "Sub":
            return normal.shift(normal.scale(y, np.float32([-1]), node).reshape(*y.shape), c, node)
        return normal.scale(y if op == "Mul" else unary_value("reciprocal", y, node), c, node)
    shape = np.broadcast_shapes(x.shape, y.shape)
    return normal.make(op.lower(), shape, [x.broadcast(shape), y.broadcast(shape)], node)


def unary_value(name: str, x: Value, node, **attrs) -> Value:
    return normal.make("unary", x.shape, [x], node, name=name, **attrs)


@operator("Erf", "Tanh", "Sigmoid", "Sqrt", "Relu", "Exp", "Reciprocal", "Abs")
def unary(node, args, a, opset):
    return unary_value(node.op_type.lower(), args[0], node)


@operator("Neg")
def negate(node, args, a, opset):
    return normal.scale(args[0], np.float32([-1]), node).reshape(*args[0].shape)


@operator("Elu")
def elu(node, args, a, opset):
    if a.get("alpha", 1.0) != 1.0:
        raise NodeError(node, f"alpha is {a['alpha']}, expected 1")
    return unary_value("elu", args[0], node)


@operator("Gelu")
def gelu(node, args, a, opset):
    return unary_value("gelu_tanh" if a.get("approximate", b"none") == b"tanh" else "gelu", args[0], node)


@operator("Pow")
def power(node, args, a, opset):
    if not is_constant(args[1]) or not normal.is_scalar(args[1]):
        raise NodeError(node, "the exponent is not one constant")
    return unary_value("pow", args[0], node, exponent=float(args[1].flat[0]))


@operator("MatMul")
def matmul(node, args, a, opset):
    x, y = args
    if is_constant(y):
        if y.ndim < 2 or y.size != y.shape[-1] * y.shape[-2]:
            raise NodeError(node, f"the constant is {y.shape}, expected one matrix")
        return normal.linear(x, y.reshape(y.shape[-2:]).T, None, node)
    if is_constant(x):
        if x.ndim < 2 or x.size != x.shape[-1] * x.shape[-2]:
            raise NodeError(node, f"the constant is {x.shape}, expected one matrix")
        w = x.reshape(x.shape[-2:])
        return normal.make("mix", (*y.shape[:-2], w.shape[0], y.shape[-1]), [y], node, w=w)
    shape = (*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1])
    return normal.make("matmul", shape, [x, y], node)


@operator("Gemm")
def gemm(node, args, a, opset):
    x, w, b = (*args, None)[:3]
    if is_constant(x) or not is_constant(w) or (b is not None and not is_constant(b)) or a.get("transA", 0):
        raise NodeError(node, "expected an activation times a constant matrix")
    alpha, beta = a.get("alpha", 1.0), a.get("beta", 1.0)
    w = w if a.get("transB", 0) else w.T
    if b is not None:
        b = normal.vector(b, w.shape[0])
        if b is None:
            raise NodeError(node, "the bias is no vector")
    return normal.linear(x, w if alpha == 1 else w * np.float32(alpha), b if b is None or beta == 1 else b * np.float32(beta),
                         node)


@operator("Conv")
def conv(node, args, a, opset):
    x, w, b = (*args, None)[:3]
    if not is_constant(w) or w.ndim != 4 or (b is not None and not is_constant(b)):
        raise NodeError(node, "expected a two-dimensional convolution with constant weights")
    if a.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID") or set(a.get("dilations", [1])) != {1}:
        raise NodeError(node, "dilations and automatic padding are not known")
    strides, pads = list(a.get("strides", [1, 1])), list(a.get("pads", [0, 0, 0, 0]))
    h, wide = ((x.shape[2 + i] + pads[i] + pads[2 + i] - w.shape[2 + i]) // strides[i] + 1 for i in (0, 1))
    return normal.make("conv", (x.shape[0], w.shape[0], h, wide), [x], node, w=w, b=b, strides=strides, pads=pads,
                       group=a.get("group", 1))


def mean_over(x: Value, axes: list[int], keepdims: bool, node) -> Value:
    rest = [i for i in range(len(x.shape)) if i not in axes]
    order = rest + sorted(axes)
    outer = [x.shape[i] for i in rest]
    moved = x if order == list(range(len(order))) else x.move(lambda index: np.transpose(index, order))
    result = normal.make("mean", outer, [moved.reshape(*outer, -1)], node)
    return result.reshape(*[1 if i in axes else n for i, n in enumerate(x.shape)]) if keepdims else result


def reduced_axes(node, args, a) -> list[int]:
    axes = args[1] if len(args) > 1 and args[1] is not None else a.get("axes")
    rank = len(args[0].shape)
    if axes is None:
        return list(range(rank))
    return [axis_of(int(axis), rank) for axis in axes]


@operator("ReduceMean", "ReduceSum")
def reduce(node, args, a, opset):
    x, axes = args[0], reduced_axes(node, args, a)
    if not axes:
        return x
    mean = mean_over(x, axes, bool(a.get("keepdims", 1)), node)
    if node.op_type == "ReduceMean":
        return mean
    return normal.scale(mean, np.float32([np.prod([x.shape[i] for i in axes])]), node).reshape(*mean.shape)


@operator("GlobalAveragePool")
def global_average_pool(node, args, a, opset):
    return mean_over(args[0], list(range(2, len(args[0].shape))), True, node)


@operator("AveragePool")
def average_pool(node, args, a, opset):
    """Kernel 1 keeps every n-th element, a kernel of the whole picture is its mean."""
    x, kernel = args[0], list(a["kernel_shape"])
    if any(a.get("pads", [0])) or a.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise NodeError(node, "padding is not known")
    if set(kernel) == {1}:
        steps = tuple(slice(None, None, n) for n in a.get("strides", [1] * len(kernel)))
        return x.move(lambda index: index[(slice(None), slice(None), *steps)])
    if kernel == list(x.shape[2:]):
        return mean_over(x, list(range(2, len(x.shape))), True, node)
    raise NodeError(node, f"kernel {kernel} is neither 1 nor the whole picture")


@operator("MaxPool")
def max_pool(node, args, a, opset):
    if any(a.get("pads", [0])) or list(a["kernel_shape"]) != [2, 2] or list(a.get("strides", [1, 1])) != [2, 2]:
        raise NodeError(node, "expected 2x2 with stride 2 and no padding")
    x = args[0]
    return normal.make("maxpool", (*x.shape[:2], x.shape[2] // 2, x.shape[3] // 2), [x], node)


@operator("LayerNormalization")
def layer_normalization(node, args, a, opset):
    x, gamma, beta = (*args, None)[:3]
    if axis_of(a.get("axis", -1), len(x.shape)) != len(x.shape) - 1 or not is_constant(gamma):
        raise NodeError(node, "expected constant factors over the last axis")
    beta = np.zeros_like(gamma) if beta is None else beta
    return normal.make("layernorm", x.shape, [x], node, gamma=gamma.reshape(-1), beta=beta.reshape(-1),
                       eps=float(a.get("epsilon", 1e-5)))


@operator("BatchNormalization")
def batch_normalization(node, args, a, opset):
    x, gamma, beta, mean, var = args[:5]
    if a.get("training_mode", 0) or not all(is_constant(c) for c in args[1:5]):
        raise NodeError(node, "it is in training mode, expected an export of model.eval()")
    return normal.make("batchnorm", x.shape, [x], node, gamma=gamma, beta=beta, mean=mean, var=var,
                       eps=float(a.get("epsilon", 1e-5)))


@operator("Softmax")
def softmax(node, args, a, opset):
    x = args[0]
    rank = len(x.shape)
    axis = axis_of(a.get("axis", -1 if opset >= 13 else 1), rank)
    if opset < 13 and any(n != 1 for n in x.shape[axis + 1:]) or opset >= 13 and axis != rank - 1:
        raise NodeError(node, f"axis {axis} of {rank}, expected the last")
    return normal.make("softmax", x.shape, [x], node)


def split_heads(x: Value, n_heads: int) -> Value:
    """[B, T, H*D] -> [B, H, T, D]; what has heads already stays."""
    if len(x.shape) == 4:
        return x
    b, t, c = x.shape
    return x.reshape(b, t, n_heads, c // n_heads).move(lambda index: index.transpose(0, 2, 1, 3))


@operator("Attention")
def attention(node, args, a, opset):
    q, k, v, mask = (*args, None)[:4]
    if any(arg is not None for arg in args[4:]) or a.get("is_causal", 0) or a.get("softcap", 0.0) or is_constant(q):
        raise NodeError(node, "expected plain attention over one frame's tokens")
    heads = a.get("q_num_heads", 0)
    flat = len(q.shape) == 3
    if a.get("kv_num_heads", heads) != heads:
        raise NodeError(node, "expected as many heads of keys as of queries")
    q, k, v = (split_heads(x, heads) for x in (q, k, v))
    d = q.shape[-1]
    kt = k.move(lambda index: index.swapaxes(-1, -2))
    scores = normal.make("matmul", (*q.shape[:-1], k.shape[-2]), [q, kt], node)
    scores = normal.scale(scores, np.float32([a.get("scale", d ** -0.5)]), node)
    if mask is not None:
        if not is_constant(mask):
            raise NodeError(node, "expected a constant mask")
        mask = np.where(mask, np.float32(0), np.float32(-np.inf)) if mask.dtype == bool else mask
        scores = normal.shift(scores, mask, node)
    weights = normal.make("softmax", scores.shape, [scores], node)
    result = normal.make("matmul", q.shape, [weights, v], node)
    if not flat:
        return result
    return result.move(lambda index: index.transpose(0, 2, 1, 3)).reshape(q.shape[0], q.shape[2], -1)


@operator("ReduceMax", "ArgMax", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "Not", "And", "Or",
          "ReduceMin", "IsNaN")
def control(node, args, a, opset):
    """What decides about exits. Its shape only matters to what follows, which is other control."""
    symbolic = [x for x in args if isinstance(x, Value)]
    if node.op_type not in ("ReduceMax", "ReduceMin", "ArgMax"):
        shape = np.broadcast_shapes(*[x.shape for x in args])
        return normal.make("control", shape, symbolic, node)
    x = args[0]
    axes = [a.get("axis", 0) % len(x.shape)] if node.op_type == "ArgMax" else reduced_axes(node, args, a)
    kept = [(1 if i in axes else n) for i, n in enumerate(x.shape) if a.get("keepdims", 1) or i not in axes]
    return normal.make("control", kept, symbolic, node)
