"""The chat page in a real browser: headless Chromium, driven through playwright-core from npm."""

import json
import os
import shutil
import unittest

from cluster import Cluster
from http_test import npm, run

SCREENSHOTS = os.environ.get("YANGTUO_SCREENSHOTS", "")  # a folder to look at them


class PageTest(unittest.TestCase):
    def browse(self, script, *arguments):
        """What the script saw; runs it with the address of a cluster and the browser."""
        browser = shutil.which("chromium")
        if not browser:
            self.skipTest("chromium is not installed")
        folder = npm(self, "node-" + script.removesuffix(".mjs"), "playwright-core@1")
        with Cluster() as cluster:
            url = f"http://{cluster.gateway.address('http')}"
            result = run(["node", folder / script, url, browser, *arguments])
            self.assertEqual(result.returncode, 0, result.stderr)
            cluster.assert_nothing_held()
        return json.loads(result.stdout)

    def test_send_stream_stop_regenerate_reload_and_hostile_answers(self):
        told = self.browse("browse.mjs", *([SCREENSHOTS] if SCREENSHOTS else []))
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


    def test_what_was_written_stays(self):
        told = self.browse("keep_text.mjs")
        self.assertEqual(told["problems"], [])
        self.assertFalse(told["secure"], "as over plain HTTP in a local network")
        self.assertEqual(told["notices"], ["the demo is full", "top_p is wrong", "HTTP 502 Bad Gateway",
                                           "HTTP 500 Internal Server Error", "no such thing"])
        self.assertEqual(told["copied"], ["code:\n```\na\n  b\n```", "a\n  b"])
        self.assertEqual(told["leftBehind"], 0)
        self.assertEqual(told["system"], "You rhyme.")
        self.assertEqual(told["askedWithSystem"], ["You rhyme.", "first", "answer to first", "second"])
        self.assertEqual(told["refused"], ["not now", "answer to beta"], "the old answer stays until there is a new one")
        self.assertEqual(told["regenerated"], [["beta"], 4])
        self.assertEqual(told["askedAfterClear"], ["gamma"])
        self.assertEqual(told["clearedMeanwhile"], ["answer to delta", 1])
        self.assertEqual(told["fromOneEntry"], [["newer", "older"], ["newer"], "0.5", "40"])
        self.assertEqual(told["undisturbed"], [[], "half a thou"])
        self.assertEqual(told["tabs"], [["dog", "cat", "newer", "older"]] * 2)
        self.assertEqual(told["tabsAfterReload"], [*told["tabs"], ["cat", "answer to cat"], ["dog", "answer to dog"]])
        self.assertEqual(told["sharedSettings"], ["0.7", "Be brief."])
        self.assertEqual(told["bothAtOnce"], ["answer to bone", "answer to leash"])
        self.assertEqual(told["stored"], [1, 1])
        self.assertEqual(told["afterRemoval"], [["cat", "dog", "dog", "newer"], "answer to kitten"])


if __name__ == "__main__":
    unittest.main()
