#!/usr/bin/env python3
"""Replays a day of load against the autoscaler's rules and draws what happens.

  deploy/autoscaling/simulate.py --plot deploy/autoscaling/day.svg
  deploy/autoscaling/simulate.py --costs deploy/autoscaling/recorded.json --running-target 4 --up-window 120 \
      --plot deploy/autoscaling/recorded.svg
  deploy/autoscaling/simulate.py --step-seconds 0.12 --row-seconds 0.007 --prompt-token-seconds 0.0075 --load-seconds 240

The rules (targets, limits, windows, policies) are read from k8s/scaling/hpa/autoscalers.yaml, and followed as Kubernetes follows
them: every 15 s, the largest wish of all metrics, 10 % tolerance, stabilization, at most so many pods in so many seconds. The
metrics are averages over a minute, as the adapter's rules make them.

A worker is three costs: a decode step, each of its rows, each prompt token. Take them from your own machine: mean
yangtuo_step_seconds at yangtuo_batch_size 1 and at 32, and yangtuo_ttft_seconds of a long prompt on an idle worker. The defaults are
those of a 7B model on a 16-core machine, estimated, not measured. --costs takes measured ones (record.py makes the file): the time of
a step is what was measured with so many rows, and the day's requests are as many more or fewer as such a worker serves more or fewer
than one of the estimate, so that the plots compare. The day is made, not recorded: office hours, a lunch break, and at
15:00 a lecture hall that asks at the same time; --arrivals takes a recorded one (a file with requests a second for each minute).

--running-target and --up-window try other rules than those in force.

Needs python3-yaml."""

import argparse
import collections
import json
import math
import pathlib
import random

import yaml

HERE = pathlib.Path(__file__).resolve().parent
AUTOSCALERS = HERE.parent.parent / "k8s" / "scaling" / "hpa" / "autoscalers.yaml"
SYNC = 15  # seconds between two decisions of the controller
TOLERANCE = 0.1
RUNNING = "yangtuo_requests_running_1m"


def made_day():
    """Requests a second for each of 1440 minutes."""
    rates = []
    for minute in range(1440):
        hour = minute / 60
        office = 1 / (1 + math.exp(-(hour - 8.5) * 2.5)) * 1 / (1 + math.exp((hour - 17.5) * 2.5))
        lunch = 1 - 0.5 * math.exp(-((hour - 12.5) / 0.5) ** 2)
        hall = 3.0 if 15 <= hour < 15.25 else 0.0
        rates.append(0.05 + 3.0 * office * lunch + hall)
    return rates


class EstimatedCosts:
    """Three numbers, from the command line."""

    def __init__(self, options):
        self.options, self.prompt_token_seconds = options, options.prompt_token_seconds

    def step(self, rows):
        return self.options.step_seconds + self.options.row_seconds * rows


class RecordedCosts:
    """Steps as record.py measured them; between and beyond the measured ones the nearest two go on as a straight line."""

    def __init__(self, recorded):
        self.prompt_token_seconds = recorded["prompt_token_seconds"]
        self.points = sorted((int(rows), seconds) for rows, seconds in recorded["step_seconds"].items())

    def step(self, rows):
        above = next((i for i, (n, _) in enumerate(self.points) if n >= rows), len(self.points) - 1)
        (n0, s0), (n1, s1) = self.points[max(above, 1) - 1], self.points[max(above, 1)]
        return s0 + (s1 - s0) * (rows - n0) / (n1 - n0)


def capacity(costs, rows=8, prompt=380, answer=150):
    """Requests of the day's mean size that a worker serves in a second, with the rules' number of running ones."""
    return 1 / (prompt * costs.prompt_token_seconds + answer * costs.step(rows) / rows)


class Rules:
    """The HorizontalPodAutoscaler of the workers."""

    def __init__(self, path=AUTOSCALERS, running=None, up_window=None):
        objects = [o for o in yaml.safe_load_all(pathlib.Path(path).read_text()) if o["metadata"]["name"] == "worker"]
        spec = objects[0]["spec"]
        self.least, self.most = spec["minReplicas"], spec["maxReplicas"]
        self.targets = {}
        for metric in spec["metrics"]:
            value = str(metric["pods"]["target"]["averageValue"])
            self.targets[metric["pods"]["metric"]["name"]] = float(value[:-1]) / 1000 if value.endswith("m") else float(value)
        self.up, self.down = spec["behavior"]["scaleUp"], spec["behavior"]["scaleDown"]
        self.targets[RUNNING] = running or self.targets[RUNNING]
        self.up["stabilizationWindowSeconds"] = up_window or self.up["stabilizationWindowSeconds"]
        self.changes = []  # (time, pods added or removed)
        self.wishes = collections.deque()  # (time, replicas)

    def decide(self, now, replicas, ready, averages):
        """The number of replicas from now on; `averages` are a pod's, over the ready ones."""
        wish = 0
        for name, target in self.targets.items():
            ratio = averages[name] / target
            if abs(ratio - 1) <= TOLERANCE:
                wish = max(wish, replicas)
            else:
                wish = max(wish, math.ceil(ratio * ready) if ratio < 1 or ready == replicas else
                           max(replicas, math.ceil(ratio * ready)))
        wish = min(max(wish, self.least), self.most)
        self.wishes.append((now, wish))
        while self.wishes[0][0] < now - max(self.up["stabilizationWindowSeconds"], self.down["stabilizationWindowSeconds"]):
            self.wishes.popleft()
        up = min(w for t, w in self.wishes if t >= now - self.up["stabilizationWindowSeconds"])
        down = max(w for t, w in self.wishes if t >= now - self.down["stabilizationWindowSeconds"])
        wanted = up if up > replicas else down if down < replicas else replicas
        wanted = self.limit(now, replicas, wanted)
        if wanted != replicas:
            self.changes.append((now, wanted - replicas))
        return wanted

    def limit(self, now, replicas, wanted):
        policies = (self.up if wanted > replicas else self.down)["policies"]
        sign = 1 if wanted > replicas else -1
        room = max(p["value"] - sum(abs(n) for t, n in self.changes if n * sign > 0 and t > now - p["periodSeconds"])
                   for p in policies)
        return replicas + sign * min(abs(wanted - replicas), max(room, 0))


class Worker:
    def __init__(self, options, ready_at):
        self.options, self.costs, self.ready_at = options, options.costs, ready_at
        self.waiting = collections.deque()  # (arrival, prompt, answer)
        self.running = []  # [prompt, tokens so far, tokens wanted]
        self.leaving = False
        self.debt = 0.0  # computing that was begun in the last second and goes on

    def load(self):
        return len(self.waiting) + len(self.running)

    def second(self, now, queue_times):
        """One second of computing."""
        left = 1.0 - self.debt
        while self.waiting and len(self.running) < self.options.max_running and left > 0:
            arrival, prompt, answer = self.waiting[0]
            if self.used() + prompt + answer > self.options.kv_tokens:
                break
            self.waiting.popleft()
            queue_times.append((now, now - arrival))
            left -= prompt * self.costs.prompt_token_seconds
            self.running.append([prompt, 0.0, answer])
        if self.running and left > 0:
            steps = left / self.costs.step(len(self.running))
            for sequence in self.running:
                sequence[1] += steps
            self.running = [s for s in self.running if s[1] < s[2]]
            left = 0.0
        self.debt = max(-left, 0.0)

    def used(self):
        return sum(prompt + done for prompt, done, _ in self.running)


def simulate(options, arrivals, rules, seed=1):
    """[(second, replicas, ready, waiting, arrivals a second)] each 15 s, and [(second, seconds in the queue)]."""
    random_numbers = random.Random(seed)
    workers = [Worker(options, 0) for _ in range(rules.least)]
    history, queue_times = [], []
    window = collections.defaultdict(lambda: collections.deque(maxlen=60))
    backlog = collections.deque()
    for now in range(len(arrivals) * 60):
        rate = arrivals[now // 60]
        for _ in range(poisson(random_numbers, rate)):
            prompt = min(int(random_numbers.lognormvariate(5.7, 0.7)), 3000)
            backlog.append((now, prompt, min(20 + int(random_numbers.expovariate(1 / 130)), 600)))
        ready = [w for w in workers if w.ready_at <= now and not w.leaving]
        while backlog and ready:
            min(ready, key=Worker.load).waiting.append(backlog.popleft())
        for worker in workers:
            if worker.ready_at <= now:
                worker.second(now, queue_times)
        workers = [w for w in workers if not w.leaving or w.load()]
        samples = {"yangtuo_requests_waiting_1m": sum(len(w.waiting) for w in ready) / max(len(ready), 1),
                   RUNNING: sum(len(w.running) for w in ready) / max(len(ready), 1),
                   "yangtuo_kv_cache_usage_ratio_1m": sum(w.used() for w in ready) / options.kv_tokens / max(len(ready), 1)}
        for name, value in samples.items():
            window[name].append(value)
        if now % SYNC == 0:
            staying = [w for w in workers if not w.leaving]
            wanted = rules.decide(now, len(staying), len(ready), {n: sum(v) / len(v) for n, v in window.items()})
            for _ in range(wanted - len(staying)):
                workers.append(Worker(options, now + options.load_seconds))
            for worker in staying[wanted:]:
                worker.leaving = True
            history.append((now, wanted, len(ready), sum(len(w.waiting) for w in ready), rate))
    return history, queue_times


def poisson(random_numbers, mean):
    limit, count, product = math.exp(-mean), 0, random_numbers.random()
    while product > limit:
        count += 1
        product *= random_numbers.random()
    return count


def turns(rules):
    """Seconds between a step in one direction and the next one in the other."""
    return [b[0] - a[0] for a, b in zip(rules.changes, rules.changes[1:]) if a[1] * b[1] < 0]


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def plot(history, queue_times):
    """An SVG of three curves over the day: load, replicas, and the queue's 95th percentile of each ten minutes."""
    width, height, left, gap = 900, 120, 60, 34
    end = history[-1][0] + SYNC
    slots = collections.defaultdict(list)
    for now, seconds in queue_times:
        slots[now // 600].append(seconds)
    panels = [("requests a second", [(t, rate) for t, _, _, _, rate in history], "#4477aa"),
              ("workers: wanted, and ready", [(t, n) for t, n, _, _, _ in history], "#cc6677"),
              ("seconds in the queue, 95 %", [(slot * 600, percentile(v, 0.95)) for slot, v in sorted(slots.items())], "#228833")]
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width + left + 20} {3 * (height + gap) + 30}" '
             'font-family="sans-serif" font-size="12">']
    for row, (title, points, colour) in enumerate(panels):
        base = (row + 1) * (height + gap)
        curves = [(points, colour, 1.5)]
        if row == 1:
            curves.append(([(t, ready) for t, _, ready, _, _ in history], "#999999", 1))
        top = max(max(y for _, y in curve) for curve, _, _ in curves) or 1
        parts.append(f'<text x="{left}" y="{base - height - 6}">{title}</text>')
        parts.append(f'<path d="M{left} {base - height}V{base}H{left + width}" fill="none" stroke="#888"/>')
        for value in (0, top / 2, top):
            parts.append(f'<text x="{left - 6}" y="{base - value / top * height + 4:.0f}" text-anchor="end">{value:.3g}</text>')
        for curve, paint, line in curves:
            path, before = [], None
            for t, y in curve:
                x, at = left + t / end * width, base - y / top * height
                if before is None:
                    path.append(f"M{x:.1f} {at:.1f}")
                elif at != before:
                    path.append(f"H{x:.1f}V{at:.1f}")
                before = at
            path.append(f"H{left + width}")
            parts.append(f'<path d="{"".join(path)}" fill="none" stroke="{paint}" stroke-width="{line}"/>')
    for hour in range(0, end // 3600 + 1, 3):
        x = left + hour * 3600 / end * width
        parts.append(f'<text x="{x:.0f}" y="{3 * (height + gap) + 18}" text-anchor="middle">{hour}:00</text>')
    return "\n".join([*parts, "</svg>", ""])


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step-seconds", type=float, default=0.03, help="a decode step without its rows")
    parser.add_argument("--row-seconds", type=float, default=0.001, help="each row of a decode step")
    parser.add_argument("--prompt-token-seconds", type=float, default=0.001)
    parser.add_argument("--max-running", type=int, default=64, help="as the worker's flag")
    parser.add_argument("--kv-tokens", type=int, default=32768, help="positions that the KV cache holds")
    parser.add_argument("--load-seconds", type=int, default=120, help="from a new pod to a ready worker")
    parser.add_argument("--arrivals", type=pathlib.Path, help="requests a second, a line a minute")
    parser.add_argument("--costs", type=pathlib.Path, help="measured costs, in place of the three above")
    parser.add_argument("--running-target", type=float, help="running requests a worker, in place of the rules'")
    parser.add_argument("--up-window", type=int, help="seconds that more workers must be wanted, in place of the rules'")
    parser.add_argument("--plot", type=pathlib.Path, help="write an SVG")
    return parser


def parse(words=None):
    """(options with their costs, requests a second for each minute)."""
    options = arguments().parse_args(words)
    estimated = EstimatedCosts(options)
    recorded = json.loads(options.costs.read_text()) if options.costs else None
    options.costs = RecordedCosts(recorded) if recorded else estimated
    if options.arrivals:
        return options, [float(line) for line in options.arrivals.read_text().split()]
    share = capacity(options.costs) / capacity(estimated)
    return options, [rate * share for rate in made_day()]


def main():
    options, arrivals = parse()
    rules = Rules(running=options.running_target, up_window=options.up_window)
    history, queue_times = simulate(options, arrivals, rules)
    seconds = [s for _, s in queue_times]
    replicas = [n for _, n, _, _, _ in history]
    print(f"requests {len(seconds)}, in the queue: median {percentile(seconds, 0.5):.0f} s, 95 % {percentile(seconds, 0.95):.0f} s, "
          f"99 % {percentile(seconds, 0.99):.0f} s, longest {max(seconds):.0f} s")
    print(f"workers {min(replicas)} to {max(replicas)}, on average {sum(replicas) / len(replicas):.1f}; "
          f"{len(rules.changes)} changes, {len(turns(rules))} turns, the quickest after {min(turns(rules), default=0)} s")
    if options.plot:
        options.plot.write_text(plot(history, queue_times))


if __name__ == "__main__":
    main()
