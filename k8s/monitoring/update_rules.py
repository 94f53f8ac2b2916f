#!/usr/bin/env python3
"""Makes rules.yaml, the PrometheusRule, from deploy/prometheus/*.rules.yaml. Run it after a change there; a test
compares both. Needs python3-yaml."""

import pathlib

import yaml

HERE = pathlib.Path(__file__).resolve().parent
RULES = HERE.parent.parent / "deploy" / "prometheus"
HEAD = "# Made by update_rules.py from deploy/prometheus/*.rules.yaml: change those.\n"


def prometheus_rule():
    groups = [group for file in sorted(RULES.glob("*.rules.yaml")) for group in yaml.safe_load(file.read_text())["groups"]]
    labels = {"app.kubernetes.io/name": "yangtuo", "app.kubernetes.io/part-of": "yangtuo"}
    return {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule",
            "metadata": {"name": "yangtuo", "labels": labels}, "spec": {"groups": groups}}


def text():
    return HEAD + yaml.safe_dump(prometheus_rule(), sort_keys=False, width=120)


if __name__ == "__main__":
    (HERE / "rules.yaml").write_text(text())
