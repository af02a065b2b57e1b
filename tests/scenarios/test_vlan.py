"""Gateways whose interfaces are VLANs of a device."""

import collections
import copy
import struct

import pytest

from harness.capture import read_pcap
from harness.configuration import SIDE_B, TunnelOptions
from harness.reloads import reload
from harness.shell import wait_until
from harness.traffic import SteadyPing, ping


def tags_of(frame):
    """The VLAN IDs in a frame, from the outermost on."""
    tags, at = [], 12
    while struct.unpack_from("!H", frame, at)[0] in (0x8100, 0x88A8):
        tags.append(struct.unpack_from("!H", frame, at + 2)[0] & 0xFFF)
        at += 4
    return tags


def on_vlan(configuration, vlan):
    """The WAN as this VLAN of its device, beside one that nobody answers in."""
    wan, lan = configuration["dataplane"]["interfaces"]
    number = 1 if configuration["instance"] == "hq" else 2
    other = {"name": "unused", "device": wan["device"], "vlan": 300,
             "addresses": [f"203.0.113.{number}/24"]}
    # 8 bytes of tags fit beside an untagged frame of the kernel's MTU.
    configuration["dataplane"]["interfaces"] = [{**wan, "vlan": vlan, "mtu": 1492}, other, lan]
    return configuration


@pytest.mark.parametrize("vlan", [100, [200, 100]], ids=["802.1Q", "QinQ"])
def test_tunnel_between_vlans(bed, vlan):
    options = TunnelOptions(inner_families=(4, 6), start_action="start")
    with bed.capture() as capture:
        for letter in "ab":
            bed.add_gateway(letter, on_vlan(bed.configuration(letter, options), vlan))
        for gateway in bed.gateways.values():
            gateway.wait_for_child()
        for family in (4, 6):
            assert bed.ping(family, count=20, interval=0.01).lost() == []
        assert bed.ping(count=2, size=1300).lost() == []
    expected = vlan if isinstance(vlan, list) else [vlan]
    tags = collections.Counter(tuple(tags_of(frame)) for frame in read_pcap(capture.path))
    assert tags.pop(tuple(expected)) > 80
    assert set(tags) <= {(300,)}  # announces its address
    wan, unused, lan = bed.gateways["a"].status()["dataplane"]["interfaces"]
    assert (wan["vlan"], unused["vlan"], lan["vlan"]) == (vlan, 300, None)
    assert wan["rx_packets"] >= 40 and wan["tx_packets"] >= 40 and unused["rx_packets"] < 10
    assert f"wan (vlan {'.'.join(map(str, expected))})" in bed.gateways["a"].text("status")


def test_frames_of_other_vlans_are_counted_and_refused(bed):
    """A gateway in VLAN 100 and one in VLAN 101 of the same wire do not hear each other."""
    a = bed.add_gateway("a", on_vlan(bed.configuration("a", TunnelOptions()), 100))
    bed.add_gateway("b", on_vlan(bed.configuration("b", TunnelOptions(start_action="start")), 101))
    assert bed.ping(count=3, interval=0.2, wait=0.2).received == set()
    # b asks for a's address when its key daemon has come so far
    wait_until(lambda: a.drops().get("unknown_vlan"), 5, "a frame of another VLAN")
    assert not a.ike_sas()


def counted(gateway, name):
    """Frames of an interface so far."""
    entry = next(entry for entry in gateway.status()["dataplane"]["interfaces"] if entry["name"] == name)
    return entry["rx_packets"], entry["tx_packets"]


LABS = ("10.1.50.0/24", "10.2.50.0/24")


def join_labs(gateway, through_tunnel):
    """A VLAN of the device that the tunnel goes over, untagged, and behind each gateway a network more
    that is reached over it: as it is, or through a tunnel of its own."""
    here, there = LABS if gateway.instance == "hq" else reversed(LABS)
    own, peer = ("10.9.0.1", "10.9.0.2") if gateway.instance == "hq" else ("10.9.0.2", "10.9.0.1")
    configuration = gateway.configuration
    dataplane = configuration["dataplane"]
    wan = next(entry for entry in dataplane["interfaces"] if entry["name"] == "wan")
    lan = next(entry for entry in dataplane["interfaces"] if entry["name"] == "lan")
    # in front: the others change their places
    dataplane["interfaces"] = [
        {"name": "labs", "device": wan["device"], "vlan": 50, "mtu": 1400, "addresses": [f"{own}/24"]},
        wan, {**lan, "addresses": [*lan["addresses"], here.replace(".0/24", ".1/24")]}]
    dataplane["routes"] = [*dataplane["routes"], {"to": there, "via": peer}]
    if not through_tunnel:
        configuration["policies"] = [{"action": "bypass", "source": here, "destination": there}]
        return
    net = configuration["connections"][0]
    configuration["connections"] = [net, {
        **net, "name": "labs", "local": {**net["local"], "address": own},
        "remote": {**net["remote"], "address": peer},
        "children": [{**net["children"][0], "name": "labs", "local_ts": [here], "remote_ts": [there],
                      "start_action": "none"}]}]


def test_a_vlan_comes_and_goes_beside_a_tunnel(bed):
    """Under the eyes of two workers at one end."""
    a, b = (bed.add_gateway(letter, bed.configuration(letter, TunnelOptions()), start=False)
            for letter in "ab")
    a.configuration["dataplane"]["workers"] = 2
    for gateway in (a, b):
        gateway.configure(gateway.configuration)
        gateway.start()
    a.culvert("initiate", "net")
    b.wait_for_child()
    client, far, lab = bed["client-a"], SIDE_B.client_address(), "10.2.50.2"
    client.ip_batch("addr add 10.1.50.2/24 dev eth0", f"route add {LABS[1]} via 10.1.50.1 src 10.1.50.2")
    bed["client-b"].ip_batch(f"addr add {lab}/24 dev eth0",
                             f"route add {LABS[0]} via 10.2.50.1 src {lab}")
    steady = SteadyPing(client, far, bed.directory)
    first = a.child()["spi_in"]
    before = {gateway: copy.deepcopy(gateway.configuration) for gateway in (a, b)}

    # the second time the VLAN has the number of the first
    for through_tunnel in (False, True):
        steady.wait_for_replies(50)
        wan = counted(a, "wan")
        for gateway in (a, b):
            join_labs(gateway, through_tunnel)
            reload(gateway)
        assert counted(a, "labs")[0] < 10
        if through_tunnel:
            a.culvert("initiate", "labs")
            b.wait_for_child("labs")
        wait_until(lambda: ping(client, lab, count=1, wait=0.2).received, 5, "the labs to meet")
        frames = counted(a, "labs")
        assert ping(client, lab, count=20, interval=0.01).lost() == []
        for was, now in zip(frames, counted(a, "labs")):
            assert 20 <= now - was < 30
        # who counts for the untagged one is another now, and it goes on from where it was
        steady.wait_for_replies(50)
        assert all(now >= was + 50 for was, now in zip(wan, counted(a, "wan")))
        assert {labels["interface"] for labels in a.dataplane_metrics().labels_of(
            "culvert_interface_packets_total")} >= {"wan", "lan"}

        wan = counted(a, "wan")
        for gateway in (a, b):
            gateway.configuration = copy.deepcopy(before[gateway])
            reload(gateway)
            if gateway is a:
                assert ping(client, lab, count=2, wait=0.3).received == set()
        wait_until(lambda: not a.children("labs") and not b.children("labs"), 10,
                   "the labs' child to go", 0.1)
        assert [entry["name"] for entry in a.status()["dataplane"]["interfaces"]] == ["wan", "lan"]
        routes = a.ask("dataplane.sock", "routes")["result"]["routes"]
        assert {route["interface"] for route in routes} == {"wan", "lan"}
        neighbors = a.ask("dataplane.sock", "neighbors")["result"]["neighbors"]
        assert {entry["interface"] for entry in neighbors} <= {"wan", "lan"}
        wait_until(lambda: "labs" not in {labels["interface"] for labels in a.dataplane_metrics()
                                          .labels_of("culvert_interface_packets_total")}, 5,
                   "the metrics without the VLAN")
        steady.wait_for_replies(50)
        assert all(now >= was + 50 for was, now in zip(wan, counted(a, "wan")))

    assert steady.stop().lost_packets == []
    assert a.child()["spi_in"] == first


@pytest.mark.parametrize("vlan", [100, [200, 100]], ids=["802.1Q", "QinQ"])
def test_a_tunnel_moves_into_a_vlan_at_run_time(bed, vlan):
    """The WAN of both gateways, untagged at first: neighbours and flows of the old link are forgotten, the
    tunnel's SAs are not."""
    a, b = bed.two_gateways(TunnelOptions())
    a.culvert("initiate", "net")
    b.wait_for_child()
    wait_until(lambda: bed.ping(count=1, wait=0.2).received, 5, "the tunnel")
    first = a.child()["spi_in"]
    for gateway in (a, b):
        gateway.configuration["dataplane"]["interfaces"][0].update(vlan=vlan, mtu=1492)
    with bed.capture() as capture:
        reload(a)
        assert bed.ping(count=2, interval=0.05, wait=0.3).received == set()  # b is not there yet
        assert a.drops().get("unknown_vlan", 0) + b.drops().get("unknown_vlan", 0) > 0
        reload(b)
        wait_until(lambda: bed.ping(count=1, wait=0.2).received, 5, "the gateways to meet again")
        assert bed.ping(count=20, interval=0.02).lost() == []
    tags = collections.Counter(tuple(tags_of(frame)) for frame in read_pcap(capture.path))
    assert tags[tuple(vlan) if isinstance(vlan, list) else (vlan,)] >= 40
    assert a.child()["spi_in"] == first
