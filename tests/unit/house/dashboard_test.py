#!/usr/bin/python3
"""deploy/grafana: each panel shows the chosen gateways alone, and metrics that are documented."""
import json
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[3]
DASHBOARD = json.loads((ROOT / "deploy/grafana/culvert.json").read_text())
METRIC = re.compile(r"\b(?:culvert|process)_[a-z_]+")


class Dashboard(unittest.TestCase):
    def setUp(self):
        self.expressions = [target["expr"] for panel in DASHBOARD["panels"]
                            for target in panel["targets"]]

    def test_every_panel_shows_the_chosen_gateways_alone(self):
        for expression in self.expressions:
            # What stands behind an "and" is of the same series.
            shown = expression.split(" and ")[0]
            for name in METRIC.finditer(shown):
                self.assertTrue(shown[name.end():].startswith('{instance=~"$instance"'), expression)

    def test_the_endpoints_of_both_daemons_are_chosen(self):
        variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
        query = variables["instance"]["query"]
        self.assertIn("culvert_build_info|culvert_ike_build_info", query)
        self.assertIn('gateway=~"$gateway"', query)

    def test_what_panels_and_alerts_name_is_documented(self):
        documented = set(METRIC.findall(
            (ROOT / "docs/reference/control-protocol.md").read_text()))
        rules = (ROOT / "deploy/prometheus/culvert.rules.yaml").read_text()
        alerts = re.findall(r"expr: (>\n(?: {10}.*\n)+|.*)", rules)
        for text in self.expressions + alerts:
            self.assertEqual(set(METRIC.findall(text)) - documented, set(), text)


if __name__ == "__main__":
    unittest.main()
