#!/usr/bin/python3
"""The report and the comparison of the packet-rate suite, on results made by hand."""
import copy
import html.parser
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "benchmarks"))

from report.compare import changes, report  # noqa: E402
from report.page import page  # noqa: E402
from report.results import BadResults, check, load  # noqa: E402
from report.summary import as_text  # noqa: E402


def row(suite="aes128gcm16", direction="out", size=64, sas=1, policies=None, workers=1, mpps=10.0,
        spread=0.5, floor=15.0):
    return {"suite": suite, "direction": direction, "size": size, "sas": sas,
            "policies": policies or sas + 9, "workers": workers, "mpps": mpps,
            "mpps_min": mpps - spread, "mpps_max": mpps + spread, "floor_mpps": floor,
            "efficiency": mpps / floor}


def document(*rows):
    return {"machine": {"cpu": "a <processor> & more"}, "versions": {"culvert": "0.1.0"},
            "results": list(rows)}


def port_row(direction="out", size="64", mpps=5.0, p99=100.0):
    percentiles = {"p50": p99 / 4, "p90": p99 * 0.8, "p99": p99, "p999": p99 * 1.2, "max": p99 * 2}
    return {"direction": direction, "size": size, "throughput_mpps": mpps, "limited_by": "gateway",
            "latency": [{"load": load, "mpps": mpps * load, "received": 9, "us": dict(percentiles)}
                        for load in (0.5, 0.9)],
            "trials": [{"mpps": mpps, "received_mpps": mpps, "lost": 0.0}]}


def ports_document(*rows):
    return {**document(), "ports": list(rows),
            "measurement": {"devices": ["a", "b"], "rate": 10.0, "seconds": 1.0, "loss": 0.0,
                            "resolution": 0.01}}


class Schema(unittest.TestCase):
    def test_good_results_are_taken(self):
        self.assertIsNone(check(document(row(), row(size="imix"), row(direction="in"))))

    def test_what_is_wrong_is_named(self):
        cases = {
            "machine": lambda bad: bad.pop("machine"),
            "results to be a list": lambda bad: bad.update(results={}),
            "expected the keys": lambda bad: bad["results"][0].pop("floor_mpps"),
            "direction out or in": lambda bad: bad["results"][0].update(direction="up"),
            "size in bytes or imix": lambda bad: bad["results"][0].update(size="big"),
            "whole numbers": lambda bad: bad["results"][0].update(workers=0),
            "numbers over 0": lambda bad: bad["results"][0].update(mpps=None),
            "between": lambda bad: bad["results"][0].update(mpps_max=1.0),
            "two results": lambda bad: bad["results"].append(row()),
        }
        for expected, spoil in cases.items():
            bad = document(row())
            spoil(bad)
            self.assertIn(expected, check(bad) or "", expected)

    def test_a_file_that_is_no_json_is_named(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write("{")
            file.flush()
            with self.assertRaisesRegex(BadResults, file.name):
                load(file.name)


class Comparison(unittest.TestCase):
    def test_the_ratio_is_of_efficiencies(self):
        # Half as fast on a machine whose floor is half as high: nothing changed.
        [change] = changes(document(row()), document(row(mpps=5.0, floor=7.5)))
        self.assertAlmostEqual(change.ratio, 1.0)

    def test_slower_than_the_limit_beyond_both_spreads_fails(self):
        lines, failed = report(document(row()), document(row(mpps=8.0)), 10)
        self.assertTrue(failed)
        self.assertIn("slower", lines[1])

    def test_slower_within_the_limit_does_not(self):
        self.assertFalse(report(document(row()), document(row(mpps=8.0)), 25)[1])

    def test_slower_within_the_spread_does_not(self):
        self.assertFalse(report(document(row(spread=1.5)), document(row(mpps=8.0, spread=1.0)), 10)[1])

    def test_faster_does_not(self):
        self.assertFalse(report(document(row()), document(row(mpps=14.0)), 0)[1])

    def test_without_a_limit_nothing_fails(self):
        self.assertFalse(report(document(row()), document(row(mpps=1.0)), None)[1])

    def test_rows_meet_by_all_of_their_key(self):
        others = [row(suite="aes256gcm16"), row(direction="in"), row(size=512), row(sas=2),
                  row(policies=11), row(workers=2)]
        self.assertEqual(changes(document(row()), document(*others)), [])
        lines, _ = report(document(row(), row(sas=7)), document(*others, row(sas=7)), None)
        self.assertEqual(sum(line.startswith("only after") for line in lines), len(others))
        self.assertEqual(sum(line.startswith("only before") for line in lines), 1)

    def test_a_row_that_is_there_no_more_fails_where_it_is_judged(self):
        old, new = document(row(), row(size=512)), document(row())
        self.assertTrue(report(old, new, 10)[1])
        self.assertFalse(report(old, new, None)[1])
        self.assertFalse(report(new, old, 10)[1], "a new row is no loss")

    def test_runs_without_a_common_row_are_no_comparison(self):
        for percent in (None, 5):
            for old, new in ((document(row()), document(row(size=512))), (document(), document(row())),
                             (document(row()), ports_document(port_row())),
                             (ports_document(port_row()), ports_document(port_row(size="512")))):
                with self.assertRaisesRegex(BadResults, "no row in common"):
                    report(old, new, percent)

    def test_what_else_is_not_as_it_was_is_said(self):
        def said(old, new):
            return [line for line in report(old, new, None)[0] if line.startswith("other ")]

        old = {**document(row()), "measurement": {"repeats": 5, "seconds": 0.2}}
        old["machine"] = {"cpu": "A", "huge_pages": True}
        old["versions"] = {"culvert": "0.1.0", "engine": "ipsec-mb", "dpdk": "22.11"}
        self.assertEqual(said(old, copy.deepcopy(old)), [])
        cases = {"other machines: A before, B after": {"machine": {"cpu": "B", "huge_pages": True}},
                 "other pages: huge before, ordinary after": {"machine": {"cpu": "A", "huge_pages": False}},
                 "other pages: huge before, not said after": {"machine": {"cpu": "A"}},
                 "other engine: ipsec-mb before, openssl after":
                     {"versions": {"culvert": "0.1.0", "engine": "openssl", "dpdk": "22.11"}},
                 "other seconds: 0.2 before, 0.4 after": {"measurement": {"repeats": 5, "seconds": 0.4}},
                 "other pages of aes128gcm16/out/64/1/10/1: huge before, ordinary after":
                     {"in_ordinary_pages": ["aes128gcm16/out/64/1/10/1"]}}
        for line, changed in cases.items():
            self.assertEqual(said(old, {**copy.deepcopy(old), **changed}), [line])

    def test_the_command_says_it_by_its_exit_status(self):
        with tempfile.TemporaryDirectory() as folder:
            files = {}
            for name, content in {"old": document(row()), "same": document(row()),
                                  "slow": document(row(mpps=5.0)), "bad": {},
                                  "other": document(row(size=512)),
                                  "ports": ports_document(port_row())}.items():
                files[name] = pathlib.Path(folder) / f"{name}.json"
                files[name].write_text(json.dumps(content))

            def status(new):
                return subprocess.run(
                    [sys.executable, ROOT / "benchmarks/bench.py", "--compare", files["old"],
                     files[new], "--fail-if-slower", "10"], capture_output=True).returncode

            self.assertEqual([status(name) for name in ("same", "slow", "bad", "other", "ports")],
                             [0, 1, 2, 2, 2])

    def test_rows_between_ports_meet_by_direction_and_size(self):
        old = ports_document(port_row(), port_row(direction="in"))
        lines, failed = report(old, ports_document(port_row(direction="in", mpps=4.0), port_row()), 10)
        self.assertTrue(failed)
        slower = [line.split()[0] for line in lines if "slower" in line]
        self.assertEqual(slower, ["ports/in/64"])
        self.assertEqual(sum("p99 at" in line for line in lines), 4)

    def test_ports_lose_what_the_search_can_tell(self):
        old = ports_document(port_row(mpps=5.0))
        near, far = (ports_document(port_row(mpps=mpps)) for mpps in (4.92, 4.85))
        self.assertFalse(report(old, near, 1)[1], "the search goes by steps of 0.1")
        self.assertTrue(report(old, far, 1)[1])
        self.assertFalse(report(old, far, 5)[1])
        self.assertFalse(report(old, ports_document(port_row(mpps=9.0)), 0)[1])
        nothing = ports_document({**port_row(mpps=0.0), "latency": []})
        self.assertTrue(report(old, nothing, 50)[1])
        self.assertFalse(report(nothing, old, 0)[1])
        self.assertFalse(report(nothing, nothing, 0)[1])

    def test_a_search_that_went_by_steps_of_its_own_says_so(self):
        old = ports_document({**port_row(mpps=0.08), "step_mpps": 0.0008})
        old["measurement"]["rate"] = None
        self.assertIsNone(check(old))
        worse = copy.deepcopy(old)
        worse["ports"][0]["throughput_mpps"] = 0.07
        self.assertTrue(report(old, worse, 5)[1], "a step of the rate was 0.1")
        near = copy.deepcopy(old)
        near["ports"][0]["throughput_mpps"] = 0.0794
        self.assertFalse(report(old, near, 0)[1])

    def test_ports_latency_is_the_99th_percentile_beyond_the_unrest_of_a_trial(self):
        old = ports_document(port_row(p99=100.0))
        lines, failed = report(old, ports_document(port_row(p99=115.0)), 10)
        self.assertFalse(failed, "its p90 is not beyond the old p99.9")
        lines, failed = report(old, ports_document(port_row(p99=200.0)), 10)
        self.assertTrue(failed)
        self.assertEqual(sum("slower" in line for line in lines), 2)
        self.assertFalse(report(old, ports_document(port_row(p99=50.0)), 0)[1])

    def test_what_is_wrong_with_rows_between_ports_is_named(self):
        cases = {"direction": lambda bad: bad["ports"][0].pop("direction"),
                 "throughput_mpps": lambda bad: bad["ports"][0].update(throughput_mpps="5"),
                 "p99": lambda bad: bad["ports"][0]["latency"][0]["us"].pop("p99"),
                 "resolution": lambda bad: bad["measurement"].pop("resolution"),
                 "two rows": lambda bad: bad["ports"].append(port_row())}
        for expected, spoil in cases.items():
            bad = ports_document(port_row())
            spoil(bad)
            self.assertIn(expected, check(bad) or "", expected)


class Again(unittest.TestCase):
    """Programs that stand in for packet_rate and port_trial: what they are told, and what is kept of it."""

    PACKET_RATE = """#!/usr/bin/python3
import json, sys
words = sys.argv[1:]
open("words", "w").write(" ".join(words))
open(words[words.index("--json") + 1], "w").write(open("old.json").read())
"""
    PORT_TRIAL = """#!/usr/bin/python3
import json, sys
open("words", "w").write(" ".join(sys.argv[1:]))
print(json.dumps({"machine": {}, "versions": {}, "links": [1000, 1000]}), flush=True)
for line in sys.stdin:
    direction, size, mpps, seconds, *_ = line.split()
    sent = min(float(mpps), 0.05) * 1e6 * float(seconds)
    print(json.dumps({"error": "the gateway has gone"} if size == "512" else {
        "sent": float(mpps) * 1e6 * float(seconds), "received": sent, "seconds": float(seconds),
        "latency_us": dict.fromkeys(("p50", "p90", "p99", "p999", "max"), 7.0)}), flush=True)
"""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "benchmarks").mkdir()
        for name, text in (("packet_rate", self.PACKET_RATE), ("port_trial", self.PORT_TRIAL)):
            program = self.folder / "benchmarks" / name
            program.write_text(text)
            program.chmod(0o755)

    def bench(self, *words):
        return subprocess.run([sys.executable, ROOT / "benchmarks/bench.py", *words], cwd=self.folder, text=True,
                              capture_output=True, env={**os.environ, "CULVERT_BENCH_BUILD": str(self.folder)})

    def told(self, **old):
        (self.folder / "old.json").write_text(json.dumps({**document(row()), **old}))
        ended = self.bench("--compare", "old.json")
        self.assertEqual(ended.returncode, 0, ended.stderr)
        return (self.folder / "words").read_text()

    def test_rows_are_measured_again_as_they_were(self):
        words = self.told(measurement={"repeats": 3, "seconds": 0.2}, machine={"huge_pages": False})
        for expected in ("--repeats 3", "--seconds 0.2", "--no-huge", "--only aes128gcm16/out/64/1/10/1"):
            self.assertIn(expected, words)
        self.assertNotIn("--no-huge", self.told(machine={"huge_pages": True}))

    def test_a_trial_that_fails_leaves_the_rows_before_it(self):
        ended = self.bench("--ports", "a,b", "--directions", "out", "--sizes", "1420,512", "--seconds", "1",
                           "--json", "ports.json")
        self.assertEqual(ended.returncode, 2)
        self.assertIn("the gateway has gone; 1 of 2 rows are in ports.json", ended.stderr)
        kept = load(self.folder / "ports.json")
        [found] = kept["ports"]
        self.assertGreater(found["throughput_mpps"], 0.0495)
        self.assertIsNone(kept["measurement"]["rate"])
        self.assertEqual(kept["links"], [1000, 1000])

    def test_what_cannot_be_searched_by_is_refused(self):
        for words in (("--resolution", "0"), ("--rate", "0")):
            self.assertEqual(self.bench("--ports", "a,b", *words).returncode, 2)


class Summary(unittest.TestCase):
    def test_it_is_directions_by_sizes_of_the_ordinary_rows(self):
        lines = as_text([row(mpps=7.5), row(size=1420, mpps=12.0), row(direction="in", sas=1024),
                         row(suite="aes256gcm16", mpps=1.0), row(policies=1000, mpps=1.0),
                         row(workers=2, mpps=1.0)])
        self.assertEqual([line.split() for line in lines[1:]],
                         [["efficiency", "64", "B", "512", "B", "1420", "B", "IMIX"],
                          ["outbound,", "1", "SA", "0.5", "0.8"],
                          ["inbound,", "1", "024", "SAs", "0.67"]])


class Page(html.parser.HTMLParser):
    """What stands in the file: whether its tags are balanced, its charts, what it fetches."""

    VOID = {"meta", "path", "rect"}

    def __init__(self, text):
        super().__init__()
        self.open, self.charts, self.fetched, self.text = [], 0, [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.charts += tag == "svg"
        self.fetched += [value for name, value in attributes if name in ("src", "href")]
        self.fetched += [tag] if tag in ("script", "link", "img") else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_data(self, data):
        self.text += data


FULL = document(
    row(), row(direction="in"), row(sas=1024), row(size="imix"), row(sas=65536, mpps=0.5, spread=0.1),
    row(policies=10000), row(suite="aes128gcm16 cold flows", mpps=0.0004, spread=0.0001),
    row(suite="aes128gcm16 window 64", direction="in"),
    row(suite="aes128gcm16 window 65536", direction="in"),
    row(suite="aes128gcm16 flood of replays", direction="in", mpps=0.9, spread=0.1, floor=1.2),
    row(suite="aes256-sha384", size="imix"), row(sas=1024, workers=2, mpps=19.0, floor=30.0))


class Report(unittest.TestCase):
    def test_it_is_one_sound_file_that_fetches_nothing(self):
        seen = Page(page(FULL))
        self.assertEqual(seen.open, [])
        self.assertEqual(seen.fetched, [])

    def test_each_theme_has_its_chart(self):
        self.assertEqual(Page(page(FULL)).charts, 7)

    def test_a_theme_with_nothing_to_compare_has_none(self):
        self.assertEqual(Page(page(document(row()))).charts, 0)

    def test_every_row_stands_in_it_with_its_floor(self):
        text = Page(page(FULL)).text
        for result in FULL["results"]:
            self.assertIn(result["suite"], text)
        self.assertIn("0.0004", text)
        self.assertIn("a <processor> & more", text)  # escaped in the file, whole when read

    def test_stages_memory_and_skipped_rows_are_said(self):
        full = copy.deepcopy(FULL)
        full["memory"] = [{"direction": "in", "sas": 65536, "policies": 10, "bytes_per_sa": 2048.0,
                           "bytes_per_policy": 0.0}]
        full["skipped"] = [{"row": "aes128gcm16/in/64/1000000/10/1", "reason": "8 MiB of memory"}]
        full["in_ordinary_pages"] = ["aes128gcm16/out/64/1000000/1000009/1"]
        full["stages"] = [{"row": "aes128gcm16/in/64/1/10/1",
                           "nanoseconds": dict.fromkeys(("rx", "classify", "lookup", "header", "crypto",
                                                         "check", "forward", "tx", "loop"), 77.7),
                           "worker_nanoseconds": 88.8, "floor_io_nanoseconds": 11.1,
                           "floor_crypto_nanoseconds": 22.2}]
        text = Page(page(full)).text
        for figure in ("77.7", "88.8", "11.1", "22.2"):
            self.assertIn(figure, text)
        self.assertIn("134", text)  # megabytes of all
        self.assertIn("8 MiB of memory", text)
        self.assertIn("aes128gcm16/out/64/1000000/1000009/1", text)


if __name__ == "__main__":
    unittest.main()
