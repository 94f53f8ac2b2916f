"""Many machines: what is promised about streams while workers come and go, everything restarts, machines and networks fail.

Every answer is compared with the one that a calm cluster gave: a lost, repeated or mixed token is a wrong answer. With
YANGTUO_FULL set there are more scenarios and larger numbers; YANGTUO_REPORT names a file that gets a line a scenario."""

import contextlib
import itertools
import os
import threading
import time
import unittest

if __name__ == "__main__":
    import network
    network.enter()

import grpc  # noqa: E402  (after the namespaces)
import network  # noqa: E402
from cluster import CHANNEL_OPTIONS, POEM_ALPACA, Answer, generate_request, generation_pb2_grpc, wait_for  # noqa: E402
from models import random_model  # noqa: E402
from network import Network, NodeProcess  # noqa: E402

FULL = bool(os.environ.get("YANGTUO_FULL"))
only_full = unittest.skipUnless(FULL, "only with YANGTUO_FULL (tools/test.sh --full)")
LOG_TAIL = int(os.environ.get("YANGTUO_LOG", "1500"))
USERS = 8 if FULL else 4
TOKENS = 96 if FULL else 48
PROMPTS = [f"写一首题为《{title}》的五言律诗。" for title in ("春望", "秋思", "夜泊", "山居", "江雪", "登高")]
OPEN = ["--listen", "0.0.0.0:{grpc}", "--admin-listen", "0.0.0.0:9400"]


def listen(port):
    return [word.format(grpc=port) for word in OPEN]


class Machines:
    """Two gateways, two tokenizers and `workers` workers (or groups of `shards`), a machine each."""

    def __init__(self, workers, shards=1):
        self.network = Network()
        self.count, self.shards = workers, shards
        self.tokenizers, self.gateways, self.groups = [], [], []
        self.numbers = itertools.count()
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        try:
            return self.start()
        except BaseException as error:
            self.__exit__(type(error))
            raise

    def start(self):
        net = self.stack.enter_context(self.network)
        self.stack.callback(self.stop)
        self.tokenizers = [self.run(net.node(f"tokenizer{i}"), "yangtuo-tokenizer",
                                    [*listen(50052), "--model", f"poem={POEM_ALPACA}"]) for i in range(2)]
        net.set_name("tokenizers", [t.node for t in self.tokenizers])
        self.scale(self.count)
        self.gateways = [self.run(net.node(f"gateway{i}"), "yangtuo-gateway",
                                  [*listen(50051), "--admin-on-public-address", "--workers", "dns:///workers:50053", "--tokenizers",
                                   "dns:///tokenizers:50052", "--resolve-seconds", 0.5,
                                   # By load alone, so that every new worker gets requests: all prompts begin alike.
                                   "--prefix-routing-blocks", 0]) for i in range(2)]
        for gateway in self.gateways:
            wait_for(gateway.ready, f"{gateway.name} is ready")
        self.wait_groups(self.count)
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            for process in self.all():
                print(f"---- {process.name}\n{process.log()[-LOG_TAIL:]}")
        self.stack.close()

    def all(self):
        return [*self.gateways, *self.tokenizers, *(p for group in self.groups for p in group)]

    def stop(self):
        for process in self.all():
            process.node.heal()
            process.stop()

    def run(self, node, program, arguments):
        return NodeProcess(self.network.folder, node, program, arguments).start().wait_ports()

    def new_group(self, model=POEM_ALPACA, name="poem"):
        number = next(self.numbers)
        common = [*listen(50053), "--model", model, "--model-name", name, "--threads", 1, "--kv-memory", "64MiB"]
        nodes = [self.network.node(f"worker{number}-{i}") for i in range(self.shards)]
        for node in nodes:
            self.network.set_name(node.name, [node])
        if self.shards > 1:
            common += ["--next", f"worker{number}-{{next}}:50060"]
        group = []
        for i, node in enumerate(nodes):
            flags = [f"--shard={i}/{self.shards}"] if self.shards > 1 else []
            flags += ["--shard-listen", "0.0.0.0:50060"] if i > 0 else []
            group.append(self.run(node, "yangtuo-worker", [*common, *flags]))
        return group

    def scale(self, groups):
        """Out: new machines. In: the youngest leave the name, drain and end, as a StatefulSet's pods do."""
        while len(self.groups) < groups:
            self.groups.append(self.new_group())
            self.publish()
        while len(self.groups) > groups:
            leaving = self.groups.pop()
            self.publish()
            for process in leaving:
                code = process.stop()
                assert code == 0, f"{process.name} ended with {code}:\n{process.log()[-2000:]}"

    def publish(self):
        self.network.set_name("workers", [group[0].node for group in self.groups])

    def wait_groups(self, count, limit=60):
        wait_for(lambda: all(g.metrics().get('yangtuo_workers_ready{model="poem"}') == count for g in self.gateways),
                 f"both gateways see {count} ready groups", limit)

    def served(self):
        """Requests that each group has ended so far."""
        return [sum(v for k, v in group[0].metrics().items() if k.startswith("yangtuo_requests_total")) for group in self.groups]


class Load:
    """Users who ask without pause, in turn at both gateways, and again at the other one when they are refused before the first
    token, as a client behind a Service does."""

    def __init__(self, machines):
        options = [*CHANNEL_OPTIONS, ("grpc.max_reconnect_backoff_ms", 500)]
        self.channels = [grpc.insecure_channel(g.address(), options=options) for g in machines.gateways]
        for channel in self.channels:
            # Python's gRPC looks at a channel only while a call is on it. Watched, it hears at once that a gateway ended or is back.
            channel.subscribe(lambda _: None, try_to_connect=True)
        self.stubs = [generation_pb2_grpc.GenerationServiceStub(channel) for channel in self.channels]
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        self.completed = self.again = 0
        self.longest_pause = 0.0
        self.problems = []
        self.expected = {prompt: self.ask(self.stubs[0], prompt).tokens for prompt in PROMPTS}
        self.users = [threading.Thread(target=self.use, args=(i,)) for i in range(USERS)]

    def ask(self, stub, prompt):
        last = time.monotonic()
        started = False
        pauses = [0.0]

        def events():
            nonlocal last, started
            request = generate_request({"chat": prompt}, model="poem", max_new_tokens=TOKENS, ignore_eos=True)
            for event in stub.Generate(request, timeout=60):
                now = time.monotonic()
                pauses.append(now - last)
                last, started = now, started or event.WhichOneof("event") == "delta"
                yield event
        try:
            answer = Answer(events())
        except grpc.RpcError as error:
            error.in_stream = started
            raise
        with self.lock:
            self.longest_pause = max(self.longest_pause, *pauses)
        return answer

    def use(self, number):
        for turn in itertools.count(number):
            if self.stopped.is_set():
                return
            prompt = PROMPTS[turn % len(PROMPTS)]
            for attempt in range(40):
                try:
                    tokens = self.ask(self.stubs[(turn + attempt) % 2], prompt).tokens
                except grpc.RpcError as error:
                    # gRPC itself cancels a call that comes in at the moment a server ends.
                    ending = error.code() == grpc.StatusCode.CANCELLED and error.details() == "CANCELLED"
                    if not (ending or error.code() == grpc.StatusCode.UNAVAILABLE) or error.in_stream:
                        self.problems.append(f"{error.code().name} {'in' if error.in_stream else 'before'} a stream: {error.details()}")
                        break
                    with self.lock:
                        self.again += 1
                    time.sleep(0.1)
                    continue
                with self.lock:
                    self.completed += 1
                if tokens != self.expected[prompt]:
                    self.problems.append(f"a wrong answer to {prompt}")
                break
            else:
                self.problems.append("refused forty times")

    def __enter__(self):
        self.begun = time.monotonic()
        self.longest_pause = 0.0
        for user in self.users:
            user.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for user in self.users:
            user.join()
        for channel in self.channels:
            channel.close()

    def more(self, count, limit=60):
        """Waits until `count` more answers are complete."""
        target = self.completed + count
        wait_for(lambda: self.completed >= target or self.problems, f"{count} more answers", limit)


class NetworkTest(unittest.TestCase):
    def setUp(self):
        if network.why_not:
            self.skipTest(network.why_not)

    def report(self, load, **more):
        line = f"{self._testMethodName[5:]}: {load.completed} answers in {time.monotonic() - load.begun:.0f} s, " \
               f"{load.again} asked again, {len(load.problems)} problems, longest pause {load.longest_pause:.1f} s"
        line += "".join(f", {name.replace('_', ' ')} {value:.1f} s" for name, value in more.items())
        print(line)
        if os.environ.get("YANGTUO_REPORT"):
            with open(os.environ["YANGTUO_REPORT"], "a") as file:
                file.write(line + "\n")

    def finish(self, machines, load):
        self.assertEqual(load.problems, [])
        for group in machines.groups:
            wait_for(lambda g=group: all(g[0].metric(f"yangtuo_{name}") == 0 for name in
                                         ("requests_running", "requests_waiting", "kv_blocks_used")), "nothing is held", 10)

    def test_workers_come_and_go_under_load(self):
        most, least = (8, 2) if FULL else (3, 1)
        with Machines(workers=1) as machines:
            with Load(machines) as load:
                load.more(USERS)
                machines.scale(most)
                machines.wait_groups(most)
                before = machines.served()
                # Not at once: what the old ones reported before the new ones came counts for a while.
                wait_for(lambda: all(now > then for now, then in zip(machines.served(), before)), "every worker gets requests", 30)
                machines.scale(least)
                machines.wait_groups(least)
                load.more(USERS)
            self.report(load)
            self.finish(machines, load)

    def test_everything_restarts_one_after_the_other(self):
        with Machines(workers=2) as machines:
            with Load(machines) as load:
                load.more(USERS)
                for process in machines.all():
                    process.restart()
                    machines.wait_groups(2)
                load.more(USERS)
            self.report(load)
            self.finish(machines, load)

    def test_a_worker_machine_is_lost_and_comes_back(self):
        with Machines(workers=2) as machines:
            with Load(machines) as load:
                load.more(USERS)
                lost = machines.groups[0][0]
                wait_for(lambda: lost.metric("yangtuo_requests_running") > 0, "it has streams", 20)
                lost.node.cut()
                since = time.monotonic()
                machines.wait_groups(1, 20)
                seen = time.monotonic() - since
                load.more(USERS)
                pause = load.longest_pause
                lost.node.heal()
                since = time.monotonic()
                machines.wait_groups(2, 30)
                back = time.monotonic() - since
                load.more(USERS)
            self.report(load, lost_after=seen, back_after=back)
            self.assertLess(seen, 5)
            self.assertLess(pause, 12)
            self.finish(machines, load)

    @only_full
    def test_a_model_is_exchanged_for_another_one(self):
        """As the operator's guide says: tokenizers serve both, new workers come, clients move, old workers go."""
        verse = random_model("verse", hidden=64, layers=2, heads=4, kv_heads=2, ffn=128)
        with Machines(workers=1) as machines:
            with Load(machines) as load:
                load.more(USERS)
                for tokenizer in machines.tokenizers:
                    tokenizer.command += ["--model", f"verse={verse}"]
                    tokenizer.restart()
                new = machines.new_group(verse, "verse")
                machines.network.set_name("workers", [group[0].node for group in [*machines.groups, new]])
                wait_for(lambda: all(g.metrics().get('yangtuo_workers_ready{model="verse"}') == 1 for g in machines.gateways),
                         "both gateways serve the new model")
                load.more(USERS)
            self.report(load)
            self.finish(machines, load)
            old = machines.groups.pop()
            machines.groups.append(new)
            machines.publish()
            self.assertEqual(old[0].stop(), 0)
            for gateway in machines.gateways:
                wait_for(lambda g=gateway: g.metrics()['yangtuo_workers_ready{model="poem"}'] == 0, "the old model is gone")
                with grpc.insecure_channel(gateway.address()) as channel:
                    request = generate_request("春", model="verse", max_new_tokens=5, ignore_eos=True)
                    answer = Answer(generation_pb2_grpc.GenerationServiceStub(channel).Generate(request, timeout=30))
                self.assertEqual(len(answer.tokens), 5)

    @only_full
    def test_half_of_the_workers_are_cut_off_and_come_back(self):
        count = 4 if FULL else 2
        with Machines(workers=count) as machines:
            with Load(machines) as load:
                load.more(USERS)
                half = [group[0] for group in machines.groups[: count // 2]]
                for worker in half:
                    worker.node.cut()
                machines.wait_groups(count - len(half), 20)
                load.more(2 * USERS)
                for worker in half:
                    worker.node.heal()
                since = time.monotonic()
                machines.wait_groups(count, 30)
                back = time.monotonic() - since
                before = machines.served()
                load.more(4 * USERS)
                used = [now - then for now, then in zip(machines.served(), before)]
            self.report(load, back_after=back)
            self.assertTrue(all(n > 0 for n in used), f"those that were cut off get requests again: {used}")
            self.finish(machines, load)

    @only_full
    def test_a_tokenizer_machine_is_lost(self):
        with Machines(workers=1) as machines:
            with Load(machines) as load:
                load.more(USERS)
                machines.tokenizers[0].node.cut()
                load.more(2 * USERS)
                pause = load.longest_pause
                machines.tokenizers[0].node.heal()
                load.more(USERS)
            self.report(load)
            self.assertLess(pause, 30)
            self.finish(machines, load)

    @only_full
    def test_a_group_forms_again_when_a_shard_restarts_or_its_machine_is_lost(self):
        with Machines(workers=2, shards=2) as machines:
            with Load(machines) as load:
                load.more(USERS)
                leader, shard = machines.groups[0]
                shard.kill()
                machines.wait_groups(1, 20)
                self.assertEqual(leader.metric("yangtuo_shard_up"), 0)
                self.assertEqual(leader.http("/readyz")[0], 503)
                shard.start().wait_ports()
                since = time.monotonic()
                machines.wait_groups(2, 30)
                formed = time.monotonic() - since
                self.assertEqual(leader.metric("yangtuo_shard_up"), 1)
                load.more(USERS)
                shard.node.cut()
                machines.wait_groups(1, 20)
                load.more(USERS)
                shard.node.heal()
                machines.wait_groups(2, 40)
                load.more(USERS)
            self.report(load, formed_after=formed)
            self.assertLess(load.longest_pause, 9)  # nobody waited --recovery-seconds for the shard
            self.finish(machines, load)


if __name__ == "__main__":
    unittest.main()
