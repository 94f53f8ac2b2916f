"""The autoscaler's rules, replayed against a day of load by deploy/autoscaling/simulate.py."""

import importlib.util
import unittest

from manifests import read_documents, render
from programs import SOURCE

FOLDER = SOURCE / "deploy" / "autoscaling"


def simulation():
    read_documents(FOLDER.parent.parent / "k8s" / "scaling" / "hpa" / "autoscalers.yaml")  # skips without PyYAML
    spec = importlib.util.spec_from_file_location("simulate", FOLDER / "simulate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class AutoscalerTest(unittest.TestCase):
    def test_a_day_is_served_without_long_queues_and_without_flapping(self):
        simulate = simulation()
        options, arrivals = simulate.parse([])
        rules = simulate.Rules()
        history, queue_times = simulate.simulate(options, arrivals, rules)
        replicas = [n for _, n, *_ in history]
        seconds = [s for _, s in queue_times]
        self.assertGreater(len(seconds), 90000, "everybody is served")
        self.assertLess(simulate.percentile(seconds, 0.99), 10)
        self.assertGreaterEqual(max(replicas), 5, "the lecture hall gets workers")
        self.assertEqual(replicas[-1], rules.least, "at night they are gone again")
        self.assertLess(sum(replicas) / len(replicas), 3.5)
        self.assertLessEqual(len(simulate.turns(rules)), 4)
        self.assertGreaterEqual(min(simulate.turns(rules)), 300)
        # The plot in the guide is of these rules.
        self.assertEqual((FOLDER / "day.svg").read_text(), simulate.plot(history, queue_times),
                         "run deploy/autoscaling/simulate.py --plot deploy/autoscaling/day.svg")

    def test_workers_as_they_were_measured_do_not_make_it_flap_either(self):
        simulate = simulation()
        options, arrivals = simulate.parse(["--costs", str(FOLDER / "recorded.json"), "--running-target", "4", "--up-window", "120"])
        rules = simulate.Rules(running=options.running_target, up_window=options.up_window)
        # The rule in the comment of autoscalers.yaml: half of the batch beyond which there are no more tokens a second.
        rates = {rows: rows / options.costs.step(rows) for rows in (4, 8, 16)}
        self.assertGreater(rates[8], 1.25 * rates[4])
        self.assertLess(rates[16], 1.1 * rates[8])
        history, queue_times = simulate.simulate(options, arrivals, rules)
        replicas = [n for _, n, *_ in history]
        seconds = [s for _, s in queue_times]
        self.assertGreater(len(seconds), 0.99 * 60 * sum(arrivals), "everybody is served")
        self.assertLess(simulate.percentile(seconds, 0.99), 10)
        self.assertEqual(replicas[-1], rules.least)
        self.assertLessEqual(len(simulate.turns(rules)), 8)
        self.assertGreaterEqual(min(simulate.turns(rules)), 300)
        self.assertEqual((FOLDER / "recorded.svg").read_text(), simulate.plot(history, queue_times),
                         "run the second example in the help of deploy/autoscaling/simulate.py")

    def test_rules_for_another_machine_flap(self):
        simulate = simulation()
        rules = simulate.Rules()
        simulate.simulate(*simulate.parse(["--costs", str(FOLDER / "recorded.json")]), rules)
        self.assertGreater(len(simulate.turns(rules)), 10, "the page says that targets follow the machine")

    def test_recorded_steps_are_the_engines_speed_turned_round(self):
        spec = importlib.util.spec_from_file_location("record", FOLDER / "record.py")
        record = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(record)
        costs = record.costs({"weight_type": "int4", "threads": 2, "prefill": 50, "decode": {"1": 10.0, "8": 40.0}})
        self.assertEqual(costs["step_seconds"], {"1": 0.1, "8": 0.2})
        self.assertEqual(costs["prompt_token_seconds"], 0.02)
        steps = simulation().RecordedCosts(costs)
        self.assertAlmostEqual(steps.step(1), 0.1)
        self.assertAlmostEqual(steps.step(4.5), 0.15)
        self.assertAlmostEqual(steps.step(15), 0.3, msg="beyond what was measured")

    def test_the_windows_are_what_keeps_it_from_flapping(self):
        simulate = simulation()
        rules = simulate.Rules()
        rules.down["stabilizationWindowSeconds"] = 0
        rules.down["policies"] = [{"type": "Pods", "value": 8, "periodSeconds": 15}]
        simulate.simulate(*simulate.parse([]), rules)
        self.assertGreater(len(simulate.turns(rules)), 30)

    def test_keda_has_the_same_numbers(self):
        simulate = simulation()
        scaled = next(o for o in render("production-keda") if o["kind"] == "ScaledObject")["spec"]
        rules = simulate.Rules()
        self.assertEqual((scaled["minReplicaCount"], scaled["maxReplicaCount"]), (rules.least, rules.most))
        thresholds = {t["metadata"]["query"].split("(")[2].split("{")[0] + "_1m": float(t["metadata"]["threshold"])
                      for t in scaled["triggers"]}
        self.assertEqual(thresholds, rules.targets)
        behavior = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        self.assertEqual(behavior, {"scaleUp": rules.up, "scaleDown": rules.down})


if __name__ == "__main__":
    unittest.main()
