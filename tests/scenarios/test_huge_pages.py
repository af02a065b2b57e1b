"""Who takes huge pages of the kernel's pool, and who leaves them to those that counted on them."""

import json
import re
from pathlib import Path

import pytest

from harness.looped_capture import Daemon, clear_packets, framed
from harness.shell import Process, run
from harness.testbed import build_directory

POOL = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
PAGE_MIB = 2


def free_mib():
    """Of all sizes."""
    return sum(int(re.search(r"\d+", size.name)[0]) * int((size / "free_hugepages").read_text()) // 1024
               for size in POOL.parent.glob("hugepages-*"))


def taken_kib(pid):
    """Huge pages of the pool that a process has touched; None: it has ended."""
    try:
        found = re.search(r"^HugetlbPages:\s*(\d+)", Path(f"/proc/{pid}/status").read_text(), re.M)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(found[1]) if found else None


def packet_rate(*words):
    return [build_directory() / "benchmarks/packet_rate", "--repeats", "1", *words]


def test_a_gateway_that_goes_on_with_ordinary_pages_leaves_the_huge_ones(tmp_path):
    """They may be what the next gateway of the machine counts on. Where none are free nothing is shown."""
    tmp_path.chmod(0o755)
    daemon = Daemon(tmp_path, "lan", framed(clear_packets(4, "10.1.0.9", "10.2.0.7")),
                    dataplane={"memory_mib": free_mib() + 400})
    try:
        assert "going on with ordinary pages" in daemon.process.text()
        assert taken_kib(daemon.process.pid) == 0
    finally:
        daemon.close()


def test_a_measurement_without_huge_pages_takes_none(tmp_path):
    measured = Process(packet_rate("--no-huge", "--seconds", "0.2", "--only", "out/64/1"), tmp_path / "log")
    most, samples = 0, 0
    while (taken := taken_kib(measured.pid)) is not None:
        most, samples = max(most, taken), samples + 1
    assert measured.wait(10) == 0, measured.text()
    assert samples > 10 and most == 0


def test_a_row_too_large_for_the_huge_pages_is_measured_in_ordinary_ones(tmp_path):
    """256 MiB of them are free, as far as the suite can see: routes and the packets of one flow fit."""
    if free_mib() < 256:
        pytest.skip("256 MiB of huge pages are wanted")
    pool = tmp_path / "pages" / POOL.name
    pool.mkdir(parents=True)
    for name in POOL.iterdir():
        (pool / name.name).write_text("0\n")
    for name in ("nr_hugepages", "free_hugepages"):
        (pool / name).write_text(f"{256 // PAGE_MIB}\n")
    small, large = "aes128gcm16/out/64/1/10/1", "aes128gcm16 cold flows/out/64/1/10/1"
    results = tmp_path / "results.json"
    words = packet_rate("--seconds", "0.01", "--only", small, "--only", large, "--json", results)
    table = run("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /sys/kernel/mm/hugepages && exec "$@"',
                tmp_path / "pages", *words, timeout=120).stdout
    document = json.loads(results.read_text())
    assert document["machine"]["huge_pages"] is True
    assert len(document["results"]) == 2 and not document["skipped"], table
    assert document["in_ordinary_pages"] == [large]
    assert re.search(f"^in ordinary pages, for its packets want \\d+ MiB of huge ones: {large}$", table, re.M), table
