"""What a start finds of cores and memory, and what it says of either when that is not enough."""

import json
import os
import pathlib

import pytest

from harness.configuration import to_yaml
from harness.shell import Process, run, wait_until
from harness.testbed import build_directory

CORES = sorted(os.sched_getaffinity(0))
# Ordinary pages, whatever the machine has free: the folder that tells of huge ones is empty.
WITHOUT_HUGE_PAGES = ["unshare", "-m", "sh", "-c",
                      'mount -t tmpfs none /sys/kernel/mm/hugepages && exec "$@"', "sh"]

pytestmark = pytest.mark.skipif(len(CORES) < 2, reason="a core that the process is not given takes two")


@pytest.fixture
def start(tmp_path):
    """Runs the data plane by way of another program, until it says that it has started, or ends: its log."""
    processes = []

    def begin(*way, **dataplane):
        interfaces = [{"name": "wan", "device": "net_null0", "addresses": ["192.0.2.1/24"]}]
        file = tmp_path / "start.yaml"
        file.write_text(to_yaml({"instance": "start", "user": "root",
                                 "dataplane": {"interfaces": interfaces, **dataplane}}) + "\n")
        process = Process([*WITHOUT_HUGE_PAGES, *way, build_directory() / "dataplane/culvert-dataplane",
                           "--config", file], tmp_path / "start.log",
                          {**os.environ, "CULVERT_RUN_DIR": str(tmp_path)})
        processes.append(process)
        wait_until(lambda: "gateway_started" in process.text() or not process.running(), 60, "the start")
        return process.text()
    yield begin
    for process in processes:
        process.stop()


@pytest.fixture
def cpuset():
    """A cpuset of the first core alone: how a program is started in it."""
    old, new = pathlib.Path("/sys/fs/cgroup/cpuset"), pathlib.Path("/sys/fs/cgroup")
    if (old / "cpuset.cpus").exists():
        parent = old
    elif "cpuset" in (new / "cgroup.subtree_control").read_text().split():
        parent = new
    else:
        pytest.skip("no cpuset can be made here")
    group = parent / f"culvert-start-{os.getpid()}"
    group.mkdir()
    if parent == old:
        (group / "cpuset.mems").write_text((old / "cpuset.effective_mems").read_text())
    (group / "cpuset.cpus").write_text(str(CORES[0]))
    yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
    wait_until(lambda: not (group / "cgroup.procs").read_text(), 20, "the end of what ran in the cpuset")
    group.rmdir()


def test_a_worker_is_pinned_to_a_core_that_the_process_was_not_started_on(start, tmp_path):
    # Given a mask as every process inherits it where a core is isolated
    # When the worker is to run on that core
    log = start("taskset", "-c", CORES[0], workers=[CORES[1]])
    # Then it does
    assert "gateway_started" in log and "start_failed" not in log
    environment = {**os.environ, "CULVERT_RUN_DIR": str(tmp_path)}
    status = run(build_directory() / "cli/culvert", "status", "--instance", "start", "--json", check=False,
                 environment=environment)
    workers = json.loads(status.stdout)["dataplane"]["workers"]
    assert [worker["core"] for worker in workers] == [str(CORES[1])]


def test_a_core_outside_of_the_cpuset_is_refused(cpuset, start):
    log = start(*cpuset, workers=[CORES[1]])
    assert (f"dataplane.workers names core {CORES[1]}, but this process may run only on cores {CORES[0]}"
            in log), log


def test_too_little_memory_in_ordinary_pages_is_a_matter_of_memory_mib(start):
    log = start(memory_mib=64)
    failure = next(line for line in log.splitlines() if " start_failed " in line)
    assert "dataplane.memory_mib" in failure, log
    assert "huge" not in failure
