"""Poll-mode NICs: culvert-dataplane in a virtual machine drives PCI devices on vfio-pci, as it would
physical ones, and carries a tunnel between a client on its LAN and one behind a gateway of this host.
"""

import json
import re
from collections import Counter

import pytest

from conftest import namespaces
from harness.capture import WireContents
from harness.configuration import SIDE_B, TunnelOptions
from harness.shell import Process, wait_until
from harness.sizes import inside
from harness.testbed import build_directory
from harness.traffic import Iperf3, SteadyPing
from machines.gateway import MachineGateway
from machines.nics import NicMachine

INNER = {bytes([10, 1, 0, 2]), bytes([10, 2, 0, 2])}
TCP_MEGABITS = 8
SAS = 32768  # so that their tables are several huge pages each
NO_BUSINESS = {"icv_mismatch", "replay_duplicate", "sa_not_found", "policy_discard"}


@pytest.fixture(scope="module")
def bed():
    """Gateway a is the machine's, not this host's as beside a kernel's ESP."""
    with namespaces() as bed:
        yield bed


@pytest.fixture(scope="module")
def machine(image, bed):
    machine = NicMachine(image, bed.directory / "nics", bed["gw-a"])
    bed.also_stop(machine)
    return machine


class Tunnel:
    """Gateway a in the machine with two of its NICs, gateway b on this host; IKE between them."""

    def __init__(self, bed, machine, nics, workers):
        self.bed = bed
        options = TunnelOptions(start_action="none",
                                child_options={"replay_window": 1024, "fragmentation": "after"})
        configuration = bed.configuration("a", options)
        configuration["dataplane"] |= {"workers": workers, "huge_pages_required": True}
        configuration["dataplane"]["limits"]["sas"] = SAS
        for interface, number in zip(configuration["dataplane"]["interfaces"], nics):
            interface["device"] = machine.pci_address(number)
        self.b = bed.add_gateway("b", bed.configuration("b", options))
        self.a = MachineGateway(machine, build_directory(), configuration)
        self.a.start()
        self.a.culvert("initiate", "net")
        self.b.wait_for_child()

    def packets(self, gateway):
        """By SPI."""
        return {sa["spi"]: sa["packets"] for sa in gateway.sas()["sas"]}

    def received_by_worker(self):
        workers = self.a.ask("dataplane.sock", "status")["result"]["workers"]
        return [worker["rx_packets"] for worker in workers]

    def table_pages(self):
        """Huge pages of a's tables by NUMA node. DPDK's own huge pages have a file (memfd) for a name."""
        maps = self.a.machine.run(f"grep file=/anon_hugepage /proc/{self.a.dataplane.pid}/numa_maps")
        pages = Counter()
        for node, count in re.findall(r" N(\d+)=(\d+)", maps):
            pages[int(node)] += int(count)
        return pages

    def describe(self):
        """For a failure's report."""
        backlog = self.bed["gw-a"].run("tc", "-s", "qdisc", "show").stdout
        return {"counters": self.a.text("counters"), "status": self.a.text("status"),
                "queues of the taps": backlog}

    def stop(self):
        """Also says whether the daemons ended in order: DPDK tells of a panic in the log."""
        self.bed.describe = dict
        log = self.a.dataplane
        self.a.stop()
        self.b.kill()
        assert "PANIC" not in log.text() and "gateway_stopped" in log.text(), log.text()[-2000:]


@pytest.fixture(scope="module", params=["virtio", "e1000"])
def tunnel(request, bed, machine):
    nics, workers = (machine.VIRTIO, [0, 1]) if request.param == "virtio" else (machine.E1000, [1])
    tunnel = Tunnel(bed, machine, nics, workers)
    tunnel.kind, bed.describe = request.param, tunnel.describe
    yield tunnel
    tunnel.stop()


def test_the_gateway_says_what_it_runs_on(tunnel, record_property):
    status = tunnel.a.ask("dataplane.sock", "status")["result"]
    record_property("engine", status["engine"])
    assert status["engine"] and status["huge_pages"] is True
    assert len(status["workers"]) == (2 if tunnel.kind == "virtio" else 1)
    assert [interface["link"] for interface in status["interfaces"]] == ["up", "up"]


def test_tables_are_on_the_nodes_of_the_workers(tunnel):
    """SAs, keys and what else is mapped by the main thread, which runs on node 0, or beside a worker on
    both; by the kernel's own account of each page."""
    status = tunnel.a.ask("dataplane.sock", "status")["result"]
    policy, nodes = ("interleaved", {0, 1}) if tunnel.kind == "virtio" else ("preferred", {1})
    assert status["tables_placed"] == {"policy": policy, "numa_nodes": sorted(nodes), "reason": None}
    assert [worker["numa_node"] for worker in status["workers"]] == sorted(nodes)
    pages = tunnel.table_pages()
    assert set(pages) == nodes and sum(pages.values()) >= 6, pages


def test_pings_go_through_the_sas_and_nothing_else_is_on_the_wire(tunnel):
    before = tunnel.packets(tunnel.a)
    with tunnel.bed.capture() as capture:
        assert tunnel.bed.ping(count=100, interval=0.02).lost() == []
        assert tunnel.bed.ping(count=20, interval=0.02, size=1300).lost() == []
        wait_until(lambda: WireContents(capture.frames()).kinds["esp"] >= 240, 5, "the capture")
    after = tunnel.packets(tunnel.a)
    assert after == tunnel.packets(tunnel.b) and len(after) == 2
    assert [after[spi] - before[spi] for spi in after] == [120, 120]
    wire = WireContents(capture.frames(), INNER)
    assert wire.unexpected() == {} and wire.inner_addresses_seen == 0
    assert wire.kinds["esp"] == 240, wire.describe()
    assert tunnel.a.drops() == tunnel.b.drops() == {}


def test_outer_fragments_are_put_together(tunnel):
    """RFC 4303 §3.4.1: before ESP looks at them. Here no kernel does it for the daemon, as af_packet's does."""
    def totals():
        return Counter(tunnel.a.ask("dataplane.sock", "counters")["result"]["totals"])

    for letter in "ab":  # what it has learnt in other tests would have the client cut
        tunnel.bed[f"client-{letter}"].ip("route", "flush", "cache")
    before = totals()
    for size in (inside(1500) + 1, 1472, 1500):
        assert tunnel.bed.ping(count=3, interval=0.2, size=size - 28, extra=("-M", "dont")).lost() == [], size
    made = totals() - before
    assert made["reassembled"] == 9 and made["fragments_made"] >= 9, made


def test_rekeys_lose_nothing(tunnel):
    steady = SteadyPing(tunnel.bed["client-a"], SIDE_B.client_address(), tunnel.bed.directory)
    for gateway in (tunnel.a, tunnel.b):
        before = tunnel.a.child()["spi_out"]
        gateway.culvert("rekey", "net")
        wait_until(lambda: len(tunnel.a.children()) == 1 and tunnel.a.child()["spi_out"] != before,
                   20, "the new pair alone", 0.2)
        steady.wait_for_replies(50)
    assert steady.stop().lost_packets == []


@pytest.mark.parametrize("reverse", [False, True], ids=["out", "in"])
def test_tcp_both_ways(tunnel, reverse, record_property):
    """At a rate that a translated processor keeps up with. It must: qemu's RSS, once the queue that a
    frame was meant for is full, waits for buffers of another queue, and for good."""
    iperf = Iperf3(tunnel.bed["client-b"], tunnel.bed["client-a"], SIDE_B.client_address(),
                   tunnel.bed.directory)
    megabits = iperf.measure(4, reverse=reverse, megabits=TCP_MEGABITS)
    iperf.stop()
    record_property("Mbit/s", f"{megabits:.1f}")
    assert megabits > 0.7 * TCP_MEGABITS
    for gateway in (tunnel.a, tunnel.b):
        assert not set(gateway.drops()) & NO_BUSINESS


@pytest.mark.parametrize("tunnel", ["virtio"], indirect=True)  # an e1000 has one queue
def test_rss_spreads_flows_over_both_queues(tunnel, record_property):
    """Sixteen UDP flows towards the LAN port of two queues; what each worker takes from its queue of
    either port is counted. Next to nothing comes back, so what is counted came by the LAN."""
    server = Process(tunnel.bed["client-b"].command("iperf3", "-s", "-1"),
                     tunnel.bed.directory / "server.log")
    wait_until(lambda: ":5201" in tunnel.bed["client-b"].run("ss", "-ltn").stdout, 5, "iperf3")
    before = tunnel.received_by_worker()
    completed = tunnel.bed["client-a"].run(
        "iperf3", "-J", "-u", "-c", SIDE_B.client_address(), "-P", 16, "-b", "100K", "-l", 200, "-t", 2,
        timeout=60)
    server.stop()
    shares = [now - then for now, then in zip(tunnel.received_by_worker(), before)]
    record_property("packets by worker", str(shares))
    assert min(shares) > 60, f"one queue got it all: {shares}"
    streams = [stream["udp"] for stream in json.loads(completed.stdout)["end"]["streams"]]
    assert [stream["out_of_order"] for stream in streams] == [0] * 16
    assert not set(tunnel.a.drops()) & NO_BUSINESS
