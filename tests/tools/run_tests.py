#!/usr/bin/python3
"""Runs the suite's stages, each timed, and adds up what they say.

The last line of output is `N passed, N failed` (and `, N skipped` when there are any).
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree
from dataclasses import dataclass
from pathlib import Path

import newer_ipsec_mb
import retries

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BUILD", REPOSITORY / "build")).resolve()
SANITIZED_BUILD = REPOSITORY / "build-sanitized"
THREAD_BUILD = REPOSITORY / "build-threads"
LINT_BUILD = REPOSITORY / "build-lint"
IPSEC_MB_BUILD = REPOSITORY / "build-ipsec-mb-2"
FUZZ_SECONDS = 10
WORKER_STORM_FRAMES = 1_000_000
VM_SECONDS = 360  # all in all
VM_BEGIN_SECONDS = 315  # when no further test of them begins: one may last half a minute
TIMED_OUT = 124  # as timeout(1) says it
# Half of a scenario is waiting: two of them for each core keep it busy without starving anyone.
SCENARIO_PROCESSES = 2 * min(os.cpu_count() or 1, 8)

# Leaks count only where a test frees what it allocates: DPDK keeps its memory to the end.
SANITIZER_ENVIRONMENT = {
    # Five callers of each allocation instead of thirty; whoever replays a finding may ask for more.
    "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:strict_string_checks=1:malloc_context_size=5",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}


@dataclass
class Tally:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    reasons: list = dataclasses.field(default_factory=list)  # why skipped, each once
    failures: list = dataclasses.field(default_factory=list)  # what failed, by name
    unsteady: list = dataclasses.field(default_factory=list)  # what failed beside others, not alone

    def __add__(self, other):
        return Tally(self.passed + other.passed, self.failed + other.failed,
                     self.skipped + other.skipped,
                     list(dict.fromkeys([*self.reasons, *other.reasons])),
                     [*self.failures, *other.failures], [*self.unsteady, *other.unsteady])

    def __str__(self):
        text = f"{self.passed} passed, {self.failed} failed"
        return text + (f", {self.skipped} skipped" if self.skipped else "")


def outcome(name, good):
    """Of one program that says nothing of its cases."""
    return Tally(passed=1) if good else Tally(failed=1, failures=[name])


def run(command, environment=None):
    """Runs it in the repository with its output on ours; its exit status."""
    words = [str(word) for word in command]
    print("+", " ".join(words), flush=True)
    return subprocess.run(words, cwd=REPOSITORY, stdin=subprocess.DEVNULL,
                          env={**os.environ, **(environment or {})}).returncode


# ---- unit tests -----------------------------------------------------------------------------------

_ALL_PASSED = re.compile(r"All tests passed \(\d+ assertions? in (\d+) test cases?\)")
_FAILED_AT = re.compile(r"^(\S+:\d+): FAILED", re.MULTILINE)
_SOME_FAILED = re.compile(r"test cases: *(\d+)(?: \| *(\d+) passed)?(?: \| *(\d+) failed)?")


def count_cases(result):
    """Catch2's own count of test cases in one line of meson's testlog.json; else the test is one."""
    output = result.get("stdout") or ""
    good = result["result"] in ("OK", "EXPECTEDFAIL")
    if result["result"] == "SKIP":
        return Tally(skipped=1)
    passed = _ALL_PASSED.search(output)
    if good:
        return Tally(passed=int(passed.group(1)) if passed else 1)
    places = ", ".join(dict.fromkeys(_FAILED_AT.findall(output))) or result["result"]
    failures = [f"{result['name']}: {places}"]
    summary = _SOME_FAILED.search(output)
    if summary and summary.group(3):
        return Tally(passed=int(summary.group(2) or 0), failed=int(summary.group(3)),
                     failures=failures)
    return Tally(failed=1, failures=failures)


def run_meson_tests(build, environment=None, timeout_factor=1, names=()):
    """What the machine's other work can explain is tried again, one by one (tests/tools/retries.py)."""
    def results_of(names, *options, drawn=None):
        log = build / "meson-logs/testlog.json"
        log.unlink(missing_ok=True)
        run(["meson", "test", "-C", build, "--no-rebuild", "--print-errorlogs",
             "--timeout-multiplier", timeout_factor, *options, *names], {**(environment or {}), **(drawn or {})})
        lines = log.read_text().splitlines() if log.exists() else []
        return {result["name"]: result for result in map(json.loads, lines)}

    results = results_of(names)
    if not results:
        print(f"{build.name}: meson ran no test", flush=True)
        return Tally(failed=1)
    tallies = {name: count_cases(result) for name, result in results.items()}
    failures = [as_failure(results[name]) for name, tally in tallies.items() if tally.failed]
    for failure in retries.may_be_tried_again(failures):
        again = results_of([short_name(failure.name)], drawn=retries.seed_of(failure.text))
        before = tallies[failure.name]
        tallies[failure.name] = count_cases(again[failure.name]) if failure.name in again else before
        if not tallies[failure.name].failed:
            tallies[failure.name].unsteady = before.failures
    return sum(tallies.values(), Tally())


def as_failure(result):
    """Of one line of meson's testlog.json. Who took too long was ended by meson's signal, not his own."""
    status = 0 if result["result"] == "TIMEOUT" else result.get("returncode") or 0
    return retries.Failure(result["name"], f"{result.get('stdout') or ''}\n{result.get('stderr') or ''}", status)


def short_name(name):
    """As meson takes it, of `project:suite / name` as it writes it."""
    return name.rsplit(" / ", 1)[-1]


def units():
    return run_meson_tests(BUILD)


# ---- sanitizers -----------------------------------------------------------------------------------


def set_up(build, compiler, options):
    if (build / "build.ninja").exists():
        return True
    ccache = ["ccache"] if subprocess.run(["which", "ccache"], capture_output=True).returncode == 0 \
        else []
    return run(["meson", "setup", build, *options], {"CXX": " ".join(ccache + [compiler])}) == 0


def test_programs(build):
    """What the unit tests run, as ninja names it."""
    listed = subprocess.run(["meson", "introspect", "--tests", str(build)], cwd=REPOSITORY,
                            capture_output=True, text=True, check=True)
    programs = {test["cmd"][0] for test in json.loads(listed.stdout)}
    return sorted(str(Path(program).relative_to(build)) for program in programs
                  if program.startswith(str(build)))


# unity: half of the compiler's time is headers, read once for twenty sources here.
# Warnings are the main build's business.
INSTRUMENTED = ("-Db_lundef=false", "-Doptimization=1", "-Dunity=on", "-Dunity_size=20", "-Dwerror=false")


def ninja(build, *targets):
    """One compiler a processor: ninja would start two more, and one wants up to a gigabyte of memory."""
    return run(["ninja", "-C", build, "-j", os.cpu_count() or 1, *targets]) == 0


def set_up_sanitized():
    """One clang build with ASan and UBSan for the units, the storms and the fuzzers."""
    # fuzzer-no-link: libFuzzer steers by the coverage of our libraries, not only of its target.
    return set_up(SANITIZED_BUILD, "clang++-19", [
        "-Dfuzzers=true", "-Db_sanitize=address,undefined", *INSTRUMENTED,
        "-Dcpp_args=-fno-sanitize-recover=all -fsanitize=fuzzer-no-link -gline-tables-only"])


def build_sanitized():
    """What the stages `sanitizers` and `fuzz` run."""
    return set_up_sanitized() and ninja(SANITIZED_BUILD, *fuzz_programs(), *test_programs(SANITIZED_BUILD))


def sanitizers():
    """ASan and UBSan over the units, storms of bad input among them."""
    if not build_sanitized():
        return Tally(failed=1)
    with concurrent.futures.ThreadPoolExecutor() as beside:  # one long process beside many short
        storm = beside.submit(worker_storm)
        units_tally = run_meson_tests(SANITIZED_BUILD, SANITIZER_ENVIRONMENT, timeout_factor=10)
        return units_tally + storm.result()


def worker_storm():
    """A million bad frames of each kind through a whole worker; the units run a small one."""
    storm = SANITIZED_BUILD / "tests/unit/dataplane/worker/test_worker_storm"
    return outcome(storm.name, run([storm, WORKER_STORM_FRAMES], SANITIZER_ENVIRONMENT) == 0)


def churn():
    """The packet daemon with ASan and UBSan, thousands of SAs, policies and routes changed (at no certain rate)."""
    if not set_up_sanitized() or not ninja(SANITIZED_BUILD, "dataplane/culvert-dataplane", "cli/culvert"):
        return Tally(failed=1)
    report = run_pytest("churn", "-k", "test_churn", environment={
        # Behind the daemon's own seccomp filter no symbolizer can be started.
        "ASAN_OPTIONS": SANITIZER_ENVIRONMENT["ASAN_OPTIONS"] + ":symbolize=0",
        "UBSAN_OPTIONS": SANITIZER_ENVIRONMENT["UBSAN_OPTIONS"],
        "CULVERT_CHURN_BUILD": str(SANITIZED_BUILD), "CULVERT_CHURN_SECONDS": "15"})
    return report.tally


# What threads and processes of ours share: the tables with their one writer, alone and each with a worker's
# whole way beside them, the channel's rings.
THREADED_PROGRAMS = {
    "tests/unit/dataplane/race/test_tables_race": ["300"],
    "tests/unit/dataplane/tables/test_dataplane_tables": ["[threads]"],
    "tests/unit/dataplane/chaos/test_chaos": ["worker:*"],
    "tests/unit/channel/test_channel": ["ring:*"],
    # Two workers on one SA. Not draining: on x86 DPDK's rings order by plain stores, so that TSan takes whatever
    # passes through one for a race.
    "tests/unit/dataplane/pipeline/test_between_workers": ["[threads]"],
}
# Of what is not instrumented, each with its reason.
THREAD_SUPPRESSIONS = REPOSITORY / "tests/unit/dataplane/race/dpdk.supp"


def races():
    """TSan over the programs whose threads share memory; a build of its own, of these only."""
    if not set_up(THREAD_BUILD, "clang++-19", [
            "-Db_sanitize=thread", *INSTRUMENTED, "-Dcpp_args=-gline-tables-only"]):
        return Tally(failed=1)
    if not ninja(THREAD_BUILD, *THREADED_PROGRAMS):
        return Tally(failed=1)
    tally = Tally()
    for program, arguments in THREADED_PROGRAMS.items():
        good = run([THREAD_BUILD / program, *arguments],
                   {"TSAN_OPTIONS": f"halt_on_error=1 suppressions={THREAD_SUPPRESSIONS}"}) == 0
        tally += outcome(program, good)
    return tally


# ---- fuzzers --------------------------------------------------------------------------------------


def fuzzers_of(build):
    return sorted(path for path in (build / "tests/fuzz").glob("fuzz_*")
                  if path.is_file() and os.access(path, os.X_OK))


def fuzz_one(program):
    """The corpus in the tree first, then FUZZ_SECONDS of new inputs; a finding is kept and fails."""
    name = program.name.removeprefix("fuzz_")
    corpus = REPOSITORY / "tests/fuzz/corpus" / name
    grown = SANITIZED_BUILD / "corpus" / name
    findings = SANITIZED_BUILD / "findings"
    grown.mkdir(parents=True, exist_ok=True)
    findings.mkdir(exist_ok=True)
    # Of the same tree the suite says the same; to find something new is for longer runs.
    command = [program, f"-max_total_time={FUZZ_SECONDS}", "-seed=1", "-timeout=10", "-rss_limit_mb=4096",
               "-print_final_stats=1", "-verbosity=0", f"-artifact_prefix={findings}/{name}-", grown]
    if corpus.is_dir():
        command.append(corpus)
    good = run(command, SANITIZER_ENVIRONMENT) == 0
    print(f"{program.name}: {'no finding' if good else f'FINDING, see {findings}'}", flush=True)
    return outcome(program.name, good)


def fuzz():
    """Each libFuzzer target for a bounded time."""
    if not build_sanitized():
        return Tally(failed=1)
    if not fuzz_programs():
        print("there is no fuzzer in the build", flush=True)
        return Tally(failed=1)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as side_by_side:
        return sum(side_by_side.map(fuzz_one, fuzzers_of(SANITIZED_BUILD)), Tally())


def fuzz_programs():
    """The fuzzers, as ninja names them."""
    listed = subprocess.run(["meson", "introspect", "--targets", str(SANITIZED_BUILD)], cwd=REPOSITORY,
                            capture_output=True, text=True, check=True)
    return [str(Path(target["filename"][0]).relative_to(SANITIZED_BUILD))
            for target in json.loads(listed.stdout)
            if target["type"] == "executable" and target["name"].startswith("fuzz_")]


# ---- scenarios ------------------------------------------------------------------------------------


@dataclass
class ScenarioReport:
    tally: Tally
    failures: list  # retries.Failure, named as pytest takes them


def run_pytest(name, *options, what="tests/scenarios", environment=None, seconds=0, ending=20):
    """One pytest run over the scenarios, its output on ours; what its report counts. `ending` seconds
    before it has lasted `seconds` it is interrupted, takes down what it made, and has failed."""
    report = BUILD / "scenarios" / f"{name}.xml"
    report.parent.mkdir(exist_ok=True)
    report.unlink(missing_ok=True)
    bound = ["timeout", "--signal=INT", f"--kill-after={ending}", seconds - ending] if seconds else []
    status = run([*bound, "/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=5",
         "-o", "junit_family=xunit1", f"--junitxml={report}", *options,
         *([what] if isinstance(what, str) else what)],
        {"CULVERT_BUILD": str(BUILD), **(environment or {})})
    if not report.exists():
        return ScenarioReport(Tally(failed=1), [])
    suite = xml.etree.ElementTree.parse(report).getroot().find("testsuite")
    failed = int(suite.get("failures")) + int(suite.get("errors"))
    skipped = int(suite.get("skipped"))
    passed = int(suite.get("tests")) - failed - skipped
    # The claim alone: the text below it has the test's source, which may name what it looks for.
    failures = [retries.Failure(f"{case.get('file')}::{case.get('name')}", broken.get("message", ""))
                for case in suite.iter("testcase") for broken in case if broken.tag in ("failure", "error")]
    names = [failure.name for failure in failures]
    reasons = [skip.get("message") for skip in suite.iter("skipped")]
    cut_short = bool(seconds) and status == TIMED_OUT
    return ScenarioReport(Tally(passed, failed, skipped, list(dict.fromkeys(reasons)), names)
                          + Tally(failed=int(cut_short or not passed + failed + skipped)), failures)


def scenarios(before_alone=lambda: None):
    """The real daemons in network namespaces, by pytest: side by side, then what measures time."""
    together = run_pytest("together", "-n", SCENARIO_PROCESSES, "--dist", "loadgroup",
                          "-m", "not alone")
    before_alone()
    alone = run_pytest("alone", "-m", "alone")
    return tried_alone(together) + alone.tally


def tried_alone(report):
    """What failed among many scenarios side by side may be the crowd's: if it may (tests/tools/retries.py)
    it is tried again with the machine to itself, and named as unsteady when it passes there."""
    if len(report.failures) != report.tally.failed:
        return report.tally
    crowded = retries.may_be_tried_again(report.failures)
    names = list(dict.fromkeys(failure.name for failure in crowded))
    findings = [failure.name for failure in report.failures if failure not in crowded]
    if not names:
        return report.tally
    drawn = {key: value for failure in crowded for key, value in retries.seed_of(failure.text).items()}
    again = run_pytest("again", what=names, environment=drawn)
    failed = {failure.name for failure in again.failures}
    for name in names:
        print(f"{name}: {'failed twice' if name in failed else 'UNSTEADY, passes alone'}")
    unsteady = [name for name in names if name not in failed]
    return Tally(report.tally.passed, len(findings), report.tally.skipped, failures=findings,
                 unsteady=unsteady) + again.tally


def vm():
    """NICs on vfio-pci and a Linux kernel's ESP in virtual machines (six minutes, so only when named)"""
    # Side by side, each with a machine of its own: a kernel's has one processor, and all wait much.
    parts = ("nics", "strongswan", "libreswan")
    budget = {"CULVERT_VM_TESTS_END": str(time.time() + VM_BEGIN_SECONDS)}

    def run_part(part):
        return run_pytest(f"vm-{part}", "-k", part, what="tests/vm", environment=budget,
                          seconds=VM_SECONDS).tally

    with concurrent.futures.ThreadPoolExecutor(len(parts)) as side_by_side:
        tally = sum(side_by_side.map(run_part, parts), Tally())
    not_run = [reason for reason in tally.reasons if reason.startswith("not run")]
    return tally + Tally(failed=1) if not_run else tally


# ---- another library ------------------------------------------------------------------------------

# Whatever touches IPsec-MB: its calls, a packet's way, the daemons and the packet-rate suite.
IPSEC_MB_TESTS = {"crypto": "crypto/test_crypto", "pipeline": "dataplane/pipeline/test_pipeline",
                  "worker_esp": "dataplane/worker/test_worker_esp"}
IPSEC_MB_SCENARIOS = ("test_engine.py", "test_packet_rate.py::"
                      "test_measured_rows_have_the_shape_that_the_reference_says")
IPSEC_MB_PROGRAMS = ("dataplane/culvert-dataplane", "ike/culvert-ike", "cli/culvert",
                     "benchmarks/packet_rate")


def ipsec_mb_2():
    """what touches IPsec-MB, with 2.x as Debian 13 has it (a build of its own, so only when named)"""
    try:
        root = newer_ipsec_mb.unpacked(BUILD / "ipsec-mb-2")
    except newer_ipsec_mb.Unavailable as why:
        return Tally(skipped=1, reasons=[str(why)])
    tests = [f"tests/unit/{program}" for program in IPSEC_MB_TESTS.values()]
    if not set_up(IPSEC_MB_BUILD, "g++", ["-Dunity=on", "-Dunity_size=8",
                                          *newer_ipsec_mb.meson_options(root)]) \
            or run(["ninja", "-C", IPSEC_MB_BUILD, *tests, *IPSEC_MB_PROGRAMS]) != 0:
        return Tally(failed=1)
    # They fail with another library than this.
    version = {"CULVERT_TEST_IPSEC_MB": newer_ipsec_mb.VERSION}
    units_tally = run_meson_tests(IPSEC_MB_BUILD, version, names=IPSEC_MB_TESTS)
    return units_tally + run_pytest(
        "ipsec-mb-2", what=[f"tests/scenarios/{name}" for name in IPSEC_MB_SCENARIOS],
        environment={"CULVERT_BUILD": str(IPSEC_MB_BUILD), **version}).tally


# ---- lint ----------------------------------------------------------------------------------------


def lint():
    """clang-tidy over every source of ours (minutes, so only when it is named)"""
    # Nothing is built there; the compiler is clang, whose warnings and builtins clang-tidy knows, and
    # every source stands for itself, which the unity builds do not check.
    if not set_up(LINT_BUILD, "clang++-19", ["-Dwerror=false"]):
        return Tally(failed=1)
    rooms = ("wire", "crypto", "config", "channel", "runtime", "dataplane", "ike", "cli")
    commands = json.loads((LINT_BUILD / "compile_commands.json").read_text())
    sources = sorted({source for entry in commands
                      if (source := (LINT_BUILD / entry["file"]).resolve())
                      .relative_to(REPOSITORY).parts[0] in rooms})
    print(f"{len(sources)} sources", flush=True)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as side_by_side:
        good = list(side_by_side.map(lint_one, sources))
    return Tally(passed=sum(good), failed=len(good) - sum(good) if good else 1)


def lint_one(source):
    return run(["clang-tidy-19", "--quiet", "-p", LINT_BUILD, source]) == 0


STAGES = {"units": units, "sanitizers": sanitizers, "fuzz": fuzz, "races": races,
          "scenarios": scenarios, "churn": churn, "vm": vm, "lint": lint,
          "ipsec-mb-2": ipsec_mb_2}
NAMED_ONLY = {"vm", "lint", "ipsec-mb-2"}
DEFAULT_STAGES = [name for name in STAGES if name not in NAMED_ONLY]
# Scenarios wait for timers and kernels more than they compute: these run under them, at the lowest
# priority, when all are asked for.
UNDER_SCENARIOS = ("sanitizers", "fuzz", "races")


@dataclass
class Result:
    stage: str
    tally: Tally
    seconds: float

    def __str__(self):
        return "\n".join([f"{self.stage:12} {self.seconds:6.0f} s   {self.tally}",
                          *[f"{'':24}skipped: {reason}" for reason in self.tally.reasons],
                          *[f"{'':24}failed: {name}" for name in self.tally.failures],
                          *[f"{'':24}UNSTEADY, passed when run alone: {name}" for name in self.tally.unsteady]])


def timed(name, stage):
    print(f"\n==== {name}", flush=True)
    started = time.monotonic()
    tally = stage()
    return Result(name, tally, time.monotonic() - started)


class Underneath:
    """Stages in a process of their own, their output kept until they end."""

    def __init__(self, stages):
        self._stages = stages
        self._report = BUILD / "stages-underneath.json"
        self._report.unlink(missing_ok=True)
        self._output = tempfile.TemporaryFile("w+", errors="replace")
        self._process = subprocess.Popen(
            ["nice", "-n", "19", sys.executable, __file__, *stages, "--report", self._report],
            cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT,
            start_new_session=True)
        self._results = None

    def stop(self):
        """Ends what an interrupted run would leave behind."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)

    def results(self):
        """Waits for its end, shows its output; a Result a stage."""
        if self._results is None:
            self._process.wait()
            self._output.seek(0)
            print(self._output.read(), flush=True)
            if self._report.exists():
                self._results = [Result(entry["stage"], Tally(**entry["tally"]), entry["seconds"])
                                 for entry in json.loads(self._report.read_text())]
            else:
                self._results = [Result(name, Tally(failed=1), 0) for name in self._stages]
        return self._results


def all_default_stages():
    """In the order and the company that take least time."""
    results = [timed("units", units)]
    built = timed("sanitized build", lambda: Tally(failed=0 if build_sanitized() else 1))
    results.append(built)
    if built.tally.failed:
        return [*results, timed("scenarios", scenarios)]
    underneath = Underneath(UNDER_SCENARIOS)
    try:
        beside = timed("scenarios", lambda: scenarios(before_alone=underneath.results))
        return [*results, *underneath.results(), beside, timed("churn", churn)]
    finally:
        underneath.stop()


def write_report(path, results):
    path.write_text(json.dumps([dataclasses.asdict(result) for result in results]))


def main():
    parser = argparse.ArgumentParser(prog="scripts/test", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="STAGE",
                        help=f"of {', '.join(STAGES)}; none: {', '.join(DEFAULT_STAGES)}")
    parser.add_argument("--list", action="store_true", help="name the stages and stop")
    parser.add_argument("--report", type=Path, metavar="FILE", help="the summary as JSON, too")
    arguments = parser.parse_args()
    if arguments.list:
        for name, stage in STAGES.items():
            print(f"{name:12} {stage.__doc__ or 'the unit tests, no root and no huge pages needed'}")
        return 0
    unknown = [name for name in arguments.stages if name not in STAGES]
    if unknown:
        parser.error(f"no stage {unknown[0]}; there are {', '.join(STAGES)}")

    # What another clone compiled is taken from ccache, whatever its path.
    os.environ.setdefault("CCACHE_BASEDIR", str(REPOSITORY))
    os.environ.setdefault("CCACHE_NOHASHDIR", "1")

    results = ([timed(name, STAGES[name]) for name in arguments.stages] if arguments.stages
               else all_default_stages())
    if arguments.report:
        write_report(arguments.report, results)
    print("\n==== summary")
    if not arguments.stages:  # for who takes the total for all there is
        print(f"not run: {', '.join(name for name in STAGES if name in NAMED_ONLY)}")
    for result in results:
        print(result)
    total = sum((result.tally for result in results), Tally())
    print(total)
    return 1 if total.failed or not total.passed + total.skipped else 0


if __name__ == "__main__":
    sys.exit(main())
