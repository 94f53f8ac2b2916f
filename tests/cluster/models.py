"""Random models of chosen shapes, made once per build folder."""

import json
import os
import pathlib
import shutil
import struct
import tempfile

import numpy
from cluster import POEM_ALPACA

FOLDER = pathlib.Path(os.environ["YANGTUO_BINARY_DIR"]) / "tests" / "models"


def random_model(name, hidden, layers, heads, kv_heads, ffn, context=2048, seed=1):
    """A Hugging Face folder with f16 weights and poem-alpaca's tokenizer."""
    path = FOLDER / name
    if path.exists():
        return path
    vocab = 6001
    head_dim = hidden // heads
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": hidden,
              "intermediate_size": ffn, "num_hidden_layers": layers, "num_attention_heads": heads,
              "num_key_value_heads": kv_heads, "vocab_size": vocab, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
              "max_position_embeddings": context, "tie_word_embeddings": False, "torch_dtype": "float16",
              "bos_token_id": 1, "eos_token_id": 2}
    shapes = {"model.embed_tokens.weight": (vocab, hidden), "model.norm.weight": (hidden,), "lm_head.weight": (vocab, hidden)}
    for i in range(layers):
        prefix = f"model.layers.{i}."
        shapes.update({prefix + "input_layernorm.weight": (hidden,), prefix + "post_attention_layernorm.weight": (hidden,),
                       prefix + "self_attn.q_proj.weight": (hidden, hidden),
                       prefix + "self_attn.k_proj.weight": (kv_heads * head_dim, hidden),
                       prefix + "self_attn.v_proj.weight": (kv_heads * head_dim, hidden),
                       prefix + "self_attn.o_proj.weight": (hidden, hidden),
                       prefix + "mlp.gate_proj.weight": (ffn, hidden), prefix + "mlp.up_proj.weight": (ffn, hidden),
                       prefix + "mlp.down_proj.weight": (hidden, ffn)})
    FOLDER.mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp(dir=FOLDER))
    header, offset = {}, 0
    for tensor, shape in shapes.items():
        size = 2 * int(numpy.prod(shape))
        header[tensor] = {"dtype": "F16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = numpy.random.default_rng(seed)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for shape in shapes.values():
            values = numpy.ones(shape) if len(shape) == 1 else \
                generator.standard_normal(shape, dtype=numpy.float32) * (1.5 / shape[1] ** 0.5)
            file.write(values.astype("<f2").tobytes())
    (folder / "config.json").write_text(json.dumps(config))
    for file in ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(POEM_ALPACA / file, folder)
    try:
        folder.rename(path)
    except OSError:  # another test made it meanwhile
        shutil.rmtree(folder)
    return path


def slow_model():
    """55 million parameters, some ten milliseconds a token: streams that last while something happens to them."""
    return random_model("slow", hidden=1024, layers=4, heads=16, kv_heads=8, ffn=2752)
