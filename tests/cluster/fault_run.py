#!/usr/bin/env python3
"""A cluster under open-loop load over gRPC and HTTP while its processes and networks fail at random; every request is recorded.

    fault_run.py --minutes 5 --seed 1 --history FILE      then: history_check.py FILE

YANGTUO_SOURCE_DIR and YANGTUO_BINARY_DIR say where the programs are, as in ctest. At every time at least one worker group and
one tokenizer are well, so that no client needs to see an error because of the others."""

import argparse
import contextlib
import faulthandler
import http.client
import os
import pathlib
import random
import signal
import sys
import threading
import time

from cluster import Cluster, lasting_address, wait_for
from fault_load import Recorder, Target, make_specs, reference_of, run_request
from fault_proxy import FaultProxy, ProxyLoop

SHARDS = (1, 2, 2)  # of each group
ROUND = 60.0        # seconds of load between two looks at an idle cluster
MAX_REQUESTS = 40   # of the gateway
BURST = 60          # requests at once, to be refused in part
RECOVERY = 90.0     # seconds in which what failed must be well again
PINGS = 16.0        # seconds until a connection that only looks alive is noticed by its pings (10 s, and 5 s for the answer)
NOTICED = 0.5       # seconds in which both ends of a connection that was reset have noticed
OVERTIME = 300.0    # seconds beyond the load's own time after which a run hangs


def ready(process):
    try:
        return process.http("/readyz")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


class Through:
    """Stands for a process that is reached through a proxy."""

    def __init__(self, proxy):
        self.proxy = proxy

    def address(self, _port="grpc"):
        return self.proxy.address


class Unit:
    """What fails as one: a worker group, or a tokenizer. Its first process is the one that the gateway talks to."""

    def __init__(self, name, processes, links):
        self.name, self.processes, self.links = name, processes, links  # links[i] leads to processes[i]
        self.free = True


class FaultyCluster(Cluster):
    def start(self):
        self.proxies = ProxyLoop()
        self.units = []
        for group, shards in enumerate(SHARDS):
            self.shards, following, processes, links = shards, None, [], []
            for index in reversed(range(shards)):
                process = self.make_worker(group, index, following).start().wait_ports()
                link = FaultProxy(self.proxies, process.address("shard" if index > 0 else "grpc"))
                following = Through(link)
                processes.insert(0, process)
                links.insert(0, link)
            self.workers.append(processes)
            self.units.append(Unit(f"group{group}", processes, links))
        flags = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
        self.tokenizers = []
        for number in range(2):
            process = self.process(self.folder, f"tokenizer{number}", "yangtuo-tokenizer",
                                   [*flags, "--model", f"{self.model_name}={self.model}"]).start().wait_ports()
            self.tokenizers.append(process)
            self.units.append(Unit(f"tokenizer{number}", [process], [FaultProxy(self.proxies, process.address())]))
        self.gateway = self.make_gateway("gateway", "--listen", lasting_address(), "--http-listen", lasting_address(),
                                         "--max-requests", MAX_REQUESTS, "--resume-seconds", 15,
                                         "--client-buffer", 16384).start().wait_ports()
        self.client_links = [FaultProxy(self.proxies), FaultProxy(self.proxies)]  # gRPC, HTTP
        self.aim_client_links()
        wait_for(lambda: all(self.well(unit) for unit in self.units), "every group and tokenizer is well")
        return self

    def make_gateway(self, name, *flags):
        return self.process(self.folder, name, "yangtuo-gateway",
                            ["--admin-listen", "127.0.0.1:0", "--workers", ",".join(unit.links[0].address for unit in self.groups_()),
                             "--tokenizers", ",".join(unit.links[0].address for unit in self.tokenizers_()), *flags])

    def groups_(self):
        return self.units[:len(SHARDS)]

    def tokenizers_(self):
        return self.units[len(SHARDS):]

    def aim_client_links(self):
        self.client_links[0].target, self.client_links[1].target = self.gateway.address(), self.gateway.address("http")

    def all(self):
        return [*super().all(), *getattr(self, "tokenizers", [])]

    def stop(self):
        for process in self.all():
            if process.process is not None and process.process.poll() is None:
                process.kill(signal.SIGCONT)
        for link in [link for unit in getattr(self, "units", []) for link in unit.links] + getattr(self, "client_links", []):
            link.heal()
            link.close()
        super().stop()
        if hasattr(self, "proxies"):
            self.proxies.close()

    def well(self, unit):
        """Its processes are ready, and the gateway knows."""
        kind = "tokenizer" if unit.name.startswith("tokenizer") else "worker"
        try:
            return (all(process.http("/readyz")[0] == 200 for process in unit.processes) and
                    self.gateway.metrics().get(f'yangtuo_{kind}_up{{{kind}="{unit.links[0].address}"}}') == 1)
        except (OSError, http.client.HTTPException):
            return False

    def restart(self, process, link, port="grpc"):
        process.start().wait_ports()
        link.target = process.address(port)


class Faults:
    """Does things to the cluster until it is told to pause; every deed is recorded with its end."""

    def __init__(self, cluster, recorder, choose):
        self.cluster, self.recorder, self.choose = cluster, recorder, choose
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.problems = []
        self.retries = {}
        self.threads = []

    def begin(self, mean_pause):
        self.stopped.clear()
        groups, tokenizers = self.cluster.groups_(), self.cluster.tokenizers_()
        # One thread fewer than there are units: one unit of each kind is always well.
        loops = [*[(self.unit_fault, groups)] * (len(groups) - 1), *[(self.unit_fault, tokenizers)] * (len(tokenizers) - 1),
                 (self.client_fault, None), (self.gateway_fault, None)]
        self.threads = [threading.Thread(target=self.loop, args=(*loop, mean_pause)) for loop in loops]
        for thread in self.threads:
            thread.start()

    def pause(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def loop(self, deed, units, mean_pause):
        rare = 10 if deed == self.gateway_fault else 1
        while not self.stopped.wait(self.choose.expovariate(1 / (rare * mean_pause))):
            try:
                deed(units)
            except Exception as error:
                self.problems.append(f"{type(error).__name__}: {error}")
                return

    def record(self, target, what, begun, until):
        self.recorder.write(kind="fault", target=target, what=what, **{"from": begun, "to": until})

    def unit_fault(self, units):
        with self.lock:
            unit = self.choose.choice([u for u in units if u.free])
            unit.free = False
        index = self.choose.randrange(len(unit.processes))
        what = self.choose.choice(("kill", "stop", "drain", "delay", "drop", "reset", "half-open", "throttle"))
        seconds = self.choose.uniform(0.3, 6)
        begun = time.monotonic()
        if what in ("kill", "stop", "drain"):
            self.process_fault(unit, index, what, seconds)
        else:
            what = self.link_fault(unit.links[index], what, seconds)
        wait_for(lambda: self.cluster.well(unit), f"{unit.name} is well after {what} of {unit.processes[index].name}", RECOVERY)
        self.record(unit.name, what, begun, time.monotonic())
        with self.lock:
            unit.free = True

    def process_fault(self, unit, index, what, seconds):
        process = unit.processes[index]
        if what == "stop":
            process.kill(signal.SIGSTOP)
            time.sleep(seconds)
            process.kill(signal.SIGCONT)
            return
        if what == "kill":
            process.kill()
        else:
            code = process.stop()
            assert code == 0, f"{process.name} ended with {code} when it was drained"
        time.sleep(seconds / 4)
        self.cluster.restart(process, unit.links[index], "shard" if index > 0 else "grpc")

    def link_fault(self, link, what, seconds):
        if what == "half-open":
            what = f"half-open {self.choose.choice(('client', 'server'))}"
            link.half_open(what.split()[1])
            time.sleep(PINGS)
            return what
        if what == "reset":
            link.reset()
            time.sleep(NOTICED)
            return what
        if what == "delay":
            link.delay(self.choose.uniform(0.005, 0.2))
        elif what == "throttle":
            link.throttle(self.choose.choice((500, 2000, 8000)))
        else:
            link.drop()
        time.sleep(seconds)
        link.heal()
        return what

    def client_fault(self, _):
        link = self.choose.choice(self.cluster.client_links)
        what = self.choose.choice(("delay", "drop", "reset", "half-open", "throttle"))
        begun = time.monotonic()
        what = self.link_fault(link, what, self.choose.uniform(0.3, 6))
        self.record("clients", what, begun, time.monotonic() + 3)  # a channel connects again some time later

    def gateway_fault(self, _):
        gateway = self.cluster.gateway
        what = self.choose.choice(("stop", "drain", "kill"))
        begun = time.monotonic()
        if what == "stop":
            gateway.kill(signal.SIGSTOP)
            time.sleep(self.choose.uniform(0.1, 1.5))
            gateway.kill(signal.SIGCONT)
        else:
            self.add_retries()
            if what == "kill":
                gateway.kill()
            else:
                code = gateway.stop()
                assert code == 0, f"the gateway ended with {code} when it was drained"
            gateway.start().wait_ports()
            self.cluster.aim_client_links()
            wait_for(lambda: ready(gateway), "the gateway is ready again", RECOVERY)
            wait_for(lambda: all(self.cluster.well(u) for u in self.cluster.units if u.free), "it sees the others", RECOVERY)
        self.record("gateway", what, begun, time.monotonic() + 1)  # channels connect again

    def add_retries(self):
        """A gateway that ends takes its counters with it."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            for name, value in self.cluster.gateway.metrics().items():
                if name.startswith("yangtuo_retries_total"):
                    peer = name.split('"')[1]
                    self.retries[peer] = self.retries.get(peer, 0) + value


class Load:
    def __init__(self, cluster, recorder, specs, choose):
        self.recorder, self.choose = recorder, choose
        self.specs = [s for s in specs if s["logprobs"] is None]
        self.large = [s for s in specs if s["logprobs"] is not None]
        self.direct = Target(cluster.gateway.address(), cluster.gateway.address("http"), channels=3)
        self.link = Target(*(link.address for link in cluster.client_links))
        self.threads = []

    def send(self, spec, transport, client, path="direct", deadline=None):
        target = self.link if path == "link" else self.direct
        thread = threading.Thread(target=run_request, args=(self.recorder, target, spec, transport, client, path, deadline,
                                                            self.choose.random()))
        thread.start()
        self.threads.append(thread)

    def send_one(self):
        choose = self.choose
        client = choose.choices(("normal", "slow", "vanishing"), (80, 5, 15))[0]
        transport = choose.choices(("grpc", "sse", "http"), (50, 40, 10))[0]
        if client != "normal" and transport == "http":
            transport = "sse"
        deadline = None
        if transport == "grpc" and client == "normal" and choose.random() < 0.15:
            deadline = choose.uniform(0.3, 4)
        self.send(choose.choice(self.large if client == "slow" else self.specs), transport, client,
                  "link" if choose.random() < 0.25 else "direct", deadline)

    def burst(self):
        for number in range(BURST):
            self.send(self.choose.choice(self.specs), ("grpc", "sse")[number % 2], "burst")

    def run_for(self, seconds, rate):
        """Requests arrive as they do, whether earlier ones have ended or not."""
        until = time.monotonic() + seconds
        burst_at = time.monotonic() + self.choose.uniform(0, seconds)
        while time.monotonic() < until:
            time.sleep(self.choose.expovariate(rate))
            if burst_at is not None and time.monotonic() > burst_at:
                burst_at = None
                self.burst()
            self.send_one()
            self.threads = [thread for thread in self.threads if thread.is_alive()]

    def wait(self):
        for thread in self.threads:
            thread.join()
        self.threads = []

    def close(self):
        self.direct.close()
        self.link.close()


def record_references(cluster, recorder, specs):
    """Answers of the calm cluster, asked for over every group, so that these are seen to agree. A gateway of their own has room for
    the largest one, however busy the machine is."""
    gateway = cluster.make_gateway("calm-gateway", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0").start()
    calm = Recorder("/dev/null")
    try:
        gateway.wait_ports()
        wait_for(lambda: ready(gateway), "the calm gateway is ready")
        with contextlib.closing(Target(gateway.address(), gateway.address("http"))) as target:
            for spec in specs:
                record = run_request(calm, target, spec, "grpc", "normal", "direct", None, 0)
                recorder.write(kind="reference", key=spec["key"], choices=reference_of(record))
    finally:
        calm.close()
        gateway.stop()


def look_at_idle(cluster, recorder):
    """What is held from the last end on, until nothing is, as long as a half-open connection may stay unnoticed."""
    since, samples = recorder.last_end, []
    quiet = 0
    while quiet < 5 and time.monotonic() < since + 45:
        held = {}
        for process, names in [(cluster.gateway, ("requests_running", "tokens_admitted")),
                               *((group[0], ("requests_running", "requests_waiting", "kv_blocks_used")) for group in cluster.workers),
                               *((tokenizer, ("tokenizer_open_streams",)) for tokenizer in cluster.tokenizers)]:
            values = process.metrics()
            for name in names:
                value = sum(v for k, v in values.items() if k.split("{")[0] == f"yangtuo_{name}")
                if value:
                    held[f"{process.name} {name}"] = value
        samples.append([time.monotonic(), held])
        quiet = 0 if held else quiet + 1
        time.sleep(0.1)
    recorder.write(kind="idle", since=since, samples=samples)


@contextlib.contextmanager
def watched(cluster, recorder, limit):
    """Ends the whole run when it takes longer than `limit` seconds, and says what it was doing."""
    done = threading.Event()

    def watch():
        if done.wait(limit):
            return
        print(f"no end after {limit} s; requests without one: {recorder.begun}", flush=True)
        faulthandler.dump_traceback(sys.stdout, all_threads=True)
        for process in cluster.all():
            with contextlib.suppress(OSError, http.client.HTTPException):
                print(f"---- {process.name}\n{process.log()[-1500:]}\n{process.http('/metrics')[1]}", flush=True)
        for process in cluster.all():
            process.kill()
        os._exit(1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def run(minutes, seed, history, rate):
    choose = random.Random(seed)
    recorder = Recorder(history)
    specs = make_specs(seed, 40)
    with FaultyCluster() as cluster, watched(cluster, recorder, 60 * minutes + OVERTIME):
        recorder.write(kind="cluster", groups=[u.name for u in cluster.groups_()],
                       tokenizers=[u.name for u in cluster.tokenizers_()])
        record_references(cluster, recorder, specs)
        faults = Faults(cluster, recorder, choose)
        with contextlib.closing(Load(cluster, recorder, specs, choose)) as load:
            until = time.monotonic() + 60 * minutes
            while time.monotonic() < until and not faults.problems:
                try:
                    faults.begin(mean_pause=3.0)
                    load.run_for(min(ROUND, max(10.0, until - time.monotonic())), rate)
                finally:
                    faults.pause()
                    load.wait()
                look_at_idle(cluster, recorder)
        faults.add_retries()
        for peer, value in faults.retries.items():
            recorder.write(kind="count", name=f"resumed or begun again at another {peer}", value=value)
        recorder.close()
        assert not faults.problems, "\n".join(faults.problems)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--rate", type=float, default=4, help="requests a second")
    parser.add_argument("--history", type=pathlib.Path, required=True)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    run(options.minutes, options.seed, options.history, options.rate)


if __name__ == "__main__":
    sys.exit(main())
