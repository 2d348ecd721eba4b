# SPDX-License-Identifier: MIT
"""What goes wrong is one line that names the file, the thing and what was expected."""


class ConvertError(Exception):
    """Anything the user can do something about."""


class NodeError(ConvertError):
    """The first node of an ONNX graph that can't be imported."""

    def __init__(self, node, why: str):
        self.name, self.op_type, self.output = node.name, node.op_type, node.output[0] if node.output else ""
        self.why = why
        super().__init__(f"node '{self.name}' ({self.op_type}, output '{self.output}'): {why}")
