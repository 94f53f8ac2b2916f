#!/usr/bin/env python3
"""Fails when a file includes a folder that its own folder may not depend on.

ALLOWED is the architecture: a folder may include itself, what its row names, and nothing else of
ours. FENCED says which folders may include a third-party header.
"""

import pathlib
import re
import sys

CORE = "inference_core"
ALLOWED = {
    f"{CORE}/base": set(),
    f"{CORE}/tensor": {f"{CORE}/base"},
    f"{CORE}/formats": {f"{CORE}/base", f"{CORE}/tensor"},
    f"{CORE}/quant": {f"{CORE}/base", f"{CORE}/tensor"},
    f"{CORE}/kernels": {f"{CORE}/base", f"{CORE}/tensor", f"{CORE}/quant"},
    f"{CORE}/kv_cache": {f"{CORE}/base", f"{CORE}/tensor"},
    # Pure functions without a dependency: the last stage of a model samples, so model may use it.
    f"{CORE}/sampling": {f"{CORE}/base", f"{CORE}/tensor"},
    # What a text must look like; formats for its strict JSON reader.
    f"{CORE}/grammar": {f"{CORE}/base", f"{CORE}/tensor", f"{CORE}/formats", f"{CORE}/sampling"},
    f"{CORE}/tokenizer": {f"{CORE}/base"},
    # A model on disk, whatever its container.
    f"{CORE}/checkpoint": {f"{CORE}/base", f"{CORE}/tensor", f"{CORE}/formats", f"{CORE}/quant",
                           f"{CORE}/tokenizer"},
    f"{CORE}/model": {f"{CORE}/base", f"{CORE}/tensor", f"{CORE}/formats", f"{CORE}/quant",
                      f"{CORE}/checkpoint", f"{CORE}/kernels", f"{CORE}/kv_cache",
                      f"{CORE}/sampling", f"{CORE}/grammar"},
    f"{CORE}/scheduler": {f"{CORE}/base"},
    f"{CORE}/engine": {f"{CORE}/base", f"{CORE}/tensor", f"{CORE}/kv_cache", f"{CORE}/model",
                       f"{CORE}/sampling", f"{CORE}/grammar", f"{CORE}/scheduler"},
    "services/common": {f"{CORE}/base", f"{CORE}/grammar", "proto"},
    "services/tokenizer": {f"{CORE}/base", f"{CORE}/tokenizer", f"{CORE}/formats",
                           f"{CORE}/checkpoint", "services/common", "proto"},
    "services/inference": {f"{CORE}/base", f"{CORE}/tensor", f"{CORE}/formats", f"{CORE}/model",
                           f"{CORE}/sampling", f"{CORE}/engine", f"{CORE}/tokenizer",
                           f"{CORE}/kernels", f"{CORE}/checkpoint", f"{CORE}/grammar",
                           "services/common", "proto"},
    "gateway": {f"{CORE}/base", f"{CORE}/grammar", "services/common", "proto"},
    "tools": {f"{CORE}/base", f"{CORE}/tensor", f"{CORE}/formats", f"{CORE}/quant",
              f"{CORE}/tokenizer", f"{CORE}/checkpoint", f"{CORE}/kernels", f"{CORE}/model",
              f"{CORE}/sampling", f"{CORE}/engine", "services/common", "proto"},
}
FENCED = {  # third-party header prefix -> the only folders that may include it
    "oneapi/dnnl/": {f"{CORE}/kernels"},
    "sentencepiece_processor.h": {f"{CORE}/tokenizer"},
    "grpcpp/": {"services/common", "services/tokenizer", "services/inference", "gateway", "tools"},
    "prometheus/": {"services/common"},
    "CLI/": {"services/common", "services/tokenizer", "services/inference", "gateway", "tools"},
    "spdlog/": {"services/common"},
    "boost/": {f"{CORE}/base", "services/common", "gateway", "tools"},
}
THREAD_HOMES = {f"{CORE}/engine", f"{CORE}/kernels", "services/common", "services/inference",
                "services/tokenizer", "gateway", "tools"}
INCLUDE = re.compile(r'^\s*#include\s+["<]([^">]+)[">]', re.MULTILINE)
THREAD = re.compile(r"\bstd::j?thread\b(?!::)")


def module_of(path):
    if path.startswith(("yangtuo/", "google/rpc/", "grpc/health/")) and path.endswith(".pb.h"):
        return "proto"
    return next((m for m in ALLOWED if path.startswith(m + "/")), path.split("/")[0])


def violations(root):
    for module, allowed in ALLOWED.items():
        for file in sorted((root / module).rglob("*.[hc]*")):
            if file.suffix not in {".h", ".cc"}:
                continue
            name = file.relative_to(root)
            text = file.read_text()
            for include in INCLUDE.findall(text):
                target = module_of(include)
                ours = target in ALLOWED or target in {"proto", "tests"}
                if ours and target != module and target not in allowed:
                    yield f"{name}: {module} may not include {target} ({include})"
                for prefix, homes in FENCED.items():
                    if include.startswith(prefix) and module not in homes:
                        yield f"{name}: only {', '.join(sorted(homes))} may include {prefix} ({include})"
            if THREAD.search(text) and module not in THREAD_HOMES:
                yield f"{name}: {module} may not start threads"


if __name__ == "__main__":
    found = list(violations(pathlib.Path(__file__).resolve().parent.parent))
    print("\n".join(found) if found else "layers: every include follows the arrows")
    sys.exit(bool(found))
