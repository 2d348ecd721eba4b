# SPDX-License-Identifier: MIT
"""From an ONNX graph to `Value`s: evaluates what an output needs, in the graph's order, so that the first node that can't
be read is the one named."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from . import symbolic
from .errors import ConvertError, NodeError
from .operators import OPERATORS
from .reference import run_node
from .symbolic import Node, Value, same

# Operators that only move elements, and which of their inputs are moved.
MOVERS = {name: (0,) for name in ("Identity", "Dropout", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice",
                                  "Split", "Gather", "GatherND", "Expand", "Tile", "Pad", "DepthToSpace", "SpaceToDepth")}
MOVERS |= {"Concat": None, "Where": (1, 2), "ScatterND": (0, 2), "ScatterElements": (0, 2)}


class Branch:
    """An `If` whose condition only a run can tell: what its outputs are if it copies, and if it computes."""

    def __init__(self, node, condition: Value, copied: list, computed: list):
        self.node, self.condition, self.copied, self.computed = node, condition, copied, computed


class Walk:
    def __init__(self, model: onnx.ModelProto, tensors: dict[str, np.ndarray], image_size: tuple[int, int] | None):
        self.model = model
        self.opset = {entry.domain: entry.version for entry in model.opset_import}
        self.values: dict[str, object] = dict(tensors)
        self.branches: list[Branch] = []
        self.image = self.open_inputs(image_size)

    def open_inputs(self, image_size) -> Node:
        """One picture (1, 3, H, W); anything else that is fed, like thresholds, only decides."""
        image = None
        for info in self.model.graph.input:
            if info.name in self.values:
                continue
            shape = self.input_shape(info, image_size)
            if image is None and len(shape) == 4:
                image = Node("input", shape)
                self.values[info.name] = Value((image,))
            else:
                self.values[info.name] = Value((Node("control", shape),))
        if image is None:
            raise ConvertError("the graph has no input of four dimensions, expected a picture (1, 3, H, W)")
        if image.shape[:2] != (1, 3):
            raise ConvertError(f"the picture is {image.shape}, expected (1, 3, H, W): export with a batch of 1 and RGB")
        return image

    @staticmethod
    def input_shape(info, image_size) -> tuple[int, ...]:
        """Unknown sizes: a batch is 1, the picture's sides are as asked for."""
        shape = [entry.dim_value or None for entry in info.type.tensor_type.shape.dim]
        if len(shape) == 4 and None in shape[2:] and image_size is None:
            raise ConvertError(f"input '{info.name}' has no fixed size: give --image-size")
        if len(shape) == 4:
            shape = [shape[0] or 1, shape[1] or 3, *(given or asked for given, asked in
                                                     zip(shape[2:], image_size or (None, None)))]
        return tuple(n or 1 for n in shape)

    # ---- evaluation ---------------------------------------------------------------------------------------

    def run(self, output: str) -> Value:
        graph = self.model.graph
        self.run_nodes(graph.node, {output})
        if output not in self.values:
            raise ConvertError(f"the graph has no tensor '{output}'; its outputs are "
                               + ", ".join(f"'{info.name}'" for info in graph.output))
        return self.values[output]

    def run_nodes(self, nodes, outputs: set[str]) -> None:
        needed = set(outputs)
        chosen = []
        for node in reversed(nodes):
            if needed.intersection(node.output):
                chosen.append(node)
                needed.update(captured_names(node))
        for node in reversed(chosen):
            if any(name and name not in self.values for name in node.output):
                self.run_node(node)

    def run_node(self, node) -> None:
        args = [self.values[name] if name else None for name in node.input]
        try:
            results = self.evaluate(node, args)
        except ConvertError:
            raise
        except Exception as error:
            raise NodeError(node, f"can't be evaluated ({type(error).__name__}: {error})")
        self.values.update(zip(node.output, results))

    def evaluate(self, node, args: list) -> list:
        if node.op_type == "If":
            return self.run_if(node, args[0])
        moved = [i for i, arg in enumerate(args) if isinstance(arg, Value)]
        if node.domain not in ("", "ai.onnx"):
            raise NodeError(node, f"operators of domain '{node.domain}' are not known")
        if not moved:
            return self.run_reference(node, args)
        if node.op_type in ("Shape", "Size"):
            return self.run_reference(node, [np.broadcast_to(np.float32(0), args[0].shape)])
        if node.op_type == "Cast":
            return [self.cast(node, args[0])]
        if node.op_type in MOVERS:
            return self.run_mover(node, args, moved)
        if node.op_type not in OPERATORS:
            raise NodeError(node, "this operator is not known")
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        if any(value.node.kind == "control" for value in args if isinstance(value, Value)):
            return [control_like(node, args)]
        return [OPERATORS[node.op_type](node, args, attributes, self.opset.get("", 1))]

    def run_reference(self, node, arrays: list) -> list:
        """ONNX's own code, for constants and for indices."""
        if node.op_type == "Constant" and node.attribute[0].type == onnx.AttributeProto.TENSOR:
            return [numpy_helper.to_array(node.attribute[0].t)]
        return run_node(node, arrays, self.opset.get("", 1))

    def run_mover(self, node, args: list, moved: list[int]) -> list:
        data = MOVERS[node.op_type]
        data = tuple(range(len(args))) if data is None else data
        if node.op_type == "Where" and guards_nan(args):
            return [args[2]]
        if any(i not in data for i in moved):
            return [control_like(node, args)] if node.op_type in ("Where", "ScatterElements", "ScatterND", "Expand") \
                else self.refuse_moved(node)
        if node.op_type == "Pad" and not pads_zeros(node, args):
            raise NodeError(node, "only padding with zeros is known")
        plain = len(args[0].shape) if isinstance(args[0], Value) else 0
        if node.op_type in ("Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Flatten") and plain:
            empty = np.broadcast_to(np.int8(0), args[0].shape)
            shape = self.run_reference(node, [empty, *args[1:]])[0].shape
            return [args[0].reshape(*shape)]
        values = [args[i] if isinstance(args[i], Value) else symbolic.constant(args[i]) for i in data]
        sources, indices = symbolic.join(values) if len(values) > 1 or node.op_type == "Pad" else \
            (values[0].sources, [values[0].index])
        arrays = list(args)
        for i, index in zip(data, indices):
            arrays[i] = index
        if node.op_type == "Pad" and len(arrays) > 2 and arrays[2] is not None:
            arrays[2] = np.int32(0)
        return [symbolic.narrow(sources, np.asarray(result)) for result in self.run_reference(node, arrays)]

    @staticmethod
    def refuse_moved(node):
        raise NodeError(node, "where it takes elements from depends on the picture")

    def cast(self, node, x: Value) -> Value:
        """Between float types the network stays as it is; anything else decides."""
        to = next(entry.i for entry in node.attribute if entry.name == "to")
        if to in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE):
            return x
        return control_like(node, [x])

    # ---- branches -----------------------------------------------------------------------------------------

    def run_if(self, node, condition) -> list:
        arms = {entry.name: entry.g for entry in node.attribute}
        if not isinstance(condition, Value):
            arm = arms["then_branch" if bool(np.asarray(condition).reshape(-1)[0]) else "else_branch"]
            return self.run_arm(arm)
        results = {}
        for name, arm in sorted(arms.items(), key=lambda item: -count_nodes(item[1])):  # the one that computes first
            results[name] = self.run_arm(arm)
        computed, copied = results.values()
        self.branches.append(Branch(node, condition, copied, computed))
        return computed

    def run_arm(self, graph) -> list:
        names = [info.name for info in graph.output]
        self.run_nodes(graph.node, set(names))
        return [self.values[name] for name in names]


def control_like(node, args: list) -> Value:
    symbolic_args = [x for x in args if isinstance(x, Value)]
    shape = np.broadcast_shapes(*[x.shape for x in args if x is not None])
    return Value((Node("control", shape, tuple(symbolic_args), {}, node),))


def guards_nan(args: list) -> bool:
    """Where(IsNaN(x), 0, x), PyTorch's guard for rows that are masked altogether."""
    test = args[0].node if isinstance(args[0], Value) else None
    return test is not None and test.kind == "control" and test.origin is not None and test.origin.op_type == "IsNaN" \
        and isinstance(args[2], Value) and same(test.inputs[0], args[2])


def pads_zeros(node, args: list) -> bool:
    attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    value = args[2] if len(args) > 2 and args[2] is not None else attributes.get("value", 0.0)
    return attributes.get("mode", b"constant") == b"constant" and not isinstance(value, Value) and not np.any(value)


def captured_names(node) -> set[str]:
    names = set(node.input)
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            for inner in attribute.g.node:
                names |= captured_names(inner)
            names.update(info.name for info in attribute.g.output)
    return names - {""}


def count_nodes(graph) -> int:
    return sum(1 + sum(count_nodes(entry.g) for entry in node.attribute if entry.type == onnx.AttributeProto.GRAPH)
               for node in graph.node)
