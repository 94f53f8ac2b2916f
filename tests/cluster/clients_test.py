"""Programs in several languages stream from a running cluster: the very examples that the README names."""

import os
import pathlib
import shutil
import subprocess
import sys
import unittest

import grpc
from cluster import BINARIES, SOURCE, Cluster, ask

PROMPT = "写一首题为《春望》的五言律诗。"
EXAMPLES = SOURCE / "deploy" / "examples"
BUILD = pathlib.Path(os.environ["YANGTUO_BINARY_DIR"])


def run(command, environment=None, limit=120):
    return subprocess.run(list(map(str, command)), env={**os.environ, **(environment or {})}, timeout=limit,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)


class ClientsTest(unittest.TestCase):
    def setUp(self):
        self.cluster = self.enterContext(Cluster(shards=2))
        self.server = self.cluster.gateway.address()
        with self.cluster.stub() as stub:
            answer = ask(stub, {"chat": PROMPT}, max_new_tokens=200)
        usage = answer.finished.usage
        self.expected = f"{answer.text}\n[{usage.prompt_tokens} prompt + {usage.completion_tokens} answer tokens]\n"

    def check(self, result):
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout, self.expected)

    def test_python_example(self):
        stubs = {"PYTHONPATH": str(BUILD / "tests" / "stubs")}
        program = EXAMPLES / "python" / "generate.py"
        self.check(run([sys.executable, program, "--server", self.server, PROMPT], stubs))
        refused = run([sys.executable, program, "--server", self.server, "--model", "absent", PROMPT], stubs)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("NOT_FOUND", refused.stderr)

    def test_cpp_example(self):
        self.check(run([BINARIES / "yangtuo-example-client", self.server, PROMPT]))

    def test_node_example(self):
        if not shutil.which("npm"):
            self.skipTest("npm is not installed")
        folder = BUILD / "tests" / "node"
        folder.mkdir(parents=True, exist_ok=True)
        for file in (EXAMPLES / "node").iterdir():
            if file.is_file():
                shutil.copy(file, folder)
        if not (folder / "node_modules" / "@grpc" / "grpc-js").exists():
            install = run(["npm", "install", "--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund"], limit=240)
            self.assertEqual(install.returncode, 0, install.stderr)
        self.check(run(["node", folder / "generate.js", self.server, PROMPT],
                       {"YANGTUO_PROTO": str(SOURCE / "proto")}))

    def test_go_example(self):
        if not shutil.which("go") or not shutil.which("protoc-gen-go-grpc"):
            self.skipTest("Go or its protobuf plugins are not installed")
        home = BUILD / "tests" / "go"
        folder = home / "src" / "example"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(EXAMPLES / "go" / "main.go", folder)
        options = [f"--{plugin}_opt=Myangtuo/v1/{file}.proto=example/yangtuo/v1"
                   for plugin in ("go", "go-grpc") for file in ("generation", "sampling")]
        made = run(["protoc", f"-I{SOURCE / 'proto'}", f"--go_out={folder}", f"--go-grpc_out={folder}", *options,
                    "--go_opt=module=example", "--go-grpc_opt=module=example", "yangtuo/v1/generation.proto",
                    "yangtuo/v1/sampling.proto"])
        self.assertEqual(made.returncode, 0, made.stderr)
        # Debian's gRPC package comes with a protobuf runtime older than Debian's own plugin writes for; the newer one cannot
        # be installed beside it.
        runtime = home / "runtime"
        if not runtime.exists():
            fetched = subprocess.run(["apt-get", "download", "-qq", "golang-github-golang-protobuf-1-5-dev"], cwd=home, timeout=120,
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            self.assertEqual(fetched.returncode, 0, fetched.stdout)
            unpacked = run(["dpkg", "-x", next(home.glob("golang-github-golang-protobuf-1-5-dev_*.deb")), runtime])
            self.assertEqual(unpacked.returncode, 0, unpacked.stderr)
        built = run(["go", "build", "-o", folder / "client", "example"],
                    {"GO111MODULE": "off", "GOPATH": f"{home}:{runtime}/usr/share/gocode:/usr/share/gocode",
                     "GOCACHE": str(home / "cache")}, limit=300)
        self.assertEqual(built.returncode, 0, built.stderr)
        self.check(run([folder / "client", self.server, PROMPT]))

    def test_reflection_is_enough_to_call_generate(self):
        """A client that knows no schema: asks the server for it and builds the messages from that."""
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
        from grpc.reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
        with self.cluster.channel() as channel:
            reflection = reflection_pb2_grpc.ServerReflectionStub(channel)

            def ask_server(**question):
                request = reflection_pb2.ServerReflectionRequest(**question)
                return next(iter(reflection.ServerReflectionInfo(iter([request]), timeout=20)))

            services = {s.name for s in ask_server(list_services="*").list_services_response.service}
            self.assertIn("yangtuo.v1.GenerationService", services)
            self.assertIn("grpc.health.v1.Health", services)

            pool, known = descriptor_pool.DescriptorPool(), set()

            def load(response):
                for data in response.file_descriptor_response.file_descriptor_proto:
                    file = descriptor_pb2.FileDescriptorProto.FromString(data)
                    if file.name in known:
                        continue
                    known.add(file.name)
                    for dependency in file.dependency:
                        if dependency not in known:
                            load(ask_server(file_by_filename=dependency))
                    pool.Add(file)

            load(ask_server(file_containing_symbol="yangtuo.v1.GenerationService"))
            method = pool.FindServiceByName("yangtuo.v1.GenerationService").methods_by_name["Generate"]
            factory = message_factory.MessageFactory(pool)
            request = factory.GetPrototype(method.input_type)()
            request.chat.messages.add(role="user", content=PROMPT)
            request.sampling.temperature = 0
            request.stop.max_new_tokens = 200
            call = channel.unary_stream("/yangtuo.v1.GenerationService/Generate",
                                        request_serializer=lambda m: m.SerializeToString(),
                                        response_deserializer=factory.GetPrototype(method.output_type).FromString)
            text = "".join(r.delta.text for r in call(request, timeout=60) if r.WhichOneof("event") == "delta")
        self.assertEqual(text, self.expected.split("\n[")[0])

    def test_reflection_can_be_turned_off(self):
        from grpc.reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
        with Cluster(gateway=["--no-reflection"]) as closed, closed.channel() as channel:
            request = reflection_pb2.ServerReflectionRequest(list_services="*")
            with self.assertRaises(grpc.RpcError) as caught:
                list(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]), timeout=20))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNIMPLEMENTED)


if __name__ == "__main__":
    unittest.main()
