"""Clients whose every request is recorded: gRPC, SSE and whole HTTP answers; patient, slow, vanishing; what history_check.py reads."""

import contextlib
import http.client
import json
import random
import socket
import struct
import threading
import time

import grpc
from cluster import CHANNEL_OPTIONS, error_info, generate_request, generation_pb2_grpc

GIVE_UP = 120.0  # seconds until a request without an end is one that never ends
LINK_SILENCE = 25.0  # seconds that an HTTP client on a failing network waits for the next byte
TITLES = ("春望", "秋思", "夜泊", "山居", "江雪", "登高", "送别", "望岳", "早梅", "听雨", "渔父", "塞上")
REGEX = "([一二三四五六七八九十]{2,7}[，。]){15,40}"  # what some answers are held to, through every resumption
TYPE_CODES = {"rate_limit_error": "RESOURCE_EXHAUSTED", "service_unavailable_error": "UNAVAILABLE",
              "timeout_error": "DEADLINE_EXCEEDED", "invalid_request_error": "INVALID_ARGUMENT", "not_found_error": "NOT_FOUND"}


def make_specs(seed, count):
    """Requests whose answers differ from each other, so that a token in the wrong answer shows."""
    choose = random.Random(seed)
    specs = []
    for number in range(count):
        title = TITLES[number % len(TITLES)]
        prompt = [1, *(choose.randrange(300, 5900) for _ in range(choose.choice((3, 40, 150))))] if number % 3 == 2 else \
            {"chat": f"写一首题为《{title}》的五言律诗。"}
        specs.append({"key": f"r{number}", "prompt": prompt, "n": 2 if number % 7 == 3 else 1, "temperature": 1.0,
                      "seed": choose.randrange(1 << 50), "max_tokens": choose.choice((24, 60, 120, 240)), "logprobs": None,
                      "regex": REGEX if number % 5 == 4 else None})
    for number in range(3):  # large answers, for slow readers
        specs.append({"key": f"large{number}", "prompt": [1, 300 + number], "n": 4, "temperature": 1.0,
                      "seed": choose.randrange(1 << 50), "max_tokens": 200, "logprobs": 20, "regex": None})
    return specs


def to_proto(spec):
    options = {"temperature": spec["temperature"], "seed": spec["seed"], "max_new_tokens": spec["max_tokens"], "ignore_eos": True,
               "n": spec["n"], "top_p": 0.95, "top_k": 40, "repetition_penalty": 1.1}
    if spec["logprobs"] is not None:
        options["logprobs"] = spec["logprobs"]
    if spec["regex"] is not None:
        options.update(constraint={"regex": spec["regex"]}, ignore_eos=False)
    return generate_request(spec["prompt"], **options)


def to_http(spec, stream):
    """(path, body)"""
    body = {"temperature": spec["temperature"], "seed": spec["seed"], "max_tokens": spec["max_tokens"], "ignore_eos": True,
            "n": spec["n"], "top_p": 0.95, "top_k": 40, "repetition_penalty": 1.1, "stream": stream}
    if spec["regex"] is not None:
        body.update(guided_regex=spec["regex"], ignore_eos=False)
    if isinstance(spec["prompt"], dict):
        body["messages"] = [{"role": "user", "content": spec["prompt"]["chat"]}]
        if spec["logprobs"] is not None:
            body.update(logprobs=True, top_logprobs=spec["logprobs"])
        return "/v1/chat/completions", body
    body["prompt"] = spec["prompt"]
    if spec["logprobs"] is not None:
        body["logprobs"] = spec["logprobs"]
    return "/v1/completions", body


class Left(Exception):
    """The client went away, as it meant to."""


class Behaviour:
    """What a client does between two messages."""

    def __init__(self, client, choose):
        self.leave_at = choose.randrange(1, 40) if client == "vanishing" else None
        self.pauses = {choose.randrange(2, 30): choose.uniform(1, 6) for _ in range(3)} if client == "slow" else {}
        self.messages = 0

    def after_message(self):
        self.messages += 1
        if self.messages == self.leave_at:
            raise Left
        time.sleep(self.pauses.get(self.messages, 0))


class Target:
    """A gateway as clients reach it: its addresses, and channels that many requests share."""

    def __init__(self, grpc_address, http_address, channels=1):
        options = [*CHANNEL_OPTIONS, ("grpc.max_reconnect_backoff_ms", 500), ("grpc.initial_reconnect_backoff_ms", 100),
                   ("grpc.keepalive_time_ms", 10000), ("grpc.keepalive_timeout_ms", 5000), ("grpc.use_local_subchannel_pool", 1)]
        self.http_address = http_address
        self.channels = [grpc.insecure_channel(grpc_address, options=options) for _ in range(channels)]
        for channel in self.channels:
            # Watched, so that a channel which nobody uses hears that its gateway ended before it is used again.
            channel.subscribe(lambda _: None, try_to_connect=True)
        self.stubs = [generation_pb2_grpc.GenerationServiceStub(channel) for channel in self.channels]

    def close(self):
        for channel in self.channels:
            channel.close()


class Recorder:
    """Writes history; counts what is open. Thread-safe."""

    def __init__(self, path):
        self.file = open(path, "w", encoding="utf-8")
        self.lock = threading.Lock()
        self.begun = {}  # of those without an end: {id: (key, transport, client, path, sent)}
        self.next_id = 0
        self.last_end = time.monotonic()

    def write(self, **record):
        text = json.dumps(record, ensure_ascii=False)
        with self.lock:
            self.file.write(text + "\n")
            self.file.flush()

    def begin(self, *about):
        with self.lock:
            self.next_id += 1
            self.begun[self.next_id] = (*about, time.monotonic())
            return self.next_id

    def end(self, record):
        self.write(kind="request", **record)
        with self.lock:
            del self.begun[record["id"]]
            self.last_end = max(self.last_end, record["end"][0] if record["end"] else 0)

    def close(self):
        self.file.close()


def run_request(recorder, target, spec, transport, client, path, deadline, seed):
    """One request from beginning to end, in the caller's thread."""
    number = recorder.begin(spec["key"], transport, client, path)
    choose = random.Random(seed)
    events = []
    record = {"id": number, "key": spec["key"], "transport": transport, "client": client, "path": path, "sent": time.monotonic(),
              "deadline": deadline, "events": events, "end": None}
    try:
        run = run_grpc if transport == "grpc" else run_http
        code, reason, message = run(target, spec, record, Behaviour(client, choose), choose)
        if code != "NEVER":
            record["end"] = [time.monotonic(), code, reason, message]
    except Left:
        record["end"] = [time.monotonic(), "CLIENT_LEFT", "", ""]
    except Exception as error:  # recorded: the checker names it
        record["end"] = [time.monotonic(), "CLIENT_FAILED", type(error).__name__, str(error)]
    recorder.end(record)
    return record


def run_grpc(target, spec, record, behaviour, choose):
    events = record["events"]
    stream = choose.choice(target.stubs).Generate(to_proto(spec), timeout=record["deadline"] or GIVE_UP)
    try:
        for response in stream:
            now = time.monotonic()
            event = response.WhichOneof("event")
            if event == "started":
                events.append([now, "started"])
            elif event == "delta":
                delta = response.delta
                events.append([now, "delta", delta.choice, delta.text, list(delta.token_ids)])
            else:
                events.append([now, "finished", {c.choice: "length" if c.finish_reason == 2 else "stop"
                                                 for c in response.finished.choices}])
            behaviour.after_message()
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED and record["deadline"] is None:
            return "NEVER", "", ""
        return error.code().name, error_info(error)[0], error.details()
    finally:
        stream.cancel()
    return "OK", "", ""


def run_http(target, spec, record, behaviour, choose):
    path, body = to_http(spec, record["transport"] == "sse")
    connection = http.client.HTTPConnection(target.http_address,
                                            timeout=LINK_SILENCE if record["path"] == "link" else GIVE_UP)
    with contextlib.closing(connection):
        try:
            connection.connect()
            if record["client"] == "slow":
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw = connection.sock
            connection.request("POST", path, json.dumps(body))
            response = connection.getresponse()
            if response.status != 200:
                return http_error(json.loads(response.read()))
            if record["transport"] == "sse":
                return read_events(response, record, behaviour)
            return read_whole(json.loads(response.read()), record)
        except Left:
            # A reset, as of a browser that was killed.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            response.close()
            raise
        except TimeoutError as error:
            return ("CONNECTION_LOST", "", str(error)) if record["path"] == "link" else ("NEVER", "", "")
        except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
            return "CONNECTION_LOST", type(error).__name__, str(error)


def http_error(body):
    error = body["error"]
    return TYPE_CODES.get(error["type"], error["type"]), (error["code"] or "").upper(), error["message"]


def text_of(choice):
    if "text" in choice:
        return choice["text"]
    return (choice.get("delta") or choice.get("message") or {}).get("content") or ""


def read_events(response, record, behaviour):
    events, finishes = record["events"], {}
    for line in response:
        if not line.endswith(b"\n"):
            return "CONNECTION_LOST", "", "the stream broke in the middle of an event"
        if not line.startswith(b"data: "):
            continue
        now, data = time.monotonic(), line[6:].strip()
        if not events:
            events.append([now, "started"])
        if data == b"[DONE]":
            events.append([now, "finished", finishes])
            rest = [extra for extra in response if extra.strip()]
            if rest:
                events.append([time.monotonic(), "delta", 0, f"after [DONE]: {rest}", None])
            return "OK", "", ""
        event = json.loads(data)
        if "error" in event:
            return http_error(event)
        for choice in event["choices"]:
            if choice["index"] in finishes:
                events.append([now, "delta", choice["index"], "(a second finish_reason)", None])
            if choice.get("finish_reason"):
                finishes[choice["index"]] = choice["finish_reason"]
            if text_of(choice):
                events.append([now, "delta", choice["index"], text_of(choice), None])
        behaviour.after_message()
    return "CONNECTION_LOST", "", "the stream ended without [DONE]"


def read_whole(body, record):
    now = time.monotonic()
    record["events"].append([now, "started"])
    for choice in body["choices"]:
        record["events"].append([now, "delta", choice["index"], text_of(choice), None])
    record["events"].append([now, "finished", {choice["index"]: choice["finish_reason"] for choice in body["choices"]}])
    return "OK", "", ""


def reference_of(record):
    """{choice: text, ids, finish} of a complete gRPC answer."""
    assert record["end"][1] == "OK", record["end"]
    choices = {}
    for event in record["events"]:
        if event[1] == "delta":
            choice = choices.setdefault(str(event[2]), {"text": "", "ids": []})
            choice["text"] += event[3]
            choice["ids"] += event[4]
        elif event[1] == "finished":
            for number, reason in event[2].items():
                choices[str(number)]["finish"] = reason
    return choices
