"""Logits of a LLaMA model folder in float64, written from the paper and Hugging Face's definition.

Usage: numpy_llama.py FOLDER ID...
Prints one line of logits for every token. The oracle of oracle_test.cc; shares no code with it.
"""

import json
import pathlib
import struct
import sys

import numpy as np


def read_tensors(path):
    data = path.read_bytes()
    (header_size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + header_size])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + header_size + offset for offset in entry["data_offsets"])
        raw = data[begin:end]
        if entry["dtype"] == "BF16":
            bits = np.frombuffer(raw, dtype="<u2").astype(np.uint32) << 16
            values = bits.view(np.float32)
        else:
            values = np.frombuffer(raw, dtype={"F32": "<f4", "F16": "<f2"}[entry["dtype"]])
        tensors[name] = values.astype(np.float64).reshape(entry["shape"])
    return tensors


def rms_norm(x, weight, eps):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * weight


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    rotated = np.concatenate([-x[..., half:], x[..., :half]], axis=-1)
    return x * cos + rotated * sin


def attention(q, k, v):
    """q [heads, tokens, head_dim], k and v the same: causal."""
    tokens = q.shape[1]
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
    scores = np.where(np.tril(np.ones((tokens, tokens), bool)), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ v


def forward(folder, ids):
    config = json.loads((folder / "config.json").read_text())
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors.update(read_tensors(path))
    hidden = config["hidden_size"]
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads", heads)
    head_dim = config.get("head_dim") or hidden // heads
    scaling = config.get("rope_scaling") or {"factor": 1.0}
    eps = config["rms_norm_eps"]

    frequency = config["rope_theta"] ** (-np.arange(0, head_dim, 2) / head_dim)
    angles = np.arange(len(ids))[:, None] / scaling["factor"] * frequency
    angles = np.concatenate([angles, angles], axis=-1)
    cos, sin = np.cos(angles), np.sin(angles)

    def split(x, count):
        return x.reshape(len(ids), count, head_dim).transpose(1, 0, 2)

    x = tensors["model.embed_tokens.weight"][ids]
    for layer in range(config["num_hidden_layers"]):
        def weight(name):
            return tensors[f"model.layers.{layer}.{name}.weight"]

        n = rms_norm(x, weight("input_layernorm"), eps)
        q = rotate(split(n @ weight("self_attn.q_proj").T, heads), cos, sin)
        k = rotate(split(n @ weight("self_attn.k_proj").T, kv_heads), cos, sin)
        v = split(n @ weight("self_attn.v_proj").T, kv_heads)
        k, v = (np.repeat(t, heads // kv_heads, axis=0) for t in (k, v))
        a = attention(q, k, v).transpose(1, 0, 2).reshape(len(ids), heads * head_dim)
        x = x + a @ weight("self_attn.o_proj").T
        m = rms_norm(x, weight("post_attention_layernorm"), eps)
        gate = m @ weight("mlp.gate_proj").T
        up = m @ weight("mlp.up_proj").T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ weight("mlp.down_proj").T
    x = rms_norm(x, tensors["model.norm.weight"], eps)
    tied = config.get("tie_word_embeddings", False)
    return x @ tensors["model.embed_tokens.weight" if tied else "lm_head.weight"].T


if __name__ == "__main__":
    for row in forward(pathlib.Path(sys.argv[1]), [int(id) for id in sys.argv[2:]]):
        print(" ".join(f"{value:.9g}" for value in row))
