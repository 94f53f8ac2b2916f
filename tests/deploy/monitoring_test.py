"""Metrics, rules, runbooks and dashboards: what they say of each other and of the programs is true."""

import contextlib
import importlib.util
import itertools
import json
import math
import pathlib
import re
import shutil
import tempfile
import threading
import time
import unittest

from manifests import K8S, read_documents
from programs import PREFIXES, SOURCE, flags, run
from prometheus_server import RULES, PrometheusServer

DEPLOY = SOURCE / "deploy"
RUNBOOKS = DEPLOY / "runbooks"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
ALERT_TESTS = SOURCE / "tests" / "deploy" / "alerts_test.yaml"
# Labels that the scrape adds, and the histogram's own.
SCRAPED = {"component", "instance", "job", "namespace", "pod", "le"}


def need(test, program):
    if shutil.which(program) is None:
        test.skipTest(f"{program} is not installed")


def rules():
    return [rule for file in sorted(RULES.glob("*.rules.yaml")) for group in read_documents(file)[0]["groups"]
            for rule in group["rules"]]


def alerts():
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def panels(dashboard):
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def dashboard_queries():
    """(where, expression) of every panel."""
    for file in DASHBOARDS:
        for panel in panels(json.loads(file.read_text())):
            for target in panel["targets"]:
                yield f"{file.name}: {panel['title']}", target["expr"]


def documented():
    """{component: {metric: (type, {labels})}} of deploy/metrics.md."""
    found, section = {}, None
    for line in (DEPLOY / "metrics.md").read_text().splitlines():
        if line.startswith("## "):
            section = line[3:].lower()
        row = re.match(r"\| `(\w+)` \| (\w+) \| (.*?) ?\| ", line)
        if row:
            found.setdefault(section, {})[row[1]] = (row[2], set(re.findall(r"`(\w+)`", row[3])))
    return found


def exposed(text):
    """{metric: (type, {labels})} of an exposition."""
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    found = {name: (kind, set()) for name, kind in types.items()}
    for line in text.splitlines():
        sample = re.match(r"(\w+?)(?:\{(.*)\})? \S+$", line)
        if sample and not line.startswith("#"):
            name = sample[1] if sample[1] in types else re.sub(r"_(bucket|sum|count)$", "", sample[1])
            found[name][1].update(set(re.findall(r'(\w+)="', sample[2] or "")) - {"le"})
    return found


def all_documented():
    merged = {}
    for metrics in documented().values():
        for name, (kind, labels) in metrics.items():
            merged.setdefault(name, (kind, set()))[1].update(labels)
    return merged


def metric_names(text):
    """Names of our metrics in an expression or a page, histograms' suffixes taken off."""
    known = all_documented()
    for name in set(re.findall(r"(?<![:\w])(?:yangtuo|process)_[a-z0-9_]+(?![:\w*])", text)):
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        yield base if name not in known and known.get(base, ("", 0))[0] == "histogram" else name


class MetricsTest(unittest.TestCase):
    maxDiff = None

    def test_every_metric_of_running_programs_is_documented_and_the_other_way_round(self):
        from cluster import Cluster, add_key, ask, generate_request
        import grpc
        # Metrics of traces are there with an endpoint only, whether or not anybody listens.
        tracing = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            keys = pathlib.Path(folder, "keys.json")
            key = add_key(keys, "t")
            cluster = stack.enter_context(Cluster(shards=2, gateway=[
                "--max-requests", 1, "--api-keys-file", keys, "--audit-log", pathlib.Path(folder, "audit.log")], environment=tracing))
            stub = stack.enter_context(cluster.stub(key))
            with cluster.stub() as nobody, self.assertRaises(grpc.RpcError):
                ask(nobody, "春")
            ask(stub, {"chat": "写一首诗。"}, max_new_tokens=4)
            ask(stub, "春", max_new_tokens=2)
            long = stub.Generate(generate_request([1], max_new_tokens=400, ignore_eos=True), timeout=60)
            next(long)
            with self.assertRaises(grpc.RpcError):
                ask(stub, "秋")
            long.cancel()
            seen = {"gateway": [cluster.gateway], "tokenizer": [cluster.tokenizer], "worker": cluster.workers[0]}
            pages = documented()
            for component, processes in seen.items():
                found = {}
                for process in processes:
                    text = process.http("/metrics")[1]
                    for name, (kind, labels) in exposed(text).items():
                        found.setdefault(name, (kind, set()))[1].update(labels)
                    if shutil.which("promtool"):
                        lint = run(["promtool", "check", "metrics"], input=text)
                        self.assertEqual((lint.returncode, lint.stderr.strip()), (0, ""), process.name)
                self.assertEqual(found, {**pages[component], **pages["every program"]}, component)


class RulesTest(unittest.TestCase):
    def test_promtool_takes_the_rules_and_the_configuration(self):
        need(self, "promtool")
        for command in (["check", "rules", *sorted(RULES.glob("*.rules.yaml"))],
                        ["check", "config", "--syntax-only", RULES / "prometheus.yaml"]):
            result = run(["promtool", *command])
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_every_alert_fires_and_does_not_fire(self):
        need(self, "promtool")
        cases = read_documents(ALERT_TESTS)[0]["tests"]
        fires, quiet = set(), set()
        for case in cases:
            for expectation in case["alert_rule_test"]:
                (fires if expectation["exp_alerts"] else quiet).add(expectation["alertname"])
        self.assertEqual(fires, set(alerts()))
        self.assertEqual(quiet, set(alerts()))
        result = run(["promtool", "test", "rules", ALERT_TESTS])
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_every_alert_has_a_runbook_that_knows_the_programs(self):
        pages = {path.stem: path.read_text() for path in RUNBOOKS.glob("*.md")}
        self.assertEqual(set(pages), set(alerts()))
        every_flag = set().union(*(flags(program) for program in PREFIXES))
        for name, rule in alerts().items():
            page = pages[name]
            with self.subTest(name):
                self.assertEqual(rule["annotations"]["runbook"], f"deploy/runbooks/{name}.md")
                self.assertIn(rule["labels"]["severity"], ("critical", "warning", "info"))
                for heading in (f"# {name}\n", "**Means.**", "**Look at**", "**Do**"):
                    self.assertIn(heading, page)
                self.assertLess(len(page.splitlines()), 45, "one short page")
                self.assertLessEqual(set(re.findall(r"`--([a-z-]+)", page)), every_flag)
                self.assertLessEqual(set(re.findall(r"\bYangtuo[A-Z]\w+", page)), set(pages))
                self.assertLessEqual(set(metric_names(page)), set(all_documented()))

    def test_rules_and_dashboards_ask_for_metrics_and_labels_that_there_are(self):
        known = all_documented()
        labels = SCRAPED.union(*(found for _, found in known.values()))
        recorded = {rule["record"] for rule in rules() if "record" in rule}
        expressions = [*((rule.get("alert") or rule["record"], rule["expr"]) for rule in rules()), *dashboard_queries()]
        self.assertGreater(len(expressions), 70)
        for where, expression in expressions:
            with self.subTest(where):
                self.assertLessEqual(set(metric_names(expression)), set(known))
                self.assertLessEqual(set(re.findall(r"\b\w+:yangtuo_\w+:\w+", expression)), recorded)
                for name, selector in re.findall(r"\b((?:yangtuo|process)_\w+)\{([^}]*)\}", expression):
                    base = next(metric_names(name))
                    self.assertLessEqual(set(re.findall(r"(\w+)(?==)", selector)), known[base][1] | SCRAPED, expression)
                    if base.startswith("yangtuo") and sum(base in page for page in documented().values()) > 1:
                        self.assertIn("component=", selector, f"programs share {base}")
                for by in re.findall(r"\bby \(([^)]*)\)", expression):
                    self.assertLessEqual({label.strip() for label in by.split(",")}, labels, expression)

    def test_the_operators_rule_object_is_made_of_the_same_rules(self):
        read_documents(RULES / "alerts.rules.yaml")
        spec = importlib.util.spec_from_file_location("update_rules", K8S / "monitoring" / "update_rules.py")
        update = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(update)
        self.assertEqual((K8S / "monitoring" / "rules.yaml").read_text(), update.text(), "run k8s/monitoring/update_rules.py")


class DashboardsTest(unittest.TestCase):
    def test_dashboards_are_whole(self):
        self.assertEqual(len(DASHBOARDS), 3)
        for file in DASHBOARDS:
            dashboard = json.loads(file.read_text())
            self.assertEqual(dashboard["uid"], file.stem)
            ids = [panel["id"] for panel in dashboard["panels"]]
            self.assertEqual(len(ids), len(set(ids)), file.name)
            taken = {}
            for panel in dashboard["panels"]:
                at = panel["gridPos"]
                self.assertLessEqual(at["x"] + at["w"], 24)
                for cell in itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])):
                    self.assertNotIn(cell, taken, f"{file.name}: {panel['title']} lies on {taken.get(cell)}")
                    taken[cell] = panel["title"]
            variables = {variable["name"] for variable in dashboard["templating"]["list"]} | {"__rate_interval"}
            self.assertLessEqual(set(re.findall(r"\$\{?(\w+)", json.dumps(panels(dashboard)))), variables, file.name)

    def test_every_query_has_data_when_a_real_prometheus_scrapes_a_cluster_under_load(self):
        need(self, "prometheus")
        from cluster import Cluster, ask, wait_for
        import grpc
        with Cluster(shards=2, gateway=["--max-requests", 4]) as cluster:
            targets = {"gateway": [cluster.gateway.address("admin")], "tokenizer": [cluster.tokenizer.address("admin")],
                       "worker": [worker.address("admin") for worker in cluster.workers[0]]}
            stop = threading.Event()
            ends = []

            def use(stub, number):
                while not stop.is_set():
                    try:
                        ask(stub, {"chat": f"写一首诗，第{number}首。"}, max_new_tokens=24, ignore_eos=True)
                        ends.append("OK")
                    except grpc.RpcError as error:
                        ends.append(error.code().name)
                        time.sleep(0.2)

            with cluster.stub() as stub, PrometheusServer(targets) as prometheus:
                users = [threading.Thread(target=use, args=(stub, number)) for number in range(6)]
                for user in users:
                    user.start()
                try:
                    self.check_queries(prometheus, wait_for)
                finally:
                    stop.set()
                    for user in users:
                        user.join()
            self.assertEqual(set(ends), {"OK", "RESOURCE_EXHAUSTED"})
            cluster.assert_nothing_held()

    def check_queries(self, prometheus, wait_for):
        queries = [(where, expression.replace("$__rate_interval", "20s").replace("$model", ".*"))
                   for where, expression in dashboard_queries()]
        queries += [(rule["record"], rule["record"]) for rule in rules() if "record" in rule]
        empty = {where for where, _ in queries}

        def all_have_data():
            for where, expression in queries:
                if where in empty and any(not math.isnan(value) for value in prometheus.query(expression)):
                    empty.discard(where)
            return not empty
        try:
            wait_for(all_have_data, "every query has data", 60)
        except AssertionError:
            self.fail(f"no data: {sorted(empty)}")
        evaluated = [rule for group in prometheus.get("/api/v1/rules")["groups"] for rule in group["rules"]]
        self.assertEqual(len(evaluated), len(rules()))
        self.assertEqual([rule["name"] for rule in evaluated if rule["health"] != "ok"], [])
        firing = {alert["labels"]["alertname"] for alert in prometheus.get("/api/v1/alerts")["alerts"]
                  if alert["state"] == "firing"}
        self.assertEqual(firing, set(), "a healthy cluster is quiet")


if __name__ == "__main__":
    unittest.main()
