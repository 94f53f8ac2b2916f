"""Q4_0, Q8_0 and int8 by their rounding rules, in numpy: shares no code with what it tests.

Usage: numpy_blocks.py TYPE COLS FILE
FILE has rows of COLS floats; the rows in TYPE go to standard output.
"""

import sys

import numpy as np

ONE = np.float32(1)


def inverse(d):
    with np.errstate(divide="ignore", over="ignore"):
        one_by_d = ONE / d
    return np.where(np.isfinite(one_by_d), one_by_d, np.float32(0)).astype(np.float32)


def halves_of(d):
    return d.astype(np.float16).view(np.uint8).reshape(len(d), 2)


def q4_0(x):
    blocks = x.reshape(-1, 32)
    extremes = blocks[np.arange(len(blocks)), np.abs(blocks).argmax(axis=1)]  # the first of several
    d = extremes / np.float32(-8)
    scaled = blocks * inverse(d)[:, None] + np.float32(8.5)
    codes = np.minimum(scaled.astype(np.int32), 15).astype(np.uint8)
    return np.concatenate([halves_of(d), codes[:, :16] | codes[:, 16:] << 4], axis=1)


def q8_0(x):
    blocks = x.reshape(-1, 32)
    d = np.abs(blocks).max(axis=1) / np.float32(127)
    scaled = (blocks * inverse(d)[:, None]).astype(np.float64)
    codes = np.sign(scaled) * np.floor(np.abs(scaled) + 0.5)  # halves away from zero, exact in double
    return np.concatenate([halves_of(d), codes.astype(np.int8).view(np.uint8)], axis=1)


def int8(x):
    scale = np.abs(x).max(axis=1) / np.float32(127)
    codes = np.rint(x / np.where(scale > 0, scale, ONE)[:, None]).clip(-127, 127)
    return np.concatenate([codes.astype(np.int8).view(np.uint8), scale.view(np.uint8).reshape(-1, 4)], axis=1)


if __name__ == "__main__":
    rows = np.fromfile(sys.argv[3], np.float32).reshape(-1, int(sys.argv[2]))
    sys.stdout.buffer.write({"q4_0": q4_0, "q8_0": q8_0, "int8": int8}[sys.argv[1]](rows).tobytes())
