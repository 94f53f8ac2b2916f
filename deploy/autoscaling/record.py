#!/usr/bin/env python3
"""Measures what steps cost on this machine and writes it down for simulate.py --costs.

  deploy/autoscaling/record.py --model models/alpaca-7b --output alpaca-7b.json
  deploy/autoscaling/record.py --model bench-models/1.3b-q4_0.gguf --note "two shared cores" --output recorded.json

Runs `yangtuo bench engine`, which takes the machine for itself: nothing else should compute meanwhile. The time of a step with n
rows is n divided by the tokens a second that n sequences get together; the time of a prompt token is the inverse of the
prompt tokens a second."""

import argparse
import json
import pathlib
import platform
import re
import subprocess

BATCHES = (1, 4, 8, 16, 32)


def processor():
    found = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def costs(speed):
    """What simulate.py reads, from the JSON of `yangtuo bench engine`."""
    steps = {int(batch): int(batch) / rate for batch, rate in speed["decode"].items()}
    return {"weight_type": speed["weight_type"], "threads": speed["threads"],
            "prompt_token_seconds": float(f"{1 / speed['prefill']:.4g}"),
            "step_seconds": {str(batch): float(f"{steps[batch]:.4g}") for batch in sorted(steps)}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--yangtuo", default="build/release/bin/yangtuo", help="the program")
    parser.add_argument("--model", required=True)
    parser.add_argument("--weight-type", default="auto")
    parser.add_argument("--decode", type=int, default=32, help="tokens that each sequence decodes")
    parser.add_argument("--repeats", type=int, default=3, help="measure so often; the best counts")
    parser.add_argument("--note", default="", help="what a reader should know of the machine")
    parser.add_argument("--output", type=pathlib.Path, required=True)
    options = parser.parse_args()
    command = [options.yangtuo, "bench", "engine", "--model", options.model, "--weight-type", options.weight_type,
               "--decode", str(options.decode), "--repeats", str(options.repeats), "--json"]
    for batch in BATCHES:
        command += ["--batch", str(batch)]
    speed = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    recorded = {"model": pathlib.Path(options.model).name, "processor": processor(), "note": options.note, **costs(speed)}
    options.output.write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    main()
