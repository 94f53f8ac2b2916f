"""Whatever goes wrong: the right status, words that help, nothing hangs, nothing stays held."""

import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import grpc
from cluster import (BINARIES, POEM_ALPACA, Answer, Cluster, ask, error_info, generate_request,
                     generation_pb2, wait_for)
from models import slow_model

LONG = {"max_new_tokens": 250, "ignore_eos": True}


def refuse(test, call, code):
    """The error of a call that must fail with `code`; unary or stream."""
    with test.assertRaises(grpc.RpcError) as caught:
        result = call()
        if not hasattr(result, "DESCRIPTOR"):
            list(result)
    test.assertEqual(caught.exception.code(), code, caught.exception.details())
    return caught.exception


class RequestFaultsTest(unittest.TestCase):
    def setUp(self):
        self.cluster = self.enterContext(Cluster(slow_model(), shards=2))
        self.stub = self.enterContext(self.cluster.stub())
        self.addCleanup(self.still_answers)

    def still_answers(self):
        self.cluster.assert_nothing_held()
        self.assertEqual(len(ask(self.stub, [1, 300], max_new_tokens=5, ignore_eos=True).tokens), 5)

    def test_client_that_vanishes_frees_everything(self):
        calls = [self.stub.Generate(generate_request([1, 300 + i], n=2, **LONG)) for i in range(8)]
        for call in calls:
            next(iter(call))
        wait_for(lambda: self.cluster.leaders()[0].metric("yangtuo_requests_running") >= 8, "streams run")
        for call in calls:
            call.cancel()
        self.cluster.assert_nothing_held(limit=3)

    def test_deadline_reaches_every_hop(self):
        error = refuse(self, lambda: self.stub.Generate(generate_request([1, 300], n=8, **LONG), timeout=0.05),
                       grpc.StatusCode.DEADLINE_EXCEEDED)
        self.assertTrue(error.details())
        self.cluster.assert_nothing_held(limit=3)

    def test_prompt_that_is_too_long_is_refused_with_the_numbers(self):
        error = refuse(self, lambda: self.stub.Generate(generate_request([1] + [300] * 2600), timeout=20),
                       grpc.StatusCode.INVALID_ARGUMENT)
        reason, metadata, _, _ = error_info(error)
        self.assertEqual(reason, "CONTEXT_LENGTH_EXCEEDED")
        self.assertIn("2048", error.details())
        self.assertIn("2601", error.details())
        error = refuse(self, lambda: self.stub.Generate(generate_request([1, 300], max_new_tokens=3000), timeout=20),
                       grpc.StatusCode.INVALID_ARGUMENT)
        self.assertIn("2048", error.details())

    def test_unknown_model_is_not_found_and_the_known_are_named(self):
        error = refuse(self, lambda: self.stub.Generate(generate_request("x", model="gpt-5"), timeout=20),
                       grpc.StatusCode.NOT_FOUND)
        self.assertIn("gpt-5", error.details())
        self.assertIn("slow", error.details())
        self.assertTrue(error_info(error)[0])

    def test_malformed_requests_name_the_field(self):
        wrong = {
            "temperature": {"temperature": -1.0}, "top_p": {"top_p": 0.0}, "min_p": {"min_p": 2.0},
            "repetition_penalty": {"repetition_penalty": 0.0}, "presence_penalty": {"presence_penalty": 3.0},
            "frequency_penalty": {"frequency_penalty": -2.5}, "logprobs": {"logprobs": 21}, "n": {"n": 17},
            "logit_bias": {"logit_bias": {6001: 1.0}}, "stop_strings": {"stop_strings": [""]},
            "max_new_tokens": {"max_new_tokens": 0}, "priority": {"priority": 101},
            "request_id": {"request_id": "bad\nid"}, "stop_token_ids": {"stop_token_ids": [7000]},
        }
        for field, options in wrong.items():
            with self.subTest(field):
                error = refuse(self, lambda: self.stub.Generate(generate_request([1, 300], **options), timeout=20),
                               grpc.StatusCode.INVALID_ARGUMENT)
                named = " ".join(error_info(error)[2])
                self.assertIn(field, named, error.details())
        for name, prompt in {"token id": [1, 6001], "no ids": [], "no text": ""}.items():
            with self.subTest(name):
                refuse(self, lambda: self.stub.Generate(generate_request(prompt), timeout=20),
                       grpc.StatusCode.INVALID_ARGUMENT)
        with self.subTest("no prompt at all"):
            refuse(self, lambda: self.stub.Generate(generation_pb2.GenerateRequest(), timeout=20),
                   grpc.StatusCode.INVALID_ARGUMENT)
        with self.subTest("role"):
            request = generation_pb2.GenerateRequest()
            request.chat.messages.add(role="robot", content="x")
            refuse(self, lambda: self.stub.Generate(request, timeout=20), grpc.StatusCode.INVALID_ARGUMENT)
        with self.subTest("adapter"):
            error = refuse(self, lambda: self.stub.Generate(generate_request([1], adapter="x"), timeout=20),
                           grpc.StatusCode.NOT_FOUND)
            self.assertIn("x", error.details())

    def test_bytes_that_are_no_protobuf_are_refused_by_grpc(self):
        with self.cluster.channel() as channel:
            call = channel.unary_stream("/yangtuo.v1.GenerationService/Generate")
            # gRPC's own answer, before any code of ours; which code it is depends on its version.
            with self.assertRaises(grpc.RpcError) as caught:
                list(call(b"\xff\xff\xff\xff", timeout=20))
            self.assertIn(caught.exception.code(), (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNIMPLEMENTED))


class LostProcessTest(unittest.TestCase):
    def test_killed_worker_is_unavailable_at_once_and_back_after_a_restart(self):
        with Cluster(slow_model(), lasting=True) as cluster, cluster.stub() as stub:
            stream = stub.Generate(generate_request([1, 300], n=4, **LONG), timeout=60)
            next(stream)
            worker = cluster.leaders()[0]
            started = time.monotonic()
            worker.kill()
            refuse(self, lambda: stream, grpc.StatusCode.UNAVAILABLE)
            error = refuse(self, lambda: stub.Generate(generate_request([1, 300]), timeout=60),
                           grpc.StatusCode.UNAVAILABLE)
            self.assertLess(time.monotonic() - started, 10)
            self.assertIn("slow", error.details())
            wait_for(lambda: cluster.gateway.http("/readyz")[0] == 503, "the gateway is not ready without a worker")
            worker.start().wait_ports()
            cluster.wait_ready()
            self.assertEqual(len(ask(stub, [1, 300], max_new_tokens=5, ignore_eos=True).tokens), 5)
            cluster.assert_nothing_held()

    def test_stream_goes_on_without_loss_when_one_of_two_groups_is_killed(self):
        options = {"temperature": 1.0, "seed": 5, **LONG}
        with Cluster(slow_model(), groups=2) as cluster, cluster.stub() as stub:
            expected = ask(stub, [1, 300], **options)
            stream = stub.Generate(generate_request([1, 300], **options), timeout=120)
            first = [next(stream) for _ in range(4)]
            busy = next(w for w in cluster.leaders() if w.metric("yangtuo_requests_running") > 0)
            busy.kill()
            answer = Answer(iter([*first, *stream]))
            self.assertEqual(answer.tokens, expected.tokens)
            self.assertEqual(answer.text, expected.text)
            cluster.assert_nothing_held()

    def test_killed_shard_comes_back_and_the_stream_goes_on_without_loss(self):
        options = {"temperature": 1.0, "seed": 6, **LONG}
        # A busy machine may need long to load a shard again.
        with Cluster(slow_model(), shards=2, worker=["--recovery-seconds", "60"], lasting=True) as cluster, cluster.stub() as stub:
            expected = ask(stub, [1, 301], **options)
            stream = stub.Generate(generate_request([1, 301], **options), timeout=120)
            first = [next(stream) for _ in range(4)]
            shard = cluster.workers[0][1]
            shard.kill()
            shard.start().wait_ports()
            answer = Answer(iter([*first, *stream]))
            self.assertEqual(answer.tokens, expected.tokens)
            self.assertEqual(answer.text, expected.text)
            cluster.assert_nothing_held()

    def test_hung_shard_is_found_and_the_group_is_not_ready(self):
        with Cluster(slow_model(), shards=2, worker=["--recovery-seconds", "2"]) as cluster, cluster.stub() as stub:
            stream = stub.Generate(generate_request([1, 302], **LONG), timeout=60)
            next(stream)
            started = time.monotonic()
            cluster.workers[0][1].kill(signal.SIGSTOP)
            refuse(self, lambda: stream, grpc.StatusCode.UNAVAILABLE)
            self.assertLess(time.monotonic() - started, 12)
            wait_for(lambda: cluster.leaders()[0].http("/readyz")[0] == 503, "the leader says it is not ready")
            cluster.workers[0][1].kill(signal.SIGCONT)
            cluster.wait_ready()
            self.assertEqual(len(ask(stub, [1, 300], max_new_tokens=5, ignore_eos=True).tokens), 5)
            cluster.assert_nothing_held()

    def test_killed_tokenizer_is_unavailable_and_back_after_a_restart(self):
        with Cluster(slow_model(), lasting=True) as cluster, cluster.stub() as stub:
            stream = stub.Generate(generate_request({"chat": "写一首诗。"}, **LONG), timeout=60)
            next(stream)
            tokenizer = cluster.tokenizer
            tokenizer.kill()
            refuse(self, lambda: stub.Generate(generate_request("白日"), timeout=30), grpc.StatusCode.UNAVAILABLE)
            tokenizer.start().wait_ports()

            def ask_again():
                try:
                    return ask(stub, {"chat": "写一首诗。"}, **LONG)
                except grpc.RpcError as error:
                    self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE)
                    return None
            with_text = wait_for(ask_again, "the gateway finds the tokenizer again", 10)
            try:
                self.assertTrue(list(stream)[-1].HasField("finished"), "the open stream ended as promised")
            except grpc.RpcError as error:
                self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE)
            self.assertTrue(with_text.text)
            cluster.assert_nothing_held()


class OverloadTest(unittest.TestCase):
    def test_full_queue_is_refused_at_once_with_a_hint_when_to_retry(self):
        with Cluster(slow_model(), gateway=["--max-requests", "4"]) as cluster, cluster.stub() as stub:
            held = [stub.Generate(generate_request([1, 300 + i], **LONG), timeout=60) for i in range(4)]
            for stream in held:
                next(stream)
            started = time.monotonic()
            error = refuse(self, lambda: stub.Generate(generate_request([1, 300]), timeout=60),
                           grpc.StatusCode.RESOURCE_EXHAUSTED)
            self.assertLess(time.monotonic() - started, 2)
            reason, _, _, retry = error_info(error)
            self.assertTrue(reason)
            self.assertGreater(retry, 0)
            for stream in held:
                stream.cancel()
            cluster.assert_nothing_held()

    def test_full_worker_queue_is_refused_too(self):
        flags = ["--max-running", "1", "--max-waiting", "1"]
        with Cluster(slow_model(), worker=flags) as cluster, cluster.stub() as stub:
            outcomes = []

            def one(i):
                try:
                    outcomes.append(len(ask(stub, [1, 300 + i], **LONG).tokens))
                except grpc.RpcError as error:
                    outcomes.append(error.code())
            threads = [threading.Thread(target=one, args=(i,)) for i in range(12)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertIn(grpc.StatusCode.RESOURCE_EXHAUSTED, outcomes)
            self.assertIn(250, outcomes)
            self.assertLessEqual(set(outcomes), {250, grpc.StatusCode.RESOURCE_EXHAUSTED})
            cluster.assert_nothing_held()


class StartFaultsTest(unittest.TestCase):
    """A program that cannot work says why on standard error and ends; it never serves."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="yangtuo-start-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def fails(self, program, *arguments, code=1):
        flags = [part for flag in ("--listen", "--admin-listen") if flag not in arguments
                 for part in (flag, "127.0.0.1:0")]
        result = subprocess.run([BINARIES / program, *flags, *map(str, arguments)], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
        self.assertEqual(result.returncode, code, result.stdout)
        return result.stdout

    def copy(self):
        return pathlib.Path(shutil.copytree(POEM_ALPACA, self.folder / "model"))

    def test_corrupt_or_truncated_weights_name_the_file(self):
        model = self.copy()
        weights = model / "model.safetensors"
        whole = weights.read_bytes()
        for name, content in {"truncated": whole[:len(whole) // 2], "no header": b"\xff" * 64, "empty": b"",
                              "header cut": whole[:100]}.items():
            with self.subTest(name):
                weights.write_bytes(content)
                self.assertIn("model.safetensors", self.fails("yangtuo-worker", "--model", model))

    def test_wrong_config_names_the_key(self):
        model = self.copy()
        config = model / "config.json"
        config.write_text(config.read_text().replace('"num_attention_heads": 8', '"num_attention_heads": 7'))
        self.assertIn("num_attention_heads", self.fails("yangtuo-worker", "--model", model))
        config.write_text("{")
        self.assertIn("config.json", self.fails("yangtuo-worker", "--model", model))

    def test_tokenizer_that_does_not_fit_the_embedding_is_refused_with_both_sizes(self):
        import json
        model = self.copy()
        larger = json.loads((model / "config.json").read_text())
        weights = POEM_ALPACA.parent.parent.parent.parent / "shared" / "data" / "tokenizers" / "llama.model"
        if not weights.exists():
            self.skipTest("a second tokenizer is absent")
        shutil.copy(weights, model / "tokenizer.model")
        output = self.fails("yangtuo-worker", "--model", model)
        self.assertIn("32000", output.replace(",", ""))
        self.assertIn(str(larger["vocab_size"]), output.replace(",", ""))

    def test_missing_model_and_wrong_flags_say_what_to_do(self):
        self.assertIn("/no/such/model", self.fails("yangtuo-worker", "--model", "/no/such/model", code=2))
        self.assertIn("--model", self.fails("yangtuo-worker", code=2))
        self.assertIn("--shards", self.fails("yangtuo-worker", "--model", POEM_ALPACA, "--shards=3", code=2))
        self.assertIn("2/2", self.fails("yangtuo-worker", "--model", POEM_ALPACA, "--shard=2/2", code=2))
        self.assertIn("--workers", self.fails("yangtuo-gateway", "--tokenizers", "127.0.0.1:1", code=2))
        self.assertIn("tokenizer.model", self.fails("yangtuo-tokenizer", "--model", f"x={self.folder}", code=2))

    def test_port_in_use_names_the_address(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            for program, arguments in {"yangtuo-worker": ["--model", POEM_ALPACA],
                                       "yangtuo-tokenizer": ["--model", f"m={POEM_ALPACA}"],
                                       "yangtuo-gateway": ["--workers", "127.0.0.1:1", "--tokenizers", "127.0.0.1:1",
                                                           "--http-listen", "127.0.0.1:0"],
                                       }.items():
                for flag in ("--listen", "--admin-listen"):
                    with self.subTest(program, flag=flag):
                        self.assertIn(address, self.fails(program, *arguments, flag, address))


if __name__ == "__main__":
    unittest.main()
