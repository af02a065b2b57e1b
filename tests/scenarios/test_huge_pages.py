"""Who takes huge pages of the kernel's pool, and who leaves them to those that counted on them."""

import re
from pathlib import Path

from harness.looped_capture import Daemon, clear_packets, framed

POOL = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")


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
