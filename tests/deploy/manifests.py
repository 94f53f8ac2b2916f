"""k8s/ as kubectl renders it."""

import functools
import json
import os
import pathlib
import re
import shutil
import unittest

from programs import SOURCE, run

try:
    import yaml
except ImportError:
    yaml = None

K8S = SOURCE / "k8s"
OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir() if path.is_dir())


@functools.cache
def render(overlay):
    """All objects of an overlay; the test is skipped where kubectl or PyYAML is missing."""
    kubectl = os.environ.get("YANGTUO_KUBECTL") or shutil.which("kubectl")
    if yaml is None or kubectl is None:
        raise unittest.SkipTest("kubectl or python3-yaml is not installed")
    result = run([kubectl, "kustomize", K8S / "overlays" / overlay])
    assert result.returncode == 0, f"{overlay}: {result.stderr}"
    return [o for o in yaml.safe_load_all(result.stdout) if o is not None]


def of_kind(objects, *kinds):
    return [o for o in objects if o["kind"] in kinds]


def pod_templates(objects):
    """(name, template) of every pod that the objects make."""
    for o in objects:
        if o["kind"] in ("Deployment", "StatefulSet"):
            yield o["metadata"]["name"], o["spec"]["template"]
        elif o["kind"] == "LeaderWorkerSet":
            name, group = o["metadata"]["name"], o["spec"]["leaderWorkerTemplate"]
            for role, index in (("leaderTemplate", "0"), ("workerTemplate", "1")):
                if role in group:
                    template = json.loads(json.dumps(group[role]))
                    # What the controller adds; workers of higher numbers differ in that number only.
                    template["metadata"]["labels"].update({
                        "leaderworkerset.sigs.k8s.io/name": name,
                        "leaderworkerset.sigs.k8s.io/group-index": "0",
                        "leaderworkerset.sigs.k8s.io/worker-index": index})
                    env = template["spec"]["containers"][0].setdefault("env", [])
                    env[:0] = [{"name": "LWS_GROUP_SIZE", "value": str(group["size"])},
                               {"name": "LWS_WORKER_INDEX", "value": index}]
                    yield f"{name}/{role}", template


def all_containers(template):
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def environment(container, template, objects):
    """The variables of a container with all references replaced, as the kubelet would do it."""
    labels = {"apps.kubernetes.io/pod-index": "0", **template["metadata"]["labels"]}
    maps = {o["metadata"]["name"]: o["data"] for o in of_kind(objects, "ConfigMap")}
    values = {}
    for entry in container.get("env", []):
        if "value" in entry:
            value = re.sub(r"\$\(([A-Za-z_]\w*)\)", lambda m: values.get(m[1], m[0]), entry["value"])
        elif "configMapKeyRef" in entry["valueFrom"]:
            reference = entry["valueFrom"]["configMapKeyRef"]
            value = maps[reference["name"]][reference["key"]]
        else:
            path = entry["valueFrom"]["fieldRef"]["fieldPath"]
            label = re.fullmatch(r"metadata\.labels\['(.*)'\]", path)
            value = labels[label[1]] if label else f"<{path}>"
        values[entry["name"]] = value
    return values


def selects(selector, template):
    return all(template["metadata"]["labels"].get(key) == value for key, value in selector.items())


def read_documents(path):
    if yaml is None:
        raise unittest.SkipTest("python3-yaml is not installed")
    return list(yaml.safe_load_all(pathlib.Path(path).read_text()))
