#!/usr/bin/env python3
"""Streams an answer from a Yangtuo gateway.

    python3 generate.py [--server 127.0.0.1:50051] [--model NAME] PROMPT

Needs grpcio and stubs made from the repository's proto/ folder:

    protoc -Iproto --python_out=stubs --grpc_python_out=stubs \\
        --plugin=protoc-gen-grpc_python=$(command -v grpc_python_plugin) \\
        yangtuo/v1/generation.proto yangtuo/v1/sampling.proto
    PYTHONPATH=stubs python3 generate.py 写一首题为《春望》的五言律诗。
"""

import argparse
import sys

import grpc
from yangtuo.v1 import generation_pb2, generation_pb2_grpc


def main():
    parser = argparse.ArgumentParser(description="Streams an answer from a Yangtuo gateway.")
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--model", default="", help="may be left out when the cluster serves one model")
    parser.add_argument("--max-new-tokens", type=int, default=200)
    parser.add_argument("prompt")
    flags = parser.parse_args()

    request = generation_pb2.GenerateRequest(model=flags.model)
    request.chat.messages.add(role="user", content=flags.prompt)
    request.sampling.temperature = 0  # greedy; zero is a value, not "unset"
    request.stop.max_new_tokens = flags.max_new_tokens

    # In grpcio 1.51 (Debian 12) a call that begins while a server shuts down may never end, unless gRPC's own retries are off.
    with grpc.insecure_channel(flags.server, options=[("grpc.enable_retries", 0)]) as channel:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        try:
            for response in stub.Generate(request, timeout=60):
                event = response.WhichOneof("event")
                if event == "delta":
                    print(response.delta.text, end="", flush=True)
                elif event == "finished":
                    usage = response.finished.usage
                    print(f"\n[{usage.prompt_tokens} prompt + {usage.completion_tokens} answer tokens]")
        except grpc.RpcError as error:
            print(f"{error.code().name}: {error.details()}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
