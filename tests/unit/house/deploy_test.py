#!/usr/bin/python3
"""deploy/prometheus: the alert rules are sound and fire when they should, as promtool sees it."""
import pathlib
import shutil
import subprocess
import sys
import unittest

RULES = pathlib.Path(__file__).resolve().parents[3] / "deploy/prometheus"
SKIPPED = 77  # what meson takes for "skipped"


class Rules(unittest.TestCase):
    def promtool(self, *words):
        ended = subprocess.run(["promtool", *words], cwd=RULES, capture_output=True, text=True)
        self.assertEqual(ended.returncode, 0, ended.stdout + ended.stderr)

    def test_the_rules_are_sound(self):
        self.promtool("check", "rules", "culvert.rules.yaml")

    def test_the_alerts_fire_when_they_should_and_only_then(self):
        self.promtool("test", "rules", "culvert.rules.test.yaml")


if __name__ == "__main__":
    if shutil.which("promtool") is None:
        print("promtool is not installed (package prometheus): the alert rules are not checked")
        sys.exit(SKIPPED)
    unittest.main()
