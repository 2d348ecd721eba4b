# SPDX-License-Identifier: MIT
"""One ONNX node run by ONNX's own reference code."""

import warnings

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator


def run_node(node: onnx.NodeProto, arrays: list[np.ndarray | None], opset: int) -> list[np.ndarray | None]:
    """The node's outputs; `arrays` are its inputs in order, None for one left out."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.domain = ""
    del copy.input[:]
    copy.input.extend(f"x{i}" if array is not None else "" for i, array in enumerate(arrays))
    feeds = {name: array for name, array in zip(copy.input, arrays) if name}
    infos = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), None)
             for name, array in feeds.items()]
    names = [name for name in node.output if name]
    graph = helper.make_graph([copy], "one", infos, [onnx.ValueInfoProto(name=name) for name in names])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])).run(None, feeds)
    by_name = dict(zip(names, results))
    return [by_name.get(name) for name in node.output]
