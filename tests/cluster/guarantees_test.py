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


class GuaranteesTest(unittest.TestCase):
    def test_every_guarantee_holds_through_random_faults(self):
        minutes = os.environ.get("YANGTUO_FAULT_MINUTES", "5")
        seed = os.environ.get("YANGTUO_FAULT_SEED", str(int(time.time())))
        HISTORY.parent.mkdir(parents=True, exist_ok=True)
        run = subprocess.run([sys.executable, HERE / "fault_run.py", "--minutes", minutes, "--seed", seed, "--history", HISTORY],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        self.assertEqual(run.returncode, 0, run.stdout[-6000:])
        check = subprocess.run([sys.executable, HERE / "history_check.py", HISTORY], stdout=subprocess.PIPE, text=True, check=False)
        print(f"seed {seed}\n{check.stdout}")
        self.assertEqual(check.returncode, 0, f"seed {seed}, {HISTORY}:\n{check.stdout[:6000]}")


if __name__ == "__main__":
    unittest.main()
