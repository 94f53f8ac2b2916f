"""Who may call, at real programs: API keys, limits, TLS, the audit log, and scripts written for the reference's demo servers."""

import http.client
import json
import pathlib
import re
import shutil
import ssl
import tempfile
import unittest

import grpc

from certificates import Authority
from cluster import BINARIES, SOURCE, Cluster, WithKey, add_key, ask, error_info, generation_pb2_grpc, wait_for
from http_test import Api, npm, run

PROMPT = "写一首题为《春望》的五言律诗。"
COMPLETION = {"prompt": "春", "max_tokens": 4, "temperature": 0}


class KeysTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.keys = self.folder / "keys.json"
        self.audit = self.folder / "audit.log"
        self.flags = ["--api-keys-file", self.keys, "--audit-log", self.audit]

    def audit_lines(self):
        return [json.loads(line) for line in self.audit.read_text().splitlines()]

    def test_openais_package_sees_the_errors_it_knows_and_waits_as_it_is_told(self):
        folder = npm(self, "node-access", "openai@5")
        key = add_key(self.keys, "shop", "--requests-per-minute", 20, "--model", "poem-alpaca")
        with Cluster(gateway=self.flags) as cluster:
            url = f"http://{cluster.gateway.address('http')}/v1"
            result = run(["node", folder / "access_client.mjs", url, key, "poem-alpaca"])
            self.assertEqual(result.returncode, 0, result.stderr)
        told = json.loads(result.stdout)
        self.assertEqual(told["wrongKey"], ["AuthenticationError", 401, "invalid_api_key", "authentication_error"])
        self.assertEqual(told["models"], ["poem-alpaca"])
        self.assertEqual(told["otherModel"][:3], ["PermissionDeniedError", 403, "model_not_allowed"])
        self.assertEqual(told["choices"], 1)
        self.assertLess(int(told["remaining"]), 20)
        self.assertEqual(told["limited"], ["RateLimitError", 429, "rate_limit_exceeded", "rate_limit_error"])
        self.assertEqual(told["afterRetry"], 1)
        self.assertGreater(told["waitedSeconds"], 1, "a request comes back every 3 s")
        lines = self.audit_lines()
        self.assertEqual({line["tenant"] for line in lines}, {"", "shop"})
        self.assertIn("REQUEST_RATE", {line["reason"] for line in lines})
        self.assertNotIn("春", self.audit.read_text())

    def test_a_grpc_client_and_the_yangtuo_command_send_keys(self):
        key = add_key(self.keys, "rag", "--max-priority", -5)
        key_file = self.folder / "key"
        key_file.write_text(key + "\n")
        with Cluster(gateway=self.flags) as cluster:
            with cluster.stub() as stub, self.assertRaises(grpc.RpcError) as caught:
                ask(stub, "春")
            self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAUTHENTICATED)
            self.assertEqual(error_info(caught.exception)[0], "MISSING_API_KEY")
            with cluster.stub(key) as stub:
                self.assertTrue(ask(stub, "春", max_new_tokens=4).tokens)
                with self.assertRaises(grpc.RpcError) as caught:
                    ask(stub, "春", priority=1)
                self.assertEqual(caught.exception.code(), grpc.StatusCode.PERMISSION_DENIED)
            server = ["--server", cluster.gateway.address()]
            refused = run([BINARIES / "yangtuo", "models", *server])
            self.assertEqual(refused.returncode, 1)
            self.assertIn("API key", refused.stderr)
            answer = run([BINARIES / "yangtuo", "generate", *server, "--api-key-file", key_file, "--max-new-tokens", 5, "春"])
            self.assertEqual(answer.returncode, 0, answer.stderr)
            self.assertTrue(answer.stdout.strip())

    def test_keys_change_while_the_gateway_runs(self):
        first = add_key(self.keys, "a", "--note", "laptop")
        with Cluster(gateway=self.flags) as cluster:
            api = Api(cluster)

            def status(key):
                return api.call("POST", "/v1/completions", COMPLETION, {"Authorization": f"Bearer {key}"})[0]

            self.assertEqual(status(first), 200)
            second = add_key(self.keys, "b")
            wait_for(lambda: status(second) == 200, "the new key is in force")
            listed = run([BINARIES / "yangtuo", "keys", "list", "--file", self.keys]).stdout
            self.assertIn("laptop", listed)
            self.assertNotIn(first, listed + self.keys.read_text())
            id_of_first = listed.splitlines()[1].split()[0]
            removed = run([BINARIES / "yangtuo", "keys", "remove", "--file", self.keys, id_of_first])
            self.assertEqual(removed.returncode, 0, removed.stderr)
            wait_for(lambda: status(first) == 401, "the removed key is refused")
            good = self.keys.read_text()
            self.keys.write_text(good[:-20])
            wait_for(lambda: cluster.gateway.metric("yangtuo_api_keys_file_valid") == 0, "the broken file is noticed")
            self.assertEqual(status(second), 200)
            self.assertIn("look at byte", cluster.gateway.log())
            cluster.assert_nothing_held()

    def test_the_page_asks_for_the_key(self):
        browser = shutil.which("chromium")
        if not browser:
            self.skipTest("chromium is not installed")
        folder = npm(self, "node-access-page", "playwright-core@1")
        key = add_key(self.keys, "people")
        with Cluster(gateway=self.flags) as cluster:
            url = f"http://{cluster.gateway.address('http')}"
            result = run(["node", folder / "enter_key.mjs", url, browser, key])
            self.assertEqual(result.returncode, 0, result.stderr)
        told = json.loads(result.stdout)
        self.assertIn("wants an API key", told["without"])
        self.assertTrue(told["keyVisible"])
        self.assertEqual(told["focus"], "key")
        self.assertIn("not valid", told["wrong"])
        self.assertEqual(told["right"], "")
        self.assertNotIn(key, told["stored"], "the key is not kept for ever")
        self.assertTrue(told["answer"])

    def test_tls_to_clients_and_mutual_tls_inside_with_keys(self):
        ours = Authority(self.folder)
        stranger = Authority(self.folder, "stranger")
        certificate, private = ours.sign("server")
        key = add_key(self.keys, "t")
        headers = {"Authorization": f"Bearer {key}"}
        server = ["--tls-cert", certificate, "--tls-key", private]
        mutual = [*server, "--tls-client-ca", ours.ca]
        peer = ["--peer-tls-ca", ours.ca, "--peer-tls-cert", certificate, "--peer-tls-key", private]

        def ask_https(cluster, authority, cert=None):
            context = ssl.create_default_context(cafile=authority.ca)
            if cert:
                context.load_cert_chain(*cert)
            connection = http.client.HTTPSConnection(cluster.gateway.address("http"), timeout=20, context=context)
            try:
                connection.request("POST", "/v1/completions", json.dumps(COMPLETION), headers)
                response = connection.getresponse()
                return response.status, json.loads(response.read())
            finally:
                connection.close()

        with Cluster(worker=[*mutual, *peer], tokenizer=mutual, gateway=[*server, *peer, *self.flags]) as cluster:
            status, body = ask_https(cluster, ours)
            self.assertEqual(status, 200, body)
            with self.assertRaises(ssl.SSLCertVerificationError) as caught:
                ask_https(cluster, stranger)
            self.assertIn("certificate verify failed", str(caught.exception))
            with self.assertRaises((http.client.HTTPException, OSError)):
                Api(cluster).call("GET", "/health")
            credentials = grpc.ssl_channel_credentials(ours.ca.read_bytes())
            with grpc.secure_channel(cluster.gateway.address(), credentials) as channel:
                stub = generation_pb2_grpc.GenerationServiceStub(grpc.intercept_channel(channel, WithKey(key)))
                self.assertTrue(ask(stub, "春", max_new_tokens=4).tokens)
                with self.assertRaises(grpc.RpcError) as caught:
                    ask(generation_pb2_grpc.GenerationServiceStub(channel), "春")
                self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAUTHENTICATED)
            # A stranger does not get to the worker's port at all.
            with grpc.secure_channel(cluster.leaders()[0].address(), credentials) as channel:
                with self.assertRaises(grpc.FutureTimeoutError):
                    grpc.channel_ready_future(channel).result(timeout=2)
        with Cluster(gateway=[*mutual, *self.flags]) as cluster:
            with self.assertRaises(OSError):
                ask_https(cluster, ours)
            self.assertEqual(ask_https(cluster, ours, ours.sign("client"))[0], 200)

    def test_wrong_files_are_named(self):
        certificate, private = Authority(self.folder).sign("server")
        other = Authority(self.folder, "other").sign("another")[1]
        broken = self.folder / "broken.json"
        broken.write_text('{"keys": [{"tenant": "t", "sha256": "yt-the-key-itself"}]}')
        for flags, words in [
                (["--tls-cert", certificate, "--tls-key", other], f'the key in "{other}" is not the key of the certificate'),
                (["--tls-cert", self.folder / "none.crt", "--tls-key", private], 'cannot read the PEM file'),
                (["--tls-cert", private, "--tls-key", private], "expected a PEM certificate"),
                (["--api-keys-file", self.folder / "none.json"], "cannot read the API keys file"),
                (["--api-keys-file", broken], "keys[0].sha256 must be the key's SHA-256"),
                (["--audit-prompts"], "--audit-prompts needs --audit-log"),
                (["--listen", "0.0.0.0:0", "--admin-listen", "0.0.0.0:0"], "--admin-on-public-address")]:
            result = run([BINARIES / "yangtuo-gateway", "--workers", "127.0.0.1:1", "--tokenizers", "127.0.0.1:2",
                          "--check-config", *flags])
            self.assertEqual(result.returncode, 2, flags)
            self.assertIn(words, result.stderr)


class ReadmeTest(unittest.TestCase):
    def test_its_curl_lines_work_as_they_are(self):
        if not shutil.which("curl"):
            self.skipTest("curl is not installed")
        lines = re.findall(r"^    (curl .*)$", (SOURCE / "README.md").read_text(), re.MULTILINE)
        self.assertGreater(len(lines), 3)
        with Cluster() as cluster:
            for line in lines:
                self.assertIn("127.0.0.1:8080", line)
                command = line.replace("127.0.0.1:8080", cluster.gateway.address("http"))
                result = run(["sh", "-c", command.replace("curl ", "curl -sS --fail-with-body ", 1)])
                self.assertEqual(result.returncode, 0, f"{line}\n{result.stdout}{result.stderr}")
                self.assertTrue(result.stdout.strip(), line)
                if '"stream": true' in line:
                    self.assertTrue(result.stdout.endswith("data: [DONE]\n\n"), result.stdout)
                else:
                    self.assertNotIn("error", json.loads(result.stdout))


class DemoTest(unittest.TestCase):
    """Requests as the documentation of the reference's server has them, read as its users' scripts do."""

    def test_scripts_for_the_demo_servers_work(self):
        with Cluster(gateway=["--compat", "demo"]) as cluster:
            api = Api(cluster)
            status, completion = api.post("/v1/completions", {"prompt": "告诉我中国的首都在哪里", "max_tokens": 20})
            self.assertEqual(status, 200, completion)
            self.assertEqual(set(completion), {"id", "object", "created", "model", "choices"})
            self.assertEqual(set(completion["choices"][0]), {"index", "text"})
            status, chat = api.post("/v1/chat/completions", {
                "model": "chinese-llama-alpaca", "messages": [{"role": "user", "message": PROMPT}],
                "repetition_penalty": 1.0, "max_tokens": 20})
            self.assertEqual(status, 200, chat)
            answer = chat["choices"][1]["message"]
            self.assertEqual(chat["choices"][0]["message"], {"role": "user", "content": PROMPT})
            self.assertEqual(answer["role"], "assistant")
            self.assertTrue(answer["content"])
            events = api.stream("/v1/chat/completions", {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 20})
            self.assertEqual(events[0]["choices"][0]["delta"], {"role": "assistant"})
            self.assertEqual(events[-1]["choices"][0], {"index": 0, "delta": {}, "finish_reason": "stop"})
            self.assertEqual(set(events[0]), {"object", "model", "choices"})
            vector = api.post("/v1/embeddings", {"input": "今天天气真不错"})[1]["data"][0]["embedding"]
            self.assertIsInstance(vector[0], float)
            nested = api.post("/v1/embeddings", {"input": ["今天天气真不错", "春"]})[1]["data"]
            self.assertEqual(len(nested), 1)
            self.assertEqual(nested[0]["embedding"][0], vector)
            status, detail = api.post("/v1/chat/completions", {})
            self.assertEqual((status, detail["detail"][0]["loc"]), (422, ["body", "messages"]))


if __name__ == "__main__":
    unittest.main()
