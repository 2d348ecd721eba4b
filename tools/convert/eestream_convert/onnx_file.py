# SPDX-License-Identifier: MIT
"""Reading an ONNX file: the graph as protobuf without weights, and the weights as arrays beside it.

A model may keep weights in further files. Only files of the model's own folder are read: a path that is absolute,
climbs out or goes through a link is refused. Such weights are mapped, not read, and those inside the model are taken
out of the protobuf one by one, so that never more than about twice the weights is in memory.
"""

import os
import stat
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, numpy_helper

from .errors import ConvertError

WIDTHS = {TensorProto.INT4: 0.5, TensorProto.UINT4: 0.5}


def find_external(folder: Path, model: Path, tensor: TensorProto, location: str) -> Path:
    """The file `location` of the model's folder, after checks that it is inside."""
    parts = Path(location.replace("\\", "/")).parts
    where = f"{model}: external data of tensor '{tensor.name}' at '{location}'"
    if not parts or ".." in parts or os.path.isabs(location) or ":" in parts[0]:
        raise ConvertError(f"{where} lies outside the model's folder")
    path = folder
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise ConvertError(f"{where} goes through a symbolic link")
    if not path.exists():
        raise ConvertError(f"{where} is missing")
    if not stat.S_ISREG(path.stat().st_mode):
        raise ConvertError(f"{where} is no regular file")
    return path


def map_external(folder: Path, model: Path, tensor: TensorProto) -> np.ndarray:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    path = find_external(folder, model, tensor, entries.get("location", ""))
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    n_bytes = int(np.prod(tensor.dims, dtype=object)) * dtype.itemsize
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", n_bytes))
    except ValueError:
        raise ConvertError(f"{model}: external data of tensor '{tensor.name}' has no number as offset or length")
    size = path.stat().st_size
    if tensor.data_type in WIDTHS or length != n_bytes or offset < 0 or offset + length > size:
        raise ConvertError(f"{model}: external data of tensor '{tensor.name}' is {length} bytes at {offset} of a file of "
                           f"{size}, expected {n_bytes}")
    if n_bytes == 0:
        return np.zeros(tensor.dims, dtype)
    return np.memmap(path, dtype, "r", offset, tuple(tensor.dims))


def graphs_of(graph: onnx.GraphProto):
    """The graph and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from graphs_of(attribute.g)


def detach(model: Path, graph: onnx.GraphProto, tensors: dict[str, np.ndarray]) -> None:
    for tensor in graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            tensors[tensor.name] = map_external(model.parent, model, tensor)
        else:
            tensors[tensor.name] = numpy_helper.to_array(tensor)
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
    del graph.initializer[:]


def parse(path: Path) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's own class differs between its implementations
        raise ConvertError(f"{path}: not an ONNX model ({error})")
    if not model.graph.node:
        raise ConvertError(f"{path}: not an ONNX model (it has no nodes)")
    return model


def inline_functions(path: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    if not model.functions:
        return model
    try:
        return onnx.inliner.inline_local_functions(model)
    except Exception as error:
        raise ConvertError(f"{path}: its model-local functions can't be inlined ({error})")


def load(path: Path) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The model without its initialisers, and these by name (those of subgraphs too: names are unique)."""
    model = parse(path)
    tensors: dict[str, np.ndarray] = {}
    for graph in graphs_of(model.graph):
        detach(path, graph, tensors)
    return inline_functions(path, model), tensors
