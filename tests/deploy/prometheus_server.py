"""A real Prometheus on a port of its own choice, scraping a cluster of tests/cluster."""

import json
import pathlib
import re
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request

from manifests import yaml
from programs import SOURCE

RULES = SOURCE / "deploy" / "prometheus"


class PrometheusServer:
    """`targets`: {component: [host:port]}. Scrapes and evaluates every second."""

    def __init__(self, targets):
        self.folder = tempfile.TemporaryDirectory(prefix="yangtuo-prometheus-")
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(file) for file in sorted(RULES.glob("*.rules.yaml"))],
            "scrape_configs": [{"job_name": component, "static_configs": [
                {"targets": addresses, "labels": {"component": component}}]} for component, addresses in targets.items()]}
        root = pathlib.Path(self.folder.name)
        (root / "prometheus.yaml").write_text(yaml.safe_dump(config))
        self.log_path = root / "log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                ["prometheus", f"--config.file={root}/prometheus.yaml", f"--storage.tsdb.path={root}/data",
                 "--web.listen-address=127.0.0.1:0"], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.address = None

    def __enter__(self):
        end = time.monotonic() + 60
        while self.address is None:
            log = self.log_path.read_text()
            found = re.search(r'msg="Listening on" address=(\S+)', log)
            if found and "Server is ready to receive web requests" in log:
                self.address = found[1]
            elif self.process.poll() is not None or time.monotonic() > end:
                self.__exit__()
                raise AssertionError(f"Prometheus did not start:\n{log[-3000:]}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)
        self.folder.cleanup()

    def get(self, path, **parameters):
        url = f"http://{self.address}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=20) as response:
            return json.load(response)["data"]

    def query(self, expression):
        """The values of an instant query, NaN included."""
        result = self.get("/api/v1/query", query=expression)["result"]
        return [float(sample["value"][1]) for sample in result]
