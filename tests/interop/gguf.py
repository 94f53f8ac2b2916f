"""Tensors of a GGUF file, read for tests: the header's description at github.com/ggml-org/ggml."""

import struct

import numpy as np

# GGUF's numbers of types: name, bytes of a block, elements of a block.
TYPES = {0: ("f32", 4, 1), 1: ("f16", 2, 1), 2: ("q4_0", 18, 32), 8: ("q8_0", 34, 32),
         12: ("q4_k", 144, 256), 14: ("q6_k", 210, 256), 30: ("bf16", 2, 1)}
SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values[0]

    def string(self):
        size = self.take("Q")
        self.at += size
        return bytes(self.data[self.at - size : self.at]).decode()

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            element, count = self.take("I"), self.take("Q")
            return [self.value(element) for _ in range(count)]
        raw = self.data[self.at : self.at + SCALARS[kind]]
        self.at += SCALARS[kind]
        return int.from_bytes(raw, "little")


def read_tensors(path):
    """{name: (type, [rows, bytes] of uint8)}."""
    reader = Reader(path.read_bytes())
    assert reader.take("I") == 0x46554747
    assert reader.take("I") in (2, 3)
    tensors, entries = reader.take("Q"), reader.take("Q")
    metadata = {}
    for _ in range(entries):
        key = reader.string()
        metadata[key] = reader.value(reader.take("I"))
    infos = []
    for _ in range(tensors):
        name = reader.string()
        shape = [reader.take("Q") for _ in range(reader.take("I"))]
        infos.append((name, shape, reader.take("I"), reader.take("Q")))
    alignment = metadata.get("general.alignment", 32)
    begin = (reader.at + alignment - 1) // alignment * alignment
    found = {}
    for name, shape, number, offset in infos:
        kind, size, elements = TYPES[number]
        row = shape[0] // elements * size
        rows = int(np.prod(shape[1:], dtype=np.int64))
        raw = np.frombuffer(reader.data, np.uint8, rows * row, begin + offset)
        found[name] = (kind, raw.reshape(rows, row))
    return found
