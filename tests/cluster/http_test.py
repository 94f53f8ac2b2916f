"""Real HTTP clients against a running cluster: curl, OpenAI's and LangChain's npm packages, requests as private-gpt sends them."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import subprocess
import unittest

from cluster import Cluster, ask

PROMPT = "写一首题为《春望》的五言律诗。"
HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(os.environ["YANGTUO_BINARY_DIR"])
CHAT = {"messages": [{"role": "user", "content": PROMPT}], "temperature": 0, "max_tokens": 120}


class Api:
    """A cluster's HTTP API."""

    def __init__(self, cluster):
        self.address = cluster.gateway.address("http")

    def call(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection(self.address, timeout=120)
        with contextlib.closing(connection):
            data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def post(self, path, body):
        return self.call("POST", path, body)

    def stream(self, path, body, on_event=None):
        """The JSON of every event; fails unless the last one is [DONE]."""
        connection = http.client.HTTPConnection(self.address, timeout=120)
        events = []
        with contextlib.closing(connection):
            connection.request("POST", path, json.dumps({**body, "stream": True}))
            response = connection.getresponse()
            assert response.status == 200, response.read()
            for line in response:
                if line.startswith(b"data: "):
                    events.append(line[6:].strip().decode())
                    if on_event:
                        on_event(len(events))
        assert events[-1] == "[DONE]", events[-1]
        return [json.loads(event) for event in events[:-1]]


def text_of(events):
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])


def run(command, limit=240, **options):
    return subprocess.run(list(map(str, command)), timeout=limit, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, check=False, **options)


def npm(test, name, *packages):
    """A folder with these packages and the scripts of tests/cluster/node."""
    if not shutil.which("npm"):
        test.skipTest("npm is not installed")
    folder = BUILD / "tests" / name
    folder.mkdir(parents=True, exist_ok=True)
    for script in (HERE / "node").glob("*.mjs"):
        shutil.copy(script, folder)
    if not all((folder / "node_modules" / package.split("@")[0]).exists() for package in packages):
        install = run(["npm", "install", "--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund", *packages])
        test.assertEqual(install.returncode, 0, install.stderr)
    return folder


class HttpTest(unittest.TestCase):
    def setUp(self):
        self.cluster = self.enterContext(Cluster())
        self.api = Api(self.cluster)

    def test_http_and_grpc_streamed_and_whole_say_the_same(self):
        with self.cluster.stub() as stub:
            expected = ask(stub, {"chat": PROMPT}, max_new_tokens=120)
        status, whole = self.api.post("/v1/chat/completions", CHAT)
        self.assertEqual(status, 200, whole)
        self.assertEqual(whole["choices"][0]["message"]["content"], expected.text)
        self.assertEqual(whole["usage"]["prompt_tokens"], expected.finished.usage.prompt_tokens)
        self.assertEqual(whole["usage"]["completion_tokens"], expected.finished.usage.completion_tokens)
        events = self.api.stream("/v1/chat/completions", {**CHAT, "stream_options": {"include_usage": True}})
        self.assertEqual(text_of(events), expected.text)
        self.assertEqual(events[-1]["usage"], whole["usage"])
        self.assertEqual(events[-2]["choices"][0]["finish_reason"], whole["choices"][0]["finish_reason"])

    def test_requests_as_private_gpt_sends_them(self):
        _, models = self.api.call("GET", "/v1/models")
        model = models["data"][0]
        self.assertEqual(model["meta"]["n_ctx"], model["max_model_len"])
        self.assertEqual(self.api.call("GET", "/v1/models/" + model["id"])[1]["id"], model["id"])
        body = {**CHAT, "model": model["id"], "reasoning_effort": "none", "top_k": 40, "min_p": 0.0,
                "repetition_penalty": 1.1, "stream_options": {"include_usage": True}}
        self.assertTrue(text_of(self.api.stream("/v1/chat/completions", body)))
        tokens = self.api.post("/tokenize", {"model": model["id"], "prompt": PROMPT})[1]["tokens"]
        self.assertTrue(all(isinstance(token, int) for token in tokens))
        bare = self.api.post("/tokenize", {"content": PROMPT})[1]["tokens"]
        self.assertEqual(tokens[1:], bare)
        text = self.api.post("/detokenize", {"model": model["id"], "tokens": bare})[1]
        self.assertEqual(text["content"].strip(), PROMPT)
        _, embedded = self.api.post("/v1/embeddings", {"model": model["id"], "input": [PROMPT, "春", tokens and "望"]})
        self.assertEqual([item["index"] for item in embedded["data"]], [0, 1, 2])
        self.assertEqual(len(embedded["data"][0]["embedding"]), model["meta"]["n_embd"])
        self.assertAlmostEqual(sum(x * x for x in embedded["data"][0]["embedding"]), 1, places=4)

    def test_token_inputs_embed_like_their_text(self):
        tokens = self.api.post("/tokenize", {"prompt": PROMPT})[1]["tokens"]
        by_text = self.api.post("/v1/embeddings", {"input": PROMPT})[1]["data"][0]["embedding"]
        by_tokens = self.api.post("/v1/embeddings", {"input": tokens})[1]["data"][0]["embedding"]
        self.assertEqual(by_text, by_tokens)

    def test_curl(self):
        if not shutil.which("curl"):
            self.skipTest("curl is not installed")
        url = f"http://{self.api.address}"
        health = run(["curl", "-sS", "-w", " %{http_code}", f"{url}/health"])
        self.assertTrue(health.stdout.endswith(" 200"), health)
        answer = run(["curl", "-sSN", f"{url}/v1/chat/completions", "-d", json.dumps({**CHAT, "stream": True})])
        self.assertTrue(answer.stdout.endswith("data: [DONE]\n\n"), answer)
        large = run(["curl", "-sS", f"{url}/v1/completions", "-d", "@-"], input=json.dumps({"prompt": "春" * 600000}))
        self.assertEqual(json.loads(large.stdout)["error"]["code"], "context_length_exceeded")

    def test_openai_and_langchain_packages(self):
        if not shutil.which("npm"):
            self.skipTest("npm is not installed")
        folder = BUILD / "tests" / "node-http"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "openai_client.mjs"):
            shutil.copy(HERE / "node" / name, folder)
        if not (folder / "node_modules" / "@langchain" / "openai").exists():
            install = run(["npm", "install", "--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund"])
            self.assertEqual(install.returncode, 0, install.stderr)
        result = run(["node", folder / "openai_client.mjs", f"http://{self.api.address}/v1"])
        self.assertEqual(result.returncode, 0, result.stderr)
        told = json.loads(result.stdout)
        whole = self.api.post("/v1/chat/completions", CHAT)[1]["choices"][0]["message"]["content"]
        for client in ("chat", "streamed", "langchain", "langchainStreamed"):
            self.assertEqual(told[client], whole, client)
        self.assertGreater(told["usage"]["total_tokens"], 0)
        self.assertTrue(told["completion"])
        expected = self.api.post("/v1/embeddings", {"input": PROMPT})[1]["data"][0]["embedding"]
        for client in ("embedding", "langchainEmbedding"):
            self.assertEqual(len(told[client]), len(expected))
            for a, b in zip(told[client], expected):
                self.assertAlmostEqual(a, b, places=5)
        self.assertEqual(told["absentModel"], [404, "model_not_found"])
        self.assertEqual(told["wrongValue"], [400, "temperature"])
        for client in ("schema", "langchainSchema"):
            self.assertIn(told[client]["mood"], ("glad", "sad"), client)
            self.assertTrue(600 <= told[client]["year"] <= 999, client)


class HttpResumeTest(unittest.TestCase):
    """A stream whose worker is lost goes on elsewhere: same text, no error."""

    def stream_through_loss_of_a_worker(self, number):
        with Cluster(groups=2) as cluster:
            api = Api(cluster)
            body = {"prompt": [1, 300, 301], "temperature": 0.8, "seed": 7, "max_tokens": 200, "ignore_eos": True}
            _, whole = api.post("/v1/completions", body)
            lost = []

            def lose(events):
                if events == 5:
                    busy = [w for w in cluster.leaders() if w.metric("yangtuo_requests_running") > 0]
                    busy[0].kill(number)
                    lost.append(busy[0])

            events = api.stream("/v1/completions", body, lose)
            self.assertEqual(len(lost), 1)
            self.assertEqual("".join(e["choices"][0]["text"] for e in events), whole["choices"][0]["text"])
            if number == signal.SIGSTOP:
                lost[0].kill(signal.SIGCONT)
            self.assertGreater(cluster.gateway.metric("yangtuo_retries_total"), 0)

    def test_a_stream_survives_the_death_of_its_worker(self):
        self.stream_through_loss_of_a_worker(signal.SIGKILL)

    def test_a_stream_survives_a_hung_worker(self):
        self.stream_through_loss_of_a_worker(signal.SIGSTOP)

    def test_many_clients_at_once_get_what_each_would_get_alone(self):
        with Cluster() as cluster:
            api = Api(cluster)
            bodies = [{**CHAT, "max_tokens": 30, "temperature": 0.7, "seed": seed} for seed in range(12)]
            alone = [api.post("/v1/chat/completions", b)[1]["choices"][0]["message"]["content"] for b in bodies]
            with concurrent.futures.ThreadPoolExecutor(12) as pool:
                together = list(pool.map(lambda b: text_of(api.stream("/v1/chat/completions", b)), bodies))
            self.assertEqual(together, alone)
            cluster.assert_nothing_held()


if __name__ == "__main__":
    unittest.main()
