"""llama.cpp, as node-llama-cpp has it, reads what Yangtuo writes and says the same of it.

Skipped where npm cannot fetch the packages. They stay in the build folder.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(os.environ["YANGTUO_SOURCE_DIR"])
BUILD = pathlib.Path(os.environ["YANGTUO_BINARY_DIR"])
DATA = SOURCE.parent / "shared" / "data"
FOLDER = BUILD / "tests" / "interop"
# Between the two largest logits, of the recorded model in f32: below it, a rounding decides. llama.cpp
# multiplies Q8_0 weights with activations that it rounds to 8 bits as well.
MARGINS = {"f16": 0.03, "q8_0": 0.25, "q4_0": 0.25, "q4_k": 0.25}

sys.path.insert(0, str(SOURCE / "tests" / "inference_core" / "quant"))
sys.path.insert(0, str(SOURCE / "tests" / "inference_core" / "model"))
sys.path.insert(0, str(SOURCE / "tests" / "cluster"))
SKIPPED = 77


def run(command, limit, **arguments):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=limit, **arguments)


def install():
    """Why llama.cpp is not there, or None."""
    if not DATA.exists():
        return f"no {DATA}"
    if not shutil.which("npm"):
        return "npm is not installed"
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "llama_cpp_peer.mjs"):
        shutil.copy(SOURCE / "tests" / "interop" / name, FOLDER)
    if not (FOLDER / "node_modules" / "@node-llama-cpp" / "linux-x64").exists():
        try:
            done = run(["npm", "install", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund"],
                       limit=200, cwd=FOLDER)
        except subprocess.TimeoutExpired:
            return "npm install took too long"
        if done.returncode != 0:
            return f"npm install failed: {done.stderr[-300:]}"
    return None


def yangtuo(*arguments):
    done = run([BUILD / "bin" / "yangtuo", *arguments], limit=200)
    if done.returncode != 0:
        raise AssertionError(f"yangtuo {' '.join(map(str, arguments))}: {done.stderr}")
    return done.stdout


def ask_llama_cpp(**question):
    with tempfile.TemporaryDirectory() as folder:
        files = [pathlib.Path(folder) / name for name in ("question.json", "answer.json")]
        files[0].write_text(json.dumps(question))
        done = run(["node", "llama_cpp_peer.mjs", *files], limit=200, cwd=FOLDER)
        if done.returncode != 0:
            raise AssertionError(f"llama.cpp on {question['model']}: {done.stdout[-500:]} {done.stderr[-1500:]}")
        return json.loads(files[1].read_text())


def golden_rows(name):
    return [json.loads(line) for line in (DATA / "golden" / "dev" / name).read_text().splitlines()]


def until_a_rounding_decides(row, margin):
    """The recorded greedy ids before the first choice that is too close to compare."""
    close = [i for i, found in enumerate(row["greedy_margin"]) if found < margin]
    return row["greedy"][: close[0] if close else None]


class LlamaCppTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        reason = install()
        if reason:
            print(f"skipped: {reason}")
            sys.exit(SKIPPED)
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.temporary.name)

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def quantize(self, model, kind):
        file = self.folder / f"{model.name}-{kind}.gguf"
        if not file.exists():
            yangtuo("quantize", "--input", model, "--type", kind, "--output", file)
        return str(file)

    def check_continuations(self, model, golden, kind):
        rows = golden_rows(golden)
        answer = ask_llama_cpp(model=self.quantize(model, kind), prompts=[row["ids"] for row in rows], **{"continue": 40})
        compared = 0
        for row, greedy in zip(rows, answer["greedy"]):
            expected = until_a_rounding_decides(row, MARGINS[kind])[:40]
            self.assertEqual(greedy[: len(expected)], expected, row["ids"])
            compared += len(expected)
        self.assertGreater(compared, 3 * len(rows))

    def test_f16_continues_poems_as_recorded(self):
        self.check_continuations(DATA / "weights" / "poem-llama", "logits-poem-llama.jsonl", "f16")

    def test_f16_continues_stories_as_recorded(self):
        self.check_continuations(DATA / "weights" / "stories260K" / "hf-f16", "logits-stories260K.jsonl", "f16")

    def test_q8_0_continues_stories_as_recorded(self):
        self.check_continuations(DATA / "weights" / "stories260K" / "hf-f16", "logits-stories260K.jsonl", "q8_0")

    def check_live_cluster(self, model, golden, kind, weight_type):
        """llama.cpp and a gateway, tokenizer and worker of ours on one GGUF file: ids of texts, and greedy
        continuations until the first choice that a rounding decides."""
        from cluster import Cluster, ask, generation_pb2
        file = self.quantize(model, kind)
        rows = golden_rows(golden)
        texts = [row["text"] for row in golden_rows("encode-llama.jsonl")[::4] if "text" in row and "\0" not in row["text"]]
        theirs = ask_llama_cpp(model=file, prompts=[row["ids"] for row in rows], texts=texts, **{"continue": 40})
        with Cluster(model=file, name="model", worker=["--weight-type", weight_type]) as cluster, cluster.stub() as stub:
            for text, ids in zip(texts, theirs["tokens"]):
                request = generation_pb2.TokenizeRequest(text=text, add_bos=False)
                self.assertEqual(list(stub.Tokenize(request, timeout=20).token_ids), ids, text[:60])
            compared = 0
            for row, greedy in zip(rows, theirs["greedy"]):
                answer = ask(stub, row["ids"], max_new_tokens=len(greedy), ignore_eos=True, logprobs=2)
                margins = [entry.top[0].logprob - entry.top[1].logprob for entry in answer.logprobs[0]]
                other = next((i for i, (ours, other) in enumerate(zip(answer.tokens, greedy)) if ours != other), len(greedy))
                if other < len(greedy):
                    self.assertLess(margins[other], MARGINS[kind], f"choice {other} after {row['ids']}")
                compared += other
        self.assertGreater(compared, 5 * len(rows))

    def test_live_worker_continues_f16_poems_as_llama_cpp(self):
        self.check_live_cluster(DATA / "weights" / "poem-llama", "logits-poem-llama.jsonl", "f16", "f32")

    def test_live_worker_continues_q8_0_poems_as_llama_cpp(self):
        self.check_live_cluster(DATA / "weights" / "poem-llama", "logits-poem-llama.jsonl", "q8_0", "auto")

    def test_live_worker_continues_f16_stories_as_llama_cpp(self):
        self.check_live_cluster(DATA / "weights" / "stories260K" / "hf-f16", "logits-stories260K.jsonl", "f16", "f32")

    def test_live_worker_continues_q8_0_stories_as_llama_cpp(self):
        self.check_live_cluster(DATA / "weights" / "stories260K" / "hf-f16", "logits-stories260K.jsonl", "q8_0", "auto")

    def test_live_worker_continues_poems_to_the_letter(self):
        for kind in ("q8_0", "q4_0", "q4_k"):
            with self.subTest(type=kind):
                self.check_live_cluster(DATA / "weights" / "poem-llama", "logits-poem-llama.jsonl", kind, "gguf")

    def test_every_type_loads_and_writes_poems(self):
        """The first ids of most poems are those of f32; after a close choice the rest may differ."""
        for kind in ("q8_0", "q4_0", "q4_k", "q6_k"):
            with self.subTest(type=kind):
                rows = golden_rows("logits-poem-llama.jsonl")
                answer = ask_llama_cpp(model=self.quantize(DATA / "weights" / "poem-llama", kind),
                                       prompts=[row["ids"] for row in rows], **{"continue": 8})
                same = sum(sum(a == b for a, b in zip(greedy, row["greedy"]))
                           for row, greedy in zip(rows, answer["greedy"]))
                self.assertGreater(same, 8 * len(rows) * (0.6 if kind in ("q8_0", "q6_k") else 0.4))

    def check_tokens(self, tokenizer, golden):
        """The tokenizer of a model that is written as GGUF, on the golden texts."""
        import numpy
        model = self.folder / f"tiny-{tokenizer}"
        write_tiny_model(numpy, model, DATA / "tokenizers" / f"{tokenizer}.model")
        file = self.folder / f"tiny-{tokenizer}.gguf"
        yangtuo("convert", "--input", model, "--output", file)
        rows = [row for row in golden_rows(golden) if "text" in row and "\0" not in row["text"]]
        answer = ask_llama_cpp(model=str(file), texts=[row["text"] for row in rows])
        different = [(row["i"], row["cat"], row["text"][:60]) for row, ids in zip(rows, answer["tokens"]) if ids != row["ids"]]
        self.assertEqual(different, [])

    def test_llama_texts_have_the_recorded_ids(self):
        self.check_tokens("llama", "encode-llama.jsonl")

    def test_chinese_alpaca_texts_have_the_recorded_ids(self):
        self.check_tokens("chinese-alpaca", "encode-chinese-alpaca.jsonl")

    def test_blocks_are_llama_cpps_or_closer(self):
        """Every matrix of poem-llama: Q4_0 and Q8_0 to the byte (ggml's reference rounding; its SIMD
        versions, which quantize activations, may round ties otherwise); Q4_K and Q6_K closer."""
        import numpy
        import gguf
        import numpy_llama
        from ggml_blocks import Ggml
        model = DATA / "weights" / "poem-llama"
        ggml = Ggml(FOLDER / "node_modules")
        sources = numpy_llama.read_tensors(model / "model.safetensors")
        for kind in ("q4_0", "q8_0", "q4_k", "q6_k"):
            tensors = gguf.read_tensors(pathlib.Path(self.quantize(model, kind)))
            for name, source in sources.items():
                if source.ndim < 2:
                    continue
                written, blocks = tensors[gguf_name(name)]
                source = interleaved(numpy, name, source, heads=8).astype(numpy.float32)
                theirs = ggml.quantize(written, source)
                with self.subTest(type=kind, tensor=name):
                    if written in ("q4_0", "q8_0"):
                        self.assertTrue((blocks == theirs).all())
                        continue
                    error, peer = (((ggml.dequantize(written, b) - source).astype(numpy.float64) ** 2).sum()
                                   for b in (blocks, theirs))
                    self.assertLess(error, peer)


def write_tiny_model(numpy, folder, tokenizer):
    """Random weights for the vocabulary of `tokenizer`: one layer, 32 wide."""
    folder.mkdir()
    shutil.copy(tokenizer, folder / "tokenizer.model")
    vocabulary = {"llama.model": 32000, "chinese-alpaca.model": 49954}[tokenizer.name]
    hidden, ffn = 32, 64
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": hidden,
        "intermediate_size": ffn, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 4,
        "vocab_size": vocabulary, "rms_norm_eps": 1e-6, "max_position_embeddings": 128, "torch_dtype": "float16"}))
    layer = "model.layers.0."
    shapes = {"model.embed_tokens.weight": [vocabulary, hidden], "lm_head.weight": [vocabulary, hidden],
              "model.norm.weight": [hidden], layer + "input_layernorm.weight": [hidden],
              layer + "post_attention_layernorm.weight": [hidden], layer + "mlp.gate_proj.weight": [ffn, hidden],
              layer + "mlp.up_proj.weight": [ffn, hidden], layer + "mlp.down_proj.weight": [hidden, ffn]}
    for part in "qkvo":
        shapes[f"{layer}self_attn.{part}_proj.weight"] = [hidden, hidden]
    random = numpy.random.default_rng(1)
    header, data = {}, b""
    for name, shape in shapes.items():
        values = random.standard_normal(shape).astype(numpy.float16).tobytes()
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)


def gguf_name(name):
    parts = {"model.embed_tokens.weight": "token_embd.weight", "lm_head.weight": "output.weight"}
    if name in parts:
        return parts[name]
    _, _, layer, _, part, _ = name.split(".")
    short = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
             "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}[part]
    return f"blk.{layer}.{short}.weight"


def interleaved(numpy, name, matrix, heads):
    """GGUF has the rows of a rotary pair side by side, Hugging Face half a head apart."""
    if not name.endswith(("q_proj.weight", "k_proj.weight")):
        return matrix
    rows, cols = matrix.shape
    return matrix.reshape(heads, 2, rows // heads // 2, cols).swapaxes(1, 2).reshape(rows, cols)


if __name__ == "__main__":
    unittest.main()
