"""Gateways whose interfaces are VLANs of a device."""

import collections
import struct

import pytest

from harness.capture import read_pcap
from harness.configuration import TunnelOptions


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
    assert a.drops()["unknown_vlan"] > 0
    assert not a.ike_sas()
