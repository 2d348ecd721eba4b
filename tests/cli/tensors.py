# SPDX-License-Identifier: MIT
"""safetensors files as tests read, change and write them."""
import json
import struct

CODES = {"F32": "f", "I32": "i", "I64": "q", "U8": "B"}


class Tensors:
    """header: name -> dtype, shape, data_offsets, and perhaps __metadata__; data: what follows the header."""

    def __init__(self, path=None):
        self.header, self.data = {}, bytearray()
        if path:
            content = path.read_bytes()
            n = struct.unpack("<Q", content[:8])[0]
            self.header, self.data = json.loads(content[8:8 + n]), bytearray(content[8 + n:])

    @property
    def names(self):
        return [name for name in self.header if name != "__metadata__"]

    def _format(self, name):
        info = self.header[name]
        begin, end = info["data_offsets"]
        code = CODES[info["dtype"]]
        return f"<{(end - begin) // struct.calcsize(code)}{code}", begin

    def values(self, name):
        """Flat, as they stand in the file."""
        form, begin = self._format(name)
        return struct.unpack_from(form, self.data, begin)

    def put(self, name, values):
        """All values of a tensor that is there."""
        form, begin = self._format(name)
        struct.pack_into(form, self.data, begin, *values)

    def add(self, name, dtype, shape, values):
        begin, packed = len(self.data), struct.pack(f"<{len(values)}{CODES[dtype]}", *values)
        self.data += packed
        self.header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, begin + len(packed)]}

    def write(self, path):
        text = json.dumps(self.header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + self.data)
