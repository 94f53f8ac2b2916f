"""Traces of real processes: one collector gets the spans of gateway, tokenizer, leader and second shard as one trace."""

import contextlib
import http.client
import http.server
import json
import re
import threading
import time
import unittest

from cluster import Cluster, ask, generate_request, wait_for

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
RECORDED = f"00-{TRACE}-{CALLER}-01"
NOT_RECORDED = f"00-{TRACE}-{CALLER}-00"
PROMPT = "写一首题为《春望》的五言律诗。"
GENERATE = "yangtuo.internal.v1.InferenceService/Generate"
RENDER = "yangtuo.internal.v1.TokenizerService/RenderChat"


class Collector:
    """An OTLP/HTTP receiver; `delay` seconds pass before each answer."""

    def __init__(self, delay=0.0):
        self.requests, self.delay = [], delay
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.requests.append((self.path, self.headers["Content-Type"], json.loads(body)))
                time.sleep(collector.delay)
                with contextlib.suppress(BrokenPipeError):
                    self.send_response(200)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", "2")
                    self.end_headers()
                    self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    @property
    def environment(self):
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.server.server_port}"}

    def spans(self):
        """[(service, span)] of everything that came."""
        found = []
        for _, _, request in list(self.requests):
            for resource in request["resourceSpans"]:
                service = attributes(resource["resource"])["service.name"]
                found += [(service, span) for scope in resource["scopeSpans"] for span in scope["spans"]]
        return found

    def wait_spans(self, count):
        wait_for(lambda: len(self.spans()) >= count, f"{count} spans; there are {[s['name'] for _, s in self.spans()]}", 20)
        return self.spans()


def attributes(holder):
    return {one["key"]: value_of(one["value"]) for one in holder.get("attributes", [])}


def value_of(value):
    (kind, content), = value.items()
    if kind == "intValue":
        assert isinstance(content, str), "64-bit numbers are text in OTLP's JSON"
        return int(content)
    return [value_of(one) for one in content["values"]] if kind == "arrayValue" else content


class Trace:
    """The spans of one trace, found by name."""

    def __init__(self, spans, trace=TRACE):
        self.spans = [(service, span) for service, span in spans if span["traceId"] == trace]

    def one(self, name, service=None):
        found = [span for of, span in self.spans if span["name"] == name and service in (None, of)]
        assert len(found) == 1, f"{len(found)} spans {name} among {[(s, x['name']) for s, x in self.spans]}"
        return found[0]

    def parent(self, span):
        return next((s for _, s in self.spans if s["spanId"] == span["parentSpanId"]), None)


class TracingTest(unittest.TestCase):
    def check_form(self, collector):
        """The rules of OTLP's JSON mapping, on every request."""
        ids = set()
        for path, content_type, request in collector.requests:
            self.assertEqual((path, content_type), ("/v1/traces", "application/json"))
            self.assertEqual(set(request), {"resourceSpans"})
        for service, span in collector.spans():
            self.assertRegex(span["traceId"], r"^[0-9a-f]{32}$")
            self.assertRegex(span["spanId"], r"^[0-9a-f]{16}$")
            if "parentSpanId" in span:
                self.assertRegex(span["parentSpanId"], r"^[0-9a-f]{16}$")
            for key in ("startTimeUnixNano", "endTimeUnixNano"):
                self.assertIsInstance(span[key], str)
            begin, end = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
            self.assertLessEqual(begin, end, span["name"])
            self.assertLess(abs(time.time() - begin / 1e9), 300, "wall-clock time")
            self.assertIn(span["kind"], (1, 2, 3))
            self.assertNotIn(span["spanId"], ids, "ids are unique")
            ids.add(span["spanId"])
            self.assertNotIn("春望", json.dumps(span, ensure_ascii=False), "prompts are in no span")
            attributes(span)

    def check_parts(self, trace, gateway_name):
        """Parents of everything that one chat request through a group of two shards leaves."""
        root = trace.one(gateway_name, "yangtuo-gateway")
        self.assertEqual((root["parentSpanId"], root["kind"]), (CALLER, 2))
        for name, service, below in ((RENDER, "yangtuo-tokenizer", "tokenize"), (GENERATE, "yangtuo-worker", "decode")):
            call, served = trace.one(name, "yangtuo-gateway"), trace.one(name, service)
            self.assertEqual((trace.parent(call), call["kind"]), (root, 3), name)
            self.assertEqual((trace.parent(served), served["kind"]), (call, 2), name)
            self.assertEqual(trace.parent(trace.one(below, service)), served, below)
        leader = trace.one(GENERATE, "yangtuo-worker")
        for part in ("queue", "prefill", "decode", "shard steps"):
            self.assertEqual(trace.parent(trace.one(part, "yangtuo-worker")), leader, part)
        self.assertEqual(len(trace.spans), 10, [span["name"] for _, span in trace.spans])
        order = [int(trace.one(part)["startTimeUnixNano"]) for part in ("queue", "prefill", "decode")]
        self.assertEqual(order, sorted(order))
        return root, leader

    def test_one_trace_from_client_to_second_shard_over_grpc(self):
        with Collector() as collector, Cluster(shards=2, environment=collector.environment) as cluster, \
                cluster.stub() as stub:
            from cluster import Answer
            answer = Answer(stub.Generate(generate_request({"chat": PROMPT}, max_new_tokens=8, top_k=5), timeout=60,
                                          metadata=[("traceparent", RECORDED), ("tracestate", "vendor=1")]))
            trace = Trace(collector.wait_spans(10))
            root, leader = self.check_parts(trace, f"chat {cluster.model_name}")
            self.check_form(collector)
            said, usage = attributes(root), answer.finished.usage
            self.assertEqual(said["gen_ai.operation.name"], "chat")
            self.assertEqual(said["gen_ai.request.model"], cluster.model_name)
            self.assertEqual(said["gen_ai.request.max_tokens"], 8)
            self.assertEqual(said["gen_ai.request.top_k"], 5)
            self.assertEqual(said["gen_ai.usage.input_tokens"], usage.prompt_tokens)
            self.assertEqual(said["gen_ai.usage.output_tokens"], usage.completion_tokens)
            self.assertEqual(said["gen_ai.response.finish_reasons"], ["length"])
            self.assertGreater(said["gen_ai.response.time_to_first_chunk"], 0)
            self.assertEqual(said["yangtuo.request_id"], answer.started.request_id)
            self.assertEqual({span.get("traceState") for _, span in trace.spans} - {"vendor=1"}, {None},
                             "a shard's steps are told where they belong, not the vendor's state")
            steps = attributes(trace.one("shard steps"))
            self.assertEqual(steps["yangtuo.shard.index"], 1)
            self.assertEqual(steps["yangtuo.steps"], attributes(leader)["yangtuo.steps"])
            self.assertEqual(steps["yangtuo.rows"], usage.prompt_tokens + 8 - 1, "the last token is not computed")
            for process in cluster.all():
                wait_for(lambda: process.metric("yangtuo_spans_exported_total") > 0, f"{process.name} counts", 10)
                self.assertEqual(process.metric("yangtuo_spans_dropped_total"), 0)

    def test_one_trace_over_http_and_many_tokens_make_no_more_spans(self):
        with Collector() as collector, Cluster(shards=2, environment=collector.environment) as cluster:
            connection = http.client.HTTPConnection(cluster.gateway.address("http"), timeout=60)
            with contextlib.closing(connection):
                connection.request("POST", "/v1/chat/completions", json.dumps(
                    {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 100, "temperature": 0}),
                    {"traceparent": RECORDED})
                usage = json.loads(connection.getresponse().read())["usage"]
            trace = Trace(collector.wait_spans(10))
            root, _ = self.check_parts(trace, f"chat {cluster.model_name}")
            self.check_form(collector)
            self.assertGreater(usage["completion_tokens"], 20)
            self.assertEqual(attributes(root)["http.route"], "/v1/chat/completions")
            self.assertEqual(attributes(root)["gen_ai.usage.output_tokens"], usage["completion_tokens"])

    def test_the_client_decides_and_else_the_ratio(self):
        with Collector() as collector, \
                Cluster(gateway=["--otlp-sample-ratio", 0], environment=collector.environment) as cluster, \
                cluster.stub() as stub:
            ask(stub, "春", max_new_tokens=2)
            list(stub.Generate(generate_request("春", max_new_tokens=2), metadata=[("traceparent", NOT_RECORDED)]))
            list(stub.Generate(generate_request("春", max_new_tokens=2), metadata=[("traceparent", RECORDED)]))
            collector.wait_spans(9)
            cluster.gateway.stop()  # flushes: nothing can still be on its way
            for process in [cluster.tokenizer, *cluster.leaders()]:
                process.stop()
            spans = collector.spans()
            self.assertEqual(len(spans), len(Trace(spans).spans), "only the recorded one")
            self.assertEqual(len([s for _, s in spans if s["kind"] == 2]), 3, "gateway, tokenizer, worker")

    def test_failures_are_named(self):
        import grpc
        with Collector() as collector, Cluster(environment=collector.environment) as cluster, cluster.stub() as stub:
            with self.assertRaises(grpc.RpcError):
                list(stub.Generate(generate_request("春", model="nothing"), metadata=[("traceparent", RECORDED)]))
            (_, span), = collector.wait_spans(1)
            self.assertEqual(span["name"], "text_completion")
            said = attributes(span)
            self.assertEqual(said["gen_ai.request.model"], "nothing")
            self.assertRegex(said["error.type"], re.compile("MODEL|NOT_FOUND"))
            self.assertEqual(span["status"], {}, "the client's mistake is no failure of the server")

    def test_a_collector_that_is_down_or_slow_costs_nothing_and_is_counted(self):
        with Cluster() as calm, calm.stub() as stub:
            expected = ask(stub, {"chat": PROMPT}, max_new_tokens=20).text
        with Collector(delay=60) as slow:
            for endpoint in ("http://127.0.0.1:9", slow.environment["OTEL_EXPORTER_OTLP_ENDPOINT"]):
                with Cluster(environment={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}) as cluster, cluster.stub() as stub:
                    for _ in range(5):
                        self.assertEqual(ask(stub, {"chat": PROMPT}, max_new_tokens=20).text, expected, endpoint)
                    wait_for(lambda: "do not reach the collector" in cluster.gateway.log(), "the log says so", 30)
                    self.assertEqual(cluster.gateway.metric("yangtuo_spans_exported_total"), 0)
                    wait_for(lambda: cluster.gateway.metric("yangtuo_spans_dropped_total") > 0, "drops are counted", 40)
                    begin = time.monotonic()
                    self.assertEqual(cluster.gateway.stop(), 0)
                    self.assertLess(time.monotonic() - begin, 15, "the end does not wait for the collector")


if __name__ == "__main__":
    unittest.main()
