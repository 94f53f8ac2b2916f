"""Real Yangtuo processes on loopback, for tests: started on ports the system chooses, stopped by process id."""

import contextlib
import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import grpc

SOURCE = pathlib.Path(os.environ["YANGTUO_SOURCE_DIR"])
BINARIES = pathlib.Path(os.environ["YANGTUO_BINARY_DIR"]) / "bin"
DATA = SOURCE.parent / "shared" / "data"
POEM_ALPACA = SOURCE / "deploy" / "models" / "poem-alpaca"

STUBS = pathlib.Path(os.environ["YANGTUO_BINARY_DIR"]) / "tests" / "stubs"
sys.path.insert(0, str(STUBS))
# Schemas of packages that exist already: look for the rest of them among the stubs.
grpc.__path__.append(str(STUBS / "grpc"))
from grpc.health.v1 import health_pb2, health_pb2_grpc  # noqa: E402  (made beside the tests)
from yangtuo.v1 import generation_pb2, generation_pb2_grpc, sampling_pb2  # noqa: E402

# gRPC 1.51's own retries lose calls that begin while a server shuts down: not even their deadline ends them.
CHANNEL_OPTIONS = [("grpc.enable_retries", 0)]
START_LIMIT = 60.0  # seconds; sanitizer builds are slow


def lasting_address():
    """A free address for a process that ends and comes back there: not one that the system gives to connections meanwhile."""
    while True:
        port = random.randrange(20000, 32000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return f"127.0.0.1:{port}"


def wait_for(condition, what, limit=START_LIMIT):
    """Waits until condition() is true; returns its value."""
    end = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit} s: {what}")
        time.sleep(0.02)


class Process:
    """One program with a port file and a log."""

    def __init__(self, folder, name, program, arguments, environment=None):
        self.name = name
        self.log_path = folder / f"{name}.log"
        self.port_file = folder / f"{name}.ports"
        self.command = [str(BINARIES / program), *map(str, arguments), "--port-file", str(self.port_file)]
        self.environment = {**os.environ, **(environment or {})}
        self.process = None
        self.ports = {}

    def start(self):
        self.port_file.unlink(missing_ok=True)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            env=self.environment)
        return self

    def wait_ports(self):
        def read():
            if self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.log()[-3000:]}")
            try:
                return json.loads(self.port_file.read_text())
            except (FileNotFoundError, json.JSONDecodeError):
                return None
        self.ports = wait_for(read, f"{self.name} writes its port file")
        return self

    def address(self, port="grpc"):
        return f"127.0.0.1:{self.ports[port]}"

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait()

    def stop(self):
        """SIGTERM and the exit code; a process that does not end within the limit is killed and reported."""
        if self.process is None or self.process.poll() is not None:
            return self.process.returncode if self.process else 0
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            return self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.name} did not end on SIGTERM:\n{self.log()[-2000:]}")

    def metrics(self):
        """{name with labels: value} from the admin port."""
        values = {}
        for line in self.http("/metrics")[1].splitlines():
            if line and not line.startswith("#"):
                key, value = line.rsplit(" ", 1)
                values[key] = float(value)
        return values

    def metric(self, prefix):
        """Sum of all samples whose name starts with `prefix`; fails when there is none."""
        found = [v for k, v in self.metrics().items() if k == prefix or k.startswith(prefix + "{")]
        assert found, f"{self.name} exposes no metric {prefix}: {sorted(self.metrics())}"
        return sum(found)

    def http(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["admin"], timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()


class Cluster:
    """gateway + tokenizer + `groups` worker groups of `shards` shards of one model."""

    process = Process  # how a program is run

    def __init__(self, model=POEM_ALPACA, shards=1, groups=1, worker=(), gateway=(), tokenizer=(), name=None,
                 environment=None, lasting=False):
        self.listen = lasting_address if lasting else lambda: "127.0.0.1:0"  # lasting: processes may be started again
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="yangtuo-cluster-"))
        self.model = pathlib.Path(model)
        self.model_name = name or self.model.name
        self.shards, self.groups = shards, groups
        self.worker_flags, self.gateway_flags, self.tokenizer_flags = list(worker), list(gateway), list(tokenizer)
        self.environment = environment
        self.workers = []  # [group][shard]
        self.tokenizer = self.gateway = None

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, kind, *_):
        if kind is not None:
            for process in self.all():
                print(f"---- {process.name}\n{process.log()[-1500:]}", file=sys.stderr)
        self.stop()

    def start(self):
        for group in range(self.groups):
            following, shards = None, []
            for index in reversed(range(self.shards)):
                following = self.make_worker(group, index, following).start().wait_ports()
                shards.insert(0, following)
            self.workers.append(shards)
        flags = ["--listen", self.listen(), "--admin-listen", "127.0.0.1:0"]
        self.tokenizer = self.process(self.folder, "tokenizer", "yangtuo-tokenizer",
                                      [*flags, "--model", f"{self.model_name}={self.model}", *self.tokenizer_flags],
                                      self.environment)
        self.tokenizer.start().wait_ports()
        self.gateway = self.process(self.folder, "gateway", "yangtuo-gateway",
                                    ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
                                     "--workers", ",".join(g[0].address() for g in self.workers),
                                     "--tokenizers", self.tokenizer.address(), *self.gateway_flags], self.environment)
        self.gateway.start().wait_ports()
        self.wait_ready()
        return self

    def make_worker(self, group, index, following):
        flags = ["--listen", self.listen(), "--admin-listen", "127.0.0.1:0", "--model", self.model,
                 "--model-name", self.model_name, "--threads", 1, "--kv-memory", "64MiB"]
        if self.shards > 1:
            flags += [f"--shard={index}/{self.shards}"]
        if index > 0:
            flags += ["--shard-listen", self.listen()]
        if following is not None:
            flags += ["--next", following.address("shard")]
        if "--threads" in self.worker_flags:
            del flags[flags.index("--threads"):flags.index("--threads") + 2]
        return self.process(self.folder, f"worker{group}.{index}", "yangtuo-worker", [*flags, *self.worker_flags],
                            self.environment)

    def wait_ready(self, limit=START_LIMIT):
        wait_for(lambda: self.gateway.http("/readyz")[0] == 200, "the gateway becomes ready", limit)

    def all(self):
        return [p for p in [self.gateway, *[w for g in self.workers for w in g], self.tokenizer] if p is not None]

    def stop(self):
        problems = []
        for process in self.all():
            try:
                process.stop()
            except AssertionError as error:
                problems.append(str(error))
        shutil.rmtree(self.folder, ignore_errors=True)
        assert not problems, "\n".join(problems)

    def channel(self):
        return grpc.insecure_channel(self.gateway.address(), options=CHANNEL_OPTIONS)

    @contextlib.contextmanager
    def stub(self, key=None):
        with self.channel() as channel:
            through = grpc.intercept_channel(channel, WithKey(key)) if key else channel
            yield generation_pb2_grpc.GenerationServiceStub(through)

    def health(self, process, service, port="grpc"):
        with grpc.insecure_channel(process.address(port)) as channel:
            request = health_pb2.HealthCheckRequest(service=service)
            return health_pb2_grpc.HealthStub(channel).Check(request, timeout=10).status

    def assert_nothing_held(self, limit=10.0):
        """The promise after any fault: nothing runs, waits, or holds a KV block."""
        def idle():
            return all(leader.metric(f"yangtuo_{name}") == 0
                       for leader in self.leaders() if leader.process.poll() is None
                       for name in ("requests_running", "requests_waiting", "kv_blocks_used"))
        wait_for(idle, "running = waiting = used KV blocks = 0 on every worker", limit)
        wait_for(lambda: self.gateway.metric("yangtuo_requests_running") == 0, "nothing runs in the gateway", limit)

    def leaders(self):
        return [group[0] for group in self.workers]


def add_key(file, tenant, *flags):
    """A new API key in `file`, made by `yangtuo keys add`."""
    added = subprocess.run([str(BINARIES / "yangtuo"), "keys", "add", "--file", str(file), "--tenant", tenant,
                            *map(str, flags)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    assert added.returncode == 0, added.stderr
    return added.stdout.strip()


class WithKey(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Sends an API key with every call."""

    def __init__(self, key):
        self.metadata = [("authorization", f"Bearer {key}")]

    def _call(self, continuation, details, request):
        return continuation(details._replace(metadata=[*(details.metadata or ()), *self.metadata]), request)

    intercept_unary_unary = intercept_unary_stream = _call


def generate_request(prompt, **options):
    """A GenerateRequest: prompt text, [ids] or {"chat": text}; other fields by name, sampling and stop nested."""
    request = generation_pb2.GenerateRequest()
    if isinstance(prompt, dict):
        request.chat.messages.add(role="user", content=prompt["chat"])
    elif isinstance(prompt, str):
        request.text = prompt
    else:
        request.token_ids.ids.extend(prompt)
    sampling = {"temperature": 0}
    for key, value in options.items():
        if key in generation_pb2.GenerateRequest.DESCRIPTOR.fields_by_name:
            setattr(request, key, value)
        elif hasattr(request.stop, key):
            field = getattr(request.stop, key)
            if isinstance(value, (list, tuple)):
                field.extend(value)
            else:
                setattr(request.stop, key, value)
        else:
            sampling[key] = value
    for key, value in sampling.items():
        if key == "logit_bias":
            request.sampling.logit_bias.update(value)
        elif key == "constraint":  # {"regex": "..."}, {"choices": [...]}, {"json_object": True}...
            (kind, what), = value.items()
            if kind == "choices":
                request.sampling.constraint.choices.texts.extend(what)
            elif kind == "json_object":
                request.sampling.constraint.json_object.SetInParent()
            else:
                setattr(request.sampling.constraint, kind, what)
        else:
            setattr(request.sampling, key, value)
    return request


class Answer:
    """Everything a stream said."""

    def __init__(self, stream):
        self.started = self.finished = None
        self.texts, self.ids, self.logprobs, self.deltas = {}, {}, {}, []
        for response in stream:
            event = response.WhichOneof("event")
            assert self.finished is None, "an event after finished"
            if event == "started":
                assert self.started is None, "started twice"
                self.started = response.started
            elif event == "delta":
                assert self.started is not None, "a delta before started"
                delta = response.delta
                self.deltas.append(delta)
                self.texts[delta.choice] = self.texts.get(delta.choice, "") + delta.text
                self.ids.setdefault(delta.choice, []).extend(delta.token_ids)
                self.logprobs.setdefault(delta.choice, []).extend(delta.logprobs)
            else:
                self.finished = response.finished
        assert self.finished is not None, "an OK stream without finished"

    @property
    def text(self):
        return self.texts.get(0, "")

    @property
    def tokens(self):
        return self.ids.get(0, [])


def ask(stub, prompt, timeout=120, **options):
    return Answer(stub.Generate(generate_request(prompt, **options), timeout=timeout))


def error_info(error):
    """(reason, metadata, {field: description}, retry seconds or None) from a gRPC error's details."""
    from google.rpc import error_details_pb2, status_pb2
    status = status_pb2.Status()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status.ParseFromString(value)
    reason, metadata, fields, retry = "", {}, {}, None
    for detail in status.details:
        for message in (error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()):
            if detail.Is(message.DESCRIPTOR):
                detail.Unpack(message)
                if isinstance(message, error_details_pb2.ErrorInfo):
                    reason, metadata = message.reason, dict(message.metadata)
                elif isinstance(message, error_details_pb2.BadRequest):
                    fields = {v.field: v.description for v in message.field_violations}
                else:
                    retry = message.retry_delay.ToNanoseconds() / 1e9
    return reason, metadata, fields, retry
