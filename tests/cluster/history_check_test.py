"""The checker finds every kind of violation: doctored histories, each with one fault more than a good one."""

import copy
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import history_check

REFERENCES = [
    {"kind": "reference", "key": "a", "choices": {"0": {"text": "春眠不觉晓处处闻啼鸟", "ids": list(range(10, 20)), "finish": "length"}}},
    {"kind": "reference", "key": "b", "choices": {"0": {"text": "白日依山尽黄河入海流", "ids": list(range(50, 60)), "finish": "stop"}}},
    {"kind": "reference", "key": "two", "choices": {"0": {"text": "甲乙", "ids": [1, 2], "finish": "length"},
                                                    "1": {"text": "丙丁", "ids": [3, 4], "finish": "length"}}}]
CLUSTER = {"kind": "cluster", "groups": ["g0", "g1"], "tokenizers": ["t0", "t1"]}


def request(number=1, key="a", transport="grpc", tokens=10, end="OK", client="normal", path="direct", deadline=None, reason="",
            seconds=2.0):
    """A request at time 100 that got `tokens` of its reference, one a delta, and this end."""
    reference = next(r for r in REFERENCES if r["key"] == key)["choices"]["0"]
    events = [[100.1, "started"]]
    for i in range(tokens):
        events.append([100.2 + i * 0.1, "delta", 0, reference["text"][i], [reference["ids"][i]] if transport == "grpc" else None])
    if end == "OK":
        events.append([100.2 + tokens * 0.1, "finished", {"0": reference["finish"]}])
    return {"kind": "request", "id": number, "key": key, "transport": transport, "client": client, "path": path, "sent": 100.0,
            "deadline": deadline, "events": events, "end": [100.0 + seconds, end, reason, "said"]}


def fault(target, begin, end, what="kill"):
    return {"kind": "fault", "target": target, "what": what, "from": begin, "to": end}


def idle(*samples, since=110.0):
    return {"kind": "idle", "since": since, "samples": [list(sample) for sample in samples]}


def violations(*records):
    history = history_check.History()
    for record in (*REFERENCES, CLUSTER, *records):
        history.add(json.loads(json.dumps(record)))
    return history_check.Checker(history).check()


class CheckerTest(unittest.TestCase):
    def clean(self, *records):
        self.assertEqual(violations(*records), [])

    def found(self, part, *records):
        said = violations(*records)
        self.assertEqual(len(said), 1, said)
        self.assertIn(part, said[0])

    def test_good_histories_are_clean(self):
        for transport in ("grpc", "sse", "http"):
            self.clean(request(transport=transport))
        self.clean(request(1), request(2, key="b"))
        self.clean(request(tokens=4, end="CLIENT_LEFT", client="vanishing"))
        self.clean(request(tokens=0, end="RESOURCE_EXHAUSTED", reason="QUEUE_FULL", seconds=0.3))
        self.clean(request(tokens=3, end="DEADLINE_EXCEEDED", deadline=2.0))
        self.clean(idle((110.2, {"worker0.0 kv_blocks_used": 3}), (110.7, {}), (111.5, {})))

    def test_an_end_that_is_missing_or_double(self):
        never = request()
        never["end"] = None
        self.found("never ended", never)
        twice = request()
        twice["events"].append(list(twice["events"][-1]))
        self.assertTrue(any("2 final messages" in said for said in violations(twice)))
        missing = request()
        missing["events"].pop()
        self.assertTrue(any("OK with 0 final messages" in said for said in violations(missing)))
        failed = request()
        failed["end"][1:3] = ["INTERNAL", ""]
        self.assertTrue(any("INTERNAL after a final message" in said for said in violations(failed)))
        late = request()
        late["events"].append([101.5, "delta", 0, "", []])
        self.assertTrue(any("something after the final message" in said for said in violations(late)))
        self.assertTrue(any("recorded twice" in said for said in violations(request(1), request(1))))

    def test_started_that_is_missing_late_or_double(self):
        for events in (lambda e: e[1:], lambda e: [e[0], e[0], *e[1:]], lambda e: [e[1], e[0], *e[2:]]):
            wrong = request()
            wrong["events"] = [[100.1 + 0.05 * i, *event[1:]] for i, event in enumerate(events(wrong["events"]))]
            self.assertEqual(len(violations(wrong)), 1)
            self.assertIn("started", violations(wrong)[0])

    def test_a_lost_token(self):
        lost = request()
        del lost["events"][5]
        said = violations(lost)
        self.assertEqual(len(said), 2)  # in the text and among the ids
        self.assertTrue(all("lost 1" in each for each in said), said)
        end = request()
        del end["events"][-2]
        self.assertTrue(all("lost 1 of 10" in each for each in violations(end)))
        self.assertEqual(len(violations(end)), 2)
        only_id = request()
        only_id["events"][5][4] = []
        self.found("ids of choice 0", only_id)

    def test_a_repeated_token(self):
        repeated = request()
        repeated["events"].insert(5, list(repeated["events"][5]))
        said = violations(repeated)
        self.assertEqual(len(said), 2)
        self.assertTrue(all("repeated 1" in each for each in said), said)

    def test_tokens_of_another_request(self):
        mixed, other = request(), request(2, key="b")
        mixed["events"][4:11] = copy.deepcopy(other["events"][4:11])
        said = violations(mixed, other)
        self.assertEqual(len(said), 2)
        self.assertTrue(all("mixed with b" in each for each in said), said)

    def test_what_arrived_before_an_error_is_compared_too(self):
        wrong = request(tokens=4, end="CLIENT_LEFT", client="vanishing", transport="sse")
        wrong["events"][3][3] = "错"
        self.found("text of choice 0", wrong)

    def test_choices_are_not_confused(self):
        def both(first, second):
            return {"kind": "request", "id": 1, "key": "two", "transport": "grpc", "client": "normal", "path": "direct", "sent": 1.0,
                    "deadline": None, "events": [[1.1, "started"], [1.2, "delta", 0, *first], [1.3, "delta", 1, *second],
                                                 [1.4, "finished", {"0": "length", "1": "length"}]], "end": [1.5, "OK", "", ""]}
        self.clean(both(("甲乙", [1, 2]), ("丙丁", [3, 4])))
        self.assertEqual(len(violations(both(("丙丁", [3, 4]), ("甲乙", [1, 2])))), 4)

    def test_a_wrong_finish_reason(self):
        wrong = request()
        wrong["events"][-1][2] = {"0": "stop"}
        self.found("finished by stop", wrong)

    def test_an_error_although_others_were_left(self):
        failed = request(tokens=4, end="UNAVAILABLE")
        self.found("were left", failed)
        self.found("were left", failed, fault("g0", 99, 103))
        self.found("were left", failed, fault("g0", 99, 100.5), fault("g1", 100.6, 103))
        self.found("were left", failed, fault("g0", 99, 103), fault("t1", 99, 103))
        self.clean(failed, fault("g0", 99, 101), fault("g1", 100.5, 103))
        self.clean(failed, fault("t0", 99, 103), fault("t1", 101, 103))

    def test_errors_of_a_gateway_that_ends(self):
        self.clean(request(tokens=4, end="UNAVAILABLE"), fault("gateway", 101, 102))
        self.found("were left", request(tokens=4, end="UNAVAILABLE"), fault("gateway", 101, 102, "drain"))
        self.clean(request(tokens=0, end="UNAVAILABLE"), fault("gateway", 101, 102, "drain"))

    def test_connections_that_break(self):
        broken = request(tokens=4, end="CONNECTION_LOST")
        self.found("without cause", broken)
        self.found("without cause", broken, fault("clients", 101, 102, "reset"))
        self.clean(request(tokens=4, end="CONNECTION_LOST", path="link"), fault("clients", 101, 102, "reset"))

    def test_codes_without_a_reason(self):
        for code in ("INTERNAL", "UNKNOWN", "CANCELLED", "DATA_LOSS", "CLIENT_FAILED"):
            self.found("nothing explains", request(tokens=4, end=code))
        self.found("its client had left", request(tokens=4, end="CLIENT_LEFT"))
        self.found("before its deadline", request(tokens=4, end="DEADLINE_EXCEEDED"))
        self.found("before its deadline", request(tokens=4, end="DEADLINE_EXCEEDED", deadline=5.0))
        self.clean(request(tokens=0, end="DEADLINE_EXCEEDED", deadline=5.0, reason="DEADLINE_TOO_SOON"))

    def test_deadlines_that_pass(self):
        self.found("after its deadline", request(end="OK", deadline=1.0, seconds=4.5))
        self.clean(request(end="OK", deadline=1.0, seconds=4.5, client="slow"))

    def test_refusals_that_are_not_at_once(self):
        self.found("not at once", request(tokens=0, end="RESOURCE_EXHAUSTED", seconds=4))
        self.found("in the middle", request(tokens=2, end="RESOURCE_EXHAUSTED", seconds=1))

    def test_slow_readers(self):
        self.clean(request(tokens=4, end="RESOURCE_EXHAUSTED", reason="CLIENT_TOO_SLOW", client="slow", seconds=20))
        self.found("its client reads", request(tokens=4, end="RESOURCE_EXHAUSTED", reason="CLIENT_TOO_SLOW"))

    def test_what_is_still_held(self):
        self.found("still held", idle((110.5, {"gateway requests_running": 1}), (111.2, {"gateway requests_running": 1}), (111.4, {})))
        self.found("still held", idle((110.5, {}), (111.3, {"worker0.0 kv_blocks_used": 1})))
        self.found("nobody looked", idle())
        self.found("still found", idle((110.5, {"x": 1})))
        # A half-open connection is noticed by pings.
        late = idle((110.5, {"x": 1}), (112.0, {"x": 1}), (130.0, {}))
        self.found("still held", late)
        self.clean(late, fault("g0", 105, 121, "half-open server"))
        self.found("still held", late, fault("g0", 75, 91, "half-open server"))

    def test_a_request_without_reference_or_with_an_unknown_record(self):
        unknown = request()
        unknown["key"] = "z"
        self.found("no reference", unknown)
        with self.assertRaises(ValueError):
            violations({"kind": "other"})


class ProgramTest(unittest.TestCase):
    def run_on(self, *records):
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
            for record in records:
                file.write(json.dumps(record) + "\n")
            file.flush()
            program = pathlib.Path(history_check.__file__)
            return subprocess.run([sys.executable, program, file.name], capture_output=True, text=True, check=False)

    def test_exit_code_and_report(self):
        good = self.run_on(*REFERENCES, CLUSTER, request(), fault("g0", 99, 101), {"kind": "count", "name": "resumed", "value": 3})
        self.assertEqual(good.returncode, 0, good.stdout + good.stderr)
        for part in ("1 requests: 1 OK", "1 faults: 1 kill", "resumed: 3", "0 violations"):
            self.assertIn(part, good.stdout)
        bad = self.run_on(*REFERENCES, CLUSTER, request(tokens=9))
        self.assertEqual(bad.returncode, 1)
        self.assertIn("lost 1 of 10", bad.stdout)
        self.assertEqual(self.run_on(CLUSTER).returncode, 1, "a history without requests proves nothing")


if __name__ == "__main__":
    unittest.main()
