"""The suite between two ports: a tester on one end of two links, a gateway on the other.

Rates are tiny and say nothing; that both directions are counted, and what the results hold, is tested.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.namespaces import Namespace, ip_batch, quiet_kernel
from harness.shell import Process, require, wait_until
from harness.testbed import build_directory

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "benchmarks"))

from report.ports import write_gateway  # noqa: E402

TESTER_PORTS = "net_af_packet0,iface=lan,net_af_packet1,iface=wan"
# 1 000 packets a second for a fifth of one; a machine that is busy may lose some.
SMALL = ("--rate", "0.001", "--seconds", "0.2", "--loss", "20", "--resolution", "30", "--no-huge")


class Cabled:
    """Two namespaces, tester and gateway, with a veth pair each for LAN and WAN."""

    def __init__(self, folder):
        self.folder = folder
        names = {role: f"cvb{os.getpid()}-{role}" for role in ("tester", "gateway")}
        self.tester, self.gateway = (Namespace(name) for name in names.values())
        ip_batch([f"netns add {name}" for name in names.values()] + [
            f"link add {link} netns {names['tester']} type veth peer name {link} "
            f"netns {names['gateway']}" for link in ("lan", "wan")])
        for namespace in (self.tester, self.gateway):
            quiet_kernel(namespace, "lan", "wan")
        self.dataplane = None

    def start_gateway(self, without=None):
        """`without`: the direction that has no SA."""
        self.configuration, key = write_gateway(self.folder, "net_af_packet0,iface=lan",
                                                "net_af_packet1,iface=wan")
        if without:
            text, found = re.subn(rf"  - {{name: tester, direction: {without}.*?}}\n", "",
                                  self.configuration.read_text(), flags=re.S)
            assert found == 1
            self.configuration.write_text(text)
        # In this test the gateway shares its core.
        self.configuration.write_text(
            self.configuration.read_text().replace("idle: busy", "idle: adaptive"))
        self.run_directory = run_directory = self.folder / "run"
        run_directory.mkdir(exist_ok=True)
        run_directory.chmod(0o755)
        self.dataplane = Process(
            self.gateway.command(build_directory() / "dataplane/culvert-dataplane", "--config",
                                 self.configuration),
            self.folder / "gateway.log", {**os.environ, "CULVERT_RUN_DIR": str(run_directory)})
        socket = run_directory / "bench/dataplane.sock"
        require(self.dataplane, socket.exists, 20, "the gateway")

    def status(self):
        answer = subprocess.run(
            self.gateway.command(build_directory() / "cli/culvert", "status", "--json", "--instance", "bench"),
            text=True, capture_output=True, timeout=20, check=False,
            env={**os.environ, "CULVERT_RUN_DIR": str(self.run_directory)})
        assert answer.returncode == 0, answer.stderr + answer.stdout
        return json.loads(answer.stdout)

    def bench(self, *words):
        return subprocess.run(
            self.tester.command("/usr/bin/python3", REPOSITORY / "benchmarks/bench.py", "--ports",
                                TESTER_PORTS, *words),
            cwd=self.folder, text=True, capture_output=True, timeout=100,
            env={**os.environ, "CULVERT_BENCH_BUILD": str(build_directory())})

    def close(self):
        if self.dataplane:
            self.dataplane.stop()
        for namespace in (self.tester, self.gateway):
            ip_batch([f"netns del {namespace.name}"])


@pytest.fixture
def cabled(tmp_path):
    links = Cabled(tmp_path)
    yield links
    links.close()


def test_throughput_and_latency_of_both_directions(cabled):
    cabled.start_gateway()
    ended = cabled.bench(*SMALL, "--sizes", "imix", "--json", "ports.json", "--html", "ports.html")
    assert ended.returncode == 0, ended.stderr + ended.stdout

    document = json.loads((cabled.folder / "ports.json").read_text())
    assert [row["direction"] for row in document["ports"]] == ["out", "in"]
    for row in document["ports"]:
        assert row["throughput_mpps"] > 0, ended.stdout
        assert row["floor_mpps"] > 0 and row["efficiency"] > 0, ended.stdout
        assert row["trials"][-1]["received_mpps"] > 0
        assert [at["load"] for at in row["latency"]] == [0.5, 0.9]
        for at in row["latency"]:
            percentiles = [at["us"][name] for name in ("p50", "p90", "p99", "p999", "max")]
            assert percentiles == sorted(percentiles) and percentiles[0] > 1
            assert at["received"] > 0
    assert "RFC 2544" in (cabled.folder / "ports.html").read_text()


def test_ports_are_measured_again_and_compared(cabled):
    cabled.start_gateway()
    measured = cabled.bench(*SMALL, "--sizes", "imix", "--directions", "out", "--json", "ports.json")
    assert measured.returncode == 0, measured.stderr + measured.stdout
    # The tester counts its sequence numbers from 1 again.
    cabled.dataplane.stop()
    cabled.start_gateway()
    again = cabled.bench("--compare", "ports.json", "--no-huge")
    assert again.returncode == 0, again.stderr + again.stdout
    for name in ("ports/out/imix ", "ports/out/imix p99 at 50% ", "ports/out/imix p99 at 90% "):
        assert name in again.stdout, again.stdout


@pytest.mark.parametrize("without,directions", [(None, ["in", "out"]), ("in", ["out"]), ("out", ["in"])])
def test_manual_sas_alone_need_no_key_daemon(cabled, without, directions):
    cabled.start_gateway(without)
    # The kernel says of a link up to a second later that it is up.
    wait_until(lambda: not cabled.status()["problems"], 5, "no problem")
    status = cabled.status()
    assert [child["state"] for child in status["connections"][0]["children"]] == ["idle"]
    child, = status["dataplane"]["children"]
    assert child["manual"] and child["up"] and child["directions"] == directions


def test_a_gateway_that_is_not_there_is_said(cabled):
    ended = cabled.bench(*SMALL, "--sizes", "64", "--directions", "out")
    assert ended.returncode == 2
    assert "does not answer ARP" in ended.stderr
