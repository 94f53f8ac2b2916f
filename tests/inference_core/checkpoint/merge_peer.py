#!/usr/bin/env python3
"""Writes models and adapters with PyTorch, and what merging them must give.

The merge is stated here once more, on its own: after each adapter a value is

    float16(float64(W) + float64(alpha / r) * (B[:, 0] * A[0, :] + B[:, 1] * A[1, :] + ...))

with the sum in float64, from left to right. Every folder that is written is a Hugging Face folder of
pytorch_model.bin (expect_*: the merged one), a Meta folder (meta_*) or an adapter (lora_*).
"""

import json
import pathlib
import sys

try:
    import numpy
    import torch
except ImportError:
    sys.exit(0)  # the tests skip themselves

SMALL = dict(hidden=32, layers=2, heads=4, kv_heads=2, ffn=52, vocab=61)
LARGE = dict(hidden=320, layers=2, heads=5, kv_heads=5, ffn=864, vocab=1009)
PREFIX = "base_model.model."


def shapes(size):
    head_dim = size["hidden"] // size["heads"]
    hidden, keys = size["hidden"], size["kv_heads"] * head_dim
    yield "model.embed_tokens.weight", (size["vocab"], hidden)
    for layer in range(size["layers"]):
        prefix = f"model.layers.{layer}."
        yield prefix + "self_attn.q_proj.weight", (hidden, hidden)
        yield prefix + "self_attn.k_proj.weight", (keys, hidden)
        yield prefix + "self_attn.v_proj.weight", (keys, hidden)
        yield prefix + "self_attn.o_proj.weight", (hidden, hidden)
        yield prefix + "mlp.gate_proj.weight", (size["ffn"], hidden)
        yield prefix + "mlp.up_proj.weight", (size["ffn"], hidden)
        yield prefix + "mlp.down_proj.weight", (hidden, size["ffn"])
        yield prefix + "input_layernorm.weight", (hidden,)
        yield prefix + "post_attention_layernorm.weight", (hidden,)
        # A table that old files have; readers drop it.
        yield prefix + "self_attn.rotary_emb.inv_freq", (head_dim // 2,)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (size["vocab"], hidden)


def random_model(size, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (torch.randn(shape, generator=generator) * 0.3).to(
            torch.float32 if name.endswith("inv_freq") else dtype)
        for name, shape in shapes(size)
    }


def write_config(folder, size):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(dict(
        architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu",
        hidden_size=size["hidden"], intermediate_size=size["ffn"],
        num_hidden_layers=size["layers"], num_attention_heads=size["heads"],
        num_key_value_heads=size["kv_heads"], vocab_size=size["vocab"], rms_norm_eps=1e-6,
        max_position_embeddings=2048, tie_word_embeddings=False, torch_dtype="float16",
        bos_token_id=1, eos_token_id=2)))


def write_hf(folder, size, model, files=1):
    write_config(folder, size)
    if files == 1:
        torch.save(model, folder / "pytorch_model.bin")
        return
    names = list(model)
    weight_map = {}
    for i in range(files):
        part = names[len(names) * i // files:len(names) * (i + 1) // files]
        file = f"pytorch_model-{i + 1:05d}-of-{files:05d}.bin"
        torch.save({name: model[name] for name in part}, folder / file)
        weight_map.update({name: file for name in part})
    total = sum(t.numel() * t.element_size() for t in model.values())
    (folder / "pytorch_model.bin.index.json").write_text(
        json.dumps(dict(metadata=dict(total_size=total), weight_map=weight_map)))


META = {
    "self_attn.q_proj": ("attention.wq", 0), "self_attn.k_proj": ("attention.wk", 0),
    "self_attn.v_proj": ("attention.wv", 0), "self_attn.o_proj": ("attention.wo", 1),
    "mlp.gate_proj": ("feed_forward.w1", 0), "mlp.down_proj": ("feed_forward.w2", 1),
    "mlp.up_proj": ("feed_forward.w3", 0), "input_layernorm": ("attention_norm", None),
    "post_attention_layernorm": ("ffn_norm", None), "model.embed_tokens": ("tok_embeddings", 1),
    "model.norm": ("norm", None), "lm_head": ("output", 0),
}


def meta_name(name):
    stem = name.removesuffix(".weight")
    if stem.startswith("model.layers."):
        layer, part = stem.removeprefix("model.layers.").split(".", 1)
        new, axis = META[part]
        return f"layers.{layer}.{new}.weight", axis
    new, axis = META[stem]
    return f"{new}.weight", axis


def interleave(weight, heads):
    """Rows of a head from (half, pair) to (pair, half)."""
    rows, cols = weight.shape
    return weight.view(heads, 2, rows // heads // 2, cols).transpose(1, 2).reshape(rows, cols)


def split(weight, axis, shards):
    """Equal parts; what is left over goes to the last."""
    each = weight.shape[axis] // shards
    sizes = [each] * (shards - 1) + [weight.shape[axis] - each * (shards - 1)]
    return [part.clone() for part in torch.split(weight, sizes, dim=axis)]


def write_meta(folder, size, model, shards):
    folder.mkdir(parents=True)
    files = [{} for _ in range(shards)]
    for name, weight in model.items():
        if name.endswith("inv_freq"):
            continue
        if "q_proj" in name:
            weight = interleave(weight, size["heads"])
        if "k_proj" in name:
            weight = interleave(weight, size["kv_heads"])
        new, axis = meta_name(name)
        parts = [weight] * shards if axis is None else split(weight, axis, shards)
        for file, part in zip(files, parts):
            file[new] = part
    for i, file in enumerate(files):
        torch.save(file, folder / f"consolidated.{i:02d}.pth")
    params = dict(dim=size["hidden"], multiple_of=4, n_heads=size["heads"],
                  n_layers=size["layers"], norm_eps=1e-6, vocab_size=-1)
    if size["kv_heads"] != size["heads"]:
        params["n_kv_heads"] = size["kv_heads"]
    (folder / "params.json").write_text(json.dumps(params))


def random_adapter(size, rank, seed, vocab=None, transposed=False):
    """Factors for every projection; with `vocab`, copies of embedding and head with so many rows."""
    generator = torch.Generator().manual_seed(seed)
    adapter = {}
    for name, shape in shapes(size):
        if "_proj" in name:
            rows, cols = shape
            a_cols, b_rows = (rows, cols) if transposed else (cols, rows)
            adapter[name] = (torch.randn((rank, a_cols), generator=generator) * 0.2,
                             torch.randn((b_rows, rank), generator=generator) * 0.2)
        elif vocab and ("embed_tokens" in name or "lm_head" in name):
            adapter[name] = torch.randn((vocab, shape[1]), generator=generator)
    return adapter


def write_adapter(folder, adapter, rank, alpha, dtype, new_names=False, transposed=False):
    """Returns the adapter as it was stored: rounded to its type."""
    folder.mkdir(parents=True)
    stored, file = {}, {}
    for name, value in adapter.items():
        module = PREFIX + name.removesuffix(".weight")
        if isinstance(value, tuple):
            a, b = (factor.to(dtype) for factor in value)
            stored[name] = (a, b)
            middle = ".default" if new_names else ""
            # Saved as a view of its transpose: rows do not lie one behind the other.
            file[f"{module}.lora_A{middle}.weight"] = a.t().contiguous().t()
            file[f"{module}.lora_B{middle}.weight"] = b
        else:
            stored[name] = value.to(dtype)
            middle = ".modules_to_save.default" if new_names else ""
            file[f"{module}{middle}.weight"] = stored[name]
    torch.save(file, folder / "adapter_model.bin")
    (folder / "adapter_config.json").write_text(json.dumps(dict(
        base_model_name_or_path="somewhere", bias="none", enable_lora=None,
        fan_in_fan_out=transposed, inference_mode=True, lora_alpha=alpha, lora_dropout=0.05,
        merge_weights=False, modules_to_save=["embed_tokens", "lm_head"], peft_type="LORA", r=rank,
        target_modules=["q_proj"], task_type="CAUSAL_LM")))
    return stored


def merged(model, adapter, rank, alpha, transposed=False):
    result = {}
    for name, weight in model.items():
        if name.endswith("inv_freq"):
            continue
        wide = weight.float().numpy().astype(numpy.float64)
        change = adapter.get(name)
        if isinstance(change, tuple):
            a, b = (factor.float().numpy().astype(numpy.float64) for factor in change)
            total = numpy.zeros((b.shape[0], a.shape[1]))
            for k in range(rank):
                total = total + b[:, k:k + 1] * a[k:k + 1, :]
            wide = wide + numpy.float64(alpha / rank) * (total.T if transposed else total)
        elif change is not None:
            wide = change.float().numpy().astype(numpy.float64)
        result[name] = torch.from_numpy(wide.astype(numpy.float16))
    return result


def main(out):
    base = random_model(SMALL, torch.float16, 1)
    write_hf(out / "base", SMALL, base, files=3)
    write_hf(out / "base_f32", SMALL, random_model(SMALL, torch.float32, 2))
    write_hf(out / "base_bf16", SMALL, random_model(SMALL, torch.bfloat16, 3))
    write_meta(out / "meta_1", SMALL, base, 1)
    write_meta(out / "meta_2", SMALL, base, 2)

    first = write_adapter(out / "lora_first", random_adapter(SMALL, 4, 11, vocab=67), 4, 8,
                          torch.float32)
    second = write_adapter(out / "lora_second", random_adapter(SMALL, 8, 12, vocab=68), 8, 12,
                           torch.float16, new_names=True)
    flat = write_adapter(out / "lora_transposed",
                         random_adapter(SMALL, 3, 13, transposed=True), 3, 10, torch.bfloat16,
                         transposed=True)
    once = merged(base, first, 4, 8)
    write_hf(out / "expect_first", SMALL | dict(vocab=67), once)
    write_hf(out / "expect_both", SMALL | dict(vocab=68), merged(once, second, 8, 12))
    write_hf(out / "expect_transposed", SMALL, merged(base, flat, 3, 10, transposed=True))
    write_hf(out / "expect_of_f32", SMALL | dict(vocab=67),
             merged(random_model(SMALL, torch.float32, 2), first, 4, 8))
    write_hf(out / "expect_of_bf16", SMALL | dict(vocab=67),
             merged(random_model(SMALL, torch.bfloat16, 3), first, 4, 8))

    large = random_model(LARGE, torch.float16, 4)
    write_hf(out / "large", LARGE, large, files=2)
    adapter = write_adapter(out / "lora_large", random_adapter(LARGE, 64, 14), 64, 128,
                            torch.float16)
    write_hf(out / "expect_large", LARGE, merged(large, adapter, 64, 128))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
