"""The image: what make_root.sh lays out is complete, small and safe, and a whole cluster runs in it; compose.yaml and
Dockerfile say nothing that is not so."""

import os
import pathlib
import re
import shutil
import signal
import stat
import tempfile
import unittest

from manifests import read_documents
from programs import BINARIES, PREFIXES, SOURCE, default_listen, flag_of, flags, run

IMAGE = SOURCE / "deploy" / "image"
PROGRAMS = {*PREFIXES, "yangtuo"}
MODEL_INSIDE = "/usr/share/yangtuo/models/poem-alpaca"
FOLDER_INSIDE = "/tmp/run"


def make_root(folder):
    """A new root file system below `folder`."""
    root = pathlib.Path(folder) / "root"
    result = run([IMAGE / "make_root.sh", BINARIES, root], limit=120)
    assert result.returncode == 0, result.stdout + result.stderr
    return root


class RootTest(unittest.TestCase):
    def setUp(self):
        if "libasan" in run(["ldd", BINARIES / "yangtuo-worker"]).stdout:
            self.skipTest("an image has no sanitizers")

    def test_the_root_has_what_the_programs_load_and_nothing_to_break_in_with(self):
        with tempfile.TemporaryDirectory() as folder:
            root = make_root(folder)
            self.assertEqual({path.name for path in (root / "usr/bin").iterdir()}, PROGRAMS)
            size = 0
            for path in root.rglob("*"):
                mode = path.lstat().st_mode
                self.assertFalse(mode & (stat.S_ISUID | stat.S_ISGID), f"{path} is setuid or setgid")
                if stat.S_ISREG(mode):
                    self.assertFalse(mode & stat.S_IWOTH, f"{path} is writable for all")
                    size += path.lstat().st_size
                elif stat.S_ISLNK(mode):
                    self.assertFalse(os.path.isabs(os.readlink(path)), f"{path} points out of the root")
            self.assertLess(size, 130e6)
            self.assertFalse(list(root.rglob("sh")) + list(root.rglob("*.a")) + list(root.rglob("apt*")))
            again = run([IMAGE / "make_root.sh", BINARIES, root])
            self.assertEqual(again.returncode, 1)
            self.assertIn("is not empty", again.stderr)

    def test_a_whole_cluster_runs_in_the_read_only_root(self):
        if shutil.which("bwrap") is None:
            self.skipTest("bubblewrap is not installed")
        import cluster

        with tempfile.TemporaryDirectory() as folder:
            root = make_root(folder)
            script = str(IMAGE / "run_in_root.sh")
            if run([script, root, "yangtuo", "--version"]).returncode != 0:
                self.skipTest("this machine does not let bubblewrap make namespaces")

            class InRoot(cluster.Process):
                """A program in the root; the folder of the port file is bound below the root's /tmp."""

                def __init__(self, place, name, program, arguments, environment=None):
                    super().__init__(place, name, program, arguments, environment)
                    self.command = [script, str(root), "--write", f"{place}:{FOLDER_INSIDE}", program, *map(str, arguments),
                                    "--port-file", f"{FOLDER_INSIDE}/{name}.ports"]

                def stop(self):
                    # The program gets the signal; its exit code is then bubblewrap's.
                    if self.process is not None and self.process.poll() is None and self.ports:
                        os.kill(self.ports["pid"], signal.SIGTERM)
                        return self.process.wait(40)
                    return super().stop()

            class RootCluster(cluster.Cluster):
                process = InRoot

            with cluster.Cluster() as outside, outside.stub() as stub:
                expected = cluster.ask(stub, {"chat": "写一首题为《春望》的五言律诗。"}, max_new_tokens=24).tokens
            with RootCluster(model=MODEL_INSIDE, shards=2, name="poem-alpaca") as inside, inside.stub() as stub:
                pids = [process.ports["pid"] for process in inside.all()]
                for pid in pids:
                    status = pathlib.Path(f"/proc/{pid}/status").read_text()
                    self.assertRegex(status, r"CapEff:\s0000000000000000\n")
                    self.assertRegex(status, r"NoNewPrivs:\s1\n")
                self.assertEqual(cluster.ask(stub, {"chat": "写一首题为《春望》的五言律诗。"}, max_new_tokens=24).tokens, expected)
                health = run([script, root, "yangtuo", "health", "--admin", inside.gateway.address("admin")])
                self.assertEqual((health.returncode, health.stdout), (0, "ready\n"), health.stderr)
                inside.assert_nothing_held()
                self.assertEqual([process.stop() for process in inside.all()], [0] * 4)
            self.assertEqual([pid for pid in pids if pathlib.Path(f"/proc/{pid}").exists()], [])


class FilesTest(unittest.TestCase):
    def test_the_dockerfile_takes_what_the_script_lays_out(self):
        text = (IMAGE / "Dockerfile").read_text()
        self.assertEqual(re.findall(r"^FROM (\S+)", text, re.MULTILINE), ["debian:12", "scratch"])
        self.assertIn("USER 65532:65532", text)
        for path in re.findall(r"(?:tools|deploy)/[\w./]+\.sh", text):
            self.assertTrue(os.access(SOURCE / path, os.X_OK), path)
        targets = re.search(r"--target ([\w -]+?) &&", text.replace("\\\n", ""))[1].split()
        self.assertEqual(set(targets), PROGRAMS)
        # The context has no build folder: its paths would be those of another machine.
        self.assertIn("build/", (SOURCE / ".dockerignore").read_text().split())
        ports = {str(port) for program in PREFIXES for _, port in default_listen(program).values()}
        self.assertEqual(set(re.search(r"EXPOSE (.*)", text)[1].split()), ports)
        self.assertEqual(run([BINARIES / "yangtuo", "health", "--help"]).returncode, 0)

    def test_compose_says_what_the_programs_take(self):
        compose = read_documents(SOURCE / "deploy" / "compose.yaml")[0]
        ours = {name: service for name, service in compose["services"].items() if service["image"] == "yangtuo"}
        self.assertEqual(set(ours), {"gateway", "tokenizer", "worker"})
        for name, service in ours.items():
            program = service["command"][0]
            environment = {}
            for variable, value in service["environment"].items():
                self.assertIn(flag_of(program, variable), flags(program), f"{name}: {variable}")
                environment[variable] = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value).replace("/models", str(SOURCE / "deploy/models"))
            result = run([BINARIES / program, "--check-config"], environment={**environment, "PATH": "/usr/bin"})
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
            self.assertTrue(service["read_only"])
            self.assertEqual(service["cap_drop"], ["ALL"])
            drain = float(environment.get(PREFIXES[program] + "DRAIN_SECONDS", 30))
            self.assertLess(drain, float(service["stop_grace_period"].rstrip("s")))
            for peer, port in re.findall(r"dns:///(\w+):(\d+)", " ".join(environment.values())):
                self.assertIn(int(port), [p for _, p in default_listen(ours[peer]["command"][0]).values()])
        gateway = ours["gateway"]["environment"]
        for name in ("GATEWAY", "WORKER"):
            self.assertGreaterEqual(float(ours[name.lower()]["environment"][f"YANGTUO_{name}_DRAIN_SECONDS"]),
                                    float(gateway["YANGTUO_GATEWAY_DEFAULT_DEADLINE"]), name)
        self.assertEqual(set(ours["gateway"]["depends_on"]), {"tokenizer", "worker"}, "the gateway stops first")
        for service in compose["services"].values():
            for port in service.get("ports", []):
                self.assertTrue(port.startswith("127.0.0.1:"), port)
            for volume in service.get("volumes", []):
                host = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume).split(":")[0]
                if host.startswith("."):
                    self.assertTrue((SOURCE / "deploy" / host).exists(), host)

    def test_compose_with_keys_says_what_the_gateway_takes(self):
        services = read_documents(SOURCE / "deploy" / "compose.keys.yaml")[0]["services"]
        self.assertEqual(set(services), {"gateway"})
        variables = services["gateway"]["environment"]
        for variable in variables:
            self.assertIn(flag_of("yangtuo-gateway", variable), flags("yangtuo-gateway"), variable)
        mounted = services["gateway"]["volumes"][0].split(":")[-2]
        self.assertTrue(variables["YANGTUO_GATEWAY_API_KEYS_FILE"].startswith(mounted + "/"))

    def test_prometheus_scrapes_the_services_of_compose(self):
        config = read_documents(SOURCE / "deploy" / "prometheus" / "prometheus.yaml")[0]
        compose = read_documents(SOURCE / "deploy" / "compose.yaml")[0]["services"]
        hosts = set()
        for job in config["scrape_configs"]:
            for static in job.get("static_configs", []):
                hosts |= {tuple(target.split(":")) for target in static["targets"]}
            hosts |= {(name, str(sd["port"])) for sd in job.get("dns_sd_configs", []) for name in sd["names"]}
        admin = {(name, service["environment"][PREFIXES[service["command"][0]] + "ADMIN_LISTEN"].split(":")[1])
                 for name, service in compose.items() if service["image"] == "yangtuo"}
        self.assertEqual(hosts, admin)


if __name__ == "__main__":
    unittest.main()
