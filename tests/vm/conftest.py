"""Fixtures of the stage `vm`. Root, the built daemons and qemu are needed; see README.md."""

import os
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "scenarios")]

from harness.testbed import Testbed, build_directory  # noqa: E402
from machines.image import Image, Unavailable  # noqa: E402


def pytest_collection_modifyitems(items):
    for item in items:
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="virtual machines need root's network namespaces"))
    # All with one peer, then all with the other: each starts once.
    items.sort(key=lambda item: getattr(item, "callspec", None) is not None
               and item.callspec.params.get("peer") == "libreswan")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """The stage has a budget (tests/tools/run_tests.py, which counts what is left out as a failure);
    who runs a file has none."""
    ends = float(os.environ.get("CULVERT_VM_TESTS_END", "inf"))
    if time.time() > ends:
        pytest.skip("not run: the stage's time is over")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the end of every log: the daemons', the machine's, its guests'."""
    outcome = yield
    report = outcome.get_result()
    bed = getattr(item.module, "current_bed", None)
    if report.failed and bed is not None:
        for name, text in (bed.describe() | bed.logs()).items():
            report.sections.append((name, "\n".join(text.splitlines()[-30:])))


def had(make, *arguments):
    """What `make` makes, or the test is skipped with the reason why it cannot be had here."""
    try:
        return make(*arguments)
    except Unavailable as why:
        pytest.skip(str(why))


@pytest.fixture(scope="session")
def cache():
    """Kept between runs: the kernel, its modules, programs that are unpacked, not installed."""
    for program in ("dataplane/culvert-dataplane", "ike/culvert-ike", "cli/culvert"):
        if not (build_directory() / program).exists():
            pytest.exit(f"{build_directory() / program} is not built: run scripts/setup", 2)
    return build_directory() / "vm"


@pytest.fixture(scope="session")
def image(cache):
    return had(Image.make, cache)


@pytest.fixture(scope="module")
def bed(request):
    """Namespaces and clients, shared by a file's tests as the machine among them is."""
    testbed = request.module.current_bed = Testbed()
    testbed.describe = dict  # what else a failure's report should show
    yield testbed
    testbed.close()
