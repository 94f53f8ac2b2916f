#!/usr/bin/env python3
"""torch_reads.py GOLDEN BIN PTH: PyTorch reads the folders BIN (pytorch_model*.bin) and PTH (Meta's
shards), which were written from the f16 safetensors folder GOLDEN with 8 heads. Prints "same" when
every tensor is, and what is not otherwise."""

import json
import pathlib
import struct
import sys

try:
    import numpy
    import torch
except ImportError:
    print("no torch")
    sys.exit(0)

HEADS = 8


def read_golden(file):
    data = file.read_bytes()
    length, = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        tensors[name] = torch.from_numpy(
            numpy.frombuffer(data[begin:end], numpy.float16).reshape(entry["shape"]).copy())
    return tensors


def interleaved(weight):
    rows, cols = weight.shape
    return weight.view(HEADS, 2, rows // HEADS // 2, cols).transpose(1, 2).reshape(rows, cols)


def check(what, found, expected):
    if found.shape != expected.shape or not torch.equal(found, expected):
        sys.exit(f"{what} is not the same")


def main(golden_folder, bin_folder, pth_folder):
    golden = read_golden(golden_folder / "model.safetensors")
    found = {}
    for file in sorted(bin_folder.glob("pytorch_model-*.bin")):
        found.update(torch.load(file))
    if set(found) != set(golden):
        sys.exit("the .bin files have other tensors")
    for name, tensor in golden.items():
        check(name, found[name], tensor)
    shards = [torch.load(file) for file in sorted(pth_folder.glob("consolidated.*.pth"))]
    joined = lambda name, axis: torch.cat([shard[name] for shard in shards], axis)
    check("output", joined("output.weight", 0), golden["lm_head.weight"])
    check("tok_embeddings", joined("tok_embeddings.weight", 1), golden["model.embed_tokens.weight"])
    for i in range(6):
        ours, theirs = f"layers.{i}.", f"model.layers.{i}."
        for meta, hf in (("wq", "q"), ("wk", "k")):
            check(meta, joined(f"{ours}attention.{meta}.weight", 0),
                  interleaved(golden[f"{theirs}self_attn.{hf}_proj.weight"]))
        check("wv", joined(ours + "attention.wv.weight", 0),
              golden[theirs + "self_attn.v_proj.weight"])
        check("wo", joined(ours + "attention.wo.weight", 1),
              golden[theirs + "self_attn.o_proj.weight"])
        for meta, hf, axis in (("w1", "gate", 0), ("w2", "down", 1), ("w3", "up", 0)):
            check(meta, joined(f"{ours}feed_forward.{meta}.weight", axis),
                  golden[f"{theirs}mlp.{hf}_proj.weight"])
        for shard in shards:
            check("norm", shard[ours + "attention_norm.weight"],
                  golden[theirs + "input_layernorm.weight"])
    print("same")


if __name__ == "__main__":
    main(*(pathlib.Path(argument) for argument in sys.argv[1:]))
