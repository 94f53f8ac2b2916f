#!/usr/bin/env python3
"""Reads histories that fault_run.py recorded and proves, or refutes, every guarantee of deploy/guarantees.md for each request in them.

    history_check.py HISTORY...     prints what was counted and every violation; exit code 1 when there is one

A history is JSON lines. Times are seconds on one clock.
  {"kind": "reference", "key", "choices": {"0": {"text", "ids", "finish"}}}       the answer of a calm cluster
  {"kind": "request", "id", "key", "transport": grpc|sse|http, "client": normal|slow|vanishing|burst, "path": direct|link,
   "sent", "deadline": seconds or null, "events": [[time, "started"] | [time, "delta", choice, text, ids or null] |
   [time, "finished", {choice: reason}]], "end": [time, code, reason, message] or null}
  {"kind": "fault", "target", "what", "from", "to"}                               what was done to whom, until it was well again
  {"kind": "cluster", "groups": [names], "tokenizers": [names]}
  {"kind": "idle", "since", "samples": [[time, {what: value}]]}                   what was held after the last end
  {"kind": "count", "name", "value"}                                              summed up

`code` is a gRPC code's name; CLIENT_LEFT when the client went by itself; CONNECTION_LOST when its connection broke without a status."""

import collections
import json
import sys

FREE_LIMIT = 1.0      # seconds from the last end until nothing is held
AT_ONCE = 2.0         # seconds for a refusal; most of it is for a busy machine
DEADLINE_SLACK = 2.0  # seconds that an end may come after its deadline
# A connection of which only one side was lost is noticed by pings: every 20 s, 10 s for the answer.
HALF_OPEN_LIMIT = 31.0


class History:
    def __init__(self):
        self.references, self.requests, self.faults, self.idles = {}, [], [], []
        self.groups, self.tokenizers = [], []
        self.counts = collections.Counter()

    def add(self, record):
        kind = record["kind"]
        if kind == "reference":
            self.references[record["key"]] = record["choices"]
        elif kind == "request":
            self.requests.append(record)
        elif kind == "fault":
            self.faults.append(record)
        elif kind == "idle":
            self.idles.append(record)
        elif kind == "cluster":
            self.groups, self.tokenizers = record["groups"], record["tokenizers"]
        elif kind == "count":
            self.counts[record["name"]] += record["value"]
        else:
            raise ValueError(f"unknown kind of record: {kind}")


def read(path):
    history = History()
    with open(path, encoding="utf-8") as file:
        for line in file:
            history.add(json.loads(line))
    return history


def overlaps(fault, begin, end):
    return fault["from"] <= end and (fault["to"] is None or fault["to"] >= begin)


class Checker:
    """Collects the violations of one history."""

    def __init__(self, history):
        self.history = history
        self.violations = []

    def check(self):
        seen = set()
        for request in self.history.requests:
            if request["id"] in seen:
                self.say(request, "was recorded twice")
            seen.add(request["id"])
            self.check_request(request)
        for idle in self.history.idles:
            self.check_idle(idle)
        return self.violations

    def say(self, request, what):
        self.violations.append(f"request {request['id']} ({request['transport']}, {request['client']}, {request['key']}, sent "
                               f"{request['sent']:.3f}): {what}")

    def check_request(self, request):
        if request["end"] is None:
            self.say(request, "never ended")
            return
        self.check_shape(request)
        self.check_content(request)
        self.check_end(request)

    def check_shape(self, request):
        """One started, deltas, one finished if and only if the status is OK."""
        kinds = [event[1] for event in request["events"]]
        code = request["end"][1]
        if code == "OK" and kinds.count("finished") != 1:
            self.say(request, f"OK with {kinds.count('finished')} final messages")
        if code not in ("OK", "CLIENT_LEFT", "CONNECTION_LOST") and "finished" in kinds:
            self.say(request, f"{code} after a final message")
        if "finished" in kinds and kinds.index("finished") != len(kinds) - 1:
            self.say(request, "something after the final message")
        if kinds.count("started") > 1 or ("started" in kinds and kinds[0] != "started"):
            self.say(request, "started is not the first message, or there are two")
        if request["transport"] == "grpc" and "delta" in kinds and "started" not in kinds:
            self.say(request, "a delta without started")
        times = [event[0] for event in request["events"]]
        if times != sorted(times) or (times and request["end"][0] < times[-1]):
            self.say(request, "messages after the end")

    def check_content(self, request):
        """What arrived is the calm cluster's answer, or its beginning."""
        reference = self.history.references.get(request["key"])
        if reference is None:
            self.say(request, "has no reference")
            return
        texts, ids = collections.defaultdict(str), collections.defaultdict(list)
        finishes = {}
        for event in request["events"]:
            if event[1] == "delta":
                texts[str(event[2])] += event[3]
                ids[str(event[2])] += event[4] or []
            elif event[1] == "finished":
                finishes = {str(choice): reason for choice, reason in event[2].items()}
        whole = request["end"][1] == "OK"
        for choice in sorted({*texts, *reference} if whole else texts):
            if choice not in reference:
                self.say(request, f"choice {choice}, which nobody asked for")
                continue
            expected = reference[choice]
            self.compare(request, f"text of choice {choice}", texts[choice], expected["text"], whole)
            if request["transport"] == "grpc":
                self.compare(request, f"ids of choice {choice}", ids[choice], expected["ids"], whole)
            if whole and finishes.get(choice) != expected["finish"]:
                self.say(request, f"choice {choice} finished by {finishes.get(choice)}, expected {expected['finish']}")

    def compare(self, request, what, got, expected, whole):
        if got == expected or (not whole and got == expected[:len(got)]):
            return
        at = next((i for i, (a, b) in enumerate(zip(got, expected)) if a != b), min(len(got), len(expected)))
        self.say(request, f"{what}: {self.describe(request, got, expected, at)} at {at}: got {got[at:at + 12]!r}, expected "
                          f"{expected[at:at + 12]!r}")

    def describe(self, request, got, expected, at):
        """A guess for who reads it: what happened at the first difference."""
        if at == len(got):
            return f"lost {len(expected) - len(got)} of {len(expected)}"
        for key, choices in self.history.references.items():
            for choice in choices.values():
                other = choice["text"] if isinstance(got, str) else choice["ids"]
                if key != request["key"] and at + 6 <= len(got) and other[at:at + 6] == got[at:at + 6]:
                    return f"mixed with {key}"
        for back in range(1, at + 1):
            if got[at:at + back] == got[at - back:at] and got[at + back:at + back + 4] == expected[at:at + 4]:
                return f"repeated {back}"
        for gap in range(1, len(expected) - at):
            if got[at:at + 4] == expected[at + gap:at + gap + 4]:
                return f"lost {gap}"
        return "wrong"

    def check_end(self, request):
        end, code, reason, message = request["end"]
        sent, deadline, client = request["sent"], request["deadline"], request["client"]
        said = f"{code} {reason}: {message}"
        if deadline is not None and client != "slow" and end > sent + deadline + DEADLINE_SLACK and \
                not self.clients_cut(request):
            self.say(request, f"ended {end - sent - deadline:.1f} s after its deadline")
        if code == "OK":
            return
        if code == "CLIENT_LEFT":
            if client != "vanishing":
                self.say(request, "ended as if its client had left")
        elif code == "CONNECTION_LOST":
            if not self.excused(request):
                self.say(request, f"connection lost without cause: {message}")
        elif code == "DEADLINE_EXCEEDED":
            refused = reason == "DEADLINE_TOO_SOON" and not any(e[1] == "delta" for e in request["events"])
            if deadline is None or (end - sent < deadline - 0.05 and not refused):
                self.say(request, f"before its deadline: {said}")
        elif code == "RESOURCE_EXHAUSTED":
            self.check_exhausted(request, said)
        elif code == "UNAVAILABLE":
            if not self.excused(request) and not self.nobody_left(request):
                self.say(request, f"although groups and tokenizers were left: {said}")
        else:
            self.say(request, f"a code that nothing explains: {said}")

    def check_exhausted(self, request, said):
        if request["end"][2] == "CLIENT_TOO_SLOW":
            if request["client"] != "slow" and not self.clients_cut(request):
                self.say(request, f"but its client reads: {said}")
            return
        if any(event[1] == "delta" for event in request["events"]):
            self.say(request, f"refused in the middle of an answer: {said}")
        waited = request["end"][0] - request["sent"]
        if waited > AT_ONCE and not self.clients_cut(request) and not self.disturbed(request, "gateway"):
            self.say(request, f"refused after {waited:.1f} s, not at once: {said}")

    def disturbed(self, request, target):
        return [f for f in self.history.faults if f["target"] == target and overlaps(f, request["sent"], request["end"][0])]

    def clients_cut(self, request):
        return request["path"] == "link" and self.disturbed(request, "clients")

    def excused(self, request):
        """The client's own network, or the gateway itself: one gateway cannot outlive itself, a drained one refuses what is new."""
        if self.clients_cut(request):
            return True
        begun = any(event[1] == "delta" for event in request["events"])
        return any(f["what"] == "kill" or (f["what"] == "drain" and not begun) for f in self.disturbed(request, "gateway"))

    def nobody_left(self, request):
        """Whether at some moment of the request every group, or every tokenizer, had a fault."""
        for names in (self.history.groups, self.history.tokenizers):
            faults = {name: self.disturbed(request, name) for name in names}
            moments = [request["sent"], *(f["from"] for several in faults.values() for f in several)]
            for moment in moments:
                if names and all(any(overlaps(f, moment, moment) for f in faults[name]) for name in names):
                    return True
        return False

    def check_idle(self, idle):
        since = max([idle["since"], *(f["from"] + HALF_OPEN_LIMIT for f in self.history.faults
                                      if f["what"].startswith("half-open") and f["from"] <= idle["since"] and
                                      idle["since"] - f["from"] < HALF_OPEN_LIMIT)])
        if not idle["samples"]:
            self.violations.append(f"idle since {since:.3f}: nobody looked")
            return
        for at, held in idle["samples"]:
            if held and at > since + FREE_LIMIT:
                self.violations.append(f"still held {at - since:.1f} s after the last end at {since:.3f}: {held}")
                return
        if idle["samples"][-1][1]:
            self.violations.append(f"the last look, {idle['samples'][-1][0] - since:.1f} s after the end, still found "
                                   f"{idle['samples'][-1][1]}")


def summary(histories):
    requests = [r for h in histories for r in h.requests]
    ends = collections.Counter((r["end"] or [0, "NO END"])[1] for r in requests)
    counts = sum((h.counts for h in histories), collections.Counter())
    faults = collections.Counter(f["what"] for h in histories for f in h.faults)
    tokens = sum(len(e[4] or []) for r in requests for e in r["events"] if e[1] == "delta")
    longest = max((b[0] - a[0] for r in requests if r["client"] == "normal"
                   for a, b in zip(r["events"], r["events"][1:])), default=0.0)
    lines = [f"{len(requests)} requests: " + ", ".join(f"{count} {code}" for code, count in ends.most_common()),
             "by way: " + ", ".join(f"{count} {way}" for way, count in
                                    collections.Counter(f"{r['transport']} {r['client']}" for r in requests).most_common()),
             f"{sum(faults.values())} faults: " + ", ".join(f"{count} {what}" for what, count in faults.most_common()),
             f"{tokens} ids over gRPC; longest pause in a stream {longest:.1f} s; {sum(len(h.idles) for h in histories)} looks at "
             f"idle clusters",
             "; ".join(f"{name}: {value:g}" for name, value in sorted(counts.items()))]
    return "\n".join(line for line in lines if line)


def main(paths):
    if not paths:
        print(__doc__)
        return 2
    histories = [read(path) for path in paths]
    violations = []
    for path, history in zip(paths, histories):
        violations += [f"{path}: {violation}" for violation in Checker(history).check()]
    print(summary(histories))
    print(f"{len(violations)} violations")
    for violation in violations:
        print(f"  {violation}")
    return 1 if violations or not any(h.requests for h in histories) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
