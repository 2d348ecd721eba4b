# SPDX-License-Identifier: MIT
"""Running a graph without numbers.

An array of activations is a `Value`: which elements of which nodes' results it holds, and in which order. Everything
that only moves elements (reshape, transpose, slice, split, concat, pad, gather, ...) is run on these indices by ONNX's
own reference code, whatever the opset; so how a graph cuts heads or windows is no pattern to match but an index array to
compare. What computes makes a new `Node`. Constants stay numpy arrays and are computed with, so they fold by themselves.
"""

from dataclasses import dataclass, field

import numpy as np

_arange = np.zeros(0, np.int32)


def arange(n: int) -> np.ndarray:
    """0 .. n-1, a view of one array that all share."""
    global _arange
    if len(_arange) < n:
        _arange = np.arange(max(n, 2 * len(_arange)), dtype=np.int32)
    return _arange[:n]


@dataclass(eq=False)
class Node:
    """A result. Kinds: see normal.py; "input" is the image, "const" an array among activations."""

    kind: str
    shape: tuple[int, ...]
    inputs: tuple["Value", ...] = ()
    attrs: dict = field(default_factory=dict)
    origin: object = None  # the NodeProto

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def __getattr__(self, name: str):
        try:
            return self.__dict__["attrs"][name]
        except KeyError:
            raise AttributeError(name)


class Value:
    """Elements `index` of the concatenated results of `sources`; index None: all, in order."""

    def __init__(self, sources: tuple[Node, ...], index: np.ndarray | None = None, shape=None):
        self.sources = sources
        self._index = index
        self.shape = tuple(shape if shape is not None else index.shape if index is not None else sources[0].shape)

    @property
    def index(self) -> np.ndarray:
        if self._index is None:
            return arange(self.sources[0].size).reshape(self.shape)
        return self._index

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def node(self) -> Node:
        return self.sources[0]

    def whole(self) -> Node | None:
        """The node this is all of, in order, whatever the shape."""
        if len(self.sources) > 1:
            return None
        if self._index is None:
            return self.node
        flat = self._index.reshape(-1) if self.size == self.node.size else None
        return self.node if flat is not None and np.array_equal(flat, arange(flat.size)) else None

    def reshape(self, *shape: int) -> "Value":
        if self._index is None:
            known = int(np.prod([n for n in shape if n >= 0], dtype=np.int64))
            return Value(self.sources, None, [n if n >= 0 else self.size // known for n in shape])
        return Value(self.sources, self._index.reshape(shape))

    def move(self, function) -> "Value":
        return narrow(self.sources, function(self.index))

    def broadcast(self, shape: tuple[int, ...]) -> "Value":
        return self if self.shape == tuple(shape) else Value(self.sources, np.broadcast_to(self.index, shape))

    def through(self) -> "Value":
        """These elements in the input of an elementwise node they all come from."""
        inner = self.node.inputs[0]
        if self._index is None:
            return inner.reshape(*self.shape)
        return Value(inner.sources, inner.index.reshape(-1)[self._index])

    def split(self) -> list[tuple[Node, np.ndarray, np.ndarray]]:
        """(node, where in this value as flat positions, which elements of the node) for each source."""
        flat, start, parts = self.index.reshape(-1), 0, []
        for node in self.sources:
            where = np.flatnonzero((flat >= start) & (flat < start + node.size))
            if len(where):
                parts.append((node, where, flat[where] - start))
            start += node.size
        return parts


def narrow(sources: tuple[Node, ...], index: np.ndarray) -> Value:
    """Leave out sources that no element comes from any more."""
    if len(sources) == 1:
        return Value(sources, index)
    bounds = np.cumsum([0] + [node.size for node in sources])
    used = np.unique(np.searchsorted(bounds, index.reshape(-1), side="right") - 1)
    if len(used) == len(sources):
        return Value(sources, index)
    shift, start = np.zeros(len(sources), np.int32), 0
    for k in used:
        shift[k] = start - bounds[k]
        start += sources[k].size
    owner = np.searchsorted(bounds, index, side="right") - 1
    return Value(tuple(sources[k] for k in used), (index + shift[owner]).astype(np.int32))


def constant(array: np.ndarray) -> Value:
    """A constant among activations."""
    return Value((Node("const", array.shape, (), {"array": array}),))


ZERO = Node("const", (1,), (), {"array": np.zeros(1, np.float32)})


def join(values: list[Value]) -> tuple[tuple[Node, ...], list[np.ndarray]]:
    """One list of sources for several values, and their indices in it. Element 0 is the constant zero."""
    sources, starts, end = [ZERO], {id(ZERO): 0}, 1
    indices = []
    for value in values:
        shift, begin, parts = value.index, 0, []
        for node in value.sources:
            if id(node) not in starts:
                starts[id(node)] = end
                sources.append(node)
                end += node.size
            parts.append((begin, begin + node.size, starts[id(node)] - begin))
            begin += node.size
        moved = np.empty(value.shape, np.int32)
        for first, last, offset in parts:
            if len(parts) == 1:
                np.add(shift, offset, out=moved)
            else:
                inside = (shift >= first) & (shift < last)
                moved[inside] = shift[inside] + offset
        indices.append(moved)
    return tuple(sources), indices


def same(a: Value, b: Value) -> bool:
    """The same elements in the same order, whatever the shape."""
    if a is b:
        return True
    if a.size != b.size or len(a.sources) != len(b.sources) or any(x is not y for x, y in zip(a.sources, b.sources)):
        return False
    if a._index is None and b._index is None:
        return True
    return np.array_equal(a.index.reshape(-1), b.index.reshape(-1))
