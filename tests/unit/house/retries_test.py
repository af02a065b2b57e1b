#!/usr/bin/python3
"""What scripts/test tries again when it has failed, and what it never does (tests/tools/retries.py); and what it
says of stages that it did not run."""
import contextlib
import importlib.util
import io
import json
import os
import pathlib
import signal
import sys
import tempfile
import unittest
from unittest import mock

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests/tools"))

import retries  # noqa: E402
import run_tests  # noqa: E402

SCENARIO = """
import sys
sys.path.insert(0, {scenarios!r})
from harness.capture import WireContents

def test_wire():
    wire = WireContents([])
    wire.kinds["clear:protocol-17"] = 3
    assert wire.unexpected() == {{}} and wire.inner_addresses_seen == 0

def test_address():
    wire = WireContents([])
    wire.inner_addresses_seen = 1
    assert wire.unexpected() == {{}} and wire.inner_addresses_seen == 0

def test_expected():
    wire = WireContents([])
    wire.inner_addresses_seen = 19
    assert wire.inner_addresses_seen == 20

def test_time():
    wire, waited, log = WireContents([]), 3, "ERROR: " "AddressSanitizer: CRASHED: culvert-ike"
    assert wire.unexpected() == {{}}
    assert wire.inner_addresses_seen == 0 and wire.protected() < 1 and waited < 2, "CULVERT_TEST_SEED=5 was drawn"
"""


class Findings(unittest.TestCase):
    def finding(self, text="", status=0):
        return retries.finding(retries.Failure("it", text, status))

    def test_what_takes_time_may_be_tried_again(self):
        for text in ("stall_test.cpp:91: FAILED:\n  CHECK( longest < 100us )", "waited 5 s for a reload",
                     "status 1", "status -15", "the daemon said: finding nothing"):
            self.assertIsNone(self.finding(text, 1), text)
        for ended_by_others in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            self.assertIsNone(self.finding(status=-ended_by_others))

    def test_a_crash_may_not(self):
        for fault in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGSYS):
            self.assertIsNotNone(self.finding(status=-fault), fault)
        self.assertIsNotNone(self.finding("CommandFailed: build/cli/culvert status: status -11\n"))
        self.assertIsNotNone(self.finding("failed on teardown with \"AssertionError: CRASHED: culvert-ike by SIGABRT\""))

    def test_a_sanitizers_report_may_not(self):
        for said in ("==7==ERROR: AddressSanitizer: heap-use-after-free on address",
                     "WARNING: ThreadSanitizer: data race (pid=7)", "==7==ERROR: LeakSanitizer: detected memory leaks",
                     "sad.cpp:17:4: runtime error: left shift of negative value"):
            self.assertIsNotNone(self.finding(said, 1), said)

    def test_what_a_test_calls_a_finding_may_not(self):
        header = (ROOT / "tests/unit/finding.hpp").read_text()
        said = header.split('kRace = "')[1].split('"')[0]
        self.assertIsNotNone(self.finding(f"spd_test.cpp:441: FAILED:\n  CHECK( wrong == 0 )\nwith message:\n  {said}\n", 1))


class Units(unittest.TestCase):
    """Against a meson that says what the test wants it to."""

    def run_tests(self, rounds):
        """What is counted when meson's runs say `rounds`, and how the later ones are asked for."""
        asked = []

        def meson(command, environment=None):
            asked.append((command[8:], environment))
            lines = rounds[len(asked) - 1]
            (build / "meson-logs/testlog.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
            return 0

        with tempfile.TemporaryDirectory() as folder, mock.patch.object(run_tests, "run", meson), \
                contextlib.redirect_stdout(io.StringIO()):
            build = pathlib.Path(folder)
            (build / "meson-logs").mkdir()
            return run_tests.run_meson_tests(build, {"OF": "all"}), asked[1:]

    @staticmethod
    def failed(name="culvert / spd", text="CULVERT_TEST_SEED=77\nspd_test.cpp:9: FAILED:\n", status=1, result="FAIL"):
        return {"name": name, "result": result, "returncode": status, "stdout": text}

    @staticmethod
    def passed(name="culvert / spd"):
        return {"name": name, "result": "OK", "returncode": 0, "stdout": ""}

    def test_a_random_test_is_tried_again_with_the_seed_that_failed(self):
        tally, again = self.run_tests([[self.failed(), self.passed("other")], [self.failed()]])
        self.assertEqual(again, [(["spd"], {"OF": "all", "CULVERT_TEST_SEED": "77"})])
        self.assertEqual((tally.passed, tally.failed, tally.unsteady), (1, 1, []))

    def test_what_passes_then_is_named_as_unsteady(self):
        tally, again = self.run_tests([[self.failed(text="")], [self.passed()]])
        self.assertEqual(again, [(["spd"], {"OF": "all"})])
        self.assertEqual((tally.passed, tally.failed), (1, 0))
        self.assertEqual(tally.unsteady, ["culvert / spd: FAIL"])

    def test_a_crash_fails_at_once_and_what_took_too_long_does_not(self):
        tally, again = self.run_tests([[self.failed(status=-6)]])
        self.assertEqual((again, tally.failed), ([], 1))
        tally, again = self.run_tests([[self.failed(status=-15, result="TIMEOUT")], [self.passed()]])
        self.assertEqual((len(again), tally.failed), (1, 0))

    def test_many_failures_are_no_accident(self):
        tally, again = self.run_tests([[self.failed(f"culvert / {number}") for number in range(6)]])
        self.assertEqual((again, tally.failed), ([], 6))


@unittest.skipUnless(importlib.util.find_spec("pytest"), "pytest is not installed (package python3-pytest)")
class Scenarios(unittest.TestCase):
    """By pytest itself: what it says of a claim is what the rule reads."""

    def test_what_was_on_the_wire_is_not_tried_again_and_what_took_time_is(self):
        with tempfile.TemporaryDirectory() as folder, \
                mock.patch.object(run_tests, "BUILD", pathlib.Path(folder)), \
                mock.patch.object(run_tests, "run", self.quietly):
            file = pathlib.Path(folder) / "test_some.py"
            file.write_text(SCENARIO.format(scenarios=str(ROOT / "tests/scenarios")))
            report = run_tests.run_pytest("some", what=str(file))
            again = mock.Mock(return_value=run_tests.ScenarioReport(run_tests.Tally(passed=1), []))
            with mock.patch.object(run_tests, "run_pytest", again), contextlib.redirect_stdout(io.StringIO()):
                tally = run_tests.tried_alone(report)
        tried = [name.split("::")[1] for name in again.call_args.kwargs["what"]]
        self.assertEqual(tried, ["test_expected", "test_time"])
        self.assertEqual(again.call_args.kwargs["environment"], {"CULVERT_TEST_SEED": "5"})
        self.assertEqual((tally.passed, tally.failed), (1, 2))
        self.assertEqual([name.split("::")[1] for name in tally.failures], ["test_wire", "test_address"])
        self.assertEqual([name.split("::")[1] for name in tally.unsteady], ["test_expected", "test_time"])

    @staticmethod
    def quietly(command, environment=None):
        return run_tests.subprocess.run([str(word) for word in command], capture_output=True,
                                        env={**os.environ, **(environment or {})}, check=False).returncode


class Summary(unittest.TestCase):
    def lines_of(self, *stages):
        passed = {name: (lambda: run_tests.Tally(passed=2)) for name in run_tests.STAGES}
        results = [run_tests.Result("units", run_tests.Tally(passed=2), 1)]
        with mock.patch.object(run_tests, "STAGES", passed), \
                mock.patch.object(run_tests, "all_default_stages", lambda: results), \
                mock.patch.object(sys, "argv", ["run_tests.py", *stages]), \
                contextlib.redirect_stdout(io.StringIO()) as said:
            self.assertEqual(run_tests.main(), 0)
        return said.getvalue().split("==== summary\n")[1].splitlines()

    def test_a_run_of_all_says_what_it_left_out(self):
        first, *_, last = self.lines_of()
        self.assertEqual((first, last), ("not run: vm, lint, ipsec-mb-2", "2 passed, 0 failed"))

    def test_who_names_stages_knows_what_he_left_out(self):
        self.assertNotIn("not run", "\n".join(self.lines_of("units")))


if __name__ == "__main__":
    unittest.main()
