"""The chat page in a real browser: headless Chromium, driven through playwright-core from npm."""

import json
import os
import shutil
import unittest

from cluster import Cluster
from http_test import BUILD, HERE, run

SCREENSHOTS = os.environ.get("YANGTUO_SCREENSHOTS", "")  # a folder to look at them


class PageTest(unittest.TestCase):
    def test_send_stream_stop_regenerate_reload_and_hostile_answers(self):
        browser = shutil.which("chromium")
        if not browser or not shutil.which("npm"):
            self.skipTest("chromium or npm is not installed")
        folder = BUILD / "tests" / "node-page"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / "node" / "browse.mjs", folder)
        if not (folder / "node_modules" / "playwright-core").exists():
            install = run(["npm", "install", "--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund",
                           "playwright-core@1"])
            self.assertEqual(install.returncode, 0, install.stderr)
        with Cluster() as cluster:
            url = f"http://{cluster.gateway.address('http')}"
            result = run(["node", folder / "browse.mjs", url, browser, *([SCREENSHOTS] if SCREENSHOTS else [])])
            self.assertEqual(result.returncode, 0, result.stderr)
            cluster.assert_nothing_held()
        told = json.loads(result.stdout)
        self.assertEqual(told["problems"], [])
        self.assertEqual(told["outside"], [], "the page asks nobody but its gateway")
        self.assertEqual(told["language"], "发送")
        self.assertEqual(told["english"], "Send")
        self.assertEqual(told["temperature"], "0.2")
        self.assertTrue(told["first"])
        self.assertRegex(told["facts"], r"^\d+ \+ \d+ .* · [\d.–]+ ")
        self.assertEqual(told["regenerated"], told["first"], "greedy answers do not change")
        self.assertEqual(told["stoppedFacts"], "", "stopped, not finished: usage comes with the end")
        self.assertTrue(told["stillThatLong"])
        self.assertIn("<script>window.hacked = 1</script>", told["hostileText"])
        self.assertIn("<b>code</b>", told["hostileText"])
        self.assertEqual(told["hostileElements"], 0)
        self.assertIsNone(told["hacked"])
        self.assertEqual(told["cut"], 1)
        self.assertEqual(told["conversationsAfterReload"], 2)
        self.assertEqual(told["firstAfterReload"], told["first"])
        self.assertEqual(told["edited"], "写一首题为《春望》的五言律诗。")
        self.assertFalse(told["sideways"], "nothing is wider than a phone")


if __name__ == "__main__":
    unittest.main()
