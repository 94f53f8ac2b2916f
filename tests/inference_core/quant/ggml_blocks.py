"""GGUF blocks by llama.cpp's own code: ggml's shared library, as node-llama-cpp's package has it."""

import ctypes
import pathlib

import numpy as np

# ggml's numbers of types, and the bytes of a block of so many elements.
TYPES = {
    "q4_0": (2, 18, 32),
    "q4_1": (3, 20, 32),
    "q5_0": (6, 22, 32),
    "q5_1": (7, 24, 32),
    "q8_0": (8, 34, 32),
    "q2_k": (10, 84, 256),
    "q3_k": (11, 110, 256),
    "q4_k": (12, 144, 256),
    "q5_k": (13, 176, 256),
    "q6_k": (14, 210, 256),
}


class InitParams(ctypes.Structure):
    _fields_ = [
        ("memory_size", ctypes.c_size_t),
        ("memory", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    ]


class Ggml:
    def __init__(self, node_modules):
        found = sorted(pathlib.Path(node_modules).glob("@node-llama-cpp/linux-x64/**/libggml-base.so"))
        if not found:
            raise FileNotFoundError(f"no libggml-base.so of @node-llama-cpp/linux-x64 in {node_modules}")
        self.library = ctypes.CDLL(str(found[0]))
        self.library.ggml_init.restype = ctypes.c_void_p
        self.library.ggml_init.argtypes = [InitParams]
        self.library.ggml_init(InitParams(1024, None, False))  # makes its table of f16 numbers
        self.library.ggml_quantize_chunk.restype = ctypes.c_size_t
        self.library.ggml_quantize_chunk.argtypes = (
            [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
        )

    def quantize(self, name, x, importance=None):
        """[rows, cols] floats as [rows, bytes]."""
        number, size, elements = TYPES[name]
        x = np.ascontiguousarray(x, np.float32)
        rows, cols = x.shape
        blocks = np.zeros((rows, cols // elements * size), np.uint8)
        weights = None if importance is None else np.ascontiguousarray(importance, np.float32)
        written = self.library.ggml_quantize_chunk(
            number, x.ctypes.data, blocks.ctypes.data, 0, rows, cols,
            None if weights is None else weights.ctypes.data)
        assert written == blocks.size, (name, written, blocks.size)
        return blocks

    def dequantize(self, name, blocks):
        """[rows, bytes] as [rows, cols] floats."""
        _, size, elements = TYPES[name]
        blocks = np.ascontiguousarray(blocks)
        y = np.empty((blocks.shape[0], blocks.shape[1] // size * elements), np.float32)
        function = getattr(self.library, "dequantize_row_" + name.replace("_k", "_K"))
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        function(blocks.ctypes.data, y.ctypes.data, y.size)
        return y
