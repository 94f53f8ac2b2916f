"""The operator's pages: every flag, metric, reason, alert, health name, port and link in them exists."""

import re
import unittest

from monitoring_test import alerts, all_documented, metric_names
from programs import BINARIES, PREFIXES, SOURCE, flags, run

PAGES = [*sorted((SOURCE / "deploy").glob("*.md")), SOURCE / "deploy/image/README.md", SOURCE / "deploy/autoscaling/README.md",
         SOURCE / "k8s/README.md"]
# Flags of other programs that the pages name.
FOREIGN = {"minutes", "history", "rm", "from-file", "dry-run", "read-only", "cap-drop", "scale", "name", "preset", "arrivals", "plot",
           "costs", "from-literal", "running-target", "up-window", "for", "timeout"}


def commands():
    """Every subcommand of `yangtuo`, with those of `bench` and `keys`."""
    def below(*words):
        text = run([BINARIES / "yangtuo", *words, "--help"]).stdout
        section = re.search(r"Subcommands:\n((?:  .*\n)+)", text)
        return re.findall(r"^  ([a-z-]+) ", section[1], re.MULTILINE) if section else []
    found = [[name] for name in below()]
    return found + [[group, name] for group in ("bench", "keys") for name in below(group)]


def all_flags():
    known = set(FOREIGN).union(*(flags(program) for program in PREFIXES))
    for words in commands():
        known |= set(re.findall(r"(?<![\w-])--([a-z][a-z-]*)", run([BINARIES / "yangtuo", *words, "--help"]).stdout))
    return known


class GuideTest(unittest.TestCase):
    def test_flags_and_commands_exist(self):
        known, names = all_flags(), {" ".join(words) for words in commands()}
        self.assertIn("up", names)
        for page in PAGES:
            text = page.read_text()
            with self.subTest(page.name):
                self.assertLessEqual(set(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", text)), known)
                for name in re.findall(r"`yangtuo ([a-z-]+(?: gateway)?)", text):
                    self.assertIn(name, names)
                for prefix in PREFIXES.values():
                    for variable in re.findall(rf"\b{prefix}(\w+)", text):
                        self.assertIn(variable.lower().replace("_", "-"), known)

    def test_metrics_alerts_reasons_and_health_names_exist(self):
        literals = {word for folder in ("gateway", "services") for path in (SOURCE / folder).rglob("*.[ch]*")
                    for word in re.findall(r'"([\w.]+)"', path.read_text())}
        for page in PAGES:
            text = page.read_text()
            with self.subTest(page.name):
                self.assertLessEqual({name.removesuffix("_1m") for name in metric_names(text)}, set(all_documented()))
                self.assertLessEqual(set(re.findall(r"`(Yangtuo[A-Z]\w+)`", text)), set(alerts()))
                for reason in re.findall(r"reason `([A-Z_]+)`(?: or `[A-Z_]+`)?", text) + re.findall(r"` or `([A-Z]+_[A-Z]+)`", text):
                    self.assertTrue(reason in literals, reason)
                for name in re.findall(r"`(yangtuo\.(?:internal\.)?v1\.\w+)`", text):
                    self.assertTrue(name in literals, name)

    def test_links_lead_somewhere(self):
        for page in PAGES:
            for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
                if not link.startswith("http"):
                    self.assertTrue((page.parent / link).exists(), f"{page.name}: {link}")
            for path in re.findall(r"`((?:deploy|k8s|tests|tools)/[\w./-]+\w)`", page.read_text()):
                self.assertTrue((SOURCE / path).exists(), f"{page.name}: {path}")

    def test_sections_that_runbooks_name_exist(self):
        named = [(path.name, page, section) for path in (SOURCE / "deploy/runbooks").glob("*.md")
                 for page, section in re.findall(r"\((\w+\.md), ([A-Z][\w ]+)\)", path.read_text())]
        self.assertIn("operations.md", {page for _, page, _ in named})
        for runbook, page, section in named:
            self.assertIn(f"\n## {section}\n", (SOURCE / "deploy" / page).read_text(), runbook)


if __name__ == "__main__":
    unittest.main()
