"""Fixtures of the scenario suite. Root and the built daemons are needed; see README.md."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.configuration import SIDE_A, SIDE_B, TunnelOptions  # noqa: E402
from harness.impairment import relayed  # noqa: E402
from harness.shell import Process  # noqa: E402
from harness.testbed import Testbed, build_directory  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: measures time; run with nothing else beside it")
    config.addinivalue_line("markers", "long: ten seconds or more; begun first, so that none is last")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    for item in items:
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="network namespaces need root"))
        if "tunnel_bed" in item.fixturenames:  # what shares a testbed runs in one process, in order
            item.add_marker(pytest.mark.xdist_group(item.module.__name__))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed scenario shows the end of every log of its testbed."""
    outcome = yield
    report = outcome.get_result()
    if not report.failed:
        return
    for bed in item.funcargs.values():
        if isinstance(bed, Testbed):
            for name, text in bed.logs().items():
                tail = "\n".join(text.splitlines()[-30:])
                report.sections.append((name, tail))


@pytest.fixture(scope="session", autouse=True)
def _daemons_are_built():
    for program in ("dataplane/culvert-dataplane", "ike/culvert-ike", "cli/culvert"):
        if not (build_directory() / program).exists():
            pytest.exit(f"{build_directory() / program} is not built: run scripts/setup", 2)


@pytest.fixture(autouse=True)
def _nothing_crashed():
    """First of a test's fixtures, so that it looks when the others have ended their daemons. What it says is
    known to tests/tools/retries.py: a crash is no matter of time."""
    yield
    crashed = Process.crashed()
    assert not crashed, f"CRASHED: {', '.join(crashed)}"


@pytest.fixture
def bed():
    """Namespaces and clients without any gateway."""
    testbed = Testbed()
    yield testbed
    testbed.close()


@pytest.fixture
def relay(bed):
    with relayed(bed) as relay:
        yield relay


@pytest.fixture
def side_a():
    return SIDE_A


@pytest.fixture
def side_b():
    return SIDE_B


@pytest.fixture(scope="module")
def tunnel_bed():
    """Two gateways with an established tunnel for both families, shared by a file's tests."""
    testbed = Testbed()
    testbed.two_gateways(TunnelOptions(inner_families=(4, 6)))
    testbed.gateways["a"].culvert("initiate", "net")
    testbed.gateways["b"].wait_for_child()
    yield testbed
    testbed.close()
