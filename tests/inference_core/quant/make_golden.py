"""Writes golden/: rows of numbers, their blocks and what these mean, all by llama.cpp's own code.

Usage: make_golden.py NODE_MODULES
where NODE_MODULES has the packages node-llama-cpp and @node-llama-cpp/linux-x64 (3.22.1 made what is
here). Files: x.f32, [3, 512]: gaussian, uniform with an offset, gaussian with outliers. TYPE.blocks:
their blocks, then two rows of random blocks (every bit pattern of the codes; finite f16 numbers).
TYPE.f32: [5, 512], the blocks as floats.
"""

import pathlib
import sys

import numpy as np

from ggml_blocks import TYPES, Ggml

# Offsets of the f16 numbers in a block.
HALVES = {"q4_0": [0], "q4_1": [0, 2], "q5_0": [0], "q5_1": [0, 2], "q8_0": [0], "q2_k": [80, 82],
          "q3_k": [108], "q4_k": [0, 2], "q5_k": [0, 2], "q6_k": [208]}


def random_blocks(rng, name, rows, cols):
    _, size, elements = TYPES[name]
    blocks = rng.integers(0, 256, (rows * cols // elements, size)).astype(np.uint8)
    for offset in HALVES[name]:
        numbers = rng.standard_normal(len(blocks)).astype(np.float16)
        blocks[:, offset : offset + 2] = numbers[:, None].view(np.uint8)
    return blocks.reshape(rows, -1)


def main():
    golden = pathlib.Path(__file__).parent / "golden"
    ggml = Ggml(sys.argv[1])
    rng = np.random.default_rng(20261127)
    x = rng.standard_normal((3, 512)).astype(np.float32) * np.float32(0.02)
    x[1] = rng.uniform(-0.03, 0.09, 512)
    x[2, ::41] *= 30
    x[2, 448:480] = 0
    x.tofile(golden / "x.f32")
    for name in TYPES:
        blocks = np.concatenate([ggml.quantize(name, x), random_blocks(rng, name, 2, x.shape[1])])
        blocks.tofile(golden / f"{name}.blocks")
        ggml.dequantize(name, blocks).tofile(golden / f"{name}.f32")


if __name__ == "__main__":
    main()
