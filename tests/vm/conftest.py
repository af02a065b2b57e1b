"""Fixtures of the stage `vm`. Root, the built daemons and qemu are needed; see README.md."""

import concurrent.futures
import contextlib
import os
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "scenarios")]

from harness.configuration import SIDE_A, SIDE_B  # noqa: E402
from harness.pki import with_certificate  # noqa: E402
from harness.testbed import Testbed, build_directory  # noqa: E402
from machines.image import Image, Unavailable  # noqa: E402
from machines.kernel import KernelGateway  # noqa: E402
from machines.libreswan import Libreswan, unpacked  # noqa: E402
from machines.pair import ESP, IKE, LIBRESWAN, SMALLEST, Pair, Peers, Pki, configured  # noqa: E402
from machines.strongswan import StrongSwan  # noqa: E402


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
    bed = getattr(item, "funcargs", {}).get("bed")
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


@contextlib.contextmanager
def namespaces():
    """The links and the clients of a file, or of all that share a machine."""
    bed = Testbed()
    bed.describe = dict  # what else a failure's report should show
    yield bed
    bed.close()


# ---- a kernel's ESP and what keys it ---------------------------------------------------------------


@pytest.fixture(scope="session")
def bed():
    """Shared by all tests as the machine among them is."""
    with namespaces() as bed:
        yield bed


@pytest.fixture(scope="session")
def kernel_and_pki(image, bed):
    """The certificates are made while the machine starts: half a hundred runs of openssl."""
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        pki = beside.submit(Pki, bed.directory / "pki")
        machine = KernelGateway(image, bed.directory / "kernel", bed["gw-b"], SIDE_B, SIDE_A)
        bed.also_stop(machine)
        return machine, pki.result()


@pytest.fixture(scope="session")
def kernel(kernel_and_pki):
    return kernel_and_pki[0]


@pytest.fixture(scope="session")
def pki(kernel_and_pki):
    return kernel_and_pki[1]


@pytest.fixture(scope="session")
def peers(kernel, cache, bed, pki):
    peers = Peers({
        "strongswan": lambda: StrongSwan(kernel, SIDE_B, SIDE_A, daemon="make_before_break = yes",
                                         fragment_size=SMALLEST),
        "libreswan": lambda: Libreswan(kernel, had(unpacked, cache), SIDE_B, SIDE_A, pki)})
    bed.also_stop(peers)
    return peers


@pytest.fixture
def pair(bed, kernel, pki, peers):
    """Makes them: pair(PEER, our configuration, what the peer authenticates with, its words): those are
    by name of the peer, of PeerOptions or of a connection of libreswan."""
    made = []

    def make(peer, configuration=None, auth="psk", psk=bed.psk, **words):
        configuration = configuration or configured(bed)
        if auth != "psk":
            ours, chain = pki.ours_beside(auth)
            with_certificate(configuration, ours, [pki.authority], chain, crls=[str(pki.revocation_list)])
        theirs = ({"pki": pki.strongswan(auth), "proposals": IKE, "esp_proposals": ESP}
                  if peer == "strongswan" else {"auth": auth, **LIBRESWAN})
        daemon = peers[peer]
        with concurrent.futures.ThreadPoolExecutor(1) as beside:  # the machine and we wait for nothing
            configured_there = beside.submit(daemon.configure, psk, **{**theirs, **words.get(peer, {})})
            made.append(Pair(bed, kernel, daemon, configuration))
        configured_there.result()
        return made[-1]

    yield make
    for one in made:
        one.stop()
