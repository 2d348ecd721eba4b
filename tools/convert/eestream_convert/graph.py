# SPDX-License-Identifier: MIT
"""Writing an ONNX graph: nodes, names, weights. Opset 17: LayerNormalization is there, gelu is spelled out, and every
runtime of the last years reads it."""

import math

import numpy as np
from onnx import TensorProto, helper

OPSET = 17


class Graph:
    """A graph under construction. `scope()` opens one inside it, for an arm of an If: names are unique over all of them,
    weights are the outermost graph's, and an arm uses what stands outside by name."""

    def __init__(self, outer: "Graph | None" = None):
        self.outer = outer
        self.nodes: list = []
        self.root = outer.root if outer else self
        if outer is None:
            self.weights: list[tuple[str, np.ndarray]] = []  # mapped files, read when the model is finished
            self.shapes: dict[str, tuple[int, ...]] = {}
            self.n_names = 0

    def scope(self) -> "Graph":
        return Graph(self)

    def name(self, hint: str) -> str:
        self.root.n_names += 1
        return f"{hint}.{self.root.n_names}"

    def add(self, op: str, inputs: list[str], shape: tuple[int, ...], output: str | None = None, **attrs) -> str:
        """A node with one result of this shape; @return the result's name"""
        output = output or self.name(op.lower())
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"{op}/{output}", **attrs))
        self.root.shapes[output] = tuple(shape)
        return output

    def shape(self, name: str) -> tuple[int, ...]:
        return self.root.shapes[name]

    def weight(self, name: str, array: np.ndarray) -> str:
        if name not in self.root.shapes:
            self.root.weights.append((name, array))
            self.root.shapes[name] = array.shape
        return name

    def ints(self, *values: int) -> str:
        return self.weight("ints." + ".".join(map(str, values)), np.array(values, np.int64))

    def number(self, value: float) -> str:
        return self.weight(f"number.{value!r}", np.array(value, np.float32))

    # ---- shapes -----------------------------------------------------------------------------------------------

    def reshape(self, x: str, *shape: int) -> str:
        return self.add("Reshape", [x, self.ints(*shape)], shape)

    def transpose(self, x: str, *perm: int) -> str:
        return self.add("Transpose", [x], [self.shape(x)[i] for i in perm], perm=perm)

    def slice(self, x: str, axis: int, start: int, end: int, step: int = 1) -> str:
        shape = list(self.shape(x))
        if (start, end, step) == (0, shape[axis], 1):
            return x
        shape[axis] = len(range(start, end, step))
        return self.add("Slice", [x, self.ints(start), self.ints(end), self.ints(axis), self.ints(step)], shape)

    def concat(self, parts: list[str], axis: int) -> str:
        shape = list(self.shape(parts[0]))
        shape[axis] = sum(self.shape(part)[axis] for part in parts)
        return self.add("Concat", parts, shape, axis=axis)

    def pad_ends(self, x: str, *n: int) -> str:
        """Zeros behind each axis."""
        shape = tuple(side + more for side, more in zip(self.shape(x), n))
        return self.add("Pad", [x, self.ints(*(0 for _ in n), *n)], shape) if any(n) else x

    def pick(self, x: str, axis: int, i: int) -> str:
        """x[.., i, ..], without that axis."""
        shape = self.shape(x)
        return self.reshape(self.slice(x, axis, i, i + 1), *shape[:axis], *shape[axis + 1:])

    # ---- arithmetic -------------------------------------------------------------------------------------------

    def binary(self, op: str, x: str, y: str) -> str:
        return self.add(op, [x, y], np.broadcast_shapes(self.shape(x), self.shape(y)))

    def plus(self, x: str, y: str) -> str:
        return self.binary("Add", x, y)

    def times(self, x: str, y: str) -> str:
        return self.binary("Mul", x, y)

    def unary(self, op: str, x: str, **attrs) -> str:
        return self.add(op, [x], self.shape(x), **attrs)

    def matmul(self, x: str, y: str) -> str:
        a, b = self.shape(x), self.shape(y)
        return self.add("MatMul", [x, y], (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1]))

    def mean(self, x: str, axis: int) -> str:
        shape = list(self.shape(x))
        del shape[axis]
        return self.add("ReduceMean", [x], shape, axes=[axis], keepdims=0)

    def softmax(self, x: str) -> str:
        return self.unary("Softmax", x, axis=-1)

    def activate(self, x: str, name: str) -> str:
        if name == "gelu":
            inner = self.unary("Erf", self.times(x, self.number(1 / math.sqrt(2))))
        elif name == "gelu_tanh":
            cube = self.times(self.times(self.times(x, x), x), self.number(0.044715))
            inner = self.unary("Tanh", self.times(self.plus(x, cube), self.number(math.sqrt(2 / math.pi))))
        elif name == "silu":
            return self.times(x, self.unary("Sigmoid", x))
        else:
            return self.unary({"relu": "Relu", "elu": "Elu", "tanh": "Tanh"}[name], x)
        return self.times(self.times(x, self.number(0.5)), self.plus(inner, self.number(1.0)))

    def attention(self, q: str, k: str, v: str, added: str | None = None) -> str:
        """softmax(q k^T / sqrt(D) + added) v over heads (.., T, D)."""
        d, n = self.shape(q)[-1], len(self.shape(q))
        kt = self.transpose(k, *range(n - 2), n - 1, n - 2)
        scores = self.matmul(self.times(q, self.number(d ** -0.5)), kt)
        if added:
            scores = self.plus(scores, added)
        return self.matmul(self.softmax(scores), v)


def finish(graph: Graph, inputs: list, outputs: list, doc: str):
    """The model. `inputs` and `outputs`: (name, element type, shape)."""
    def infos(entries):
        return [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in entries]

    body = helper.make_graph(graph.nodes, "eestream", infos(inputs), infos(outputs), doc_string=doc)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="eestream-convert")
    model.ir_version = 8
    while graph.weights:
        fill_tensor(model.graph.initializer.add(), *graph.weights.pop())
    return model


def fill_tensor(tensor: TensorProto, name: str, array: np.ndarray) -> None:
    """In place: a finished tensor would be copied into the model, and all weights be there twice."""
    tensor.name, tensor.data_type = name, helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor.dims.extend(array.shape)
    tensor.raw_data = np.ascontiguousarray(array).tobytes()
