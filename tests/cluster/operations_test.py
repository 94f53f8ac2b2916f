"""What operators rely on: health, readiness, metrics, request ids in logs, drain, TLS, configuration."""

import json
import re
import subprocess
import threading
import time
import unittest

import grpc
from cluster import BINARIES, POEM_ALPACA, Answer, Cluster, Process, ask, generate_request, generation_pb2_grpc, health_pb2, wait_for
from models import slow_model

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = {"gateway": "yangtuo.v1.GenerationService", "tokenizer": "yangtuo.internal.v1.TokenizerService",
            "worker": "yangtuo.internal.v1.InferenceService"}
LONG = {"max_new_tokens": 200, "ignore_eos": True}


class OperationsTest(unittest.TestCase):
    def test_health_is_named_and_model_aware(self):
        with Cluster(shards=2) as cluster:
            for process, service in ((cluster.gateway, SERVICES["gateway"]), (cluster.tokenizer, SERVICES["tokenizer"]),
                                     (cluster.leaders()[0], SERVICES["worker"])):
                self.assertEqual(cluster.health(process, ""), SERVING)
                self.assertEqual(cluster.health(process, service), SERVING)
                self.assertEqual(process.http("/livez")[0], 200)
                self.assertEqual(process.http("/readyz")[0], 200)
            cluster.workers[0][1].kill()
            leader = cluster.leaders()[0]
            wait_for(lambda: cluster.health(leader, SERVICES["worker"]) == NOT_SERVING, "a group without a shard is not ready", 10)
            self.assertEqual(cluster.health(leader, ""), SERVING)
            self.assertEqual(leader.http("/livez")[0], 200)
            status, body = leader.http("/readyz")
            self.assertEqual(status, 503)
            self.assertIn("InferenceService", body)
            wait_for(lambda: cluster.health(cluster.gateway, SERVICES["gateway"]) == NOT_SERVING, "nor is the gateway", 10)

    def test_health_watch_tells_of_the_change(self):
        with Cluster() as cluster, grpc.insecure_channel(cluster.gateway.address()) as channel:
            from cluster import health_pb2_grpc
            watch = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(service=SERVICES["gateway"]), timeout=60)
            self.assertEqual(next(watch).status, SERVING)
            cluster.leaders()[0].kill()
            self.assertEqual(next(watch).status, NOT_SERVING)

    def test_metrics_count_what_happened(self):
        with Cluster(shards=2) as cluster, cluster.stub() as stub:
            for i in range(3):
                ask(stub, [1, 300 + i], max_new_tokens=20, ignore_eos=True)
            leader, gateway = cluster.leaders()[0], cluster.gateway
            for process in (leader, gateway):
                self.assertEqual(process.metric("yangtuo_generation_tokens_total"), 60)
                self.assertEqual(process.metric("yangtuo_prompt_tokens_total"), 6)
                self.assertEqual(process.metric("yangtuo_ttft_seconds_count"), 3)
                self.assertEqual(process.metric("yangtuo_inter_token_seconds_count"), 57)
                self.assertEqual(process.metric("yangtuo_e2e_seconds_count"), 3)
                self.assertEqual(process.metric("yangtuo_build_info"), 1)
            self.assertEqual(leader.metric("yangtuo_kv_cache_usage_ratio"), 0)
            self.assertGreater(leader.metric("yangtuo_batch_size_count"), 50)
            self.assertGreater(leader.metric("yangtuo_shard_sync_seconds_count"), 50)
            with self.assertRaises(grpc.RpcError):
                ask(stub, [1, 6001])
            codes = {k: v for k, v in gateway.metrics().items() if k.startswith("yangtuo_requests_total")}
            self.assertEqual(sum(v for k, v in codes.items() if '"OK"' in k), 3, codes)
            self.assertEqual(sum(v for k, v in codes.items() if "INVALID_ARGUMENT" in k), 1, codes)
            self.assertGreater(cluster.tokenizer.metric("yangtuo_build_info"), 0)

    def test_request_id_appears_in_the_logs_of_every_hop(self):
        flags = ["--log-level", "debug", "--log-format", "json"]
        with Cluster(worker=flags, gateway=flags, tokenizer=flags) as cluster, cluster.stub() as stub:
            answer = ask(stub, {"chat": "写一首诗。"}, max_new_tokens=5, request_id="trace-me-42")
            self.assertEqual(answer.started.request_id, "trace-me-42")
            for process in cluster.all():
                wait_for(lambda p=process: "trace-me-42" in p.log(), f"{process.name} logs the request id", 5)
                for line in process.log().splitlines():
                    entry = json.loads(line)
                    self.assertIn("event", entry)
                    self.assertNotIn("写一首诗", line, "prompt text never reaches a log")

    def test_drain_finishes_running_streams_and_refuses_new_ones(self):
        for which in ("gateway", "worker"):
            with self.subTest(which), Cluster(slow_model()) as cluster, cluster.stub() as stub:
                stream = stub.Generate(generate_request([1, 300], **LONG), timeout=60)
                first = next(stream)
                process = cluster.gateway if which == "gateway" else cluster.leaders()[0]
                codes = []
                thread = threading.Thread(target=lambda p=process: codes.append(p.stop()))
                thread.start()
                answer = Answer(iter([first, *stream]))
                thread.join()
                self.assertEqual(len(answer.tokens), LONG["max_new_tokens"])
                self.assertEqual(codes, [0])

    def test_drain_has_a_limit(self):
        with Cluster(slow_model(), worker=["--drain-seconds", "0.1"]) as cluster, cluster.stub() as stub:
            stream = stub.Generate(generate_request([1, 300], n=8, **LONG), timeout=60)
            next(stream)
            started = time.monotonic()
            self.assertEqual(cluster.leaders()[0].stop(), 0)
            self.assertLess(time.monotonic() - started, 10)
            with self.assertRaises(grpc.RpcError) as caught:
                list(stream)
            self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE, caught.exception.details())

    def test_mutual_tls_between_all_and_tls_to_clients(self):
        import pathlib
        import tempfile
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

        def openssl(*arguments):
            subprocess.run(["openssl", *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test CA", "-keyout", "ca.key", "-out", "ca.pem")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "request.pem")
        (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        openssl("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                "-extfile", "names", "-out", "cert.pem")
        server = ["--tls-cert", folder / "cert.pem", "--tls-key", folder / "key.pem"]
        mutual = [*server, "--tls-client-ca", folder / "ca.pem"]
        peer = ["--peer-tls-ca", folder / "ca.pem", "--peer-tls-cert", folder / "cert.pem", "--peer-tls-key", folder / "key.pem"]
        with Cluster(shards=2, worker=[*mutual, *peer], tokenizer=mutual, gateway=[*server, *peer]) as cluster:
            credentials = grpc.ssl_channel_credentials((folder / "ca.pem").read_bytes())
            with grpc.secure_channel(cluster.gateway.address(), credentials) as channel:
                stub = generation_pb2_grpc.GenerationServiceStub(channel)
                self.assertEqual(len(ask(stub, [1, 300], max_new_tokens=5, ignore_eos=True).tokens), 5)
            with grpc.secure_channel(cluster.leaders()[0].address(), credentials) as channel:
                with self.assertRaises(grpc.RpcError) as caught:
                    from cluster import health_pb2_grpc
                    health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
                self.assertIn(caught.exception.code(), (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED))

    def test_every_program_explains_prints_and_checks_its_configuration(self):
        required = {"yangtuo-worker": ["--model", POEM_ALPACA], "yangtuo-tokenizer": ["--model", f"m={POEM_ALPACA}"],
                    "yangtuo-gateway": ["--workers", "127.0.0.1:1", "--tokenizers", "127.0.0.1:1"]}
        for program, flags in required.items():
            with self.subTest(program):
                def run(*arguments):
                    return subprocess.run([BINARIES / program, *map(str, arguments)], stdout=subprocess.PIPE,
                                          stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
                text = run("--help")
                self.assertEqual(text.returncode, 0)
                self.assertRegex(text.stdout, "(?i)example")
                self.assertIn("--check-config", text.stdout)
                checked = run(*flags, "--check-config")
                self.assertEqual(checked.returncode, 0, checked.stdout)
                printed = run(*flags, "--print-config")
                self.assertEqual(printed.returncode, 0)
                self.assertRegex(printed.stdout, r"(?m)^drain-seconds\s*=")
                self.assertTrue(re.search("(?m)^version|" + re.escape(program), run("--version").stdout))

    def test_dns_names_find_workers_and_tokenizers(self):
        with Cluster() as cluster:
            leader, tokenizer = cluster.leaders()[0], cluster.tokenizer
            second = Process(cluster.folder, "gateway-dns", "yangtuo-gateway",
                             ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
                              "--workers", f"dns:///localhost:{leader.ports['grpc']}",
                              "--tokenizers", f"dns:///localhost:{tokenizer.ports['grpc']}"])
            self.addCleanup(second.stop)
            second.start().wait_ports()
            wait_for(lambda: second.http("/readyz")[0] == 200, "the gateway finds both by name")
            with grpc.insecure_channel(second.address()) as channel:
                stub = generation_pb2_grpc.GenerationServiceStub(channel)
                self.assertEqual(len(ask(stub, [1, 300], max_new_tokens=5, ignore_eos=True).tokens), 5)


if __name__ == "__main__":
    unittest.main()
