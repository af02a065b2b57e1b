"""Two workers a gateway: packets of an SA reach the worker that owns it, and one SA is fed by both.

A device spreads ESP over its queues by addresses and SPI; an inbound SA belongs to the worker that
its slot names, the low bit of its SPI. Half of the SAs therefore arrive at the other one's queue.
"""

import json
import os
import re
from pathlib import Path

import pytest

from harness.configuration import SIDE_B, TunnelOptions
from harness.looped_capture import FRAMES, Daemon, framed, sealed_packets
from harness.shell import Process, wait_until
from harness.traffic import ping

CHILDREN = 8
WINDOW = 1024


def two_workers(bed, children=1, **connection_options):
    """Both gateways with two workers. One child is `net`; of several, each takes a host at b."""
    options = TunnelOptions(connection_options=connection_options,
                            child_options={"replay_window": WINDOW})
    gateways = []
    for letter in ("a", "b"):
        configuration = bed.configuration(letter, options)
        configuration["dataplane"]["workers"] = 2
        if children > 1:
            configuration["connections"][0]["children"] = [
                host_child(configuration["connections"][0]["children"][0], letter, number)
                for number in range(children)]
        gateways.append(bed.add_gateway(letter, configuration))
    return gateways


def host_child(model, letter, number):
    host = [f"{host_address(number)}/32"]
    mine = {"local_ts": host} if letter == "b" else {"remote_ts": host}
    return {**model, **mine, "name": f"host-{number}"}


def host_address(number):
    return f"10.2.0.{100 + number}"


def received_by_worker(gateway):
    return [worker["rx_packets"]
            for worker in gateway.ask("dataplane.sock", "status")["result"]["workers"]]


def owner_of(child):
    return int(child["spi_in"], 16) % 2


@pytest.mark.long
def test_a_packet_at_the_wrong_queue_is_handed_to_the_owner_of_its_sa(bed):
    # Given eight children between gateways of two workers each, and hosts that do not answer
    a, b = two_workers(bed, CHILDREN)
    addresses = [host_address(number) for number in range(CHILDREN)]
    bed["client-b"].ip_batch(*[f"addr add {address}/24 dev eth0" for address in addresses])
    bed["client-b"].sysctl("net.ipv4.icmp_echo_ignore_all=1")
    handed_over = 0
    for number, address in enumerate(addresses):
        a.culvert("initiate", f"host-{number}")
        child = b.wait_for_child(f"host-{number}")
        ping(bed["client-a"], address, count=1, wait=0.1)  # neighbours are known
        before, started = received_by_worker(b), received_inbound(b, child)
        # When packets come in on one SA only
        ping(bed["client-a"], address, count=40, interval=0.005, wait=0.1)
        # Then all of them were taken in, whichever queue they came by
        wait_until(lambda: received_inbound(b, child) - started >= 40, 5,
                   "the packets of one child")
        counts = [now - then for now, then in zip(received_by_worker(b), before)]
        assert max(counts) >= 40, "one SA, one queue"
        handed_over += counts[1 - owner_of(child)] >= 40
    assert 0 < handed_over, "no SA of eight was owned by the other queue's worker"
    counted = sum(worker["handed_over"]
                  for worker in b.ask("dataplane.sock", "status")["result"]["workers"])
    assert counted >= 40 * handed_over
    assert b.drops() == {}


def received_inbound(gateway, child):
    sas = gateway.ask("dataplane.sock", "sas")["result"]["sas"]
    return next(sa["packets"] for sa in sas if sa["spi"] == child["spi_in"])


def test_every_child_answers_both_ways(bed):
    a, b = two_workers(bed, CHILDREN)
    addresses = [host_address(number) for number in range(CHILDREN)]
    bed["client-b"].ip_batch(*[f"addr add {address}/24 dev eth0" for address in addresses])
    for number, address in enumerate(addresses):
        a.culvert("initiate", f"host-{number}")
        b.wait_for_child(f"host-{number}")
        assert ping(bed["client-a"], address, count=30, interval=0.01).lost() == []
    assert a.drops() == b.drops() == {}


def test_two_workers_feed_one_sa_without_reordering_a_flow(bed):
    """Sequence numbers are taken in blocks: what two workers send on one SA interleaves, but within a
    flow nothing is reordered and nothing falls out of a window of 1024."""
    a, b = two_workers(bed)
    a.culvert("initiate", "net")
    b.wait_for_child()
    before = received_by_worker(a)
    server = Process(bed["client-b"].command("iperf3", "-s", "-1", "-J"), bed.directory / "server.log")
    wait_until(lambda: ":5201" in bed["client-b"].run("ss", "-ltn").stdout, 5, "the iperf3 server")
    # When eight flows of 5 Mbit/s each go through the tunnel, from a sender that stays on its processor
    bed["client-a"].run("taskset", "-c", min(os.sched_getaffinity(0)), "iperf3", "-u", "-c", SIDE_B.client_address(),
                        "-P", 8, "-b", "5M", "-l", 600, "-t", 3, timeout=30)
    wait_until(lambda: not server.running(), 5, "the iperf3 server's report")
    server.stop()
    report = json.loads(server.text())
    # Then both workers of a had a part, and the receiver, who counts them, saw each flow in order
    shares = [now - then for now, then in zip(received_by_worker(a), before)]
    assert min(shares) > 1000, f"one worker did it all: {shares}"
    streams = [stream["udp"] for stream in report["end"]["streams"]]
    assert len(streams) == 8 and all(stream["packets"] > 0 for stream in streams)
    packets = sum(stream["packets"] for stream in streams)
    assert sum(stream["lost_packets"] for stream in streams) < packets / 2
    assert sum(stream["out_of_order"] for stream in streams) == 0
    assert (a.drops(), b.drops()) == ({}, {})


def test_status_says_that_the_device_steers_no_esp_and_why(bed):
    # Given two workers on packet sockets, whose driver has no rules at all, and a tunnel
    a, b = two_workers(bed)
    a.culvert("initiate", "net")
    b.wait_for_child()
    assert bed.ping(count=10, interval=0.01).lost() == []
    # Then each interface says so, and the SA that has no rule is counted where its packets come in
    status = a.ask("dataplane.sock", "status")["result"]
    steering = {interface["name"]: interface["steering"] for interface in status["interfaces"]}
    for name, sas in (("wan", 1), ("lan", 0)):
        assert steering[name]["takes"] == []
        assert set(steering[name]["refuses"].values()) == {"its driver has no flow rules"}
        assert len(steering[name]["refuses"]) == 4
        assert (steering[name]["sas_with_rule"], steering[name]["sas_without_rule"]) == (0, sas)
    assert all(worker["handed_over"] >= 0 for worker in status["workers"])
    lines = a.text("status")
    assert ("wan steering: none: the device takes no rule for ESP (its driver has no flow rules)"
            in lines)


@pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="no tap devices here")
def test_a_driver_with_flow_rules_but_none_for_esp_is_quoted(bed):
    # Given devices whose driver has flow rules, and knows Ethernet, VLAN, IP, UDP and TCP in them
    configuration = bed.configuration("a", TunnelOptions())
    configuration["dataplane"]["workers"] = 2
    for number, interface in enumerate(configuration["dataplane"]["interfaces"]):
        interface["device"] = f"net_tap{number},iface=tap{number}"
    a = bed.add_gateway("a", configuration)
    # Then what it said when it was asked stands in status, and the gateway runs
    for interface in a.ask("dataplane.sock", "status")["result"]["interfaces"]:
        assert interface["queues"] == 2
        assert interface["steering"]["takes"] == []
        assert set(interface["steering"]["refuses"].values()) == {
            "item not supported: Operation not supported"}
    assert "takes no rule for ESP (item not supported: Operation not supported)" in a.text("status")


@pytest.mark.parametrize("encap", ["no", "yes"], ids=["esp", "udp"])
def test_rekeys_with_several_workers_lose_nothing(bed, encap):
    a, b = two_workers(bed, encap=encap)
    a.culvert("initiate", "net")
    b.wait_for_child()
    for gateway in (a, b, a):
        before = a.child()["spi_out"]
        gateway.culvert("rekey", "net")
        assert bed.ping(count=50, interval=0.01).lost() == []
        wait_until(lambda: len(a.children()) == 1 and a.child()["spi_out"] != before, 5, "a rekey")


def test_a_stop_under_load_brings_what_is_inside_to_its_end(tmp_path):
    # Given both queues full of ESP of one SA: half of it goes by the ring from one worker to the other
    tmp_path.chmod(0o755)
    daemon = Daemon(tmp_path, "wan", framed(sealed_packets(4)), workers=2)
    try:
        daemon.passed()
    finally:
        # When it is stopped
        daemon.close()
    # Then what stood in the ring went out
    (drained, dropped), = re.findall(r"gateway_stopped .*?drained=(\d+).*?dropped=(\d+)",
                                     daemon.process.text())
    assert daemon.process.returncode() == 0
    assert int(drained) >= FRAMES and int(dropped) == 0, (drained, dropped)
