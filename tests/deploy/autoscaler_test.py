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
        options = simulate.arguments().parse_args([])
        rules = simulate.Rules()
        history, queue_times = simulate.simulate(options, simulate.made_day(), rules)
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

    def test_the_windows_are_what_keeps_it_from_flapping(self):
        simulate = simulation()
        rules = simulate.Rules()
        rules.down["stabilizationWindowSeconds"] = 0
        rules.down["policies"] = [{"type": "Pods", "value": 8, "periodSeconds": 15}]
        simulate.simulate(simulate.arguments().parse_args([]), simulate.made_day(), rules)
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
