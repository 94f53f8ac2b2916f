"""The written guarantees under load and random faults: fault_run.py records, history_check.py judges.

YANGTUO_FAULT_MINUTES (5) says how long, YANGTUO_FAULT_SEED repeats a run's choices. The history stays beside the test's models."""

import os
import pathlib
import subprocess
import sys
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
HISTORY = pathlib.Path(os.environ["YANGTUO_BINARY_DIR"]) / "tests" / "fault-history.jsonl"
LOG = HISTORY.with_suffix(".log")
LONGEST_EXTRA = 500.0  # seconds beyond the load's own time; fault_run.py ends itself earlier and says why


class GuaranteesTest(unittest.TestCase):
    def test_every_guarantee_holds_through_random_faults(self):
        minutes = os.environ.get("YANGTUO_FAULT_MINUTES", "5")
        seed = os.environ.get("YANGTUO_FAULT_SEED", str(int(time.time())))
        HISTORY.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, HERE / "fault_run.py", "--minutes", minutes, "--seed", seed, "--history", HISTORY]
        with open(LOG, "w+", encoding="utf-8") as log:
            try:
                code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False,
                                      timeout=60 * float(minutes) + LONGEST_EXTRA).returncode
            except subprocess.TimeoutExpired:
                code = "none: it did not end"
            self.assertEqual(code, 0, f"seed {seed}, {LOG}:\n{LOG.read_text()[-6000:]}")
        check = subprocess.run([sys.executable, HERE / "history_check.py", HISTORY], stdout=subprocess.PIPE, text=True, check=False)
        print(f"seed {seed}\n{check.stdout}")
        self.assertEqual(check.returncode, 0, f"seed {seed}, {HISTORY}:\n{check.stdout[:6000]}")


if __name__ == "__main__":
    unittest.main()
