#!/usr/bin/python3
"""A merge at full size, measured: a base in sharded pytorch_model.bin files and a LoRA adapter, both of random
weights, merged and quantized in one pass.

    tests/bench/merge_rehearsal.py --programs build/release/bin --folder /tmp/rehearsal

Prints a JSON object a run: seconds, bytes read and written a second, and the most anonymous memory (RssAnon of
/proc/PID/status, looked at every 50 ms). Files are removed as soon as they are not needed; the 7B shape takes
28 GB of disk while its base is made and 24 GB afterwards. Needs numpy.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import time

import numpy

KEPT = {"gguf": "q4_0", "safetensors": "int4"}


def run(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))}: {done.stderr}")


def size_of(path):
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def make_base(yangtuo, shape, folder):
    """The made-up GGUF file as Hugging Face's shards of at most 5 GB."""
    run(yangtuo, "bench", "make-model", "--shape", shape, "--type", "f16", "--output", folder)
    whole = folder / f"{shape}-f16.gguf"
    run(yangtuo, "convert", "--input", whole, "--output", folder / "base", "--format", "bin")
    whole.unlink()
    return folder / "base"


def make_adapter(config, rank, folder):
    """Factors for every matrix of every layer, and a new embedding and head, as Chinese-Alpaca's adapters have them."""
    folder.mkdir()
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 128, "bias": "none", "fan_in_fan_out": False,
                "modules_to_save": ["embed_tokens", "lm_head"], "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    hidden, ffn, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    shapes = {}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"base_model.model.model.layers.{layer}."
        sizes = {f"self_attn.{part}_proj": (hidden, hidden) for part in "qkvo"}
        sizes |= {"mlp.gate_proj": (ffn, hidden), "mlp.up_proj": (ffn, hidden), "mlp.down_proj": (hidden, ffn)}
        for module, (rows, cols) in sizes.items():
            shapes[f"{prefix}{module}.lora_A.weight"] = (rank, cols)
            shapes[f"{prefix}{module}.lora_B.weight"] = (rows, rank)
    for module in ("model.embed_tokens", "lm_head"):
        shapes[f"base_model.model.{module}.weight"] = (vocabulary, hidden)
    header, end = {}, 0
    for name, (rows, cols) in shapes.items():
        header[name] = {"dtype": "F16", "shape": [rows, cols], "data_offsets": [end, end + 2 * rows * cols]}
        end += 2 * rows * cols
    random = numpy.random.default_rng(1)
    text = json.dumps(header).encode()
    with open(folder / "adapter_model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for rows, cols in shapes.values():
            for first in range(0, rows, 4096):
                block = random.standard_normal((min(4096, rows - first), cols), dtype=numpy.float32)
                file.write((block * 0.02).astype(numpy.float16).tobytes())
    return folder


def anonymous_bytes(pid):
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


def measure(words):
    """Seconds that a program takes, and its most anonymous memory."""
    begin, most = time.monotonic(), 0
    with subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        while child.poll() is None:
            most = max(most, anonymous_bytes(child.pid))
            time.sleep(0.05)
    if child.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))}: exit status {child.returncode}")
    return time.monotonic() - begin, most


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=pathlib.Path, required=True, help="folder of the built programs")
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="a new folder, removed at the end")
    parser.add_argument("--shape", default="7b")
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--format", action="append", choices=list(KEPT), help="default: all")
    options = parser.parse_args()
    yangtuo = options.programs / "yangtuo"
    options.folder.mkdir(parents=True)
    try:
        base = make_base(yangtuo, options.shape, options.folder)
        adapter = make_adapter(json.loads((base / "config.json").read_text()), options.rank, options.folder / "adapter")
        read = size_of(base) + size_of(adapter)
        for form in options.format or KEPT:
            output = options.folder / f"merged.{form}"
            seconds, most = measure([yangtuo, "merge-lora", "--base", base, "--lora", adapter, "--output", output,
                                     "--format", form, "--type", KEPT[form]])
            written = size_of(output)
            print(json.dumps({"shape": options.shape, "rank": options.rank, "type": KEPT[form], "format": form,
                              "bytes_read": read, "bytes_written": written, "seconds": round(seconds, 1),
                              "bytes_read_per_second": round(read / seconds),
                              "bytes_written_per_second": round(written / seconds),
                              "most_anonymous_bytes": most}), flush=True)
            if output.is_dir():
                shutil.rmtree(output)
            else:
                output.unlink()
    finally:
        shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
