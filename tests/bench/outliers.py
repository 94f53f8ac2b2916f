#!/usr/bin/python3
"""What outliers among activations cost, by weight type: perplexity of a model whose down projections are given some.

    tests/bench/outliers.py --programs build/release/bin --model ../shared/data/weights/poem-llama \\
        --text ../shared/data/text/poems_valid.txt --folder /tmp/outliers

A few channels between up and down projection are made FACTOR times as large, and the columns of the down projection that
read them as much smaller: the model is the same function (f32 says so), its activations are not. Prints, for every factor,
`yangtuo eval activations` of the down projection and the perplexity of each weight type over that of f32. Needs numpy.
"""

import argparse
import json
import pathlib
import shutil
import struct
import subprocess
import sys

import numpy

TYPES = ("f32", "bf16", "int8", "int4", "gguf")


def output_of(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))}: {done.stderr}")
    return json.loads(done.stdout)


def read_tensors(path):
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        first, last = (8 + size + offset for offset in entry["data_offsets"])
        assert entry["dtype"] == "F16", name
        tensors[name] = numpy.frombuffer(data[first:last], "<f2").reshape(entry["shape"]).astype("<f4")
    return tensors


def write_tensors(path, tensors):
    header, offset = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": values.shape, "data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(values.tobytes() for values in tensors.values()))


def with_outliers(model, folder, factor, channels):
    """A copy of `model` in f32, the same function; factors are powers of two, so that f32 keeps every bit."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(model, folder)
    tensors = read_tensors(folder / "model.safetensors")
    draw = numpy.random.default_rng(1)
    for name in [name for name in tensors if name.endswith("mlp.up_proj.weight")]:
        chosen = draw.choice(tensors[name].shape[0], channels, replace=False)
        tensors[name][chosen] *= factor
        tensors[name.replace("up_proj", "down_proj")][:, chosen] /= factor
    write_tensors(folder / "model.safetensors", tensors)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=pathlib.Path, required=True, help="folder of yangtuo")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="folder in f16 safetensors")
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="for the altered model; removed afterwards")
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--channels", type=int, default=4, help="of each layer")
    parser.add_argument("--documents", type=int, default=200)
    arguments = parser.parse_args()
    yangtuo = arguments.programs / "yangtuo"
    common = ("--model", arguments.folder, "--text", arguments.text, "--documents", arguments.documents, "--json")
    print("| factor | largest / rms | lost by rows | by groups | " + " | ".join(TYPES) + " |")
    print("|---" * (4 + len(TYPES)) + "|")
    for factor in arguments.factors:
        with_outliers(arguments.model, arguments.folder, factor, arguments.channels)
        products = output_of(yangtuo, "eval", "activations", "--weight-type", "f32", *common)["products"]
        down = [product for product in products if product["product"] == "down"]
        types = [word for name in TYPES for word in ("--weight-type", name)]
        found = output_of(yangtuo, "eval", "perplexity", *types, *common)
        mean = {key: sum(product[key] for product in down) / len(down) for key in ("error_by_rows", "error_by_groups")}
        print(f"| {factor} | {max(product['largest_to_rms'] for product in down):.0f} | {mean['error_by_rows']:.2%} | "
              f"{mean['error_by_groups']:.2%} | " + " | ".join(f"{one['ratio']:.5f}" for one in found) + " |", flush=True)
    shutil.rmtree(arguments.folder)


if __name__ == "__main__":
    main()
